//! Changes of single entries: mmu_update, update_va_mapping, and writes that trapped.

use super::Context;
use super::entry::{SET_BY_CPU, adjusted, busy, is_alike, same_mapping};
use crate::denied::{Denied, Outcome, Why};
use crate::frame::{FrameInfo, FrameType, TypeWord};
use crate::memory::Memory;
use crate::policy::Host;
use crate::refs::wrong_type;
use core::sync::atomic::{AtomicU64, Ordering};
use platform::{Table, sync};
use types::{DomId, Errno, Gfn, Mfn, Progress};
use x86_defs::pte::{Pte, PteFlags, index};

/// Which bits of the old entry outlive the change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keep {
    /// None.
    Nothing,
    /// Accessed and dirty, if they are set (`MMU_PT_UPDATE_PRESERVE_AD`).
    AccessedDirty,
}

/// Outcome of an emulated write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cas {
    /// Written.
    Written,
    /// The entry held this instead of what was expected; not written.
    Differs(u64),
}

/// How an entry is changed.
#[derive(Clone, Copy)]
struct Change {
    new: Pte,
    keep: Keep,
    /// Whether the frame number is one of the owner's, to be translated.
    translate: bool,
}

/// A page table (or writable frame) whose lock bit is held, with one use.
pub(super) struct Locked<'a, H: Host> {
    memory: &'a Memory<H>,
    mfn: Mfn,
    frame: &'static FrameInfo,
    pub ty: FrameType,
    pub words: &'a Table,
}

impl<H: Host> Drop for Locked<'_, H> {
    fn drop(&mut self) {
        // Nearly always others use the frame, too: then one step gives up both lock and use.
        let shared = |word: TypeWord| (word.count() > 1).then(|| TypeWord(word.without(TypeWord::LOCKED).0 - 1));
        if self.frame.update_ty(shared).is_err() {
            // The closure never declines.
            let _ = self.frame.update_ty(|word| Some(word.without(TypeWord::LOCKED)));
            self.memory.put_type(self.mfn);
        }
    }
}

/// A level-1 table whose lock bit is held, and nothing else.
struct LockedL1<'a> {
    frame: &'static FrameInfo,
    ty: FrameType,
    words: &'a Table,
}

impl Drop for LockedL1<'_> {
    fn drop(&mut self) {
        self.frame.unlock();
    }
}

/// What an entry that takes the place of another one gains, and the other one loses.
#[derive(Clone, Copy)]
enum Exchange {
    /// They have the same references.
    Nothing,
    /// A writable use: both map one frame of the same owner.
    Use,
    /// All.
    All,
}

impl<H: Host> Memory<H> {
    /// Locks a frame's entries; `None` if nobody uses it, or it is not validated. The caller holds a reference.
    pub(super) fn lock_entries(&self, mfn: Mfn) -> Outcome<Option<Locked<'_, H>>> {
        let (frame, words) = (self.info(mfn)?, self.words(mfn)?);
        loop {
            let old = frame.ty();
            if old.count() == 0 || old.count() == u32::MAX || !old.has(TypeWord::VALIDATED) {
                return Ok(None);
            }
            if old.has(TypeWord::LOCKED) {
                sync::relax();
            } else if frame.swap_ty(old, TypeWord(old.with(TypeWord::LOCKED).0 + 1)) {
                return Ok(Some(Locked { memory: self, mfn, frame, ty: old.ty(), words }));
            }
        }
    }

    /// Locks a level-1 table of `domain`; `None` if the frame is none of its, or nobody uses it as one. Only the lock bit is set:
    /// whoever drops the last use waits for it ([`Memory::put_type`]), so use and reference stand until it is cleared.
    #[inline]
    fn lock_l1(&self, domain: DomId, mfn: Mfn) -> Option<LockedL1<'_>> {
        let frame = self.table.get(mfn)?;
        let words = self.host.table(mfn)?;
        loop {
            let old = frame.ty();
            if old.count() == 0 || !old.has(TypeWord::VALIDATED) || old.ty().level() != 1 {
                return None;
            }
            if old.has(TypeWord::LOCKED) {
                sync::relax();
            } else if frame.swap_ty(old, old.with(TypeWord::LOCKED)) {
                let locked = LockedL1 { frame, ty: old.ty(), words };
                return (frame.owner() == domain).then_some(locked);
            }
        }
    }

    /// Does something with a level-1 table of `domain` under its lock. `EINVAL` for anything else.
    #[inline]
    pub(super) fn with_l1<T>(
        &self,
        domain: DomId,
        table: Mfn,
        action: impl FnOnce(FrameType, &Table) -> Outcome<T>,
    ) -> Outcome<T> {
        match self.lock_l1(domain, table) {
            Some(locked) => action(locked.ty, locked.words),
            None => self.no_l1(domain, table),
        }
    }

    #[cold]
    fn no_l1<T>(&self, domain: DomId, table: Mfn) -> Outcome<T> {
        let _held = self.frame_ref(table, domain)?;
        Err(wrong_type(table, self.info(table)?.ty(), FrameType::L1))
    }

    /// Refuses callers without rights over the tables' or the frames' owner.
    #[inline]
    pub(super) fn check_rights(&self, context: &Context) -> Outcome<()> {
        if context.tables.id() == context.caller && context.frames == context.caller {
            return Ok(());
        }
        self.check_other_rights(context)
    }

    #[inline(never)]
    fn check_other_rights(&self, context: &Context) -> Outcome<()> {
        for over in [context.tables.id(), context.frames] {
            let free = over == context.caller || over == DomId::IO;
            if !free && !self.host.may_map_foreign(context.caller, over) {
                return Err(Denied::new(Errno::PERM, Why::NotPrivileged { domain: context.caller, over }));
            }
        }
        Ok(())
    }

    /// One request of `HYPERVISOR_mmu_update` (xen.h): `pointer` is a machine address with the command in its low bits.
    /// `ENOSYS` for an unknown command, `EPERM`, `EINVAL`, `EBUSY`. `Again`: repeat this request.
    pub fn mmu_update(&self, context: &Context, pointer: u64, value: u64) -> Outcome<Progress<()>> {
        self.check_rights(context)?;
        if let Progress::Again(cursor) = self.settle(context.tables, context.preempt) {
            return Ok(Progress::Again(cursor));
        }
        let (mfn, command) = (Mfn::containing(pointer), pointer & 7);
        let change = |keep, translate| Change { new: Pte(value), keep, translate };
        let slot = (pointer & 0xfff) as usize / 8;
        match command {
            0 => self.update_entry(context, mfn, slot, change(Keep::Nothing, true)),
            1 => {
                let _held = self.frame_ref(mfn, context.frames)?;
                self.host.set_m2p(mfn, Gfn(value));
                Ok(Progress::Done(()))
            }
            2 => self.update_entry(context, mfn, slot, change(Keep::AccessedDirty, true)),
            3 => self.update_entry(context, mfn, slot, change(Keep::Nothing, false)),
            _ => Err(Denied::new(Errno::NOSYS, Why::BadRequest { value: pointer })),
        }
    }

    fn update_entry(&self, context: &Context, mfn: Mfn, slot: usize, change: Change) -> Outcome<Progress<()>> {
        // Nearly all changes are of this kind.
        if let Some(locked) = self.lock_l1(context.tables.id(), mfn) {
            return self.change_l1(context, locked.ty, locked.words, (mfn, slot), change).map(Progress::Done);
        }
        self.update_other(context, mfn, slot, change)
    }

    /// Changes a word of a higher table, or of a frame that is none.
    #[inline(never)]
    fn update_other(&self, context: &Context, mfn: Mfn, slot: usize, change: Change) -> Outcome<Progress<()>> {
        let _held = self.frame_ref(mfn, context.tables.id())?;
        if let Some(locked) = self.lock_entries(mfn)? {
            return match locked.ty {
                ty if ty.level() == 1 => {
                    self.change_l1(context, ty, locked.words, (mfn, slot), change).map(Progress::Done)
                }
                FrameType::Writable => {
                    locked.words[slot].store(change.new.0, Ordering::Relaxed);
                    Ok(Progress::Done(()))
                }
                ty if ty.level() != 0 && context.frames == context.tables.id() => {
                    self.change_table(context, &locked, slot, change)
                }
                _ => Err(wrong_type(mfn, locked.frame.ty(), FrameType::Writable)),
            };
        }
        self.get_simple_type(mfn, FrameType::Writable)?;
        let stored = self.words(mfn).map(|words| words[slot].store(change.new.0, Ordering::Relaxed));
        self.put_type(mfn);
        stored.map(Progress::Done)
    }

    fn change_l1(
        &self,
        context: &Context,
        ty: FrameType,
        words: &Table,
        (table, slot): (Mfn, usize),
        change: Change,
    ) -> Outcome<()> {
        let old = Pte(words[slot].load(Ordering::Relaxed));
        let mut new = change.new;
        // Who has page tables of this kind is not translated.
        if change.translate && context.frames != context.tables.id() && new.is_present() {
            let mfn = self.host.translate(context.frames, new.frame());
            let hole = Why::Hole { gfn: Gfn(new.frame()), domain: context.frames };
            new = Pte::new(mfn.ok_or(Denied::new(Errno::INVAL, hole))?.0, new.flags());
        }
        let (new, exchange) = self.gain(context, ty, old, new)?;
        write(&words[slot], table, slot, old, new, change.keep).inspect_err(|_| self.lose(exchange, new))?;
        self.lose(exchange, old);
        Ok(())
    }

    /// Takes what an entry in a table of type `ty` needs that `old` has not; the entry to write.
    #[inline]
    fn gain(&self, context: &Context, ty: FrameType, old: Pte, new: Pte) -> Outcome<(Pte, Exchange)> {
        let domain = context.tables.id();
        if same_mapping(old, new) {
            self.check_flags(domain, 1, new)?;
            return Ok((adjusted(ty, new), Exchange::Nothing));
        }
        // One is writable, the other is not. A device's frame has no owner, one that was granted another than is asked for.
        let mfn = Mfn(new.frame());
        if is_alike(old, new) && self.is_owner(mfn, context.frames) {
            self.check_flags(domain, 1, new)?;
            if new.has(PteFlags::WRITABLE) {
                self.get_writable_use(mfn).map_err(busy)?;
            }
            return Ok((adjusted(ty, new), Exchange::Use));
        }
        Ok((self.get_l1(ty, domain, context.frames, new)?, Exchange::All))
    }

    /// Drops what an exchange leaves to drop of an entry.
    #[inline]
    fn lose(&self, exchange: Exchange, entry: Pte) {
        match exchange {
            Exchange::Nothing => {}
            Exchange::Use if entry.has(PteFlags::WRITABLE) => self.put_type(Mfn(entry.frame())),
            Exchange::Use => {}
            Exchange::All => self.put_l1(entry),
        }
    }

    fn change_table(
        &self,
        context: &Context,
        locked: &Locked<'_, H>,
        slot: usize,
        change: Change,
    ) -> Outcome<Progress<()>> {
        let (table, ty, word) = (locked.mfn, locked.ty, &locked.words[slot]);
        let level = ty.level();
        if !ty.is_changeable(slot) {
            return Err(Denied::new(Errno::INVAL, Why::HypervisorSlot { slot }));
        }
        let (domain, old) = (context.tables.id(), Pte(word.load(Ordering::Relaxed)));
        self.check_flags(domain, level, change.new)?;
        if same_mapping(old, change.new) {
            let new = adjusted(ty, change.new);
            return write(word, table, slot, old, new, change.keep).map(Progress::Done);
        }
        let new = match self.get_child(domain, (table, ty, slot), change.new, context.preempt)? {
            Progress::Done(new) => new,
            Progress::Again(cursor) => return Ok(Progress::Again(cursor)),
        };
        write(word, table, slot, old, new, change.keep).inspect_err(|_| self.put_child(table, level, new))?;
        self.put_child(table, level, old);
        Ok(Progress::Done(()))
    }

    /// `HYPERVISOR_update_va_mapping` (xen.h): changes the L1 entry for `address` in the address space with the root `root`.
    /// Flushing, as the call's flags want it, is the caller's. `EINVAL` if there is no L1 table; else as for an mmu_update.
    pub fn update_va_mapping(&self, context: &Context, root: Mfn, address: u64, value: u64) -> Outcome<Progress<()>> {
        self.check_rights(context)?;
        if let Progress::Again(cursor) = self.settle(context.tables, context.preempt) {
            return Ok(Progress::Again(cursor));
        }
        let (table, slot) = self.find_l1(root, address)?;
        let change = Change { new: Pte(value), keep: Keep::Nothing, translate: true };
        let changed = self
            .with_l1(context.tables.id(), table, |ty, words| self.change_l1(context, ty, words, (table, slot), change));
        changed.map(Progress::Done)
    }

    /// The L1 table and the index in it for an address, by a walk without locks. Whoever uses it has to check that the frame
    /// is (still) such a table of the domain. `EINVAL` for the hypervisor's addresses and where a level is missing.
    pub fn find_l1(&self, root: Mfn, address: u64) -> Outcome<(Mfn, usize)> {
        self.walk_to_l1(root, address).ok_or_else(|| Denied::new(Errno::INVAL, Why::NotMapped { address }))
    }

    #[inline]
    fn walk_to_l1(&self, root: Mfn, address: u64) -> Option<(Mfn, usize)> {
        let canonical = ((address as i64) << 16 >> 16) as u64 == address;
        if !canonical || FrameType::L4.is_own_slot(index(address, 4)) {
            return None;
        }
        let mut table = root;
        for level in [4, 3, 2] {
            let entry = Pte(self.host.table(table)?[index(address, level)].load(Ordering::Relaxed));
            if !entry.is_present() || level != 4 && entry.has(PteFlags::LARGE_OR_PAT) {
                return None;
            }
            table = Mfn(entry.frame());
        }
        Some((table, index(address, 1)))
    }

    /// The L1 entry for an address, as it is now. `EINVAL` as for [`Memory::find_l1`].
    pub fn read_l1(&self, root: Mfn, address: u64) -> Outcome<Pte> {
        let (table, slot) = self.find_l1(root, address)?;
        Ok(Pte(self.words(table)?[slot].load(Ordering::Relaxed)))
    }

    /// A guest's own write to a page table that it has mapped read-only, which trapped: a store, or with `expected` a
    /// compare-and-exchange of a whole entry. Level 1 only. `EINVAL` and so on as for an mmu_update: the guest then gets the
    /// fault that it caused. `Again`: nothing is written yet, let the guest repeat the instruction.
    pub fn emulate_pte_write(
        &self,
        context: &Context,
        table: Mfn,
        slot: usize,
        expected: Option<u64>,
        new: u64,
    ) -> Outcome<Progress<Cas>> {
        let domain = context.tables.id();
        if slot >= 512 {
            return Err(Denied::new(Errno::INVAL, Why::BadRequest { value: slot as u64 }));
        }
        if let Progress::Again(cursor) = self.settle(context.tables, context.preempt) {
            return Ok(Progress::Again(cursor));
        }
        let written = self.with_l1(domain, table, |ty, words| {
            let word = &words[slot];
            let now = word.load(Ordering::Relaxed);
            if expected.is_some_and(|expected| expected != now) {
                return Ok(Cas::Differs(now));
            }
            let old = Pte(now);
            let (new, exchange) = self.gain(context, ty, old, Pte(new))?;
            if expected.is_some() {
                // The CPU may set bits at any time; the guest then tries again, as on the bare machine.
                if let Err(now) = word.compare_exchange(now, new.0, Ordering::AcqRel, Ordering::Relaxed) {
                    self.lose(exchange, new);
                    return Ok(Cas::Differs(now));
                }
            } else {
                write(word, table, slot, old, new, Keep::Nothing).inspect_err(|_| self.lose(exchange, new))?;
            }
            self.lose(exchange, old);
            Ok(Cas::Written)
        });
        written.map(Progress::Done)
    }
}

/// Replaces an entry of a locked table. Meanwhile nobody but the CPU changes it, and that only sets accessed and dirty.
pub(super) fn write(word: &AtomicU64, table: Mfn, slot: usize, old: Pte, new: Pte, keep: Keep) -> Outcome<()> {
    let mut expected = old.0;
    loop {
        let kept = if keep == Keep::AccessedDirty { expected & SET_BY_CPU } else { 0 };
        match word.compare_exchange(expected, new.0 | kept, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => return Ok(()),
            Err(now) if (now ^ old.0) & !SET_BY_CPU == 0 => expected = now,
            Err(_) => return Err(Denied::new(Errno::BUSY, Why::EntryChanged { table, index: slot })),
        }
    }
}
