//! Timers of one CPU, and the arithmetic of guest time.
//!
//! All times are nanoseconds of system time unless they are called ticks. Nothing here reads a clock.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

extern crate alloc;

mod queue;
mod scale;
mod vcpu;

pub use queue::{TimerId, TimerQueue};
pub use scale::Scale;
pub use vcpu::VcpuTimers;
