//! Domains that a guest names, and what is logged when it asks for what it must not have.

use crate::Caller;
use alloc::sync::Arc;
use domain::{Arch, Domain};
use memory::Denied;
use types::{DomId, Errno, Result};

impl<A: Arch> Caller<'_, A> {
    /// The domain with this number, or the caller for DOMID_SELF; says nothing about rights.
    ///
    /// # Errors
    /// `ESRCH` where there is none.
    pub fn any_domain(&self, raw: u16) -> Result<Arc<Domain<A>>> {
        let id = DomId(raw);
        if id == DomId::SELF || id == self.domain.id {
            return Ok(self.domain.clone());
        }
        self.hypervisor.domains.get(id).ok_or(Errno::SRCH)
    }

    /// The domain with this number, which has to be another; DOMID_SELF is none.
    ///
    /// # Errors
    /// `EPERM` for the caller itself, `ESRCH` where there is none.
    pub fn other_domain(&self, raw: u16) -> Result<Arc<Domain<A>>> {
        if DomId(raw) == self.domain.id {
            return Err(Errno::PERM);
        }
        self.hypervisor.domains.get(DomId(raw)).ok_or(Errno::SRCH)
    }

    /// Refuses callers that have no rights over `domain`: each has over itself, and the control domain over all.
    ///
    /// # Errors
    /// `EPERM`.
    pub fn require_rights_over(&self, domain: &Domain<A>) -> Result<()> {
        if domain.id == self.domain.id || self.domain.is_privileged() { Ok(()) } else { Err(Errno::PERM) }
    }

    /// Both of the above, in this order.
    ///
    /// # Errors
    /// `ESRCH`, `EPERM`.
    pub fn controlled_domain(&self, raw: u16) -> Result<Arc<Domain<A>>> {
        let domain = self.any_domain(raw)?;
        self.require_rights_over(&domain)?;
        Ok(domain)
    }

    /// Logs why a guest's request was refused, for whoever develops the guest; the error for the guest.
    pub fn explain(&self, call: &str, denied: Denied) -> Errno {
        log::debug!("{}v{}: {call}: {denied}", self.domain.id, self.vcpu.id.0);
        denied.errno
    }
}
