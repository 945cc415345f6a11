//! The machine-to-physical table: for each frame of the machine, the frame number that its owner knows it by. Guests read it
//! at `layout::M2P_GUEST`; its size and place are part of the interface (xen-x86_64.h, `machine_to_phys_mapping`).

use crate::layout::M2P;
use core::sync::atomic::{AtomicU64, Ordering};
use types::Mfn;

/// Entry of a frame that nobody knows by a number (`INVALID_M2P_ENTRY`).
pub const INVALID: u64 = !0;
/// Frames that one 2 MiB page of the table describes: 1 GiB of memory.
pub(crate) const FRAMES_PER_CHUNK: u64 = (2 << 20) / 8;
/// Bits of [`PRESENT`]: the direct map's size in GiB.
const CHUNKS: usize = (crate::layout::DIRECT_MAP_SIZE >> 30) as usize;

/// One bit for each 2 MiB page of the table that exists.
static PRESENT: [AtomicU64; CHUNKS / 64] = [const { AtomicU64::new(0) }; CHUNKS / 64];

/// Marks a page of the table as mapped and filled.
///
/// # Safety
/// It is: at its place in [`M2P`], writable, for good.
pub(crate) unsafe fn publish(chunk: u64) {
    PRESENT[(chunk / 64) as usize].fetch_or(1 << (chunk % 64), Ordering::Release);
}

fn slot(mfn: Mfn) -> Option<&'static AtomicU64> {
    let chunk = mfn.0 / FRAMES_PER_CHUNK;
    let word = PRESENT.get(usize::try_from(chunk / 64).ok()?)?;
    if word.load(Ordering::Acquire) >> (chunk % 64) & 1 == 0 {
        return None;
    }
    // SAFETY: the page that holds this entry is mapped for good, and only ever accessed as atomics.
    Some(unsafe { &*core::ptr::with_exposed_provenance::<AtomicU64>((M2P + mfn.0 * 8) as usize) })
}

/// The number that the owner of `mfn` knows it by; [`INVALID`] if there is none.
#[inline]
pub fn get(mfn: Mfn) -> u64 {
    slot(mfn).map_or(INVALID, |slot| slot.load(Ordering::Relaxed))
}

/// Sets what the owner of `mfn` knows it by. False if the table has no entry for the frame, which then is no RAM.
#[inline]
pub fn set(mfn: Mfn, pfn: u64) -> bool {
    slot(mfn).map(|slot| slot.store(pfn, Ordering::Relaxed)).is_some()
}
