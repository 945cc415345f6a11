//! Whoever watches a translated domain (vm_event.h), joined with its event channels, its memory and its vCPUs; and what follows
//! from accesses that the rights to a page do not allow (`XENMEM_access_op`).

use crate::translated::Never;
use crate::{Arch, Domain, Hypervisor, Life, PauseFlags, Vcpu};
use core::num::NonZeroU8;
use core::sync::atomic::Ordering::SeqCst;
use evtchn::Consumer;
use p2m::Access;
use platform::{Frames, Table};
use types::{DomId, Errno, Gfn, Mfn, Result, VcpuId};
use vm_event::{Host, Monitor, Sent, Wait};
use xen_abi::vm_event::VmEvent;

/// Takes the events with which watchers answer.
pub(crate) const ANSWERS: Consumer = Consumer(NonZeroU8::MIN.saturating_add(1));

/// What watching a domain needs around it.
pub struct MonitorHost<'a, A: Arch> {
    hypervisor: &'a Hypervisor<A>,
    domain: &'a Domain<A>,
}

/// An access that the rights to a page do not allow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused {
    /// The page.
    pub gfn: Gfn,
    /// The rights.
    pub access: Access,
    /// Whether it was a write.
    pub write: bool,
}

fn flag(wait: Wait) -> u32 {
    match wait {
        Wait::Answer => PauseFlags::ANSWER,
        Wait::Room => PauseFlags::ROOM,
    }
}

impl<A: Arch> Hypervisor<A> {
    /// What watches a domain, which may be nobody; nobody can watch a domain that is not translated.
    pub fn monitor<'a>(&'a self, domain: &'a Domain<A>) -> Option<Monitor<'a, MonitorHost<'a, A>>> {
        let translated = domain.translated.as_ref()?;
        Some(Monitor::new(&translated.watched, MonitorHost { hypervisor: self, domain }))
    }

    /// Takes what the domain's watcher has answered (`XEN_VM_EVENT_RESUME`).
    ///
    /// # Errors
    /// `ENODEV` if nobody watches it.
    pub fn resume_watched(&self, domain: &Domain<A>) -> Result<()> {
        let answer = |vcpu, answer: &VmEvent| {
            if let Some(vcpu) = domain.vcpu(vcpu) {
                self.machine().event_answered(vcpu, answer);
            }
        };
        self.monitor(domain).ok_or(Errno::NODEV)?.resume(answer)
    }

    /// Does what follows from an access of the running vCPU's that was refused: the watcher is told, and the vCPU may have to
    /// wait; or the rights are widened. In any case the guest is to try again when it next runs (`p2m_mem_access_check`).
    ///
    /// # Errors
    /// `EPERM` for a domain that must not go on unwatched; `ENOMEM` where a large page cannot be split. It is to be crashed.
    pub fn access_refused(
        &self,
        domain: &Domain<A>,
        refused: Refused,
        describe: impl FnOnce() -> VmEvent,
    ) -> Result<()> {
        let Refused { gfn, access, write } = refused;
        let Some(translated) = &domain.translated else { return Ok(()) };
        if access == Access::Rx2Rw && write {
            return self.change_access(domain, refused, Access::Rw);
        }
        let is_watched = translated.watched.is_watched();
        if is_watched {
            let sync = access != Access::N2Rwx;
            let sent = self.monitor(domain).map_or(Sent::Nobody, |monitor| monitor.send(describe(), sync));
            // Who has gone just now is found to have gone at the next attempt.
            return if sent == Sent::Done && !sync { self.change_access(domain, refused, Access::Rwx) } else { Ok(()) };
        }
        if translated.watched.is_required() {
            return Err(Errno::PERM);
        }
        match self.change_access(domain, refused, Access::Rwx) {
            Err(Errno::NOMEM) => {
                // Nobody looks at the pages around it either.
                let entry = translated.p2m.get(gfn);
                let first = Gfn(gfn.0 >> entry.order << entry.order);
                translated.p2m.set_access_range(first, entry.end(gfn), Access::Rwx, &Never).map(|_| ())
            }
            result => result,
        }
    }

    /// Makes the rights to the page other ones, unless they are others already.
    fn change_access(&self, domain: &Domain<A>, refused: Refused, to: Access) -> Result<()> {
        let Some(p2m) = domain.p2m() else { return Ok(()) };
        if p2m.change_access(refused.gfn, refused.access, to)? == p2m::Flush::Needed {
            let _rest = p2m.flush(self.machine());
        }
        Ok(())
    }
}

impl<A: Arch> MonitorHost<'_, A> {
    fn vcpu(&self, vcpu: VcpuId) -> Option<&Vcpu<A>> {
        self.domain.vcpu(vcpu).map(|vcpu| &**vcpu)
    }
}

impl<A: Arch> Frames for MonitorHost<'_, A> {
    fn table(&self, mfn: Mfn) -> Option<&Table> {
        self.hypervisor.machine().table(mfn)
    }
}

impl<A: Arch> Host for MonitorHost<'_, A> {
    fn is_dying(&self) -> bool {
        self.domain.life() != Life::Alive
    }

    fn open_port(&self, watcher: DomId) -> Result<u32> {
        self.domain.evtchn.alloc_for_consumer(self.hypervisor.machine(), VcpuId(0), watcher, ANSWERS)
    }

    fn close_port(&self, port: u32) {
        self.hypervisor.close_own_port(self.domain, port);
    }

    fn notify(&self, port: u32) {
        self.hypervisor.send_own(self.domain, port);
    }

    fn hold(&self, gfn: Gfn) -> Result<Mfn> {
        Ok(self.hypervisor.hold(self.domain, gfn.0, true)?.keep())
    }

    fn release(&self, mfn: Mfn) {
        self.hypervisor.memory.put_writable(mfn);
    }

    fn stop(&self, vcpu: VcpuId, wait: Wait) {
        if let Some(vcpu) = self.vcpu(vcpu) {
            vcpu.flags.fetch_or(flag(wait), SeqCst);
            self.hypervisor.sleep(vcpu);
        }
    }

    fn waits(&self, vcpu: VcpuId, wait: Wait) -> bool {
        self.vcpu(vcpu).is_some_and(|vcpu| vcpu.flags.load(SeqCst) & flag(wait) != 0)
    }

    fn go_on(&self, vcpu: VcpuId, wait: Wait) {
        if let Some(vcpu) = self.vcpu(vcpu) {
            if vcpu.flags.fetch_and(!flag(wait), SeqCst) & flag(wait) != 0 {
                self.hypervisor.wake(vcpu);
            }
        }
    }

    fn vcpus(&self) -> u32 {
        self.domain.vcpus().len() as u32
    }
}
