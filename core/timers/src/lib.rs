//! Timers of one CPU.
//!
//! All times are nanoseconds of system time unless they are called ticks. Nothing here reads a clock.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

extern crate alloc;

mod queue;

pub use queue::{TimerId, TimerQueue};
