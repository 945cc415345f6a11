//! Making a frame a page table, and unmaking it.

use crate::denied::{Denied, Outcome, Place, Why};
use crate::domain::DomainMemory;
use crate::frame::{FrameInfo, FrameType, NONE, PAE_TOP, TypeWord};
use crate::memory::Memory;
use crate::policy::Host;
use core::sync::atomic::Ordering;
use platform::{Preempt, Table, sync};
use types::{Errno, Mfn, Progress};
use x86_defs::pte::Pte;

impl<H: Host> Memory<H> {
    /// Checks the entries of a frame from `start` on, for which the caller holds the only use, not validated. On success it
    /// is validated; when refused, all is undone; when cut off, it is left partial.
    pub(crate) fn promote(
        &self,
        mfn: Mfn,
        frame: &'static FrameInfo,
        ty: FrameType,
        start: usize,
        preempt: &dyn Preempt,
    ) -> Outcome<Progress<()>> {
        let level = ty.level();
        let words = match self.words(mfn) {
            Ok(words) => words,
            Err(denied) => {
                frame.set_ty(TypeWord(TypeWord::first(ty).0 - 1));
                return Err(denied);
            }
        };
        if ty == FrameType::PaeL3 && !Pte(words[PAE_TOP].load(Ordering::Relaxed)).is_present() {
            // Without it there is no place for the machine-to-physical table.
            self.undo(words, mfn, frame, ty, start);
            return Err(Denied::new(Errno::INVAL, Why::NotMapped { address: (PAE_TOP as u64) << 30 }));
        }
        for (index, word) in words.iter().enumerate().skip(start) {
            let old = Pte(word.load(Ordering::Relaxed));
            // Most entries of most tables are absent.
            if !old.is_present() {
                continue;
            }
            match self.promote_entry((mfn, ty, index), frame, old, preempt) {
                Ok(Progress::Done(new)) => {
                    if new != old {
                        word.store(new.0, Ordering::Relaxed);
                    }
                    if level > 1 && index < 511 && preempt.should_yield() {
                        leave_partial(frame, index + 1);
                        return Ok(Progress::Again(0));
                    }
                }
                Ok(Progress::Again(cursor)) => {
                    leave_partial(frame, index);
                    return Ok(Progress::Again(cursor));
                }
                Err(denied) => {
                    self.undo(words, mfn, frame, ty, index);
                    let entry = old.0;
                    return Err(denied.within(Place { table: mfn, level, index, entry }));
                }
            }
        }
        self.fill_own_slots(words, ty);
        // Linear mappings may be counted meanwhile, hence no plain store. The closure never declines.
        let _ = frame.update_ty(|word| Some(word.with(TypeWord::VALIDATED)));
        Ok(Progress::Done(()))
    }

    fn promote_entry(
        &self,
        (table, ty, index): (Mfn, FrameType, usize),
        frame: &FrameInfo,
        entry: Pte,
        preempt: &dyn Preempt,
    ) -> Outcome<Progress<Pte>> {
        let owner = frame.owner();
        if ty.is_own_slot(index) {
            Ok(Progress::Done(entry))
        } else if ty.level() == 1 {
            self.get_l1(ty, owner, owner, entry).map(Progress::Done)
        } else {
            self.get_child(owner, (table, ty, index), entry, preempt)
        }
    }

    /// Writes the hypervisor's entries of a table.
    fn fill_own_slots(&self, words: &Table, ty: FrameType) {
        let fill = |entries: &[u64]| {
            words[ty.own_slots()].iter().zip(entries).for_each(|(word, entry)| word.store(*entry, Ordering::Relaxed));
        };
        match ty {
            FrameType::L4 => fill(&self.host.hypervisor_slots()),
            FrameType::PaeL2Top => fill(&self.host.pae_slots()),
            _ => clear_own_slots(words, ty),
        }
    }

    /// Undoes a promotion that was refused at entry `end`.
    fn undo(&self, words: &Table, mfn: Mfn, frame: &FrameInfo, ty: FrameType, end: usize) {
        for index in (0..end).rev() {
            self.drop_entry(words, mfn, ty, index);
        }
        frame.set_ty(TypeWord(TypeWord::first(ty).0 - 1));
    }

    /// Queues a table for demotion: DEMOTING is set, and one use and one reference are the queue's.
    pub(crate) fn queue_demotion(&self, mfn: Mfn, frame: &FrameInfo) {
        let Some(account) = self.account(frame.owner()) else {
            log::error!("memory: table {mfn:#x} is of {}, which has no account; given up", frame.owner());
            return;
        };
        let mut head = account.demotions.lock();
        account.queued.fetch_add(1, Ordering::AcqRel);
        frame.work.store(*head, Ordering::Relaxed);
        *head = mfn.0 as u32;
    }

    /// Takes the head of a domain's queue; it counts as queued until its demotion is over.
    fn next_demotion(&self, domain: &DomainMemory) -> Option<Mfn> {
        let mut head = domain.demotions.lock();
        let mfn = *head;
        if mfn == NONE {
            return None;
        }
        *head = self.table.at(mfn).work.load(Ordering::Relaxed);
        Some(Mfn(mfn.into()))
    }

    /// Works off a domain's queue of demotions, and waits for what other CPUs have taken from it. `Again` if something else
    /// wants the CPU; nothing is lost then, as the next operation on the domain's tables goes on with it.
    #[inline]
    pub fn settle(&self, domain: &DomainMemory, preempt: &dyn Preempt) -> Progress<()> {
        // Nearly always there is nothing; that takes no lock.
        if domain.queued.load(Ordering::Acquire) == 0 {
            return Progress::Done(());
        }
        self.settle_queued(domain, preempt)
    }

    #[cold]
    fn settle_queued(&self, domain: &DomainMemory, preempt: &dyn Preempt) -> Progress<()> {
        while domain.queued.load(Ordering::Acquire) != 0 {
            let Some(mfn) = self.next_demotion(domain) else {
                // Other CPUs are at the last ones. The caller may need just those, so it must not go on before they are done.
                sync::relax();
                if preempt.should_yield() {
                    return Progress::Again(0);
                }
                continue;
            };
            let progress = self.demote(mfn, preempt);
            if let Progress::Again(_) = progress {
                self.queue_demotion(mfn, self.table.at(mfn.0 as u32));
            }
            domain.queued.fetch_sub(1, Ordering::AcqRel);
            if let Progress::Again(_) = progress {
                return Progress::Again(0);
            }
            if preempt.should_yield() {
                return Progress::Again(0);
            }
        }
        Progress::Done(())
    }

    /// Drops the references of a queued table's entries, last to first, and with the last one the queue's own.
    fn demote(&self, mfn: Mfn, preempt: &dyn Preempt) -> Progress<()> {
        let frame = self.table.at(mfn.0 as u32);
        let (ty, mut cursor) = (frame.ty().ty(), frame.ty().cursor().min(512));
        let level = ty.level();
        if let Ok(words) = self.words(mfn) {
            if cursor == 512 {
                // The hypervisor's entries are no business of whoever reads the frame next.
                clear_own_slots(words, ty);
            }
            while cursor > 0 {
                cursor -= 1;
                if !Pte(words[cursor].load(Ordering::Relaxed)).is_present() {
                    continue;
                }
                self.drop_entry(words, mfn, ty, cursor);
                if level > 1 && cursor > 0 && preempt.should_yield() {
                    // The closure never declines.
                    let _ = frame.update_ty(|word| Some(word.with_cursor(cursor)));
                    return Progress::Again(0);
                }
            }
        }
        self.stamp(frame);
        frame.set_ty(TypeWord(TypeWord::first(ty).0 - 1));
        self.put_frame(mfn);
        Progress::Done(())
    }
}

fn clear_own_slots(words: &Table, ty: FrameType) {
    words[ty.own_slots()].iter().for_each(|word| word.store(0, Ordering::Relaxed));
}

/// Leaves an unfinished promotion to whoever asks for the type next.
fn leave_partial(frame: &FrameInfo, cursor: usize) {
    frame.add_ref();
    // The closure never declines.
    let _ = frame.update_ty(|word| Some(word.with_cursor(cursor).with(TypeWord::PARTIAL)));
}
