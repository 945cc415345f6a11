//! Frames that may be lent to guests. Soundness: docs/soundness/frames.md.

use crate::paging::direct;
use core::arch::asm;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use platform::{Frames, Table};
use spin::Once;
use types::{Errno, Mfn, PAGE_SIZE, Result};

/// Bytes that CLFLUSH writes back at once, or a divisor of that: it was never less.
const CACHE_LINE: usize = 64;

/// One bit a frame, filled by `boot::finish`.
static LENDABLE: Once<&'static [AtomicU64]> = Once::new();

fn bit(map: &[AtomicU64], mfn: Mfn) -> bool {
    map.get((mfn.0 / 64) as usize).is_some_and(|word| word.load(Ordering::Acquire) >> (mfn.0 % 64) & 1 != 0)
}

/// Sets or clears the bits of frames, a word at a time.
pub(crate) fn mark(map: &[AtomicU64], first: u64, end: u64, on: bool) {
    let mut next = first;
    while next < end {
        let count = (64 - next % 64).min(end - next);
        let bits = (u64::MAX >> (64 - count)) << (next % 64);
        let word = &map[(next / 64) as usize];
        if on {
            word.fetch_or(bits, Ordering::AcqRel)
        } else {
            word.fetch_and(!bits, Ordering::AcqRel)
        };
        next += count;
    }
}

/// Publishes the map.
///
/// # Safety
/// Every frame of it is RAM in the direct map and is, and stays until [`keep`], out of reach of Rust objects.
pub(crate) unsafe fn publish(lendable: &'static [AtomicU64]) {
    LENDABLE.call_once(|| lendable);
}

/// Makes more frames lendable.
///
/// # Safety
/// As for [`publish`]; they are within its map.
pub(crate) unsafe fn lend(first: u64, end: u64) {
    if let Some(map) = LENDABLE.get() {
        mark(map, first, end, true);
    }
}

/// Ends that `count` frames can be lent: they are the hypervisor's then. False, and nothing is done, where one is not lendable.
pub(crate) fn keep(first: Mfn, count: u64) -> bool {
    let frames = first.0..first.0.saturating_add(count);
    let Some(map) = LENDABLE.get().filter(|map| frames.clone().all(|mfn| bit(map, Mfn(mfn)))) else {
        return false;
    };
    mark(map, frames.start, frames.end, false);
    true
}

/// Whether the frame may be lent to guests; false for everything before [`crate::boot::finish`].
#[inline]
pub fn is_lendable(mfn: Mfn) -> bool {
    LENDABLE.get().is_some_and(|map| bit(map, mfn))
}

/// Access to the frames that may be lent to guests. Made by [`crate::boot::finish`].
#[derive(Clone, Copy)]
pub struct LendableFrames {
    lendable: &'static [AtomicU64],
}

impl LendableFrames {
    /// The frames, once [`crate::boot::finish`] has run.
    pub fn get() -> Option<LendableFrames> {
        LENDABLE.get().map(|lendable| LendableFrames { lendable })
    }

    #[inline]
    fn pointer(&self, mfn: Mfn) -> Result<*mut u8> {
        if bit(self.lendable, mfn) { Ok(direct(mfn.address())) } else { Err(Errno::INVAL) }
    }

    /// Copies bytes from physical address `address` on; frames need to be lendable, else `EINVAL` and `to` is unspecified.
    pub fn read(&self, address: u64, to: &mut [u8]) -> Result<()> {
        let mut done = 0;
        while done < to.len() {
            let (from, count) = self.part(address, done, to.len())?;
            // SAFETY: `part` stays within a lendable frame, and `to` is exclusive memory of that length.
            unsafe { copy_bytes(from, to[done..done + count].as_mut_ptr(), count) };
            done += count;
        }
        Ok(())
    }

    /// Copies bytes to physical address `address` on; frames need to be lendable, else `EINVAL` after a partial copy.
    pub fn write(&self, address: u64, from: &[u8]) -> Result<()> {
        let mut done = 0;
        while done < from.len() {
            let (to, count) = self.part(address, done, from.len())?;
            // SAFETY: as in `read`, the other way round.
            unsafe { copy_bytes(from[done..done + count].as_ptr(), to, count) };
            done += count;
        }
        Ok(())
    }

    /// Writes bytes of a frame that a cache holds back to memory, and drops them from all caches (SDM vol. 2, CLFLUSH).
    /// Nothing happens if the frame is not lendable.
    pub fn flush_cache(&self, mfn: Mfn, bytes: Range<usize>) {
        let Ok(start) = self.pointer(mfn) else { return };
        let last = bytes.end.min(PAGE_SIZE);
        for offset in (bytes.start / CACHE_LINE * CACHE_LINE..last).step_by(CACHE_LINE) {
            // SAFETY: within a lendable frame, which is mapped; no byte changes.
            unsafe { asm!("clflush [{}]", in(reg) start.wrapping_add(offset), options(nostack, preserves_flags)) };
        }
        // SAFETY: waits until the lines are written.
        unsafe { asm!("mfence", options(nostack, preserves_flags)) };
    }

    /// Where byte `done` of a range of `length` bytes at `address` is, and how many bytes follow in its frame.
    fn part(&self, address: u64, done: usize, length: usize) -> Result<(*mut u8, usize)> {
        let at = address.checked_add(done as u64).ok_or(Errno::INVAL)?;
        let offset = (at % PAGE_SIZE as u64) as usize;
        let start = self.pointer(Mfn::containing(at))?;
        Ok((start.wrapping_add(offset), (PAGE_SIZE - offset).min(length - done)))
    }
}

/// Copies by words, and what is left by bytes.
///
/// # Safety
/// Both ranges are mapped; the destination backs nothing but what the caller owns, or lendable frames.
unsafe fn copy_bytes(from: *const u8, to: *mut u8, count: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!("rep movsq", "mov ecx, {rest:e}", "rep movsb", rest = in(reg) count % 8, inout("rdi") to => _,
            inout("rsi") from => _, inout("rcx") count / 8 => _, options(nostack, preserves_flags));
    }
}

impl Frames for LendableFrames {
    #[inline]
    fn table(&self, mfn: Mfn) -> Option<&Table> {
        let pointer = self.pointer(mfn).ok()?;
        // SAFETY: RAM, mapped for good, page aligned, accessed as atomics or by the CPU's string instructions only. Nothing of the
        // direct map is at address 0, which the compiler would look at to tell the reference from `None`.
        unsafe {
            core::hint::assert_unchecked(!pointer.is_null());
            Some(&*pointer.cast::<Table>())
        }
    }

    fn zero(&self, mfn: Mfn) -> bool {
        let Ok(to) = self.pointer(mfn) else { return false };
        // SAFETY: a lendable frame is RAM that backs no Rust object; the CPU's stores race with guests only.
        unsafe {
            asm!("rep stosq", inout("rdi") to => _, inout("rcx") PAGE_SIZE / 8 => _, in("rax") 0u64,
                options(nostack, preserves_flags));
        }
        true
    }

    fn copy_part(&self, from: (Mfn, usize), to: (Mfn, usize), length: usize) -> bool {
        let (Ok(source), Ok(target)) = (self.pointer(from.0), self.pointer(to.0)) else { return false };
        if !platform::fits(from.1, length) || !platform::fits(to.1, length) {
            return false;
        }
        // SAFETY: both ranges lie within lendable frames, which are RAM that backs no Rust object; stores race with guests only.
        unsafe { copy_bytes(source.wrapping_add(from.1), target.wrapping_add(to.1), length) };
        true
    }
}
