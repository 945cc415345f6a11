//! What page tables may map beyond a domain's own frames, by the rights that the domain has.

use crate::machine::X86;
use crate::{boot, irq, memory_map};
use domain::Domain;
use memory::PvPolicy;
use types::{DomId, Gfn, Mfn};

/// Asks about the domain with this number; false where there is none. Page tables are locked meanwhile, so `question` may
/// take the lock on the domain's rights and no other.
fn ask(domain: DomId, question: impl FnOnce(&Domain<X86>) -> bool) -> bool {
    boot::hypervisor().and_then(|hypervisor| hypervisor.domains.get(domain)).is_some_and(|domain| question(&domain))
}

impl PvPolicy for X86 {
    fn may_map_io(&self, domain: DomId, mfn: Mfn) -> bool {
        mfn.0 < self.frame_limit
            && !self.forbidden_io.iter().any(|&(first, end)| (first..end).contains(&mfn.0))
            && ask(domain, |domain| domain.rights.lock().may_map(mfn.0, mfn.0))
    }

    fn is_io_read_only(&self, mfn: Mfn) -> bool {
        irq::is_read_only(mfn) || memory_map::is_clock(mfn.0)
    }

    fn may_map_foreign(&self, mapper: DomId, _owner: DomId) -> bool {
        ask(mapper, Domain::is_privileged)
    }

    fn may_choose_caching(&self, domain: DomId) -> bool {
        ask(domain, |domain| domain.rights.lock().has_devices())
    }

    fn hypervisor_slots(&self) -> [u64; 16] {
        hal::paging::hypervisor_slots()
    }

    fn pae_slots(&self) -> [u64; 84] {
        hal::m2p::narrow_entries()
    }

    fn translate(&self, owner: DomId, frame: u64) -> Option<Mfn> {
        let owner = boot::hypervisor().and_then(|hypervisor| hypervisor.domains.get(owner));
        owner.map_or(Some(Mfn(frame)), |owner| owner.frame(frame, self))
    }

    fn set_m2p(&self, mfn: Mfn, gfn: Gfn) {
        hal::m2p::set(mfn, gfn.0);
    }

    fn set_m2p_run(&self, first: Mfn, count: u64, gfn: Gfn) {
        hal::m2p::set_run(first, count, gfn.0);
    }
}
