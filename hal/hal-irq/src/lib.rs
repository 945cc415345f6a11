//! Interrupt controllers, timers, ACPI tables, PCI configuration, power, and the other CPUs.
//!
//! Order of use on the boot CPU, after `hal::boot::init` and `hal_cpu::start_bsp`: [`init`], then [`smp::start_others`].
#![cfg_attr(not(test), no_std)]
#![cfg_attr(test, allow(clippy::duplicate_mod, reason = "the mailbox is compiled once more against loom's atomics"))]

extern crate alloc;

pub mod acpi;
mod atomics {
    pub use core::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
}
pub mod cpus;
pub mod firmware;
mod ioapic;
pub mod ipi;
mod irq;
pub mod lapic;
mod mailbox;
#[cfg(test)]
mod mailbox_model;
pub mod pci;
mod pic;
pub mod pins;
pub mod power;
pub mod registers;
pub mod smp;
mod start;
pub mod time;
pub mod vectors;

pub use ioapic::IoApic;
pub use irq::{Irq, dispatch};
pub use mailbox::{FlushKind, Mailbox, Posted};
pub use start::{Machine, Options, StartError, init};

/// How many CPUs can be used.
pub const MAX_CPUS: usize = types::CpuMask::CPUS;
