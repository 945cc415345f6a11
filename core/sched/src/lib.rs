//! Which vCPU runs where, and for how long.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
