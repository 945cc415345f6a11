//! Grants of a dying domain: those of others that it has mapped, and its own table.

use crate::{Arch, Domain, Hypervisor};
use gnttab::Claim;
use types::{Errno, Result};

impl<A: Arch> Hypervisor<A> {
    /// Gives back what a dying domain has mapped of others' grants. The references of its page-table entries go with its
    /// page tables, those for devices here.
    ///
    /// # Errors
    /// `EAGAIN` where it was cut off.
    pub(crate) fn release_grants(&self, domain: &Domain<A>) -> Result<()> {
        let mut from = 0;
        while let Some((handle, _)) = domain.maptrack.next(from) {
            if let Ok(claim) = domain.maptrack.claim(handle, true, true) {
                self.release_mapping(&claim);
                domain.maptrack.finish(&claim);
            }
            from = handle.saturating_add(1);
            if self.machine().should_yield() {
                return Err(Errno::AGAIN);
            }
        }
        Ok(())
    }

    fn release_mapping(&self, claim: &Claim) {
        let mapping = claim.mapping;
        let Some(granter) = self.domains.get(mapping.granter) else {
            return;
        };
        let released = granter.gnttab.unmap(self.machine(), mapping.reference, mapping.access);
        if let Err(status) = released {
            log::error!("{}: grant {} was not pinned: {status}", granter.id, mapping.reference);
        }
        if mapping.access.device {
            if mapping.access.readonly {
                self.memory.put_frame(mapping.mfn);
            } else {
                self.memory.put_writable(mapping.mfn);
            }
        }
        self.reap(&granter);
    }

    /// Takes the frames of a dead domain's grant table back, once none of its grants is in use.
    pub(crate) fn release_grant_table(&self, domain: &Domain<A>) {
        // While a grant is in use the domain stays, and whoever gives the last one back comes here again.
        let _ = domain.gnttab.destroy(&mut |mfn| self.free_shared(mfn));
    }
}
