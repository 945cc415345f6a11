//! Raising events.

use crate::channels::EventChannels;
use crate::fifo::Fifo;
use crate::port::{Consumer, Port, Slot, State};
use crate::virq::{Scope, scope};
use crate::words;
use core::sync::atomic::Ordering;
use platform::sync::MutexGuard;
use platform::{Frames, Table};
use types::{DomId, Errno, Result, VcpuId};

/// Byte of `evtchn_pending` in `shared_info`.
const PENDING_AT: usize = 2048;
/// Bytes of `evtchn_pending`, after which `evtchn_mask` follows; for 64-bit and 32-bit words.
const PENDING_SIZE: usize = 512;
const NARROW_PENDING_SIZE: usize = 128;

/// What is left to do after a port was raised. The default is nothing.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
#[must_use = "a vCPU or a consumer may have to be told"]
pub struct Raised {
    /// The port.
    pub port: Port,
    /// This vCPU's upcall became pending: kick it (PV), or assert its callback interrupt (HVM).
    pub upcall: Option<VcpuId>,
    /// Some vCPU polls: unblock those that [`EventChannels::take_pollers`] names.
    pub pollers: bool,
    /// The event belongs to the hypervisor itself, on behalf of this vCPU.
    pub consumer: Option<(Consumer, VcpuId)>,
}

/// Where a sent event has to go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "the event is not raised yet"]
pub enum Delivery {
    /// It was raised in this domain.
    Local(Raised),
    /// Call `deliver(port, from)` on the table of that domain.
    Remote {
        /// The domain at the other end.
        domain: DomId,
        /// Its port.
        port: Port,
        /// This end: the sender and its port.
        from: (DomId, Port),
    },
    /// Nobody has bound the other end: the event is dropped.
    Dropped,
}

impl EventChannels {
    /// Sends an event through a port (EVTCHNOP_send).
    ///
    /// # Errors
    /// `EINVAL`: no such port, not one to send through, or one whose events the hypervisor takes.
    pub fn send<M: Frames + ?Sized>(&self, frames: &M, port: Port) -> Result<Delivery> {
        self.send_as(frames, port, false)
    }

    /// Sends an event through a port whose events the hypervisor takes (`notify_via_xen_event_channel`).
    ///
    /// # Errors
    /// `EINVAL` if it is no such port.
    pub fn send_from_hypervisor<M: Frames + ?Sized>(&self, frames: &M, port: Port) -> Result<Delivery> {
        self.send_as(frames, port, true)
    }

    /// Part of its callers, with what it calls: so what was raised stays in registers.
    #[inline(always)]
    fn send_as<M: Frames + ?Sized>(&self, frames: &M, port: Port, hypervisor: bool) -> Result<Delivery> {
        let mut slot = self.ports.get(port)?;
        if slot.consumer.is_some() != hypervisor {
            return Err(Errno::INVAL);
        }
        let mut raised = port;
        match slot.state {
            State::Ipi => {}
            State::Interdomain { remote, port: to } => {
                drop(slot);
                let from = (self.domain, port);
                if remote != self.domain {
                    return Ok(Delivery::Remote { domain: remote, port: to, from });
                }
                let Some(end) = self.end(to, from) else { return Ok(Delivery::Dropped) };
                (raised, slot) = (to, end);
            }
            State::Unbound { .. } => return Ok(Delivery::Dropped),
            _ => return Err(Errno::INVAL),
        }
        Ok(Delivery::Local(self.raise(frames, raised, &mut slot)))
    }

    /// A port that is connected to the port `from` of a domain; `None` if it is not, or no more.
    #[inline(always)]
    fn end(&self, port: Port, from: (DomId, Port)) -> Option<MutexGuard<'_, Slot>> {
        let slot = self.ports.lock(port)?;
        (slot.state == State::Interdomain { remote: from.0, port: from.1 }).then_some(slot)
    }

    /// Raises a port for an event that was sent from the other end. Nothing happens if the two are connected no more.
    pub fn deliver<M: Frames + ?Sized>(&self, frames: &M, port: Port, from: (DomId, Port)) -> Raised {
        match self.end(port, from) {
            Some(mut slot) => self.raise(frames, port, &mut slot),
            None => Raised::default(),
        }
    }

    /// Raises a port that is in use, whatever it is bound to. Nothing happens if it is not in use.
    pub fn set_pending<M: Frames + ?Sized>(&self, frames: &M, port: Port) -> Raised {
        let Some(mut slot) = self.ports.lock(port) else {
            return Raised::default();
        };
        self.raise(frames, port, &mut slot)
    }

    /// Raises a virtual interrupt line: the vCPU's own where it is per vCPU, else that of the domain (`vcpu` is ignored).
    pub fn raise_virq<M: Frames + ?Sized>(&self, frames: &M, vcpu: VcpuId, virq: u32) -> Raised {
        let owner = if scope(virq) == Scope::Vcpu { vcpu.index() } else { 0 };
        let line = self.vcpus.get(owner).and_then(|events| events.virqs.get(virq as usize));
        let port = line.map_or(0, |line| line.load(Ordering::Acquire));
        self.raise_if(frames, port, State::Virq(virq))
    }

    /// Raises a physical interrupt line. Nothing happens if the domain has not bound it.
    pub fn raise_pirq<M: Frames + ?Sized>(&self, frames: &M, pirq: u32) -> Raised {
        let port = self.pirq_port(pirq).unwrap_or(0);
        self.raise_if(frames, port, State::Pirq(pirq))
    }

    /// The port that a physical interrupt line is bound to.
    pub fn pirq_port(&self, pirq: u32) -> Option<Port> {
        let port = self.pirqs.get(pirq as usize)?.load(Ordering::Acquire);
        (port != 0).then_some(port)
    }

    fn raise_if<M: Frames + ?Sized>(&self, frames: &M, port: Port, state: State) -> Raised {
        if port == 0 {
            return Raised::default();
        }
        match self.ports.lock(port) {
            Some(mut slot) if slot.state == state => self.raise(frames, port, &mut slot),
            _ => Raised::default(),
        }
    }

    /// Raises a port under its lock.
    #[inline(always)]
    pub(crate) fn raise<M: Frames + ?Sized>(&self, frames: &M, port: Port, slot: &mut Slot) -> Raised {
        if !slot.state.is_usable() {
            return Raised::default();
        }
        let vcpu = VcpuId(u32::from(slot.vcpu));
        if let Some(consumer) = slot.consumer {
            return Raised { port, consumer: Some((consumer, vcpu)), ..Raised::default() };
        }
        let (newly, upcall) = match self.fifo() {
            Some(fifo) => self.raise_fifo(fifo, frames, port, slot),
            None => self.raise_two_level(frames, port, vcpu),
        };
        Raised { port, upcall: upcall.then_some(vcpu), pollers: newly && self.pollers.any(), consumer: None }
    }

    /// Whether the event was not pending before, and whether the vCPU's upcall became pending.
    #[inline(never)]
    fn raise_fifo<M: Frames + ?Sized>(&self, fifo: &Fifo, frames: &M, port: Port, slot: &mut Slot) -> (bool, bool) {
        let vcpu = VcpuId(u32::from(slot.vcpu));
        let outcome = fifo.set_pending(frames, port, slot);
        (outcome.newly, outcome.upcall && self.mark_upcall(frames, vcpu))
    }

    /// Sets the pending bit, then the selector bit unless the port is masked, then asks for an upcall: in this order, since
    /// the guest reads them in the opposite order. Answers as [`EventChannels::raise_fifo`].
    #[inline(always)]
    fn raise_two_level<M: Frames + ?Sized>(&self, frames: &M, port: Port, vcpu: VcpuId) -> (bool, bool) {
        let Some(table) = self.bitmaps(frames, port) else {
            return (false, false);
        };
        if words::test_and_set(table, self.pending_bit(port)) {
            return (false, false);
        }
        let masked = words::test(table, self.mask_bit(port));
        (true, !masked && self.select(frames, vcpu, port))
    }

    /// Clears a port's mask and, if an event is pending, tells the vCPU (EVTCHNOP_unmask).
    ///
    /// # Errors
    /// `EINVAL`: no such port.
    pub fn unmask<M: Frames + ?Sized>(&self, frames: &M, port: Port) -> Result<Raised> {
        let mut slot = self.ports.get(port)?;
        if !slot.state.is_usable() {
            return Ok(Raised::default());
        }
        let vcpu = VcpuId(u32::from(slot.vcpu));
        if let Some(fifo) = self.fifo() {
            let outcome = fifo.unmask(frames, port, &mut slot);
            let upcall = outcome.upcall && self.mark_upcall(frames, vcpu);
            return Ok(Raised { port, upcall: upcall.then_some(vcpu), ..Raised::default() });
        }
        let Some(table) = self.bitmaps(frames, port) else {
            return Ok(Raised::default());
        };
        let wanted = words::test_and_clear(table, self.mask_bit(port)) && words::test(table, self.pending_bit(port));
        let upcall = wanted && self.select(frames, vcpu, port);
        Ok(Raised { port, upcall: upcall.then_some(vcpu), ..Raised::default() })
    }

    /// Whether an event is pending on a port in use.
    pub fn is_pending<M: Frames + ?Sized>(&self, frames: &M, port: Port) -> bool {
        self.is_usable(port) && self.pending_word(frames, port)
    }

    /// Whether a port is in use, so that events can arrive at it.
    pub(crate) fn is_usable(&self, port: Port) -> bool {
        self.ports.lock(port).is_some_and(|slot| slot.state.is_usable())
    }

    /// Whether a port is masked; one that is not in use is.
    pub fn is_masked<M: Frames + ?Sized>(&self, frames: &M, port: Port) -> bool {
        let Some(slot) = self.ports.lock(port) else { return true };
        if !slot.state.is_usable() {
            return true;
        }
        match self.fifo() {
            Some(fifo) => fifo.is_masked(frames, port),
            None => self.bitmaps(frames, port).is_none_or(|table| words::test(table, self.mask_bit(port))),
        }
    }

    fn pending_word<M: Frames + ?Sized>(&self, frames: &M, port: Port) -> bool {
        match self.fifo() {
            Some(fifo) => fifo.is_pending(frames, port),
            None => self.is_pending_two_level(frames, port),
        }
    }

    pub(crate) fn is_pending_two_level<M: Frames + ?Sized>(&self, frames: &M, port: Port) -> bool {
        self.bitmaps(frames, port).is_some_and(|table| words::test(table, self.pending_bit(port)))
    }

    /// Clears a port's pending bit. The caller holds the port's lock.
    pub(crate) fn clear_pending<M: Frames + ?Sized>(&self, frames: &M, port: Port) {
        if let Some(fifo) = self.fifo() {
            fifo.clear_pending(frames, port);
        } else if let Some(table) = self.bitmaps(frames, port) {
            words::test_and_clear(table, self.pending_bit(port));
        }
    }

    /// `shared_info`, for a port that has bits there. The hypervisor's own ports can have higher numbers, from a time before
    /// the guest left the FIFO ABI.
    fn bitmaps<'a, M: Frames + ?Sized>(&self, frames: &'a M, port: Port) -> Option<&'a Table> {
        let ports = if self.narrow.load(Ordering::Relaxed) { NARROW_PENDING_SIZE } else { PENDING_SIZE } * 8;
        if (port as usize) < ports { frames.table(self.shared_info) } else { None }
    }

    fn pending_bit(&self, port: Port) -> usize {
        PENDING_AT * 8 + port as usize
    }

    fn mask_bit(&self, port: Port) -> usize {
        let size = if self.narrow.load(Ordering::Relaxed) { NARROW_PENDING_SIZE } else { PENDING_SIZE };
        (PENDING_AT + size) * 8 + port as usize
    }
}
