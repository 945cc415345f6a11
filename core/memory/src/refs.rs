//! Taking and dropping references to frames, and uses of them.

use crate::denied::{Denied, Outcome, Why};
use crate::frame::{FrameInfo, FrameType, TypeWord};
use crate::memory::Memory;
use crate::policy::Host;
use platform::{Preempt, sync};
use types::{DomId, Errno, Mfn, Progress};

/// A reference to a frame, dropped with this value.
#[must_use = "the reference is dropped at once"]
pub struct FrameRef<'a, H: Host> {
    memory: &'a Memory<H>,
    mfn: Mfn,
    writable: bool,
}

impl<H: Host> FrameRef<'_, H> {
    /// The frame.
    pub fn mfn(&self) -> Mfn {
        self.mfn
    }

    /// Keeps the reference (and the writable use, if taken) beyond this value; the frame. To be dropped by
    /// [`Memory::put_frame`] or [`Memory::put_writable`].
    pub fn keep(self) -> Mfn {
        let mfn = self.mfn;
        core::mem::forget(self);
        mfn
    }
}

impl<H: Host> Drop for FrameRef<'_, H> {
    fn drop(&mut self) {
        if self.writable {
            self.memory.put_type(self.mfn);
        }
        self.memory.put_frame(self.mfn);
    }
}

/// For uses that need no preemption.
pub(crate) struct Never;

impl Preempt for Never {
    fn should_yield(&self) -> bool {
        false
    }
}

impl<H: Host> Memory<H> {
    /// Takes a reference to a frame of `owner`. `EINVAL` if it is not that domain's.
    #[inline]
    pub fn get_frame(&self, mfn: Mfn, owner: DomId) -> Outcome<()> {
        let found = self.table.get_any(mfn)?;
        if found == owner {
            return Ok(());
        }
        self.put_frame(mfn);
        Err(Denied::new(Errno::INVAL, Why::WrongOwner { mfn, owner: found, wanted: owner }))
    }

    /// Whether a frame in use is `owner`'s now. Whoever goes on with it takes a reference, and asks again by that.
    pub fn is_owner(&self, mfn: Mfn, owner: DomId) -> bool {
        self.table.get(mfn).is_some_and(|frame| frame.refs().count() != 0 && frame.owner() == owner)
    }

    /// Drops a reference; frees the frame with the last.
    pub fn put_frame(&self, mfn: Mfn) {
        let Some(frame) = self.table.get(mfn) else { return };
        if frame.drop_ref() {
            self.release(mfn);
        }
    }

    /// Takes a reference and a writable use. `EINVAL` if the frame is not `owner`'s, or is in another use.
    #[inline]
    pub fn get_writable(&self, mfn: Mfn, owner: DomId) -> Outcome<()> {
        self.get_frame(mfn, owner)?;
        self.get_writable_use(mfn).inspect_err(|_| self.put_frame(mfn))
    }

    /// Takes a writable use, for which the caller holds a reference.
    #[inline]
    pub(crate) fn get_writable_use(&self, mfn: Mfn) -> Outcome<()> {
        // Nearly always it is only counted.
        if self.table.get(mfn).is_some_and(FrameInfo::add_writable) {
            return Ok(());
        }
        self.get_simple_type(mfn, FrameType::Writable)
    }

    /// The same of `count` frames from `first` on; all or none.
    pub fn get_writable_run(&self, first: Mfn, count: u64, owner: DomId) -> Outcome<()> {
        let mut taken = 0;
        // Nearly always each is only counted.
        for frame in self.table.range(first, count) {
            let mfn = first.offset(taken);
            match frame.get(mfn) {
                Ok(found) if found == owner && frame.add_writable() => taken += 1,
                Ok(_) => {
                    self.put_frame(mfn);
                    break;
                }
                Err(_) => break,
            }
        }
        for index in taken..count {
            if let Err(denied) = self.get_writable(first.offset(index), owner) {
                (0..index).for_each(|index| self.put_writable(first.offset(index)));
                return Err(denied);
            }
        }
        Ok(())
    }

    /// Drops a reference and a writable use.
    pub fn put_writable(&self, mfn: Mfn) {
        self.put_with_type(mfn);
    }

    /// Takes a reference and a use as descriptors, all of which are checked. `EINVAL`.
    pub fn get_descriptors(&self, mfn: Mfn, owner: DomId) -> Outcome<()> {
        self.get_frame(mfn, owner)?;
        self.get_simple_type(mfn, FrameType::SegDesc).inspect_err(|_| self.put_frame(mfn))
    }

    /// Drops a reference and a use as descriptors.
    pub fn put_descriptors(&self, mfn: Mfn) {
        self.put_with_type(mfn);
    }

    /// A reference that is dropped with the returned value.
    pub fn frame_ref(&self, mfn: Mfn, owner: DomId) -> Outcome<FrameRef<'_, H>> {
        self.get_frame(mfn, owner)?;
        Ok(FrameRef { memory: self, mfn, writable: false })
    }

    /// A reference with a writable use, both dropped with the returned value.
    pub fn writable_ref(&self, mfn: Mfn, owner: DomId) -> Outcome<FrameRef<'_, H>> {
        self.get_writable(mfn, owner)?;
        Ok(FrameRef { memory: self, mfn, writable: true })
    }

    fn put_with_type(&self, mfn: Mfn) {
        self.put_type(mfn);
        self.put_frame(mfn);
    }

    /// Takes a use as something that is no page table. The caller holds a reference.
    pub(crate) fn get_simple_type(&self, mfn: Mfn, ty: FrameType) -> Outcome<()> {
        match self.get_type(mfn, ty, &Never)? {
            Progress::Done(()) => Ok(()),
            // Only tables are promoted in pieces.
            Progress::Again(_) => Err(wrong_type(mfn, self.info(mfn)?.ty(), ty)),
        }
    }

    pub(crate) fn info(&self, mfn: Mfn) -> Outcome<&'static FrameInfo> {
        self.table.get(mfn).ok_or(Denied::new(Errno::INVAL, Why::NotAllocated { mfn }))
    }

    /// Takes a use of the frame as `ty`, for which the caller holds a reference (`get_page_type`). `EINVAL` while the frame
    /// has another use or its contents are refused. `Again` when cut off: to be called again, by whomever.
    pub fn get_type(&self, mfn: Mfn, ty: FrameType, preempt: &dyn Preempt) -> Outcome<Progress<()>> {
        let frame = self.info(mfn)?;
        loop {
            let old = frame.ty();
            if old.count() == u32::MAX {
                return Err(Denied::new(Errno::INVAL, Why::TooManyReferences { mfn }));
            }
            if old.count() == 0 {
                if frame.swap_ty(old, TypeWord::first(ty)) {
                    return self.begin_use(mfn, frame, old.ty(), ty, preempt);
                }
            } else if old.ty() != ty {
                return Err(wrong_type(mfn, old, ty));
            } else if old.has(TypeWord::VALIDATED) {
                if frame.swap_ty(old, TypeWord(old.0 + 1)) {
                    return Ok(Progress::Done(()));
                }
            } else if old.has(TypeWord::DEMOTING) {
                return Ok(Progress::Again(0));
            } else if old.has(TypeWord::PARTIAL) {
                if frame.swap_ty(old, old.without(TypeWord::PARTIAL)) {
                    let outcome = self.promote(mfn, frame, ty, old.cursor(), preempt);
                    // The former partial state's reference. The caller has another, so this is not the last.
                    self.put_frame(mfn);
                    return outcome;
                }
            } else if preempt.should_yield() {
                return Ok(Progress::Again(0));
            } else {
                // Another CPU is at it. It needs nothing that this one has: it waits for lower levels only.
                sync::relax();
            }
        }
    }

    /// The first use: the type is set and not validated, so that nobody else comes in.
    fn begin_use(
        &self,
        mfn: Mfn,
        frame: &'static FrameInfo,
        was: FrameType,
        ty: FrameType,
        preempt: &dyn Preempt,
    ) -> Outcome<Progress<()>> {
        if was != ty && was != FrameType::None {
            // CPUs may still have writable translations, or have cached entries of a former table.
            self.flush_owner(frame);
        }
        match ty {
            FrameType::None | FrameType::Writable => {
                frame.set_ty(TypeWord::first(ty).with(TypeWord::VALIDATED));
                Ok(Progress::Done(()))
            }
            FrameType::SegDesc => {
                let checked = self.check_descriptors(mfn);
                frame.set_ty(if checked.is_ok() {
                    TypeWord::first(ty).with(TypeWord::VALIDATED)
                } else {
                    TypeWord(TypeWord::first(ty).0 - 1)
                });
                checked.map(Progress::Done)
            }
            _ => self.promote(mfn, frame, ty, 0, preempt),
        }
    }

    fn flush_owner(&self, frame: &FrameInfo) {
        let epoch = frame.work.load(core::sync::atomic::Ordering::Acquire);
        match self.account(frame.owner()) {
            Some(account) if self.is_flushed(epoch, Some(&account)) => {}
            Some(account) => self.flush_domain(&account),
            None if self.is_flushed(epoch, None) => {}
            None => self.flush_everywhere(),
        }
    }

    /// Drops a use. The last use of a page table begins its demotion: see [`Memory::settle`].
    pub fn put_type(&self, mfn: Mfn) {
        let Some(frame) = self.table.get(mfn) else { return };
        loop {
            let old = frame.ty();
            if old.count() == 0 || old.count() == 1 && !old.has(TypeWord::VALIDATED) {
                log::error!("memory: a use of frame {mfn:#x} as {} was dropped twice", old.ty());
                return;
            }
            if old.count() > 1 {
                if frame.swap_ty(old, TypeWord(old.0 - 1)) {
                    return;
                }
            } else if old.has(TypeWord::LOCKED) {
                // Of a level-1 table, whose entries another CPU changes: this use is what it relies on.
                sync::relax();
            } else if old.ty().level() != 0 {
                let new = old.without(TypeWord::VALIDATED).with(TypeWord::DEMOTING).with_cursor(512);
                if frame.swap_ty(old, new) {
                    frame.add_ref();
                    self.queue_demotion(mfn, frame);
                    return;
                }
            } else {
                // The stamp comes first, so that whoever takes the first use afterwards finds it.
                self.stamp(frame);
                if frame.swap_ty(old, TypeWord(old.without(TypeWord::VALIDATED).0 - 1)) {
                    return;
                }
            }
        }
    }

    fn check_descriptors(&self, mfn: Mfn) -> Outcome<()> {
        let owner = self.info(mfn)?.owner();
        let pae = self.account(owner).is_some_and(|account| account.is_pae());
        for word in self.words(mfn)? {
            let old = word.load(core::sync::atomic::Ordering::Relaxed);
            match check_descriptor(old, pae) {
                Some(new) if new != old => word.store(new, core::sync::atomic::Ordering::Relaxed),
                Some(_) => {}
                None => return Err(Denied::new(Errno::INVAL, Why::BadDescriptor { mfn, descriptor: old })),
            }
        }
        Ok(())
    }
}

/// The error for a frame that is in another use.
pub(crate) fn wrong_type(mfn: Mfn, have: TypeWord, want: FrameType) -> Denied {
    Denied::new(Errno::INVAL, Why::WrongType { mfn, have: have.ty(), uses: have.count(), want })
}

/// A segment descriptor as a guest may have it (SDM vol. 3, 3.4.5): absent, or code or data of ring 3, or a call gate into the
/// guest's own segments, which only raises #GP: its ring is 0, and the one that it had is in its selector. A 32-bit guest
/// (`pae`) may have ring 1 and 2, too, and no 64-bit code, from which ring 1 could reach the hypervisor's addresses. `None` for
/// all else.
pub fn check_descriptor(descriptor: u64, pae: bool) -> Option<u64> {
    const PRESENT: u64 = 1 << 47;
    const CODE_OR_DATA: u64 = 1 << 44;
    const DPL: u64 = 3 << 45;
    const RING1: u64 = 1 << 45;
    const LONG: u64 = 1 << 53;
    const TYPE: u64 = 0xf << 40;
    const CALL_GATE: u64 = 0xc << 40;
    /// First byte of the GDT that is the hypervisor's (`FIRST_RESERVED_GDT_BYTE`, arch-x86/xen.h).
    const FIRST_RESERVED_GDT_BYTE: u64 = 14 * 4096;

    if descriptor & PRESENT == 0 {
        return Some(descriptor);
    }
    let fixed = match (pae, descriptor & DPL) {
        (false, _) => descriptor | DPL,
        (true, 0) => descriptor | RING1,
        (true, _) => descriptor,
    };
    if descriptor & CODE_OR_DATA != 0 {
        return (!pae || descriptor & LONG == 0).then_some(fixed);
    }
    match descriptor & TYPE {
        // The second half of a 16-byte gate.
        0 => Some(descriptor),
        CALL_GATE => {
            let selector = descriptor >> 16 & 0xffff;
            let local = selector & 4 != 0;
            let own = local || selector & !7 < FIRST_RESERVED_GDT_BYTE;
            let plain = descriptor >> 32 & 0xff == 0;
            let ring = fixed >> 45 & 3;
            (own && plain).then_some(descriptor & !DPL & !(3 << 16) | ring << 16)
        }
        _ => None,
    }
}
