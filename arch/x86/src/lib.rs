//! Joins the logic to x86-64 hardware.
#![no_std]
#![forbid(unsafe_code)]
