//! The machine-to-physical table: for each frame of the machine, the frame number that its owner knows it by. Guests read it
//! at `layout::M2P_GUEST`; its size and place are part of the interface (xen-x86_64.h, `machine_to_phys_mapping`). 32-bit guests
//! have one of 32-bit entries in their own highest GiB ([`narrow_entries`]); it is kept from the first such guest on.

use crate::heap;
use crate::layout::M2P;
use crate::paging::{CONSTANT, direct};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use platform::Preempt;
use types::{Errno, Mfn, PAGE_SIZE, Progress, Result};
use x86_defs::pte::{Pte, PteFlags};

/// Entry of a frame that nobody knows by a number (`INVALID_M2P_ENTRY`).
pub const INVALID: u64 = !0;
/// Frames that one 2 MiB page of the table describes: 1 GiB of memory.
pub(crate) const FRAMES_PER_CHUNK: u64 = (2 << 20) / 8;
/// Bits of [`PRESENT`]: the direct map's size in GiB.
const CHUNKS: usize = (crate::layout::DIRECT_MAP_SIZE >> 30) as usize;

/// One bit for each 2 MiB page of the table that exists.
static PRESENT: [AtomicU64; CHUNKS / 64] = [const { AtomicU64::new(0) }; CHUNKS / 64];

/// Frames that one 2 MiB page of the narrow table describes: 2 GiB of memory.
pub(crate) const FRAMES_PER_NARROW_CHUNK: u64 = (2 << 20) / 4;
/// L2 slots that a 32-bit guest's table has for it (`HYPERVISOR_VIRT_START` to the end, arch-x86/xen-x86_32.h).
pub const NARROW_SLOTS: usize = 84;
/// 2 MiB pages that the narrow table may have: its last slot stays empty.
pub(crate) const NARROW_CHUNKS: usize = NARROW_SLOTS - 1;

/// Order of such a page.
const NARROW_ORDER: u8 = 9;

/// Physical addresses of the narrow table's pages; 0 for one that does not exist.
static NARROW: [AtomicU64; NARROW_CHUNKS] = [const { AtomicU64::new(0) }; NARROW_CHUNKS];

/// [`set`] writes the narrow table too.
static KEEPS_NARROW: AtomicBool = AtomicBool::new(false);
/// Frames, from the first on, whose entries of the narrow table are right.
static FILLED: AtomicU64 = AtomicU64::new(0);
/// Frames between two questions whether to go on.
const STEP: u64 = 4096;

/// Makes the pages of the narrow table that do not exist: of the first 4 GiB, and of what else has RAM. `ENOMEM` if there is no such piece
/// of memory; what was made stays.
fn make_narrow() -> Result<()> {
    let has_ram = |chunk: &u64| PRESENT[(chunk / 64) as usize].load(Ordering::Acquire) >> (chunk % 64) & 1 != 0;
    for (slot, own) in NARROW.iter().zip((0..).step_by(2)) {
        // A page describes two GiB.
        let wanted =
            (own..own + 2).any(|chunk| has_ram(&chunk)) || own < 4 && (own + 2..CHUNKS as u64).any(|c| has_ram(&c));
        if !wanted || slot.load(Ordering::Relaxed) != 0 {
            continue;
        }
        let physical = heap::take_block(NARROW_ORDER).ok_or(Errno::NOMEM)?;
        // SAFETY: private memory, taken for this alone.
        unsafe { direct::<u8>(physical).write_bytes(0xff, PAGE_SIZE << NARROW_ORDER) };
        slot.store(physical, Ordering::Release);
    }
    Ok(())
}

/// The entries of an L2 table by which a 32-bit guest sees its table: read-only, and not global, since other guests have their
/// own pages at those addresses.
pub fn narrow_entries() -> [u64; NARROW_SLOTS] {
    let flags = CONSTANT.difference(PteFlags::GLOBAL) | PteFlags::USER | PteFlags::LARGE_OR_PAT;
    core::array::from_fn(|slot| match NARROW.get(slot).map(|chunk| chunk.load(Ordering::Acquire)) {
        Some(physical) if physical != 0 => Pte::new(physical >> 12, flags).0,
        _ => 0,
    })
}

fn narrow_slot(mfn: Mfn) -> Option<&'static AtomicU32> {
    let chunk = NARROW.get(usize::try_from(mfn.0 / FRAMES_PER_NARROW_CHUNK).ok()?)?;
    let physical = chunk.load(Ordering::Acquire);
    if physical == 0 {
        return None;
    }
    // SAFETY: the page was made, so it is there for good, within the direct map, and only ever accessed as atomics.
    Some(unsafe { &*direct::<AtomicU32>(physical + mfn.0 % FRAMES_PER_NARROW_CHUNK * 4) })
}

/// Marks a page of the table as mapped and filled.
///
/// # Safety
/// It is: at its place in [`M2P`], writable, for good.
pub(crate) unsafe fn publish(chunk: u64) {
    PRESENT[(chunk / 64) as usize].fetch_or(1 << (chunk % 64), Ordering::Release);
}

fn slot(mfn: Mfn) -> Option<&'static AtomicU64> {
    slots(mfn)?.first()
}

/// The entries from that of `mfn` on to the end of their page.
#[inline]
fn slots(mfn: Mfn) -> Option<&'static [AtomicU64]> {
    let chunk = mfn.0 / FRAMES_PER_CHUNK;
    let word = PRESENT.get(usize::try_from(chunk / 64).ok()?)?;
    if word.load(Ordering::Acquire) >> (chunk % 64) & 1 == 0 {
        return None;
    }
    let first = core::ptr::with_exposed_provenance::<AtomicU64>((M2P + mfn.0 * 8) as usize);
    // SAFETY: the page that holds these entries is mapped for good, and only ever accessed as atomics.
    Some(unsafe { core::slice::from_raw_parts(first, (FRAMES_PER_CHUNK - mfn.0 % FRAMES_PER_CHUNK) as usize) })
}

/// The number that the owner of `mfn` knows it by; [`INVALID`] if there is none.
#[inline]
pub fn get(mfn: Mfn) -> u64 {
    slot(mfn).map_or(INVALID, |slot| slot.load(Ordering::Relaxed))
}

/// Sets what the owner of `mfn` knows it by. False if the table has no entry for the frame, which then is no RAM.
#[inline]
pub fn set(mfn: Mfn, pfn: u64) -> bool {
    let Some(slot) = slot(mfn) else { return false };
    slot.store(pfn, Ordering::Relaxed);
    if KEEPS_NARROW.load(Ordering::Relaxed) {
        if let Some(slot) = narrow_slot(mfn) {
            // Whoever overwrites this sees the store above.
            slot.store(narrow(pfn), Ordering::Release);
        }
    }
    true
}

/// The same for `count` frames from `first` on, by numbers from `pfn` on.
pub fn set_run(first: Mfn, count: u64, pfn: u64) {
    let mut done = 0;
    while done < count {
        let slots = slots(first.offset(done)).unwrap_or_default();
        for (slot, pfn) in slots.iter().zip(pfn + done..pfn + count) {
            slot.store(pfn, Ordering::Relaxed);
        }
        // A frame without an entry is left out.
        done += (slots.len() as u64).max(1);
    }
    if KEEPS_NARROW.load(Ordering::Relaxed) {
        for index in 0..count {
            if let Some(slot) = narrow_slot(first.offset(index)) {
                // As in `set`.
                slot.store(narrow(pfn + index), Ordering::Release);
            }
        }
    }
}

fn narrow(pfn: u64) -> u32 {
    u32::try_from(pfn).unwrap_or(u32::MAX)
}

/// Has the narrow table filled, and kept from now on. `meet` returns when every CPU that was in [`set`] has left it and sees
/// what this one has written before. To be called again after [`Progress::Again`], with nothing done twice. `ENOMEM`. By one CPU
/// at a time.
pub fn keep_narrow(meet: impl FnOnce(), preempt: &impl Preempt) -> Result<Progress<(), ()>> {
    make_narrow()?;
    if !KEEPS_NARROW.swap(true, Ordering::SeqCst) {
        meet();
    }
    let end = NARROW_CHUNKS as u64 * FRAMES_PER_NARROW_CHUNK;
    let mut from = FILLED.load(Ordering::Relaxed);
    while from < end {
        if narrow_slot(Mfn(from)).is_none() {
            from += FRAMES_PER_NARROW_CHUNK;
            continue;
        }
        for mfn in (from..from + STEP).map(Mfn) {
            if let (Some(wide), Some(narrow)) = (slot(mfn), narrow_slot(mfn)) {
                follow(wide, narrow);
            }
        }
        from += STEP;
        FILLED.store(from, Ordering::Relaxed);
        if preempt.should_yield() {
            return Ok(Progress::Again(()));
        }
    }
    FILLED.store(end, Ordering::Relaxed);
    Ok(Progress::Done(()))
}

/// Makes a narrow entry what the wide one is, while others may be in [`set`].
fn follow(wide: &AtomicU64, entry: &AtomicU32) {
    loop {
        let value = wide.load(Ordering::Relaxed);
        // What was stored there meanwhile is lost with this, but the store that came before it is seen below.
        entry.swap(narrow(value), Ordering::AcqRel);
        if wide.load(Ordering::Relaxed) == value {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_do_not_fit_are_none() {
        assert_eq!([5, u64::from(u32::MAX) + 6, INVALID].map(narrow), [5, u32::MAX, u32::MAX]);
    }

    #[test]
    fn an_entry_that_changes_while_it_is_filled_is_right_in_the_end() {
        for round in 0..2000 {
            let (wide, entry) = (AtomicU64::new(1), AtomicU32::new(u32::MAX));
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    for pfn in [2, 3, round, INVALID, round + 1] {
                        wide.store(pfn, Ordering::Relaxed);
                        entry.store(narrow(pfn), Ordering::Release);
                    }
                });
                follow(&wide, &entry);
            });
            assert_eq!(u64::from(entry.into_inner()), round + 1);
        }
    }
}
