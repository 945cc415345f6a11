use super::*;
use proptest::prelude::*;
use std::alloc::System;
use std::collections::BTreeMap;
use std::sync::Mutex as StdMutex;

/// Chunks of the host's memory, each filled with rubbish; at most `limit` pages at once.
struct Host {
    limit: usize,
    wants: bool,
    taken: StdMutex<BTreeMap<usize, usize>>,
}

impl Host {
    fn pages(&self) -> usize {
        self.taken.lock().unwrap().values().sum()
    }

    fn layout(pages: usize) -> Layout {
        Layout::from_size_align(pages * PAGE_SIZE, PAGE_SIZE).unwrap()
    }
}

// SAFETY: the host's allocator gives what the trait promises.
unsafe impl Chunks for Host {
    fn take(&self, pages: usize) -> Option<NonNull<u8>> {
        assert!(pages.is_power_of_two());
        if self.pages() + pages > self.limit {
            return None;
        }
        // SAFETY: not empty.
        let start = NonNull::new(unsafe { System.alloc(Host::layout(pages)) })?;
        // SAFETY: just allocated.
        unsafe { start.write_bytes(0xa5, pages * PAGE_SIZE) };
        assert!(self.taken.lock().unwrap().insert(start.as_ptr().addr(), pages).is_none());
        Some(start)
    }

    fn wants(&self) -> bool {
        self.wants
    }

    unsafe fn give(&self, start: NonNull<u8>, pages: usize) {
        assert_eq!(self.taken.lock().unwrap().remove(&start.as_ptr().addr()), Some(pages), "what was not taken");
        // SAFETY: it was allocated by this layout.
        unsafe {
            // Whoever still uses it finds rubbish.
            start.write_bytes(0x5a, pages * PAGE_SIZE);
            System.dealloc(start.as_ptr(), Host::layout(pages));
        }
    }
}

fn heap(limit: usize) -> Heap<Host> {
    heap_with_spare(limit, 0)
}

fn heap_with_spare(limit: usize, spare: usize) -> Heap<Host> {
    Heap::new(Host { limit, wants: true, taken: StdMutex::new(BTreeMap::new()) }, spare)
}

/// An allocation that is filled with a number, and knows if it still is.
struct Piece {
    at: *mut u8,
    layout: Layout,
    fill: u8,
}

// SAFETY: the memory is this piece's alone.
unsafe impl Send for Piece {}

impl Piece {
    fn new(heap: &Heap<Host>, size: usize, align: usize, fill: u8) -> Option<Piece> {
        let layout = Layout::from_size_align(size, align).unwrap();
        // SAFETY: no test asks for nothing.
        let at = unsafe { heap.alloc(layout) };
        if at.is_null() {
            return None;
        }
        assert_eq!(at.addr() % align, 0);
        // SAFETY: just allocated.
        unsafe { at.write_bytes(fill, size) };
        Some(Piece { at, layout, fill })
    }

    fn check(&self, size: usize) {
        // SAFETY: at least so much is allocated and filled.
        let bytes = unsafe { core::slice::from_raw_parts(self.at, size) };
        assert!(bytes.iter().all(|byte| *byte == self.fill));
    }

    /// False where there is no memory: then it is as it was.
    fn resize(&mut self, heap: &Heap<Host>, size: usize) -> bool {
        // SAFETY: a live allocation of this heap.
        let to = unsafe { heap.realloc(self.at, self.layout, size) };
        if to.is_null() {
            self.check(self.layout.size());
            return false;
        }
        self.at = to;
        self.check(size.min(self.layout.size()));
        self.layout = Layout::from_size_align(size, self.layout.align()).unwrap();
        // SAFETY: allocated with this size.
        unsafe { to.write_bytes(self.fill, size) };
        true
    }

    fn free(self, heap: &Heap<Host>) {
        self.check(self.layout.size());
        // SAFETY: a live allocation of this heap.
        unsafe { heap.dealloc(self.at, self.layout) };
    }
}

#[test]
fn it_takes_nothing_before_it_is_used() {
    let heap = heap(1 << 20);
    assert_eq!((heap.usage(), heap.chunks.pages()), ((0, 0), 0));
    let piece = Piece::new(&heap, 100, 8, 1).unwrap();
    assert_eq!(heap.usage(), (100, CHUNK));
    piece.free(&heap);
    assert_eq!(heap.usage(), (0, CHUNK), "the first chunk has the allocator's own lists, and stays");
}

#[test]
fn a_failure_to_grow_is_an_error_and_harms_nothing() {
    let heap = heap(CHUNK / PAGE_SIZE);
    let small = Piece::new(&heap, 1000, 8, 1).unwrap();
    assert!(Piece::new(&heap, CHUNK, 8, 2).is_none());
    assert!(Piece::new(&heap, isize::MAX as usize & !0xfff, 1, 2).is_none());
    // SAFETY: a valid layout.
    assert!(unsafe { heap.alloc(Layout::from_size_align(1 << 62, 1 << 62).unwrap()) }.is_null());
    let more = Piece::new(&heap, 1000, 4096, 3).unwrap();
    [small, more].into_iter().for_each(|piece| piece.free(&heap));
    assert_eq!(heap.usage(), (0, CHUNK));
}

#[test]
fn where_there_is_no_whole_chunk_a_smaller_one_will_do() {
    let heap = heap(CHUNK / PAGE_SIZE + 3);
    let first = Piece::new(&heap, CHUNK - 8192, 8, 1).unwrap();
    let second = Piece::new(&heap, 8000, 8, 2).unwrap();
    assert_eq!(heap.usage().1, CHUNK + 2 * PAGE_SIZE);
    assert!(Piece::new(&heap, 8000, 8, 2).is_none());
    [first, second].into_iter().for_each(|piece| piece.free(&heap));
}

#[test]
fn what_is_free_as_a_whole_goes_back_but_for_a_spare_chunk() {
    let heap = heap(1 << 20);
    let pieces: Vec<Piece> = (0..64).map(|n| Piece::new(&heap, 100_000, 8, n).unwrap()).collect();
    assert!(heap.chunks.pages() * PAGE_SIZE > 64 * 100_000);
    pieces.into_iter().for_each(|piece| piece.free(&heap));
    let (used, size) = heap.usage();
    assert_eq!((used, heap.chunks.pages() * PAGE_SIZE), (0, size));
    assert!(size <= 2 * CHUNK, "{size}");
    // At the edge of a chunk nothing is taken and given again and again.
    let taken: Vec<usize> = heap.chunks.taken.lock().unwrap().keys().copied().collect();
    for _ in 0..100 {
        Piece::new(&heap, 200_000, 8, 1).unwrap().free(&heap);
        assert_eq!(heap.chunks.taken.lock().unwrap().keys().copied().collect::<Vec<_>>(), taken);
    }
}

#[test]
fn it_keeps_spare_memory_while_there_is_any() {
    const SPARE: usize = 4 * CHUNK;
    let heap = heap_with_spare(12 * CHUNK / PAGE_SIZE, SPARE);
    let mut pieces = Vec::new();
    for n in 0..(12 * CHUNK - SPARE) / 10_000 {
        pieces.push(Piece::new(&heap, 9_000, 8, n as u8).unwrap());
        let (used, size) = heap.usage();
        assert!(n < 4 || size - used >= SPARE, "{n}: {used} of {size}");
    }
    // Others have all else: what is spared is given, before an allocation fails.
    let before = pieces.len();
    while let Some(piece) = Piece::new(&heap, 9_000, 8, 1) {
        pieces.push(piece);
    }
    assert!((pieces.len() - before) * 9_000 > SPARE * 9 / 10, "{}", pieces.len() - before);
    pieces.into_iter().for_each(|piece| piece.free(&heap));
    let (used, size) = heap.usage();
    assert!(used == 0 && (SPARE..=SPARE + 2 * CHUNK).contains(&size), "{used} of {size}");
}

#[test]
fn without_a_taker_all_chunks_stay() {
    let mut heap = heap(1 << 20);
    heap.chunks.wants = false;
    let small = Piece::new(&heap, 1, 1, 0).unwrap();
    Piece::new(&heap, 1 << 20, 8, 1).unwrap().free(&heap);
    assert!(heap.usage().1 > 1 << 20);
    heap.chunks.wants = true;
    Piece::new(&heap, 1 << 20, 8, 1).unwrap().free(&heap);
    assert_eq!(heap.usage(), (1, CHUNK));
    small.free(&heap);
}

#[test]
fn several_threads_share_it() {
    let heap = heap(8 * CHUNK / PAGE_SIZE);
    std::thread::scope(|scope| {
        for thread in 1..=4u8 {
            let heap = &heap;
            scope.spawn(move || {
                let mut pieces = Vec::new();
                for round in 0..3000usize {
                    let size = 1 + (round * 7919 * usize::from(thread)) % 60_000;
                    // Four threads with 12 pieces each have more than there is now and then.
                    pieces.extend(Piece::new(heap, size, 1 << (round % 13), thread));
                    if pieces.len() > 12 || round % 5 == 0 && !pieces.is_empty() {
                        pieces.swap_remove(round % pieces.len()).free(heap);
                    }
                }
                pieces.into_iter().for_each(|piece| piece.free(heap));
            });
        }
    });
    let (used, size) = heap.usage();
    assert_eq!((used, heap.chunks.pages() * PAGE_SIZE), (0, size));
    assert!(size <= 2 * CHUNK, "{size}");
}

#[derive(Clone, Debug)]
enum Step {
    Allocate { size: usize, align: u32 },
    Resize { which: usize, size: usize },
    Free { which: usize },
}

fn sizes() -> impl Strategy<Value = usize> {
    prop_oneof![4 => 1usize..500, 2 => 500usize..20_000, 1 => 20_000usize..600_000]
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (sizes(), 0u32..14).prop_map(|(size, align)| Step::Allocate { size, align }),
        1 => (any::<usize>(), sizes()).prop_map(|(which, size)| Step::Resize { which, size }),
        3 => any::<usize>().prop_map(|which| Step::Free { which }),
    ]
}

proptest! {
    #[test]
    fn pieces_keep_what_they_hold_and_all_memory_comes_back(
        steps in prop::collection::vec(steps(), 0..200),
        limit in 64usize..2000,
    ) {
        let heap = heap(limit);
        let mut pieces: Vec<Piece> = Vec::new();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Allocate { size, align } => pieces.extend(Piece::new(&heap, size, 1 << align, number as u8)),
                Step::Resize { which, size } if !pieces.is_empty() => {
                    let which = which % pieces.len();
                    pieces[which].resize(&heap, size);
                }
                Step::Free { which } if !pieces.is_empty() => pieces.swap_remove(which % pieces.len()).free(&heap),
                _ => {}
            }
            let (used, size) = heap.usage();
            prop_assert_eq!(used, pieces.iter().map(|piece| piece.layout.size()).sum::<usize>());
            prop_assert_eq!(size, heap.chunks.pages() * PAGE_SIZE);
        }
        pieces.into_iter().for_each(|piece| piece.free(&heap));
        let first = heap.chunks.taken.lock().unwrap().values().copied().max().unwrap_or(0);
        prop_assert!(heap.usage().1 <= (first * PAGE_SIZE).max(CHUNK) + CHUNK, "{:?}", heap.usage());
    }
}
