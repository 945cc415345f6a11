//! The words through which a vCPU learns that it has events: `vcpu_info`, in `shared_info` or where the guest registered it.

use crate::channels::EventChannels;
use crate::words;
use core::sync::atomic::{AtomicU64, Ordering};
use platform::{Frames, Table, read_bytes, write_bytes};
use types::{Errno, Mfn, PAGE_SIZE, Result, VcpuId};

/// Size of `vcpu_info`, in both widths.
const SIZE: usize = 64;
/// `vcpu_info`s in `shared_info` (`XEN_LEGACY_MAX_VCPUS`).
const LEGACY_VCPUS: usize = 32;
/// Byte of `evtchn_upcall_mask`; `evtchn_upcall_pending` is byte 0.
const MASK: usize = 1;
/// No `vcpu_info`.
const NONE: u64 = u64::MAX;

/// Where a vCPU's `vcpu_info` is at first.
pub(crate) fn initial_info(shared_info: Mfn, vcpu: usize) -> u64 {
    if vcpu < LEGACY_VCPUS { shared_info.address() + (vcpu * SIZE) as u64 } else { NONE }
}

impl EventChannels {
    /// Frame of a vCPU's `vcpu_info` and the byte within; `None` if it has none yet. Time and other fields are the caller's.
    pub fn vcpu_info(&self, vcpu: VcpuId) -> Option<(Mfn, usize)> {
        let address = self.vcpus.get(vcpu.index())?.info.load(Ordering::Acquire);
        (address != NONE).then(|| (Mfn::containing(address), (address % PAGE_SIZE as u64) as usize))
    }

    fn info_table<'a, M: Frames + ?Sized>(&self, frames: &'a M, vcpu: VcpuId) -> Option<(&'a Table, usize)> {
        let (mfn, offset) = self.vcpu_info(vcpu)?;
        Some((frames.table(mfn)?, offset))
    }

    /// Checks what VCPUOP_register_vcpu_info asks for, before the frame's references are taken.
    ///
    /// # Errors
    /// `ENOENT`: no such vCPU. `EINVAL`: the offset is no offset in a frame. `EBUSY`: it has registered one before.
    /// `ENXIO`: the area crosses the frame's end or is not aligned to 8 bytes (Xen has 4 for a 32-bit guest; its time record
    /// is written by whole words here).
    pub fn check_vcpu_info(&self, vcpu: VcpuId, offset: u32) -> Result<()> {
        let events = self.vcpus.get(vcpu.index()).ok_or(Errno::NOENT)?;
        let offset = offset as usize;
        if offset >= PAGE_SIZE {
            return Err(Errno::INVAL);
        }
        if events.registered.load(Ordering::Acquire) {
            return Err(Errno::BUSY);
        }
        if offset > PAGE_SIZE - SIZE || offset % 8 != 0 {
            return Err(Errno::NXIO);
        }
        Ok(())
    }

    /// Moves a vCPU's `vcpu_info` to where the guest wants it: copies what is there (or, if there was none, makes an empty
    /// one with upcalls masked), moves events to it, and marks everything pending so that nothing raised meanwhile is lost.
    /// The vCPU must not run during the call, unless it is the caller. The caller has taken the frame's references, which
    /// the table holds from now on if this succeeds; see [`EventChannels::unregister_vcpu_info`].
    ///
    /// # Errors
    /// As [`EventChannels::check_vcpu_info`]; `EINVAL` if the frame is no RAM.
    pub fn register_vcpu_info<M: Frames + ?Sized>(
        &self,
        frames: &M,
        vcpu: VcpuId,
        mfn: Mfn,
        offset: u32,
    ) -> Result<()> {
        let _event = self.event.lock();
        self.check_vcpu_info(vcpu, offset)?;
        let table = frames.table(mfn).ok_or(Errno::INVAL)?;
        let offset = offset as usize;
        let mut bytes = [0; SIZE];
        match self.info_table(frames, vcpu) {
            Some((old, at)) => read_bytes(old, at, &mut bytes),
            None => bytes[MASK] = 1,
        }
        write_bytes(table, offset, &bytes);
        let events = &self.vcpus[vcpu.index()];
        events.info.store(mfn.address() | offset as u64, Ordering::SeqCst);
        events.registered.store(true, Ordering::Release);
        let (at, width) = self.selector();
        write_bytes(table, offset + at, &[0xff; 8][..width]);
        write_bytes(table, offset, &[1]);
        Ok(())
    }

    /// Takes back a registration, when the domain dies or is reset: the vCPU has no `vcpu_info` afterwards. Returns the
    /// frame, whose references the caller drops. No vCPU of the domain runs.
    pub fn unregister_vcpu_info(&self, vcpu: VcpuId) -> Option<Mfn> {
        let events = self.vcpus.get(vcpu.index())?;
        if !events.registered.swap(false, Ordering::AcqRel) {
            return None;
        }
        Some(Mfn::containing(events.info.swap(NONE, Ordering::AcqRel)))
    }

    /// Byte of `evtchn_pending_sel` in `vcpu_info`, and its size.
    pub(crate) fn selector(&self) -> (usize, usize) {
        if self.narrow.load(Ordering::Relaxed) { (4, 4) } else { (8, 8) }
    }

    /// Sets the bit of a selector word for a port's word, and asks for an upcall if it was clear. Answers as
    /// [`EventChannels::mark_upcall`].
    pub(crate) fn select<M: Frames + ?Sized>(&self, frames: &M, vcpu: VcpuId, port: u32) -> bool {
        let Some((table, offset)) = self.info_table(frames, vcpu) else { return false };
        let (at, width) = self.selector();
        let bit = port as usize / (8 * width);
        !words::test_and_set(table, (offset + at) * 8 + bit) && !words::test_and_set(table, offset * 8)
    }

    /// Sets `evtchn_upcall_pending`. Whether it was clear: then the vCPU has to be kicked, or its callback interrupt asserted.
    pub fn mark_upcall<M: Frames + ?Sized>(&self, frames: &M, vcpu: VcpuId) -> bool {
        let info = self.info_table(frames, vcpu);
        info.is_some_and(|(table, offset)| !words::test_and_set(table, offset * 8))
    }

    /// Where a vCPU's `vcpu_info` is now; `None` if it has none.
    pub fn info<'a, M: Frames + ?Sized>(&self, frames: &'a M, vcpu: VcpuId) -> Option<Info<'a>> {
        let (table, offset) = self.info_table(frames, vcpu)?;
        // It is aligned to a word, wherever it is.
        Some(Info(table.get(offset / 8..)?.first_chunk()?))
    }

    /// `evtchn_upcall_pending` and `evtchn_upcall_mask` of a vCPU; a vCPU without `vcpu_info` has nothing pending and is
    /// masked.
    pub fn upcall_state<M: Frames + ?Sized>(&self, frames: &M, vcpu: VcpuId) -> (bool, bool) {
        self.info(frames, vcpu).map_or((false, true), Info::upcall_state)
    }

    /// Whether a PV vCPU is to get an upcall now: one is pending and none is masked.
    pub fn upcall_due<M: Frames + ?Sized>(&self, frames: &M, vcpu: VcpuId) -> bool {
        self.info(frames, vcpu).is_some_and(Info::is_upcall_due)
    }

    /// Sets `evtchn_upcall_mask` of a vCPU (SCHEDOP_block).
    pub fn set_upcall_mask<M: Frames + ?Sized>(&self, frames: &M, vcpu: VcpuId, masked: bool) {
        if let Some(info) = self.info(frames, vcpu) {
            info.set_upcall_mask(masked);
        }
    }
}

/// A vCPU's `vcpu_info`, for whoever needs it at each entry to the guest. It holds until the guest registers another: what is
/// read and written by an older one is of no effect.
#[derive(Clone, Copy, Debug)]
pub struct Info<'a>(&'a [AtomicU64; SIZE / 8]);

impl<'a> Info<'a> {
    /// The word with the byte `at` of the structure, below 64.
    #[inline]
    pub fn word(self, at: usize) -> &'a AtomicU64 {
        &self.0[at / 8]
    }

    /// `evtchn_upcall_pending` and `evtchn_upcall_mask`.
    #[inline]
    pub fn upcall_state(self) -> (bool, bool) {
        let bytes = self.0[0].load(Ordering::SeqCst);
        (bytes & 0xff != 0, bytes >> (8 * MASK) & 0xff != 0)
    }

    /// Whether an upcall is pending and none is masked.
    #[inline]
    pub fn is_upcall_due(self) -> bool {
        // Two bytes, of which the first is to be set and the second not: 1 to 255, told by one comparison.
        const { assert!(MASK == 1) };
        (self.0[0].load(Ordering::SeqCst) as u16).wrapping_sub(1) < 0xff
    }

    /// Sets `evtchn_upcall_mask`. Others only look at it, so that nothing is written if it is so.
    #[inline]
    pub fn set_upcall_mask(self, masked: bool) {
        if self.upcall_state().1 == masked {
            return;
        }
        if masked {
            self.0[0].fetch_or(1 << (8 * MASK), Ordering::SeqCst);
        } else {
            self.0[0].fetch_and(!(0xff << (8 * MASK)), Ordering::SeqCst);
        }
    }
}
