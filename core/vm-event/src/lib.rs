//! Events of a guest for a program in another domain that watches it (vm_event.h; Xen's vm_event, monitor).
//!
//! A [`Book`] belongs to one domain; [`Monitor`] is what is done with it. The watcher has the ring enabled, maps its page and
//! binds its event channel. An event goes this way:
//! 1. [`Monitor::send`] writes a request and notifies the watcher. The vCPU that it is about stops where it has to wait for
//!    the answer.
//! 2. The watcher writes a response and notifies the hypervisor. [`Monitor::resume`] takes responses, and lets those vCPUs
//!    go on that they are for.
//!
//! Where the ring has no room, nothing is sent: the vCPU stops until there is some, and then comes to the event again, since
//! what led to it is not carried out before.
//!
//! The page is a lent frame, to which the watcher may write anything at any time. The hypervisor's own positions in the ring
//! are kept elsewhere, and there are never more responses than requests that wait for one; so a watcher that writes nonsense
//! has its vCPUs wait, or go on, and nothing else.
//!
//! # Locks
//! One for the ring of a domain. [`Host`] is called under it.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod monitor;
mod ring;

pub use monitor::{Book, Monitor, Sent};
pub use ring::SLOTS;

use platform::Frames;
use types::{DomId, Gfn, Mfn, Result, VcpuId};

/// What a vCPU waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    /// The response to its event.
    Answer,
    /// Room in the ring.
    Room,
}

/// What a monitor needs of the hypervisor around it. All of it concerns the domain that is watched.
pub trait Host: Frames {
    /// Whether the domain is on its way out.
    fn is_dying(&self) -> bool;
    /// An event channel of the hypervisor's, to be bound by `watcher`. `ENOSPC`, `ENOMEM`.
    fn open_port(&self, watcher: DomId) -> Result<u32>;
    /// Closes it.
    fn close_port(&self, port: u32);
    /// Raises it at the watcher.
    fn notify(&self, port: u32);
    /// The frame at a guest frame, with a reference and a writable use. `EINVAL` if there is no RAM.
    fn hold(&self, gfn: Gfn) -> Result<Mfn>;
    /// Lets go of it.
    fn release(&self, mfn: Mfn);
    /// Keeps a vCPU from running.
    fn stop(&self, vcpu: VcpuId, wait: Wait);
    /// Whether a vCPU, if there is one of this number, waits for this.
    fn waits(&self, vcpu: VcpuId, wait: Wait) -> bool;
    /// Ends that.
    fn go_on(&self, vcpu: VcpuId, wait: Wait);
    /// Number of vCPUs.
    fn vcpus(&self) -> u32;
}
