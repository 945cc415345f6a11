//! Domains and their vCPUs: composes the tables of the core crates, and holds life cycle, look-up, wake-up and time.
//!
//! Nothing here knows the architecture: what differs stands behind [`Arch`].
#![cfg_attr(not(any(test, feature = "fakes")), no_std)]
#![cfg_attr(
    test,
    allow(clippy::duplicate_mod, reason = "what ends waits is compiled once more against loom's atomics")
)]
#![forbid(unsafe_code)]

extern crate alloc;

/// Here so that the model of [`waiting`] can put others in their place.
mod atomics {
    pub use core::sync::atomic::{AtomicU32, Ordering};
}
mod arch;
mod area;
mod cap;
mod domain;
mod emulators;
mod events;
#[cfg(any(test, feature = "fakes"))]
pub mod fakes;
mod grants;
mod hold;
mod hypervisor;
mod lifecycle;
mod monitor;
mod ports;
mod run;
mod table;
mod timer;
mod translated;
mod vcpu;
mod vram;
mod waiting;
#[cfg(test)]
mod waiting_model;
mod watchdog;

pub use arch::{Arch, BoardSignal, GivenEvent, HostFacts, MachineEnd};
pub use area::{Area, RunstateRecord};
pub use cap::group_of;
pub use domain::{Creation, Domain, Life, Rights, ShutdownCode};
pub use emulators::ServerHost;
pub use events::GlobalVirqs;
pub use hypervisor::{CpuState, Hypervisor, PowerSettings};
pub use lifecycle::PIRQS;
pub use monitor::{MonitorHost, Refused};
pub use table::DomainTable;
pub use timer::{TimerEvent, TimerSlot};
pub use translated::{FIRST_POOL, GuestMap, MapHost, Translated};
pub use vcpu::{PauseFlags, Vcpu};
