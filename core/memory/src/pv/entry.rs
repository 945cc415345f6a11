//! Single entries: what a guest may put into one, and the references that come with it.

use crate::denied::{Denied, Outcome, Why};
use crate::frame::{FrameType, TypeWord};
use crate::memory::Memory;
use crate::policy::Host;
use core::sync::atomic::Ordering;
use platform::{Preempt, Table};
use types::{DomId, Errno, Mfn, Progress};
use x86_defs::pte::{Pte, PteFlags};

/// Bits that choose the memory type in an L1 entry. Bit 7 is PSE above level 1.
const CACHING: PteFlags = PteFlags::WRITE_THROUGH.union(PteFlags::CACHE_DISABLE).union(PteFlags::LARGE_OR_PAT);

/// Bits in which entries may differ without a difference in references: all that are for software, and what neither moves
/// the mapping nor makes it writable.
const FREE_TO_CHANGE: u64 = PteFlags::NO_EXECUTE.bits()
    | PteFlags::AVAILABLE.bits()
    | PteFlags::GLOBAL.bits()
    | PteFlags::DIRTY.bits()
    | PteFlags::ACCESSED.bits()
    | PteFlags::USER.bits()
    | 0x7ff << 52;

/// Bits that the CPU sets in entries on its own.
pub(super) const SET_BY_CPU: u64 = PteFlags::ACCESSED.bits() | PteFlags::DIRTY.bits();

/// Whether two present entries hold the same references.
pub(super) fn same_mapping(old: Pte, new: Pte) -> bool {
    old.is_present() && new.is_present() && (old.0 ^ new.0) & !FREE_TO_CHANGE == 0
}

/// Whether two present entries map the same frame in the same way, but that one may be writable and the other not.
pub(super) fn is_alike(old: Pte, new: Pte) -> bool {
    old.is_present() && new.is_present() && (old.0 ^ new.0) & !(FREE_TO_CHANGE | PteFlags::WRITABLE.bits()) == 0
}

/// The error for an entry whose frame is not to be had.
pub(super) fn busy(denied: Denied) -> Denied {
    Denied { errno: Errno::BUSY, ..denied }
}

/// The entry of a table of type `ty` as the CPU gets it. A 64-bit guest's kernel runs in ring 3, so that everything of the
/// guest is a user mapping; a 32-bit guest's runs in ring 1, so that its entries say which is which, but for those of its root,
/// where 32-bit CPUs have no such bits. None is global, so that a switch of tables drops it.
pub(super) fn adjusted(ty: FrameType, entry: Pte) -> Pte {
    if !entry.is_present() {
        return entry;
    }
    let rights = match ty {
        FrameType::PaeL3 => PteFlags::USER | PteFlags::WRITABLE,
        _ if ty.is_pae() => PteFlags::empty(),
        _ => PteFlags::USER,
    };
    let entry = Pte(entry.0 | rights.bits());
    if ty.level() == 1 { Pte(entry.0 & !PteFlags::GLOBAL.bits()) } else { entry }
}

impl<H: Host> Memory<H> {
    /// Refuses present entries with bits that a guest must not set.
    pub(super) fn check_flags(&self, domain: DomId, level: u32, entry: Pte) -> Outcome<()> {
        let forbidden = if level == 1 { CACHING } else { CACHING.union(PteFlags::GLOBAL) };
        // Nearly no entry has any of them, so rights are asked for last.
        if entry.is_present()
            && entry.flags().intersects(forbidden)
            && !(level == 1 && self.host.may_choose_caching(domain))
        {
            return Err(Denied::new(Errno::INVAL, Why::BadFlags { level, entry: entry.0 }));
        }
        Ok(())
    }

    /// Takes the references of an entry in an L1 table, of type `ty`, of `domain`, that maps a frame of `frames`; the entry to write.
    /// `EINVAL` for bad bits, `EPERM` for a device frame without permission, `EBUSY` where the frame is not to be had.
    pub(super) fn get_l1(&self, ty: FrameType, domain: DomId, frames: DomId, entry: Pte) -> Outcome<Pte> {
        if !entry.is_present() {
            return Ok(entry);
        }
        self.check_flags(domain, 1, entry)?;
        let mfn = Mfn(entry.frame());
        if self.table.is_io(mfn) {
            return self.check_io(ty, domain, frames, entry);
        }
        let owner = self.table.get_any(mfn).map_err(busy)?;
        // A domain with rights over the owner may leave its name out.
        let allowed = owner == frames || frames == domain && self.host.may_map_foreign(domain, owner);
        let taken = if !allowed {
            Err(Denied::new(Errno::BUSY, Why::WrongOwner { mfn, owner, wanted: frames }))
        } else if entry.has(PteFlags::WRITABLE) {
            self.get_writable_use(mfn).map_err(busy)
        } else {
            Ok(())
        };
        taken.inspect_err(|_| self.put_frame(mfn))?;
        Ok(adjusted(ty, entry))
    }

    /// Device frames have no references; all that counts is the permission when the mapping is made.
    fn check_io(&self, ty: FrameType, domain: DomId, frames: DomId, entry: Pte) -> Outcome<Pte> {
        let mfn = Mfn(entry.frame());
        let holder = if frames == DomId::IO { domain } else { frames };
        for domain in [holder, domain] {
            if !self.host.may_map_io(domain, mfn) {
                // What is left in an entry of the number of no frame, which guests use as one.
                let errno = if mfn.0 == Pte::HIGHEST_FRAME { Errno::INVAL } else { Errno::PERM };
                return Err(Denied::new(errno, Why::NoIoPermission { mfn, domain }));
            }
        }
        let entry = adjusted(ty, entry);
        if self.host.is_io_read_only(mfn) {
            return Ok(Pte(entry.0 & !PteFlags::WRITABLE.bits()));
        }
        Ok(entry)
    }

    /// Drops the references of an L1 entry.
    pub(super) fn put_l1(&self, entry: Pte) {
        let mfn = Mfn(entry.frame());
        if !entry.is_present() || self.table.is_io(mfn) {
            return;
        }
        if entry.has(PteFlags::WRITABLE) {
            self.put_type(mfn);
        } else if self.info(mfn).is_ok_and(|frame| frame.ty().ty() == FrameType::SegDesc && frame.ty().count() != 0) {
            self.host.descriptors_unmapped(self.table.at(mfn.0 as u32).owner());
        }
        self.put_frame(mfn);
    }

    /// Takes the references of the entry in `slot` of `table`, of type `own`, at level 2 to 4 and of `domain`; the entry to
    /// write. `EINVAL`.
    pub(super) fn get_child(
        &self,
        domain: DomId,
        (table, own, slot): (Mfn, FrameType, usize),
        entry: Pte,
        preempt: &dyn Preempt,
    ) -> Outcome<Progress<Pte>> {
        if !entry.is_present() {
            return Ok(Progress::Done(entry));
        }
        let level = own.level();
        self.check_flags(domain, level, entry)?;
        let mfn = Mfn(entry.frame());
        let Some(below) = own.below(slot) else {
            return Err(Denied::new(Errno::INVAL, Why::BadFlags { level, entry: entry.0 }));
        };
        if mfn == table {
            // The table maps itself. A reference to itself would keep it alive for ever.
            return if entry.has(PteFlags::WRITABLE) {
                Err(Denied::new(Errno::INVAL, Why::BadLinearMapping { mfn: table, entry: entry.0 }))
            } else {
                Ok(Progress::Done(adjusted(own, entry)))
            };
        }
        self.get_frame(mfn, domain)?;
        match self.get_type(mfn, below, preempt) {
            Ok(Progress::Done(())) => Ok(Progress::Done(adjusted(own, entry))),
            Ok(Progress::Again(cursor)) => {
                self.put_frame(mfn);
                Ok(Progress::Again(cursor))
            }
            Err(_) if self.info(mfn)?.ty().ty().is_alike(own) && self.get_linear(table, own, entry) => {
                Ok(Progress::Done(adjusted(own, entry)))
            }
            Err(denied) => {
                self.put_frame(mfn);
                Err(denied)
            }
        }
    }

    /// Takes a use of a table by one of its own level, which makes the table's entries readable at fixed addresses. One deep
    /// only: a table with such entries must not be so mapped itself, or cycles of references could arise.
    fn get_linear(&self, table: Mfn, own: FrameType, entry: Pte) -> bool {
        let (Ok(outer), Ok(inner)) = (self.info(table), self.info(Mfn(entry.frame()))) else {
            return false;
        };
        if entry.has(PteFlags::WRITABLE) || outer.update_ty(TypeWord::add_linear_entry).is_err() {
            return false;
        }
        let taken = inner.update_ty(|word| {
            let fit = word.ty().is_alike(own) && word.has(TypeWord::VALIDATED) && word.count() < u32::MAX;
            fit.then_some(word)?.add_linear_use().map(|word| TypeWord(word.0 + 1))
        });
        if taken.is_err() {
            // Undoes the step above, so it is there.
            let _ = outer.update_ty(TypeWord::drop_linear_entry);
        }
        taken.is_ok()
    }

    /// Drops the references of an entry of `table`, at level 2 to 4.
    pub(super) fn put_child(&self, table: Mfn, level: u32, entry: Pte) {
        let mfn = Mfn(entry.frame());
        if !entry.is_present() || mfn == table {
            return;
        }
        let (Ok(outer), Ok(inner)) = (self.info(table), self.info(mfn)) else {
            return;
        };
        if inner.ty().ty().level() == level {
            let counted = inner.update_ty(TypeWord::drop_linear_use).is_ok();
            if !(counted && outer.update_ty(TypeWord::drop_linear_entry).is_ok()) {
                log::error!("memory: linear mapping of {mfn:#x} in {table:#x} was not counted");
            }
        }
        self.put_type(mfn);
        self.put_frame(mfn);
    }

    /// Drops the references of one entry of a table that is no longer valid.
    pub(super) fn drop_entry(&self, words: &Table, table: Mfn, ty: FrameType, index: usize) {
        if ty.is_own_slot(index) {
            return;
        }
        let entry = Pte(words[index].load(Ordering::Relaxed));
        if ty.level() == 1 {
            self.put_l1(entry);
        } else {
            self.put_child(table, ty.level(), entry);
        }
    }
}
