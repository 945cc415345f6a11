//! Xen's rules for the frames of domains, one test each.

mod common;

use common::world::*;
use common::*;
use memory::{Context, FrameInfo, FrameTable, Memory, Request, State, Why};
use platform::fakes::FakeMachine;
use platform::{Frames, NodeMemory, Nodes};
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use types::{DomId, Errno, Gfn, Mfn, Progress};

#[test]
fn untyped_frames_are_plainly_written_and_descriptors_are_not() {
    let world = World::new();
    let [plain, gdt, bad] = world.frames();
    world.set(plain, 5, 0x1234).unwrap();
    assert_eq!((peek(&world.memory, plain, 5), world.uses(plain).1), (0x1234, 0));
    let data = 0x00cf_9300_0000_ffff;
    poke(&world.memory, gdt, 1, data);
    world.memory.get_descriptors(gdt, DOM1).unwrap();
    assert_eq!(peek(&world.memory, gdt, 1), data | 3 << 45, "ring 3 at least");
    assert_eq!(errno(world.set(gdt, 1, 0)), Errno::INVAL);
    world.memory.put_descriptors(gdt);
    world.set(gdt, 1, 0).unwrap();
    poke(&world.memory, bad, 1, 0x0000_8900_0000_0067);
    assert_eq!(errno(world.memory.get_descriptors(bad, DOM1)), Errno::INVAL);
    assert_eq!((world.uses(bad).1, world.references(bad)), (0, 1));
}

#[test]
fn a_run_of_frames_is_taken_whole_or_not_at_all() {
    let world = World::new();
    let frames = world.memory.allocate(&world.domain, Request::order(2)).unwrap();
    let at = |index| frames.offset(index);
    let counts = || [0, 1, 2, 3].map(|index| (world.references(at(index)), world.uses(at(index)).1));
    let take = |count, owner| world.memory.get_writable_run(frames, count, owner);
    take(4, DOM1).unwrap();
    take(2, DOM1).unwrap();
    assert_eq!(counts(), [(3, 2), (3, 2), (2, 1), (2, 1)]);
    (0..2).for_each(|index| world.memory.put_writable(at(index)));
    (0..4).for_each(|index| world.memory.put_writable(at(index)));
    assert_eq!(counts(), [(1, 0); 4]);
    assert_eq!(errno(take(4, DOM0)), Errno::INVAL, "they are another's");
    world.memory.get_descriptors(at(2), DOM1).unwrap();
    assert_eq!(errno(take(4, DOM1)), Errno::INVAL, "one is used otherwise");
    assert_eq!(counts(), [(1, 0), (1, 0), (2, 1), (1, 0)]);
    world.memory.put_descriptors(at(2));
    take(4, DOM1).unwrap();
    assert_eq!(errno(world.memory.get_writable_run(Mfn(OURS), 2, DOM1)), Errno::INVAL, "past the end of RAM");
}

#[test]
fn call_gates_only_raise_an_exception() {
    let gate = 0xffff_ec00_0008_1234;
    assert_eq!(memory::check_descriptor(gate, false), Some(0xffff_8c00_000b_1234));
    assert_eq!(memory::check_descriptor(0xffff_8c00_000b_1234, false), Some(0xffff_8c00_000b_1234), "again");
    assert_eq!(memory::check_descriptor(0xffff_ec00_e008_1234, false), None, "the hypervisor's segment");
    assert_eq!(memory::check_descriptor(0xffff_ec01_0008_1234, false), None, "reserved bits");
}

#[test]
fn a_type_change_flushes_once_per_use_as_writable() {
    let world = World::new();
    let [l1, leaf, second] = world.frames();
    world.pin(l1, 1).unwrap();
    let flushes = || world.memory.host().fake.flushes.lock().unwrap().get(&1).copied().unwrap_or(0);
    assert_eq!(flushes(), 0, "a fresh frame needs none");
    for frame in [leaf, second] {
        world.set(l1, 0, entry(frame, P | RW)).unwrap();
    }
    world.set(l1, 0, 0).unwrap();
    world.pin(leaf, 1).unwrap();
    assert_eq!(flushes(), 1);
    world.pin(second, 1).unwrap();
    assert_eq!(flushes(), 1, "one flush serves both");
}

#[test]
fn freed_frames_come_back_flushed_and_zeroed() {
    let world = World::new();
    let fake = &world.memory.host().fake;
    let frame = world.frame();
    poke(&world.memory, frame, 9, 77);
    world.memory.decrease(&world.domain, frame).unwrap();
    assert_eq!(world.memory.frames().view(frame).unwrap().state, State::Free);
    let before = fake.flushes_of_all.load(Ordering::Relaxed);
    let free = world.memory.free_pages();
    world.other.set_max_pages(100);
    for _ in 0..free {
        let next = world.memory.allocate(&world.other, Request::order(0)).unwrap();
        assert!(world.memory.host().table(next).unwrap().iter().all(|word| word.load(Ordering::Relaxed) == 0));
    }
    assert_eq!(fake.flushes_of_all.load(Ordering::Relaxed), before + 1);
    let denied = world.memory.allocate(&world.other, Request::order(0)).unwrap_err();
    assert_eq!(denied.errno, Errno::NOMEM);
}

#[test]
fn a_removed_frame_lives_as_long_as_its_mappings() {
    let world = World::new();
    let leaf = world.frame();
    let tables = world.tree(entry(leaf, P | RW));
    world.memory.decrease(&world.domain, leaf).unwrap();
    assert_eq!(world.memory.decrease(&world.domain, leaf).unwrap_err().errno, Errno::INVAL);
    assert_eq!((world.references(leaf), world.domain.total_pages()), (1, 5));
    world.set(tables[0], 0, 0).unwrap();
    assert_eq!(world.domain.total_pages(), 4);
    assert_eq!(world.memory.host().m2p.lock().unwrap()[&leaf.0], Gfn::INVALID.0);
    assert_eq!(world.memory.decrease(&world.domain, leaf).unwrap_err().errno, Errno::INVAL);
}

#[test]
fn only_unreferenced_frames_are_stolen() {
    let world = World::new();
    let leaf = world.frame();
    let tables = world.tree(entry(leaf, P | US));
    assert!(matches!(world.memory.steal(&world.domain, leaf).unwrap_err().why, Why::StillInUse { .. }));
    world.set(tables[0], 0, 0).unwrap();
    world.memory.steal(&world.domain, leaf).unwrap();
    assert_eq!(world.domain.total_pages(), 4);
    assert_eq!(world.memory.get_frame(leaf, DOM1).unwrap_err().errno, Errno::INVAL);
    world.memory.assign(&world.other, leaf, 0).unwrap();
    world.memory.get_frame(leaf, DOM0).unwrap();
    // Reported as an error of the caller's, which is a panic here.
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.memory.free_anonymous(leaf, 0))).unwrap_err();
    assert_eq!(world.references(leaf), 2, "a live frame is not freed");
}

#[test]
fn limits_and_claims_hold() {
    let world = World::new();
    world.domain.set_max_pages(4);
    let denied = world.memory.allocate(&world.domain, Request::order(3)).unwrap_err();
    assert_eq!(denied.errno, Errno::TOOBIG);
    world.memory.claim(&world.domain, 4).unwrap();
    assert_eq!(world.memory.claim(&world.domain, 4).unwrap_err().errno, Errno::INVAL);
    assert_eq!(world.memory.claimed_pages(), 4);
    world.other.set_max_pages(1000);
    while world.memory.allocate(&world.other, Request::order(0)).is_ok() {}
    assert_eq!(world.memory.free_pages(), 4);
    world.memory.allocate(&world.domain, Request::order(0)).unwrap();
    assert_eq!((world.memory.claimed_pages(), world.domain.claimed_pages()), (3, 3));
    world.memory.claim(&world.domain, 0).unwrap();
    world.memory.allocate(&world.other, Request::order(0)).unwrap();
    assert_eq!(world.memory.claim(&world.domain, 4).unwrap_err().errno, Errno::NOMEM);
    assert_eq!(world.memory.claim(&world.domain, 5).unwrap_err().errno, Errno::INVAL);
}

#[test]
fn shared_frames_are_mapped_but_never_tables_nor_given_back() {
    let world = World::new();
    let tables = world.tree(0);
    let [info, fixed] = [(); 2].map(|()| world.memory.allocate_anonymous(Request::order(0)).unwrap());
    world.memory.share(info, Some(&world.domain), false).unwrap();
    world.memory.share(fixed, Some(&world.domain), true).unwrap();
    assert_eq!(world.domain.shared_pages(), 2);
    world.set(tables[0], 0, entry(info, P | RW)).unwrap();
    assert_eq!(errno(world.set(tables[0], 1, entry(fixed, P | RW))), Errno::BUSY);
    world.set(tables[0], 1, entry(fixed, P)).unwrap();
    assert_eq!(errno(world.pin(info, 1)), Errno::INVAL);
    assert_eq!(errno(world.pin(fixed, 1)), Errno::INVAL);
    assert_eq!(world.memory.decrease(&world.domain, info).unwrap_err().errno, Errno::INVAL);
    assert_eq!(world.memory.steal(&world.domain, fixed).unwrap_err().errno, Errno::INVAL);
    world.memory.unshare(info).unwrap();
    world.memory.unshare(fixed).unwrap();
    assert_eq!(world.memory.unshare(info).unwrap_err().errno, Errno::INVAL);
    assert_eq!(world.domain.shared_pages(), 2);
    world.set(tables[0], 0, entry(info, P)).unwrap();
    assert_eq!(errno(world.pin(info, 1)), Errno::INVAL, "not even after its end");
    world.set(tables[0], 0, 0).unwrap();
    world.set(tables[0], 1, 0).unwrap();
    assert_eq!(world.domain.shared_pages(), 0);
}

#[test]
fn an_abandoned_promotion_does_not_outlive_the_domain() {
    let world = World::new();
    let tables: [Mfn; 4] = world.frames();
    for level in 1..4 {
        for slot in [0, 3] {
            poke(&world.memory, tables[level], slot, entry(tables[level - 1], P | RW));
        }
    }
    let context = Context { preempt: world.memory.host(), ..world.context() };
    yield_after(&world.memory, 1);
    assert!(matches!(world.memory.pin(&context, tables[3], 4), Ok(Progress::Again(_))));
    assert!(world.memory.frames().view(tables[3]).unwrap().partial);
    let free = world.memory.free_pages();
    finish(|| Ok(world.memory.relinquish(&world.domain, &Never))).unwrap();
    assert_eq!((world.domain.total_pages(), world.memory.free_pages()), (0, free + 4));
    world.memory.remove_domain(DOM1).unwrap();
}

#[test]
fn a_dead_domain_s_frames_stay_while_others_map_them() {
    let world = World::new();
    let leaf = world.frame();
    let tables = world.tree(entry(leaf, P | RW));
    world.set(tables[3], 1, entry(tables[3], P)).unwrap();
    let own = Context::own(&world.other, &Never);
    let l1 = world.memory.allocate(&world.other, Request::order(0)).unwrap();
    finish(|| world.memory.pin(&own, l1, 1)).unwrap();
    let named = Context { frames: DOM1, ..own };
    update(&world.memory, &named, l1, 0, entry(leaf, P | RW)).unwrap();
    yield_after(&world.memory, 0);
    let mut rounds = 0;
    while let Progress::Again(_) = world.memory.relinquish(&world.domain, world.memory.host()) {
        rounds += 1;
    }
    assert!(rounds > 3);
    assert_eq!(world.domain.total_pages(), 1);
    assert_eq!(world.memory.remove_domain(DOM1), Err(Errno::BUSY));
    let denied = world.memory.allocate(&world.domain, Request::order(0)).unwrap_err();
    assert_eq!(denied.why, Why::Dying { domain: DOM1 });
    update(&world.memory, &own, l1, 0, 0).unwrap();
    assert_eq!(world.memory.remove_domain(DOM1), Ok(()));
}

#[test]
fn pins_are_counted_once() {
    let world = World::new();
    let l1 = world.frame();
    assert_eq!(errno(world.unpin(l1)), Errno::INVAL);
    world.pin(l1, 1).unwrap();
    assert_eq!(errno(world.pin(l1, 1)), Errno::INVAL);
    assert_eq!(world.references(l1), 2);
    assert_eq!(errno(world.pin(l1, 0)), Errno::INVAL);
    assert_eq!(errno(world.pin(l1, 5)), Errno::INVAL);
}

#[test]
fn whole_frames_are_cleared_and_copied() {
    let world = World::new();
    let [a, b, l1] = world.frames();
    world.pin(l1, 1).unwrap();
    poke(&world.memory, a, 3, 33);
    world.memory.copy_page(DOM1, a, b).unwrap();
    assert_eq!(peek(&world.memory, b, 3), 33);
    world.memory.clear_page(DOM1, b).unwrap();
    assert_eq!(peek(&world.memory, b, 3), 0);
    assert!(world.memory.clear_page(DOM1, l1).is_err());
    assert!(world.memory.copy_page(DOM1, a, l1).is_err());
    assert!(world.memory.copy_page(DOM0, a, b).is_err());
}

#[test]
fn idle_time_scrubs_free_memory() {
    let world = World::new();
    assert_eq!(world.memory.dirty_pages(), 59);
    yield_after(&world.memory, 0);
    assert!(world.memory.scrub_free(world.memory.host()));
    assert_eq!(world.memory.dirty_pages(), 58);
    assert!(!world.memory.scrub_free(&Never));
    world.frame();
    assert_eq!(world.memory.dirty_pages(), 0);
}

#[test]
fn what_the_hypervisor_keeps_is_out_of_reach_and_comes_back_dirty() {
    let world = World::new();
    let (free, total) = (world.memory.free_pages(), world.memory.total_pages());
    let kept = world.memory.allocate_anonymous(Request { order: 2, bits: 64, zero: false }).unwrap();
    assert_eq!((world.memory.free_pages(), world.memory.total_pages()), (free - 4, total));
    let l1 = world.frame();
    world.pin(l1, 1).unwrap();
    world.set(l1, 0, entry(kept, P)).unwrap_err();
    assert_eq!(errno(world.memory.get_frame(kept, DomId::INVALID)), Errno::INVAL);
    let dirty = world.memory.dirty_pages();
    world.memory.take_back(kept, 2);
    assert_eq!((world.memory.free_pages(), world.memory.dirty_pages()), (free - 1, dirty + 4));
}

#[test]
fn what_was_kept_since_boot_can_be_had_later() {
    let table = FrameTable::new(Box::leak(Box::new([const { FrameInfo::new() }; 64])));
    let memory = Memory::new(Machine { fake: FakeMachine::new(64), m2p: Mutex::default() }, table);
    assert!(memory.allocate_anonymous(Request::order(0)).is_err());
    memory.take_back(Mfn(8), 3);
    assert_eq!((memory.free_pages(), memory.total_pages(), memory.dirty_pages()), (8, 8, 8));
    assert_eq!(memory.allocate_anonymous(Request::order(3)).unwrap(), Mfn(8));
}

#[test]
fn frames_that_nobody_marked_are_no_ram() {
    let table = FrameTable::new(zerocopy::FromZeros::new_vec_zeroed(8).unwrap().leak());
    table.mark_ram(Mfn(3), 2);
    let io: Vec<bool> = (0..10).map(|mfn| table.is_io(Mfn(mfn))).collect();
    assert_eq!(io, [true, true, true, false, false, true, true, true, true, true]);
}

#[test]
fn the_machine_to_physical_table_follows() {
    let world = World::new();
    let frame = world.frame();
    let context = world.context();
    finish(|| world.memory.mmu_update(&context, frame.address() | 1, 42)).unwrap();
    assert_eq!(world.memory.host().m2p.lock().unwrap()[&frame.0], 42);
    let foreign = world.memory.allocate(&world.other, Request::order(0)).unwrap();
    assert!(world.memory.mmu_update(&context, foreign.address() | 1, 42).is_err());
}

#[test]
fn a_frame_that_was_stolen_comes_back_flushed() {
    let world = World::new();
    let leaf = world.frame();
    let tables = world.tree(entry(leaf, P | RW));
    world.set(tables[0], 0, 0).unwrap();
    world.memory.steal(&world.domain, leaf).unwrap();
    let flushes = || world.memory.host().fake.flushes_of_all.load(Ordering::Relaxed);
    let before = flushes();
    world.memory.assign(&world.domain, leaf, 0).unwrap();
    assert_eq!(flushes(), before + 1, "its type is forgotten, so that nothing later would flush");
    world.pin(leaf, 1).unwrap();
}

#[test]
fn each_node_has_its_own_counts() {
    let range = |first, end, node| NodeMemory { first: Mfn(first), end: Mfn(end), node };
    let nodes = Nodes::new(3, vec![range(0, 20, 0), range(20, IO, 2)], Vec::new()).unwrap();
    let memory = machine_of_nodes(nodes);
    let free = || [0, 1, 2, 3].map(|node| memory.free_pages_of(node));
    assert_eq!(free(), [19, 0, IO - 20, 0]);
    // One of the two is frames 16 to 31, which are of two nodes.
    let blocks: Vec<Mfn> = (0..2).map(|_| memory.allocate_anonymous(Request::order(4)).unwrap()).collect();
    assert!(blocks.contains(&Mfn(16)));
    assert_eq!(free(), [15, 0, IO - 20 - 28, 0]);
    blocks.iter().for_each(|block| memory.free_anonymous(*block, 4));
    assert_eq!(free(), [19, 0, IO - 20, 0]);
}
