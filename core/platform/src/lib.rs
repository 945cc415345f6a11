//! The seam between the hypervisor's logic and the machine: what logic may ask of the machine below it.
//!
//! `hal` implements these traits on the hardware, [`fakes`] implements them on a desk. Logic takes them as arguments, never
//! through a global.
#![cfg_attr(not(any(test, feature = "fakes")), no_std)]
#![forbid(unsafe_code)]

#[cfg(any(test, feature = "fakes"))]
pub mod fakes;
mod machine;
pub mod sync;

pub use machine::{Clock, Frames, GuestMemory, Kick, Preempt, Table, Tlb, read_bytes, write_bytes};
