//! What the virtual clocks of HVM and PVH guests share.
//!
//! * [`Now`] is what time it is; [`GuestClock`] keeps the guest's part of it.
//! * [`Action`] is what a device asks of its owner: interrupt lines to move.
//! * [`Timer`] counts the ticks of one periodic or single interrupt, and [`MissedTicks`] says what becomes of those that
//!   came while the guest could not take them (`HVM_PARAM_TIMER_MODE`).
//!
//! Nothing here reads a clock, takes a lock or calls back. The owner asks for the next deadline, calls `tick` then, moves
//! the lines that it is told, and says `delivered` when the guest's processor has accepted a tick's vector.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod action;
mod clock;
mod timer;

pub use action::{Action, Change, Line, Signal};
pub use clock::{GuestClock, Now};
pub use timer::{MissedTicks, Rules, Timer};

/// Nanoseconds of a second.
pub const NS_PER_SECOND: u64 = 1_000_000_000;

/// What a read of `size` bytes gives where nothing answers: all ones. `size` is in bytes, 8 at most.
pub const fn all_ones(size: u8) -> u64 {
    if size >= 8 { u64::MAX } else { (1 << (8 * size as u32)) - 1 }
}
