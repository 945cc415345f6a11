//! Several CPUs at the same frames at once.

mod common;

use common::*;
use memory::{Context, Request};
use platform::Preempt;
use std::sync::atomic::{AtomicBool, Ordering};
use types::{Mfn, Progress};

/// How often two CPUs are let race.
const ROUNDS: u32 = 4_000;

/// Yields whenever asked.
struct Always;

impl Preempt for Always {
    fn should_yield(&self) -> bool {
        true
    }
}

#[test]
fn counts_survive_concurrent_updates_of_the_same_tables() {
    let memory = machine();
    let domain = memory.create_domain(DOM1, 30).unwrap();
    let frames: Vec<Mfn> = (0..8).map(|_| memory.allocate(&domain, Request::order(0)).unwrap()).collect();
    std::thread::scope(|scope| {
        for cpu in 0..4_u64 {
            let (memory, domain, frames) = (&memory, &domain, &frames);
            scope.spawn(move || {
                let context = Context::own(domain, &Never);
                let mut state = 0x9e37_79b9_7f4a_7c15 ^ cpu << 17 | 1;
                for _ in 0..20_000 {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    let (a, b) = (frames[state as usize % 8], frames[(state >> 8) as usize % 8]);
                    let slot = (state >> 16) as usize % 4;
                    // Which of these are refused depends on the others; that they are is no concern here.
                    let _ = match state >> 20 & 7 {
                        // One that is cut off by another CPU's demotion is to be gone on with, else it stays half done.
                        0 => finish(|| memory.pin(&context, a, 1)),
                        1 => finish(|| memory.pin(&context, a, 2)),
                        2 => memory.unpin(&context, a).map(|_| ()),
                        3 => update(memory, &context, a, slot, 0),
                        4 => update(memory, &context, a, slot, entry(b, P | RW)),
                        _ => update(memory, &context, a, slot, entry(b, P)),
                    };
                }
            });
        }
    });
    let context = Context::own(&domain, &Never);
    for frame in &frames {
        // Only what is pinned can be unpinned.
        let _ = memory.unpin(&context, *frame);
    }
    finish(|| Ok(memory.settle(&domain, &Never))).unwrap();
    for frame in frames {
        let view = memory.frames().view(frame).unwrap();
        assert_eq!((view.uses, view.references, view.locked), (0, 1, false), "{frame:#x}: {view:?}");
    }
}

#[test]
fn a_domain_ends_while_another_maps_its_frames() {
    for _ in 0..200 {
        let memory = machine();
        let dom0 = memory.create_domain(DOM0, 10).unwrap();
        let domain = memory.create_domain(DOM1, 30).unwrap();
        let frames: Vec<Mfn> = (0..10).map(|_| memory.allocate(&domain, Request::order(0)).unwrap()).collect();
        for index in 0..4 {
            if index > 0 {
                poke(&memory, frames[index], 0, entry(frames[index - 1], P | RW));
            }
            poke(&memory, frames[0], index, entry(frames[4 + index], P | RW));
        }
        for (index, level) in (0..4).zip(1..) {
            finish(|| memory.pin(&Context::own(&domain, &Never), frames[index], level)).unwrap();
        }
        let window = memory.allocate(&dom0, Request::order(0)).unwrap();
        finish(|| memory.pin(&Context::own(&dom0, &Never), window, 1)).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let foreign = Context { frames: DOM1, ..Context::own(&dom0, &Never) };
                for (slot, frame) in frames.iter().cycle().take(100).enumerate() {
                    // Refused once the frame is gone, and for tables.
                    let _ = update(&memory, &foreign, window, slot % 7, entry(*frame, P | RW));
                }
                (0..7).for_each(|slot| update(&memory, &foreign, window, slot, 0).unwrap());
            });
            scope.spawn(|| while let Progress::Again(_) = memory.relinquish(&domain, &Never) {});
        });
        assert_eq!(domain.total_pages(), 0);
        assert_eq!(memory.free_pages(), IO - 2);
        memory.remove_domain(DOM1).unwrap();
    }
}

/// One CPU maps a frame writably that it has just let go of as a page table, while another works off the queue of demotions.
/// Whoever has taken the table from the queue, the mapping must not be refused for a use that only the hypervisor still sees.
#[test]
fn what_another_cpu_demotes_is_waited_for() {
    let memory = machine();
    let domain = memory.create_domain(DOM1, 30).unwrap();
    let [leaf, l1, l2, window, window_l2, window_l3, root]: [Mfn; 7] =
        core::array::from_fn(|_| memory.allocate(&domain, Request::order(0)).unwrap());
    // A full table, so that its demotion takes a while.
    (0..512).for_each(|slot| poke(&memory, l1, slot, entry(leaf, P)));
    poke(&memory, l2, 0, entry(l1, P | RW));
    for (table, below) in [(root, window_l3), (window_l3, window_l2), (window_l2, window)] {
        poke(&memory, table, 0, entry(below, P | RW));
    }
    let context = Context::own(&domain, &Never);
    finish(|| memory.pin(&context, root, 4)).unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                finish(|| Ok(memory.settle(&domain, &Never))).unwrap();
            }
        });
        let refused = (0..ROUNDS).find_map(|round| {
            finish(|| memory.pin(&context, l2, 2)).unwrap();
            // Cut off once the upper table is demoted and the lower one is queued.
            let _ = memory.unpin(&Context::own(&domain, &Always), l2).unwrap();
            (0..round % 64).for_each(|_| std::hint::spin_loop());
            let mapped = finish(|| memory.update_va_mapping(&context, root, 0, entry(l1, P | RW)));
            finish(|| memory.update_va_mapping(&context, root, 0, 0)).unwrap();
            mapped.err()
        });
        over.store(true, Ordering::Relaxed);
        assert_eq!(refused, None);
    });
}

/// Nothing is wrongly refused for want of memory while the last frames are being zeroed, none is lost or left dirty, and the
/// blocks are whole again in the end.
#[test]
fn zeroing_takes_no_frame_from_those_who_allocate() {
    let memory = machine();
    let largest = (0..=memory::MAX_ORDER).rev().find(|order| {
        let taken = memory.allocate_anonymous(Request::order(*order));
        taken.map(|mfn| memory.free_anonymous(mfn, *order)).is_ok()
    });
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for preempt in [&Never as &(dyn Preempt + Sync), &Always] {
            let (memory, done) = (&memory, &done);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    memory.scrub_free(preempt);
                }
            });
        }
        let free = memory.free_pages();
        for round in 0..ROUNDS / 16 {
            let order = (round % 3) as u8;
            let taken: Vec<Mfn> =
                std::iter::from_fn(|| memory.allocate_anonymous(Request::order(order)).ok()).collect();
            if order == 0 {
                assert_eq!(taken.len() as u64, free);
            }
            for mfn in taken {
                assert_eq!(peek(&memory, mfn, 1), 0);
                poke(&memory, mfn, 1, 7);
                memory.free_anonymous(mfn, order);
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(!memory.scrub_free(&Never));
    assert_eq!(memory.dirty_pages(), 0);
    assert!(memory.allocate_anonymous(Request::order(largest.unwrap())).is_ok());
}
