//! The page-table half of `HYPERVISOR_mmuext_op` (xen.h): pins, roots, whole frames.

use super::Context;
use crate::denied::{Denied, Outcome, Why};
use crate::frame::{FrameType, TypeWord};
use crate::memory::Memory;
use crate::policy::Host;
use types::{DomId, Errno, Mfn, PAGE_SIZE, Progress};

impl<H: Host> Memory<H> {
    /// `MMUEXT_PIN_L1_TABLE` to `MMUEXT_PIN_L4_TABLE` on a frame of the tables' domain. `EINVAL` if it is pinned already or
    /// its contents are refused. `Again`: repeat.
    pub fn pin(&self, context: &Context, mfn: Mfn, level: u32) -> Outcome<Progress<()>> {
        let bad_level = Denied::new(Errno::INVAL, Why::BadRequest { value: level.into() });
        let ty = context.tables.table_type(level).ok_or(bad_level)?;
        if let Progress::Again(cursor) = self.take_table(context, mfn, ty)? {
            return Ok(Progress::Again(cursor));
        }
        let frame = self.info(mfn)?;
        let pinned = frame.update_ty(|word| (!word.has(TypeWord::PINNED)).then_some(word.with(TypeWord::PINNED)));
        if pinned.is_err() {
            self.drop_table(mfn);
            return Err(Denied::new(Errno::INVAL, Why::Pin { mfn, pinned: true }));
        }
        // A pin that comes too late for `relinquish` would never be undone.
        let too_late = {
            let _lists = context.tables.lists.lock();
            context.tables.is_dying() && self.clear_pin(mfn)
        };
        if too_late {
            self.drop_table(mfn);
            return Err(Denied::new(Errno::INVAL, Why::Dying { domain: context.tables.id() }));
        }
        Ok(Progress::Done(()))
    }

    /// `MMUEXT_UNPIN_TABLE`. `EINVAL` if it is not pinned. `Again`: the pin is gone already; call [`Memory::settle`] until
    /// that is done.
    pub fn unpin(&self, context: &Context, mfn: Mfn) -> Outcome<Progress<()>> {
        self.check_rights(context)?;
        let _held = self.frame_ref(mfn, context.tables.id())?;
        if !self.clear_pin(mfn) {
            return Err(Denied::new(Errno::INVAL, Why::Pin { mfn, pinned: false }));
        }
        self.drop_table(mfn);
        Ok(self.settle(context.tables, context.preempt))
    }

    fn clear_pin(&self, mfn: Mfn) -> bool {
        self.info(mfn).is_ok_and(|frame| {
            frame.update_ty(|word| word.has(TypeWord::PINNED).then_some(word.without(TypeWord::PINNED))).is_ok()
        })
    }

    /// Takes a reference to a frame and a use as a root, for a vCPU's kernel or user base pointer (`MMUEXT_NEW_BASEPTR`,
    /// `MMUEXT_NEW_USER_BASEPTR`, vCPU contexts). The order is: take the new root, have the CPU load it, then
    /// [`Memory::drop_root`] the old one, so that no CPU walks a table that is not held. `EINVAL`. `Again`: repeat.
    pub fn take_root(&self, context: &Context, mfn: Mfn) -> Outcome<Progress<()>> {
        self.take_table(context, mfn, if context.tables.is_pae() { FrameType::PaeL3 } else { FrameType::L4 })
    }

    /// Drops what [`Memory::take_root`] took. [`Memory::settle`] finishes what that begins.
    pub fn drop_root(&self, mfn: Mfn) {
        self.drop_table(mfn);
    }

    fn take_table(&self, context: &Context, mfn: Mfn, ty: FrameType) -> Outcome<Progress<()>> {
        self.check_rights(context)?;
        if let Progress::Again(cursor) = self.settle(context.tables, context.preempt) {
            return Ok(Progress::Again(cursor));
        }
        self.get_frame(mfn, context.tables.id())?;
        let outcome = self.get_type(mfn, ty, context.preempt);
        if !matches!(outcome, Ok(Progress::Done(()))) {
            self.put_frame(mfn);
        }
        outcome
    }

    fn drop_table(&self, mfn: Mfn) {
        self.put_type(mfn);
        self.put_frame(mfn);
    }

    /// `MMUEXT_CLEAR_PAGE`. `EINVAL` unless the frame is `domain`'s and may be written.
    pub fn clear_page(&self, domain: DomId, mfn: Mfn) -> Outcome<()> {
        let to = self.writable_ref(mfn, domain)?;
        if self.host.zero(to.mfn()) { Ok(()) } else { Err(Denied::new(Errno::INVAL, Why::NotLendable { mfn })) }
    }

    /// `MMUEXT_COPY_PAGE`. `EINVAL` unless both frames are `domain`'s and `to` may be written.
    pub fn copy_page(&self, domain: DomId, from: Mfn, to: Mfn) -> Outcome<()> {
        let from = self.frame_ref(from, domain)?;
        let to = self.writable_ref(to, domain)?;
        let copied = self.host.copy_part((from.mfn(), 0), (to.mfn(), 0), PAGE_SIZE);
        if copied { Ok(()) } else { Err(Denied::new(Errno::INVAL, Why::NotLendable { mfn: to.mfn() })) }
    }
}
