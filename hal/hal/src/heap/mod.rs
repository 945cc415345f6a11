//! The hypervisor's heap: small at boot, it grows from what is free. Guest-controlled allocations go through `try_reserve` or its
//! like. Soundness: docs/soundness/frames.md.

mod growing;

use crate::paging::direct;
use crate::{boot, frames, paging};
use alloc::alloc::{GlobalAlloc, Layout};
use core::ptr::NonNull;
use growing::{Chunks, Heap};
use spin::Once;
use types::{Mfn, PAGE_SHIFT, PAGE_SIZE};

/// What start-up takes at most while nobody lends memory: most of it is CPU 0's stacks, and what is kept of each CPU.
const RESERVE: usize = 256 << 10;

/// Bytes that the heap keeps for when guests have all memory.
const SPARE: usize = 1 << 20;

/// Bytes that [`has_room`] asks for.
const ROOM: usize = 128 << 10;

/// Who has the machine's free frames once they are shared out.
#[derive(Clone, Copy, Debug)]
pub struct Lender {
    /// Takes 2^order frames that are nobody's, aligned or not: no guest and no CPU has a way to them left, and no safe code a
    /// reference. What they hold does not matter. Not to allocate.
    pub take: fn(u8) -> Option<Mfn>,
    /// Takes 2^order frames back, or for the first time what the heap has had since before there was a lender. Not to allocate.
    pub give: fn(Mfn, u8),
}

static LENDER: Once<Lender> = Once::new();

/// Says where the heap's memory comes from after [`boot::finish`]; the first call counts. Before it, the heap cannot grow.
pub fn set_lender(lender: Lender) {
    LENDER.call_once(|| lender);
}

/// The machine's free memory.
struct Machine;

// SAFETY: before `boot::finish` the memory is taken out of the free share; afterwards out of the lendable one, so that nobody
// reaches it by its frame number, from a lender that has it from nobody else. The direct map has all of it.
unsafe impl Chunks for Machine {
    fn take(&self, pages: usize) -> Option<NonNull<u8>> {
        if let Some(address) = boot::take_private(pages) {
            return NonNull::new(direct(address));
        }
        let order = u8::try_from(pages.ilog2()).ok()?;
        let first = (LENDER.get()?.take)(order)?;
        if !frames::keep(first, pages as u64) {
            log::error!("heap: frames from {first:#x} on were not lendable; given up");
            return None;
        }
        NonNull::new(direct(first.address()))
    }

    fn wants(&self) -> bool {
        LENDER.get().is_some() || boot::is_sharing()
    }

    unsafe fn give(&self, start: NonNull<u8>, pages: usize) {
        let Some(address) = paging::physical_of(start.as_ptr()) else { return };
        if boot::give_private(address, pages) {
            return;
        }
        let Some(lender) = LENDER.get() else { return };
        let first = Mfn::containing(address);
        // SAFETY: the caller's promise: no object is there, so guests may have it.
        unsafe { frames::lend(first.0, first.0 + pages as u64) };
        (lender.give)(first, pages.ilog2() as u8);
    }
}

#[cfg_attr(target_os = "none", global_allocator)]
#[cfg_attr(not(target_os = "none"), allow(dead_code))]
static HEAP: Heap<Machine> = Heap::new(Machine, SPARE);

/// Bytes of the heap that are in use, without the allocator's own, and its size.
pub fn usage() -> (usize, usize) {
    HEAP.usage()
}

/// Whether there is room for what the creation of a domain or of its vCPUs allocates without an error path; the heap grows for it.
pub fn has_room() -> bool {
    let (used, size) = HEAP.usage();
    size - used >= ROOM || HEAP.grow(ROOM)
}

/// Gives the heap its first memory. False if there is none.
pub(crate) fn init(bytes: usize) -> bool {
    HEAP.grow(bytes)
}

/// Has enough memory in the heap for the time in which it cannot grow, between [`boot::finish`] and [`set_lender`], on a machine of so
/// many frames.
pub(crate) fn reserve(frames: u64) {
    // The allocator's sets of frames have a bit for some of them.
    let wanted = RESERVE + (frames / 256) as usize;
    let (used, size) = HEAP.usage();
    if size - used < wanted {
        HEAP.grow(wanted);
    }
}

/// Takes `pages` zeroed, page-aligned pages for good; gives their physical address.
pub(crate) fn take_pages(pages: usize) -> Option<u64> {
    let layout = Layout::from_size_align(pages.checked_mul(PAGE_SIZE)?, PAGE_SIZE).ok()?;
    if layout.size() == 0 {
        return None;
    }
    // SAFETY: the layout is not empty.
    let pointer = unsafe { HEAP.alloc_zeroed(layout) };
    if pointer.is_null() { None } else { paging::physical_of(pointer) }
}

/// Takes a zeroed page for a page table.
pub(crate) fn take_table() -> Option<u64> {
    take_pages(1)
}

/// Takes 2^`order` pages, aligned to their size, for good, past the heap; gives their physical address. For large tables that most
/// machines never need.
pub(crate) fn take_block(order: u8) -> Option<u64> {
    let block = Machine.take(1 << order)?;
    let address = paging::physical_of(block.as_ptr())?;
    debug_assert!(address.trailing_zeros() >= u32::from(order) + PAGE_SHIFT);
    Some(address)
}
