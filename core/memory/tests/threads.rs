//! Several CPUs at the same frames at once.

mod common;

use common::*;
use memory::{Context, Request};
use types::{Mfn, Progress};

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
                        0 => memory.pin(&context, a, 1).map(|_| ()),
                        1 => memory.pin(&context, a, 2).map(|_| ()),
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
        for (index, level) in (0..4).zip(1..) {
            if index > 0 {
                poke(&memory, frames[index], 0, entry(frames[index - 1], P | RW));
            }
            poke(&memory, frames[0], index, entry(frames[4 + index], P | RW));
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
