//! What the page-state engine asks of the hypervisor around it.

use platform::{Frames, Tlb};
use types::{DomId, Gfn, Mfn};

/// Decisions that are not the engine's own. Answers about rights may change; a mapping that stands is not taken back.
pub trait PvPolicy {
    /// Whether `domain` may map this frame that is no RAM. Must deny the hypervisor's own devices (APICs, IOMMUs), and
    /// frames past the CPU's physical address width.
    fn may_map_io(&self, domain: DomId, mfn: Mfn) -> bool;

    /// Whether writable mappings of this device frame silently become read-only (MMCFG pages, MSI-X tables).
    fn is_io_read_only(&self, mfn: Mfn) -> bool {
        let _ = mfn;
        false
    }

    /// Whether `mapper` may map frames of `owner`, another domain ([`DomId::XEN`] included).
    fn may_map_foreign(&self, mapper: DomId, owner: DomId) -> bool;

    /// Whether `domain` may choose cache attributes in its entries: it has device memory.
    fn may_choose_caching(&self, domain: DomId) -> bool;

    /// The hypervisor's entries for L4 slots 256 to 271, the same in every table.
    fn hypervisor_slots(&self) -> [u64; 16];

    /// The hypervisor's entries for L2 slots 428 to 511 of a 32-bit guest's highest GiB: the machine-to-physical table,
    /// read-only, and never global, since those addresses are other guests' own.
    fn pae_slots(&self) -> [u64; 84] {
        [0; 84]
    }

    /// The machine frame behind frame number `frame` of `owner`, if `owner` is translated (HVM, PVH); the same number else.
    fn translate(&self, owner: DomId, frame: u64) -> Option<Mfn> {
        let _ = owner;
        Some(Mfn(frame))
    }

    /// A read-only mapping of one of `owner`'s frames went that is in use as descriptors: a cached LDT may keep the frame from
    /// its next use, so its mappings should be dropped soon. Called with a page table locked: only to be noted.
    fn descriptors_unmapped(&self, owner: DomId) {
        let _ = owner;
    }

    /// Writes an entry of the machine-to-physical table; [`Gfn::INVALID`] when the frame leaves its domain.
    fn set_m2p(&self, mfn: Mfn, gfn: Gfn);

    /// The same for `count` frames from `first` on, which are at the numbers from `gfn` on.
    fn set_m2p_run(&self, first: Mfn, count: u64, gfn: Gfn) {
        (0..count).for_each(|index| self.set_m2p(first.offset(index), Gfn(gfn.0 + index)));
    }
}

/// Everything that [`crate::Memory`] needs around it.
pub trait Host: Frames + Tlb + PvPolicy {}

impl<T: Frames + Tlb + PvPolicy> Host for T {}
