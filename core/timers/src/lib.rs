//! Timers of one CPU, and the arithmetic of guest time.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
