//! Giving ports out and connecting them.

use crate::channels::{EventChannels, Shared};
use crate::port::{Consumer, Port, State};
use crate::send::Raised;
use crate::virq::{NR_VIRQS, Scope, scope};
use core::sync::atomic::Ordering;
use platform::Frames;
use platform::sync::MutexGuard;
use types::{DomId, Errno, Result, VcpuId};

/// Locks the event locks of two tables in order of domain number. The second guard is `None` if they are the same table.
pub(crate) fn lock_both<'a>(
    local: &'a EventChannels,
    remote: &'a EventChannels,
) -> (MutexGuard<'a, Shared>, Option<MutexGuard<'a, Shared>>) {
    if core::ptr::eq(local, remote) {
        (local.event.lock(), None)
    } else if local.domain < remote.domain {
        let first = local.event.lock();
        (first, Some(remote.event.lock()))
    } else {
        let first = remote.event.lock();
        (local.event.lock(), Some(first))
    }
}

impl EventChannels {
    /// Makes a port that `remote` may bind (EVTCHNOP_alloc_unbound; the caller has replaced DOMID_SELF).
    ///
    /// # Errors
    /// `ENOSPC`, `ENOMEM`; `EINVAL` if the domain is dying.
    pub fn alloc_unbound<M: Frames + ?Sized>(&self, frames: &M, remote: DomId) -> Result<Port> {
        let mut event = self.event.lock();
        Ok(self.allocate(frames, &mut event, State::Unbound { remote }, 0)?.0)
    }

    /// As [`EventChannels::alloc_unbound`], for a port whose events the hypervisor takes on behalf of `vcpu`
    /// (`alloc_unbound_xen_event_channel`). The guest cannot close it, move it or send through it.
    ///
    /// # Errors
    /// As there; `ENOENT` for no such vCPU.
    pub fn alloc_for_consumer<M: Frames + ?Sized>(
        &self,
        frames: &M,
        vcpu: VcpuId,
        remote: DomId,
        consumer: Consumer,
    ) -> Result<Port> {
        let vcpu = self.vcpu(vcpu.0)?;
        let mut event = self.event.lock();
        let (port, mut slot) = self.allocate(frames, &mut event, State::Unbound { remote }, vcpu)?;
        slot.consumer = Some(consumer);
        Ok(port)
    }

    /// Connects a new port of `self` with an unbound port of `remote` (EVTCHNOP_bind_interdomain); the two may be the same
    /// table. The new port is raised, since events sent before are lost.
    ///
    /// # Errors
    /// `ENOSPC`, `ENOMEM`; `EINVAL`: the remote port does not exist, or does not wait for this domain, or the domain dies.
    pub fn bind_interdomain<M: Frames + ?Sized>(
        &self,
        frames: &M,
        remote: &EventChannels,
        remote_port: Port,
    ) -> Result<(Port, Raised)> {
        let (mut event, _other) = lock_both(self, remote);
        // States change only under the event lock, which is held, so what is seen here stays.
        let awaited = State::Unbound { remote: self.domain };
        let bindable = remote.ports.lock(remote_port).is_some_and(|slot| slot.state == awaited);
        let local_state = State::Interdomain { remote: remote.domain, port: remote_port };
        let (port, slot) = self.allocate(frames, &mut event, local_state, 0)?;
        drop(slot);
        if !bindable {
            let mut slot = self.ports.get(port)?;
            self.free(frames, &mut event, port, &mut slot);
            return Err(Errno::INVAL);
        }
        remote.ports.get(remote_port)?.state = State::Interdomain { remote: self.domain, port };
        Ok((port, self.set_pending(frames, port)))
    }

    /// Binds a virtual interrupt line (EVTCHNOP_bind_virq).
    ///
    /// # Errors
    /// `EINVAL`: no such line, or one of the domain or the host on another vCPU than 0. `ENOENT`: no such vCPU. `EEXIST`: it
    /// is bound. `ENOSPC`, `ENOMEM`.
    pub fn bind_virq<M: Frames + ?Sized>(&self, frames: &M, virq: u32, vcpu: u32) -> Result<Port> {
        if virq as usize >= NR_VIRQS || scope(virq) != Scope::Vcpu && vcpu != 0 {
            return Err(Errno::INVAL);
        }
        let vcpu = self.vcpu(vcpu)?;
        let mut event = self.event.lock();
        let line = &self.vcpus[usize::from(vcpu)].virqs[virq as usize];
        if line.load(Ordering::Acquire) != 0 {
            return Err(Errno::EXIST);
        }
        let (port, slot) = self.allocate(frames, &mut event, State::Virq(virq), vcpu)?;
        line.store(port, Ordering::Release);
        drop(slot);
        Ok(port)
    }

    /// Makes a port through which the domain's vCPUs send to `vcpu` (EVTCHNOP_bind_ipi).
    ///
    /// # Errors
    /// `ENOENT`: no such vCPU. `ENOSPC`, `ENOMEM`; `EINVAL` if the domain is dying.
    pub fn bind_ipi<M: Frames + ?Sized>(&self, frames: &M, vcpu: u32) -> Result<Port> {
        let vcpu = self.vcpu(vcpu)?;
        let mut event = self.event.lock();
        Ok(self.allocate(frames, &mut event, State::Ipi, vcpu)?.0)
    }

    /// Binds a physical interrupt line (EVTCHNOP_bind_pirq). `attach` makes the line's interrupts come to the domain; it
    /// runs under the event lock, and the port is taken back if it fails. The caller has checked access to the line.
    ///
    /// # Errors
    /// `EINVAL`: no such line, or the domain is dying. `EEXIST`: it is bound. `ENOSPC`, `ENOMEM`, and those of `attach`.
    pub fn bind_pirq<M: Frames + ?Sized>(
        &self,
        frames: &M,
        pirq: u32,
        attach: impl FnOnce() -> Result<()>,
    ) -> Result<Port> {
        let line = self.pirqs.get(pirq as usize).ok_or(Errno::INVAL)?;
        let mut event = self.event.lock();
        if line.load(Ordering::Acquire) != 0 {
            return Err(Errno::EXIST);
        }
        let (port, slot) = self.allocate(frames, &mut event, State::Pirq(pirq), 0)?;
        drop(slot);
        // The first interrupt may come before `attach` returns.
        line.store(port, Ordering::Release);
        if let Err(error) = attach() {
            line.store(0, Ordering::Release);
            let mut slot = self.ports.get(port)?;
            self.free(frames, &mut event, port, &mut slot);
            return Err(error);
        }
        Ok(port)
    }

    /// Moves a port to another vCPU (EVTCHNOP_bind_vcpu). The physical line, if it is bound to one and really moved: the
    /// caller moves its interrupt to where that vCPU runs.
    ///
    /// # Errors
    /// `ENOENT`: no such vCPU. `EINVAL`: no such port, or one that cannot be moved.
    pub fn bind_vcpu(&self, port: Port, vcpu: u32) -> Result<Option<u32>> {
        let vcpu = self.vcpu(vcpu)?;
        let _event = self.event.lock();
        let mut slot = self.ports.get(port)?;
        if slot.consumer.is_some() {
            return Err(Errno::INVAL);
        }
        let pirq = match slot.state {
            State::Virq(virq) if scope(virq) != Scope::Vcpu => None,
            State::Unbound { .. } | State::Interdomain { .. } => None,
            State::Pirq(pirq) => (slot.vcpu != vcpu).then_some(pirq),
            _ => return Err(Errno::INVAL),
        };
        slot.vcpu = vcpu;
        Ok(pirq)
    }
}
