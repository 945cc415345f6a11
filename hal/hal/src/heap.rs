//! The heap: a fixed reservation of boot. Guest-controlled allocations go through `try_reserve` or its like.

use crate::paging;
use alloc::alloc::{GlobalAlloc, Layout};
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use platform::sync::Mutex;
use talc::base::Talc;
use talc::base::binning::DefaultBinning;
use talc::source::Manual;
use types::PAGE_SIZE;

/// Talc behind the hypervisor's lock.
struct Heap(Mutex<State>);

struct State(Talc<Manual, DefaultBinning>);

// SAFETY: the allocator's pointers all lie in the reservation, which is reached through the lock only.
unsafe impl Send for State {}

#[cfg_attr(target_os = "none", global_allocator)]
#[cfg_attr(not(target_os = "none"), allow(dead_code))]
static HEAP: Heap = Heap(Mutex::new(State(Talc::new(Manual))));

/// Bytes that the heap has, and those of them that were asked for and not given back.
static SIZE: AtomicUsize = AtomicUsize::new(0);
static USED: AtomicUsize = AtomicUsize::new(0);

/// Bytes of the heap that are in use, without the allocator's own, and its size.
pub fn usage() -> (usize, usize) {
    (USED.load(Relaxed), SIZE.load(Relaxed))
}

// SAFETY: Talc keeps the contract of `GlobalAlloc`, and the lock makes each call exclusive.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller promises a layout of non-zero size.
        let Some(pointer) = (unsafe { self.0.lock().0.allocate(layout) }) else {
            return core::ptr::null_mut();
        };
        USED.fetch_add(layout.size(), Relaxed);
        pointer.as_ptr()
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller promises that this allocator gave the pointer for this layout.
        unsafe { self.0.lock().0.deallocate(pointer, layout) };
        USED.fetch_sub(layout.size(), Relaxed);
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above, and the caller promises a valid new size.
        if unsafe { self.0.lock().0.try_realloc_in_place(pointer, layout, size) } {
            // Wraps where it shrinks, and so does the sum.
            USED.fetch_add(size.wrapping_sub(layout.size()), Relaxed);
            return pointer;
        }
        // SAFETY: alignment and size were valid for the caller.
        let to = unsafe { self.alloc(Layout::from_size_align_unchecked(size, layout.align())) };
        if !to.is_null() {
            // SAFETY: both are live allocations of at least this length, and do not overlap.
            unsafe {
                core::ptr::copy_nonoverlapping(pointer, to, layout.size().min(size));
                self.dealloc(pointer, layout);
            }
        }
        to
    }
}

/// Gives the heap its memory.
///
/// # Safety
/// `length` bytes at `start` are mapped, writable, and used by nothing else, for good.
pub(crate) unsafe fn init(start: *mut u8, length: usize) {
    // SAFETY: the caller's promise. Too little to keep a heap in leaves it empty: then the first allocation fails.
    let _ = unsafe { HEAP.0.lock().0.claim(start, length) };
    SIZE.store(length, Relaxed);
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
