//! The seam between the hypervisor's logic and the machine: what logic may ask of the machine below it.
//!
//! `hal` implements these traits on the hardware, [`fakes`] implements them on a desk. Logic takes them as arguments, never
//! through a global.
#![cfg_attr(not(any(test, feature = "fakes")), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

#[cfg(any(test, feature = "fakes"))]
pub mod fakes;
mod machine;
mod nodes;
pub mod sync;

pub use machine::{Clock, Frames, GuestMemory, Kick, Preempt, Table, Tlb, fits, read_bytes, write_bytes};
pub use nodes::{NodeMemory, Nodes};
