//! The local APIC of a guest's vCPU (SDM vol. 3, 11), as Xen shows it to guests: version 0x14 with six LVT entries, a bus
//! clock of 100 MHz, APIC ids that are twice the vCPU's number.
//!
//! An APIC is in two parts. [`Port`] is what others see of it, all atomics: its addresses, its request (IRR) and trigger
//! (TMR) registers. Any CPU may post an interrupt into it while the vCPU runs. [`Lapic`] is the rest; the CPU that runs
//! the vCPU has it for itself (`&mut`), or the owner while the vCPU is stopped.
//!
//! - [`Lapic::read`] and [`Lapic::write`] are the xAPIC page, [`Lapic::read_msr`] and [`Lapic::write_msr`] the x2APIC's
//!   registers, [`Lapic::set_base`] is IA32_APIC_BASE. What they cannot do alone they give back as an [`Action`].
//! - [`deliver`] finds the APICs that a message or an inter-processor interrupt names among all [`Ports`] of the domain,
//!   posts vectors, and tells the owner of every vCPU that needs a kick, an NMI, a reset or a start.
//! - [`Lapic::next`] says which vector the vCPU would take, [`Lapic::accept`] takes it. Ask before every entry: a remote
//!   post changes the answer at any time.
//! - [`Lapic::deadline`] is when [`Lapic::expire`] wants to be called: nanoseconds of guest system time, as all times here.
//!
//! Where Xen does otherwise: a guest cannot change its physical id in xAPIC mode (as on current CPUs), a command with a
//! delivery mode that does not exist is ignored (Xen crashes the domain), and a timer tick while masked is lost, as on
//! hardware (Xen keeps it).
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod access;
mod base;
mod bits;
mod deliver;
mod lapic;
mod local;
mod msr;
mod port;
mod registers;
mod save;
mod timer;

pub use base::Fault;
pub use deliver::{Event, Ports, Request, Shorthand, deliver, pic_target};
pub use lapic::{Action, Lapic, Next};
pub use local::Pin;
pub use port::Port;
pub use timer::{BUS_CYCLE_NS, MIN_PERIOD_NS};
