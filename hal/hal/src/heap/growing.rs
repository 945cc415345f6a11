//! A heap that grows by chunks, and gives a chunk back once nothing in it is in use.

use alloc::alloc::{GlobalAlloc, Layout};
use core::ptr::NonNull;
use platform::sync::Mutex;
use talc::base::binning::{Binning, DefaultBinning};
use talc::base::{CHUNK_UNIT, Talc};
use talc::source::Source;
use types::PAGE_SIZE;

/// Bytes of a chunk, but where one allocation needs more.
pub const CHUNK: usize = 256 << 10;
/// How often an allocation grows the heap: more than once where other CPUs were faster to use what was taken.
const TRIES: usize = 4;

/// Where a heap's memory comes from. Neither function is called with the heap locked.
///
/// # Safety
/// What [`Chunks::take`] gives is mapped, writable, aligned to 4 KiB, and used by nothing else until [`Chunks::give`].
pub unsafe trait Chunks {
    /// Memory of `pages` pages, a power of two.
    fn take(&self, pages: usize) -> Option<NonNull<u8>>;

    /// Whether [`Chunks::give`] would find somebody who wants memory.
    fn wants(&self) -> bool;

    /// Takes back a chunk of [`Chunks::take`].
    ///
    /// # Safety
    /// It was taken, with this number of pages, and nothing refers to it any more.
    unsafe fn give(&self, start: NonNull<u8>, pages: usize);
}

/// What Talc asks when a chunk may be free as a whole, and what the heap has besides.
#[derive(Debug)]
struct Account {
    /// Bytes that are to be free.
    spare: usize,
    /// Bytes that the heap has.
    size: usize,
    /// Bytes that were asked for and not given back.
    used: usize,
    /// A free chunk may be given back.
    may_give: bool,
    /// The chunk that is to be given back, out of Talc's hands.
    given: Option<(NonNull<u8>, usize)>,
}

// SAFETY: no memory is made known here, and Talc is not called.
unsafe impl Source for Account {
    /// The heap grows while it is not locked, by [`Heap::grow`].
    fn acquire<B: Binning>(_: &mut Talc<Self, B>, _: Layout) -> Result<(), ()> {
        Err(())
    }

    const TRACK_HEAP_END: bool = true;

    unsafe fn resize(&mut self, base: *mut u8, end: *mut u8, is_whole: bool) -> *mut u8 {
        // Talc keeps a few bytes before the first piece; a chunk begins and ends at a page.
        let start = base.map_addr(|address| address & !(PAGE_SIZE - 1));
        let length = end.addr() - start.addr();
        // A chunk that was made larger for one allocation would stay unused for long.
        // A heap at the edge of a chunk must not take and give it again and again.
        let is_spared = length <= CHUNK && self.size - self.used < length + self.spare + CHUNK;
        let Some(start) = NonNull::new(start).filter(|_| is_whole && self.may_give && !is_spared) else {
            return end;
        };
        self.size -= length;
        self.given = Some((start, length / PAGE_SIZE));
        base
    }
}

struct State(Talc<Account, DefaultBinning>);

// SAFETY: the allocator's pointers all lie in memory that is the heap's alone and reached through its lock only.
unsafe impl Send for State {}

/// Talc behind the hypervisor's lock, on memory of `C`.
pub struct Heap<C> {
    state: Mutex<State>,
    chunks: C,
}

impl<C: Chunks> Heap<C> {
    /// A heap without memory. It takes its first when it is first needed, and more while less than `spare` bytes are free: on them lives
    /// what is allocated without an error path when there is no more.
    pub const fn new(chunks: C, spare: usize) -> Self {
        let account = Account { spare, size: 0, used: 0, may_give: false, given: None };
        Heap { state: Mutex::new(State(Talc::new(account))), chunks }
    }

    /// Bytes that are in use, without the allocator's own, and bytes that the heap has.
    pub fn usage(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.0.source.used, state.0.source.size)
    }

    /// Takes a chunk for `bytes`, or a larger one. False if there is none.
    pub fn grow(&self, bytes: usize) -> bool {
        let Some(least) = bytes.div_ceil(PAGE_SIZE).max(1).checked_next_power_of_two() else { return false };
        let (mut pages, mut taken) = (least.max(CHUNK / PAGE_SIZE), None);
        while taken.is_none() && pages >= least {
            taken = self.chunks.take(pages).map(|start| (start, pages));
            pages /= 2;
        }
        let Some((start, pages)) = taken else { return false };
        let mut state = self.state.lock();
        let length = pages * PAGE_SIZE;
        // SAFETY: by the trait's promise the memory is the heap's alone.
        if unsafe { state.0.claim(start.as_ptr(), length) }.is_some() {
            state.0.source.size += length;
            return true;
        }
        drop(state);
        // SAFETY: just taken; the allocator did not want it.
        unsafe { self.chunks.give(start, pages) };
        false
    }
}

// SAFETY: Talc keeps the contract of `GlobalAlloc`, and the lock makes each call exclusive.
unsafe impl<C: Chunks> GlobalAlloc for Heap<C> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        for _ in 0..TRIES {
            let mut state = self.state.lock();
            // SAFETY: the caller promises a layout of non-zero size.
            if let Some(pointer) = unsafe { state.0.try_allocate(layout) } {
                state.0.source.used += layout.size();
                let Account { spare, size, used, .. } = state.0.source;
                let is_short = size - used < spare;
                drop(state);
                if is_short {
                    // Without success the spare memory becomes less.
                    self.grow(CHUNK);
                }
                return pointer.as_ptr();
            }
            drop(state);
            // Its own alignment, its tail, and what a chunk has before its first piece.
            let more = layout.align() + 3 * CHUNK_UNIT;
            let Some(bytes) = layout.size().checked_add(more) else { break };
            // The first chunk has the allocator's lists besides.
            let lists = if self.usage().1 == 0 { PAGE_SIZE } else { 0 };
            if !self.grow(bytes.saturating_add(lists)) {
                break;
            }
        }
        core::ptr::null_mut()
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let may_give = self.chunks.wants();
        let mut state = self.state.lock();
        state.0.source.used -= layout.size();
        state.0.source.may_give = may_give;
        // SAFETY: the caller promises that this allocator gave the pointer for this layout.
        unsafe { state.0.deallocate(pointer, layout) };
        state.0.source.may_give = false;
        let given = state.0.source.given.take();
        drop(state);
        if let Some((start, pages)) = given {
            // SAFETY: nothing in the chunk was in use, and the allocator has forgotten it.
            unsafe { self.chunks.give(start, pages) };
        }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let mut state = self.state.lock();
        // SAFETY: as above, and the caller promises a valid new size.
        if unsafe { state.0.try_realloc_in_place(pointer, layout, size) } {
            let used = &mut state.0.source.used;
            *used = *used - layout.size() + size;
            return pointer;
        }
        drop(state);
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

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
