//! Switching to the FIFO ABI and setting it up.

use crate::channels::EventChannels;
use crate::fifo::{CONTROL_SIZE, Fifo, QUEUES, WORDS};
use crate::port::{DEFAULT_PRIORITY, Port};
use crate::send::Raised;
use core::sync::atomic::Ordering;
use platform::Frames;
use types::{Errno, Mfn, PAGE_SIZE, Result};

/// Bits of an event word that link to the next one (`EVTCHN_FIFO_LINK_BITS`), the answer of EVTCHNOP_init_control.
pub const LINK_BITS: u8 = xen_abi::event_channel::EVTCHN_FIFO_LINK_BITS as u8;

impl EventChannels {
    /// Gives a vCPU its control block, and switches the domain to the FIFO ABI if this is its first (EVTCHNOP_init_control).
    /// `resolve` turns the guest's frame into a machine frame and takes a reference and a writable type of it; it runs under
    /// the event lock, after all checks. The table keeps what it took until `reset` or `destroy` gives it back.
    ///
    /// Events that are pending in the bitmaps are kept, and linked when their event words come.
    ///
    /// # Errors
    /// `ENOENT`: no such vCPU. `EINVAL`: the block would cross a page or is not aligned to 8 bytes, or the vCPU has one.
    /// `ENOMEM`; and those of `resolve` (`EINVAL` for a frame that is not the domain's, or not writable).
    pub fn init_control<M: Frames + ?Sized>(
        &self,
        frames: &M,
        vcpu: u32,
        offset: u32,
        resolve: impl FnOnce() -> Result<Mfn>,
    ) -> Result<()> {
        let vcpu = usize::from(self.vcpu(vcpu)?);
        if offset > PAGE_SIZE as u32 - CONTROL_SIZE || offset % 8 != 0 {
            return Err(Errno::INVAL);
        }
        let _event = self.event.lock();
        let fifo = self.fifo.try_call_once(|| Fifo::new(self.vcpus.len()))?;
        if fifo.has_control(vcpu) {
            return Err(Errno::INVAL);
        }
        let mfn = resolve()?;
        fifo.set_control(vcpu, mfn, offset);
        if !self.fifo_active.swap(true, Ordering::AcqRel) {
            self.save_pending(frames);
        }
        Ok(())
    }

    /// Keeps what is pending in the bitmaps. A sender that still found the two-level ABI holds its port's lock, so its bit
    /// is seen here; one that comes later finds no event word and leaves a note itself.
    fn save_pending<M: Frames + ?Sized>(&self, frames: &M) {
        for port in 1..self.ports.valid() {
            let Some(mut slot) = self.ports.lock(port) else { break };
            if self.is_pending_two_level(frames, port) {
                slot.saved_pending = true;
            }
            slot.priority = DEFAULT_PRIORITY;
        }
    }

    /// Adds a page of event words (EVTCHNOP_expand_array) and raises the kept events of its ports; `raised` is told of each
    /// that leaves something to do, under the event lock. `resolve` as in [`EventChannels::init_control`].
    ///
    /// # Errors
    /// `EOPNOTSUPP`: not in FIFO mode. `ENOSPC`: all 128 pages are there. Those of `resolve`.
    pub fn expand_array<M: Frames + ?Sized>(
        &self,
        frames: &M,
        resolve: impl FnOnce() -> Result<Mfn>,
        raised: &mut dyn FnMut(Raised),
    ) -> Result<()> {
        let _event = self.event.lock();
        let fifo = self.fifo().ok_or(Errno::OPNOTSUPP)?;
        fifo.has_room()?;
        let first = fifo.words();
        fifo.add_page(resolve()?);
        for port in first..(first + WORDS).min(self.ports.valid()) {
            let Some(mut slot) = self.ports.lock(port) else { break };
            if core::mem::take(&mut slot.saved_pending) {
                raised(self.raise(frames, port, &mut slot));
            }
        }
        Ok(())
    }

    /// Sets a port's priority, from its next event on (EVTCHNOP_set_priority).
    ///
    /// # Errors
    /// `EINVAL`: no such port, or no such priority. `ENOSYS`: not in FIFO mode. `EACCES`: the port is closed.
    pub fn set_priority(&self, port: Port, priority: u32) -> Result<()> {
        let mut slot = self.ports.get(port)?;
        if self.fifo().is_none() {
            return Err(Errno::NOSYS);
        }
        if !slot.state.is_usable() {
            return Err(Errno::ACCES);
        }
        if priority as usize >= QUEUES {
            return Err(Errno::INVAL);
        }
        slot.priority = priority as u8;
        Ok(())
    }
}
