//! Closing event channels.

use crate::{Arch, Domain, Hypervisor};
use evtchn::{Environment, EventChannels, Port};
use types::{DomId, Errno, Mfn, Progress, Result, VcpuId};

/// What closing a port of a domain needs of the others.
struct Surroundings<'a, A: Arch> {
    hypervisor: &'a Hypervisor<A>,
    domain: &'a Domain<A>,
}

impl<A: Arch> Environment for Surroundings<'_, A> {
    fn with_domain(&self, domain: DomId, action: &mut dyn FnMut(&EventChannels)) {
        if let Some(domain) = self.hypervisor.domains.get(domain) {
            action(&domain.evtchn);
        }
    }

    fn detach_pirq(&self, pirq: u32) {
        self.hypervisor.machine().pirq_unbound(self.hypervisor, self.domain, pirq);
    }
}

impl<A: Arch> Hypervisor<A> {
    /// Closes a port, for the guest that owns it.
    ///
    /// # Errors
    /// As EVTCHNOP_close.
    pub fn close_port(&self, domain: &Domain<A>, port: Port) -> Result<()> {
        domain.evtchn.close(self.machine(), &Surroundings { hypervisor: self, domain }, port)
    }

    /// Closes a port of the hypervisor's own, if it still is one.
    pub(crate) fn close_own_port(&self, domain: &Domain<A>, port: Port) {
        // A domain that ends may have closed it already.
        let _ = domain.evtchn.close_for_consumer(self.machine(), &Surroundings { hypervisor: self, domain }, port);
    }

    /// Closes all ports of a domain (EVTCHNOP_reset), from `cursor` on.
    ///
    /// # Errors
    /// `EAGAIN` where ports were bound meanwhile.
    pub fn reset_ports(&self, domain: &Domain<A>, cursor: Port) -> Result<Progress<(), Port>> {
        let environment = Surroundings { hypervisor: self, domain };
        let release = &mut |mfn| self.memory.put_writable(mfn);
        domain.evtchn.reset(self.machine(), &environment, self.machine(), cursor, release)
    }

    /// Closes all ports of a dying domain and takes back what it registered for events.
    ///
    /// # Errors
    /// `EAGAIN` where it was cut off.
    pub(crate) fn close_ports(&self, domain: &Domain<A>) -> Result<()> {
        let environment = Surroundings { hypervisor: self, domain };
        let release = &mut |mfn: Mfn| self.memory.put_writable(mfn);
        if let Progress::Again(_) = domain.evtchn.destroy(self.machine(), &environment, self.machine(), 1, release) {
            return Err(Errno::AGAIN);
        }
        for vcpu in 0..domain.creation.max_vcpus {
            if let Some(mfn) = domain.evtchn.unregister_vcpu_info(VcpuId(vcpu)) {
                self.memory.put_writable(mfn);
            }
        }
        Ok(())
    }
}
