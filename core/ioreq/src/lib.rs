//! Device emulators outside of the hypervisor (QEMU in dom0): which of them serves an access, and how it hears of it
//! (hvm/ioreq.h, hvm/dm_op.h).
//!
//! A [`Book`] belongs to one HVM domain; [`Servers`] is what is done with it. An emulator makes a server, claims ranges of ports, addresses or PCI devices for
//! it, and maps its two pages: one with a request of each vCPU, one with a ring of requests that need no answer.
//!
//! An access that the hypervisor does not serve itself goes this way:
//! 1. [`Servers::send`] finds the server, writes the request and notifies the emulator. With [`Sent::Wait`] the vCPU keeps
//!    the [`Pending`] and waits for its event channel ([`Pending::port`]).
//! 2. Whenever the vCPU is about to run, [`Servers::poll`] says whether the answer is there.
//! 3. With [`Polled::Done`] the instruction is completed. With [`Polled::Broken`] the domain is crashed: the emulator has
//!    done to the page what no emulator does.
//!
//! The pages are lent frames and their other owners may write anything to them at any time. Every word is read once, and is
//! only a value: no index, address or length that the hypervisor uses comes out of them unchecked.
//!
//! # Locks
//! One for all servers of a domain (readers but for configuration), then a ring's. [`Host`] is called under the first.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod page;
mod ranges;
mod request;
mod route;
mod server;
mod servers;

pub use page::{Pending, Polled};
pub use request::{Direction, Kind, Request};
pub use route::Sent;
pub use servers::{Book, Claim, Info, Servers};

use platform::Frames;
use types::{DomId, Gfn, Mfn, Result, VcpuId};

/// Servers that a domain can have (`MAX_NR_IOREQ_SERVERS`).
pub const MAX_SERVERS: usize = 8;
/// Ranges of one kind that a server can have (`MAX_NR_IO_RANGES`).
pub const MAX_RANGES: usize = 256;
/// vCPUs whose requests fit into a page (`HVM_MAX_VCPUS`).
pub const MAX_VCPUS: u32 = 128;

/// What servers need of the hypervisor around them. All of it concerns the domain whose servers they are.
pub trait Host: Frames {
    /// An event channel of the hypervisor's for a vCPU, to be bound by `emulator`. `ENOSPC`, `ENOMEM`.
    fn open_port(&self, vcpu: VcpuId, emulator: DomId) -> Result<u32>;
    /// Closes it.
    fn close_port(&self, port: u32);
    /// Raises it at the emulator.
    fn notify(&self, port: u32);
    /// A zeroed frame of the domain's that it cannot reach and that does not count, with a reference and a writable use.
    /// `ENOMEM`.
    fn allocate_page(&self) -> Result<Mfn>;
    /// Lets go of it.
    fn free_page(&self, mfn: Mfn);
    /// The frame at a guest frame, with a reference and a writable use. `EINVAL` if there is no RAM, or the domain is dying.
    fn hold(&self, gfn: Gfn) -> Result<Mfn>;
    /// Lets go of it.
    fn release(&self, mfn: Mfn);
    /// Takes the frame out of the guest's reach, or the domain is crashed.
    fn hide(&self, gfn: Gfn, mfn: Mfn);
    /// Puts it back.
    fn show(&self, gfn: Gfn, mfn: Mfn);
}
