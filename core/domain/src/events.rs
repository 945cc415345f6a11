//! Events on their way: from a channel or a virtual interrupt to the vCPU that is to notice.

use crate::{Arch, Domain, Hypervisor, Vcpu, monitor, waiting};
use core::sync::atomic::{
    AtomicU32,
    Ordering::{Relaxed, SeqCst},
};
use evtchn::{Delivery, Port, Raised};
use types::{DomId, Result, VcpuId};

/// Number of virtual interrupts (NR_VIRQS, xen.h).
const VIRQS: usize = 24;

/// Which domain is told of each virtual interrupt that is global; dom0 unless the toolstack says otherwise.
pub struct GlobalVirqs([AtomicU32; VIRQS]);

impl Default for GlobalVirqs {
    fn default() -> Self {
        GlobalVirqs([const { AtomicU32::new(0) }; VIRQS])
    }
}

impl GlobalVirqs {
    /// The domain that is told of `virq`.
    pub fn handler(&self, virq: u32) -> DomId {
        DomId(self.0.get(virq as usize).map_or(0, |handler| handler.load(SeqCst)) as u16)
    }

    /// Makes another domain the one that is told (XEN_DOMCTL_set_virq_handler).
    pub fn set_handler(&self, virq: u32, domain: DomId) {
        if let Some(handler) = self.0.get(virq as usize) {
            handler.store(domain.0.into(), SeqCst);
        }
    }
}

impl<A: Arch> Hypervisor<A> {
    /// Does what a raised event of `domain` still asks for: gets the attention of a vCPU, ends polls.
    #[inline(always)]
    pub fn follow(&self, domain: &Domain<A>, raised: Raised) {
        if raised.upcall.is_some() || raised.consumer.is_some() || raised.pollers {
            self.follow_up(domain, raised);
        }
    }

    #[inline(never)]
    fn follow_up(&self, domain: &Domain<A>, raised: Raised) {
        self.follow_here(domain, raised);
    }

    /// The same as a part of its caller, so that what was raised stays in registers.
    #[inline(always)]
    fn follow_here(&self, domain: &Domain<A>, raised: Raised) {
        if let Some(vcpu) = raised.upcall.and_then(|vcpu| domain.vcpu(vcpu)) {
            self.machine().upcall_raised(vcpu);
            self.notify(vcpu);
        }
        match raised.consumer {
            // It may be that nobody watches any more.
            Some((monitor::ANSWERS, _)) => _ = self.resume_watched(domain),
            Some((_, vcpu)) => domain.vcpu(vcpu).into_iter().for_each(|vcpu| self.end_wait_for_device(vcpu)),
            None => {}
        }
        if raised.pollers {
            for vcpu in domain.evtchn.take_pollers(raised.port).filter_map(|vcpu| domain.vcpu(vcpu)) {
                self.end_wait(vcpu);
            }
        }
    }

    /// Raises a virtual interrupt of one vCPU.
    pub fn raise_vcpu_virq(&self, domain: &Domain<A>, vcpu: VcpuId, virq: u32) {
        self.follow(domain, domain.evtchn.raise_virq(self.machine(), vcpu, virq));
    }

    /// Raises a global virtual interrupt at the domain that handles it.
    pub fn raise_global_virq(&self, virq: u32) {
        // A handler that is gone leaves its interrupts to dom0.
        let handler = self.domains.get(self.virqs.handler(virq)).or_else(|| self.domains.get(DomId::DOM0));
        if let Some(domain) = handler {
            self.raise_vcpu_virq(&domain, VcpuId(0), virq);
        }
    }

    /// Sends on a port, for the guest that owns it.
    ///
    /// # Errors
    /// As EVTCHNOP_send.
    #[inline(always)]
    pub fn send(&self, domain: &Domain<A>, port: Port) -> Result<()> {
        let delivery = domain.evtchn.send(self.machine(), port)?;
        self.complete(domain, delivery);
        Ok(())
    }

    /// Sends on a port of the hypervisor's own, if it still is one.
    pub(crate) fn send_own(&self, domain: &Domain<A>, port: Port) {
        if let Ok(delivery) = domain.evtchn.send_from_hypervisor(self.machine(), port) {
            self.complete(domain, delivery);
        }
    }

    /// Takes an event of a domain's to where it has to go.
    #[inline(always)]
    fn complete(&self, domain: &Domain<A>, delivery: Delivery) {
        match delivery {
            Delivery::Local(raised) => self.follow_here(domain, raised),
            Delivery::Remote { domain: remote, port, from } => self.send_to(remote, port, from),
            Delivery::Dropped => {}
        }
    }

    /// Takes an event to another domain, if that is still there.
    #[inline(never)]
    fn send_to(&self, remote: DomId, port: Port, from: (DomId, Port)) {
        if let Some(remote) = self.domains.get(remote) {
            self.follow(&remote, remote.evtchn.deliver(self.machine(), port, from));
        }
    }

    /// A vCPU has something to notice: makes it run, or leave the guest and look.
    pub fn notify(&self, vcpu: &Vcpu<A>) {
        if self.end_wait(vcpu) {
            return;
        }
        if let Some(cpu) = vcpu.running_on() {
            if cpu != self.machine().this_cpu() {
                self.machine().kick(cpu);
            }
        }
    }

    /// Has a vCPU take an NMI, unless one waits already.
    pub fn send_nmi(&self, vcpu: &Vcpu<A>) {
        if vcpu.nmi_pending.swap(true, SeqCst) {
            return;
        }
        self.notify(vcpu);
        // The way back from a hypercall looks for events only.
        let here = self.machine().this_cpu();
        if vcpu.running_on() == Some(here) {
            self.cpu(here).reschedule.store(true, Relaxed);
        }
    }

    /// Ends a vCPU's waiting for an event; whether it did wait.
    #[inline]
    pub fn end_wait(&self, vcpu: &Vcpu<A>) -> bool {
        let waited = waiting::end(&vcpu.flags, || {
            if let Some(domain) = vcpu.domain.upgrade() {
                domain.evtchn.end_poll(vcpu.id);
            }
        });
        if waited {
            self.wake(vcpu);
        }
        waited
    }

    /// Whether the vCPU, which makes a hypercall, has an event that it has not masked, and would take it now.
    pub fn has_deliverable_event(&self, domain: &Domain<A>, vcpu: &Vcpu<A>) -> bool {
        !vcpu.holds_events_back.load(Relaxed) && domain.evtchn.upcall_due(self.machine(), vcpu.id)
    }
}
