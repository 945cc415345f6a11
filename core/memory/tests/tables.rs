//! Xen's rules for the page tables of PV guests, one test each.

mod common;

use common::world::*;
use common::*;
use memory::{Cas, Context, FrameType, GrantTarget, Request, Why};
use types::{DomId, Errno, Mfn, Progress};
use x86_defs::pte::Pte;

#[test]
fn promotion_types_the_whole_tree_and_demotion_undoes_it() {
    let world = World::new();
    let leaf = world.frame();
    let tables = world.tree(entry(leaf, P | RW));
    for (table, level) in tables.iter().zip(1..) {
        assert_eq!(world.uses(*table), (FrameType::table(level).unwrap(), 1));
        assert_eq!(world.references(*table), 2);
    }
    assert_eq!(world.uses(leaf), (FrameType::Writable, 1));
    assert_eq!(world.references(leaf), 2);
    assert_eq!(peek(&world.memory, tables[0], 0), entry(leaf, P | RW | US), "ring 3 runs the kernel");
    assert_eq!(peek(&world.memory, tables[3], 256), 0x100_0003);
    assert_eq!(peek(&world.memory, tables[3], 271), 0x100_0003 + (15 << 12));
    world.unpin(tables[3]).unwrap();
    for frame in tables.iter().chain([&leaf]) {
        assert_eq!(world.uses(*frame).1, 0);
        assert_eq!(world.references(*frame), 1);
    }
    assert_eq!(peek(&world.memory, tables[3], 256), 0, "the hypervisor's entries are gone");
}

#[test]
fn a_table_is_never_mapped_writable() {
    let world = World::new();
    let tables = world.tree(0);
    for table in tables {
        let denied = world.set(tables[0], 1, entry(table, P | RW | US)).unwrap_err();
        assert_eq!(denied.errno, Errno::BUSY);
        assert!(matches!(denied.why, Why::WrongType { want: FrameType::Writable, .. }));
        world.set(tables[0], 1, entry(table, P | US)).unwrap();
    }
    let leaf = world.frame();
    world.set(tables[0], 2, entry(leaf, P | RW | US)).unwrap();
    assert_eq!(errno(world.pin(leaf, 1)), Errno::INVAL);
    world.set(tables[0], 2, entry(leaf, P | US)).unwrap();
    world.pin(leaf, 1).unwrap();
}

#[test]
fn a_table_that_maps_itself_writable_is_refused() {
    let world = World::new();
    let table = world.frame();
    poke(&world.memory, table, 3, entry(table, P | RW | US));
    assert_eq!(errno(world.pin(table, 1)), Errno::BUSY);
    assert_eq!(world.references(table), 1);
    poke(&world.memory, table, 3, entry(table, P | US));
    world.pin(table, 1).unwrap();
    assert_eq!(world.references(table), 3);
}

#[test]
fn a_refused_promotion_leaves_nothing_behind() {
    let world = World::new();
    let [leaf, l1, l2, l3] = world.frames();
    poke(&world.memory, l1, 0, entry(leaf, P | RW));
    poke(&world.memory, l2, 0, entry(l1, P | RW));
    poke(&world.memory, l3, 0, entry(l2, P | RW));
    poke(&world.memory, l3, 7, entry(l1, P | RW));
    let denied = world.pin(l3, 3).unwrap_err();
    let place = denied.within.unwrap();
    assert_eq!((place.table, place.level, place.index), (l3, 3, 7));
    assert!(matches!(denied.why, Why::WrongType { want: FrameType::L2, .. }), "{denied}");
    finish(|| Ok(world.memory.settle(&world.domain, &Never))).unwrap();
    for frame in [leaf, l1, l2, l3] {
        assert_eq!((world.uses(frame).1, world.references(frame)), (0, 1));
    }
}

#[test]
fn forbidden_bits_are_refused() {
    let world = World::new();
    let leaf = world.frame();
    let tables = world.tree(0);
    assert_eq!(errno(world.set(tables[0], 0, entry(leaf, P | PCD))), Errno::INVAL);
    for level in 2..=4 {
        let table = tables[level - 1];
        let child = tables[level - 2];
        for flag in [PSE, PCD, GLOBAL] {
            assert_eq!(errno(world.set(table, 1, entry(child, P | flag))), Errno::INVAL);
        }
        world.set(table, 1, entry(child, P | US)).unwrap();
    }
    world.set(tables[0], 0, entry(leaf, P | GLOBAL | 7 << 9)).unwrap();
    assert_eq!(peek(&world.memory, tables[0], 0), entry(leaf, P | US | 7 << 9), "software bits stay, GLOBAL goes");
    world.set(tables[0], 1, 0xdead_0000_0000_0000 & !1).unwrap();
    assert_eq!(peek(&world.memory, tables[0], 1), 0xdead_0000_0000_0000, "absent entries are the guest's");
}

#[test]
fn hypervisor_slots_are_out_of_reach() {
    let world = World::new();
    let tables = world.tree(0);
    for slot in [256, 271] {
        let before = peek(&world.memory, tables[3], slot);
        let denied = world.set(tables[3], slot, 0).unwrap_err();
        assert_eq!(denied.why, Why::HypervisorSlot { slot });
        assert_eq!(peek(&world.memory, tables[3], slot), before);
    }
    world.set(tables[3], 255, entry(tables[2], P)).unwrap();
    world.set(tables[3], 272, entry(tables[2], P)).unwrap();
    assert_eq!(world.uses(tables[2]), (FrameType::L3, 3));
}

#[test]
fn foreign_frames_need_rights() {
    let world = World::new();
    let tables = world.tree(0);
    let foreign = world.memory.allocate(&world.other, Request::order(0)).unwrap();
    let denied = world.set(tables[0], 0, entry(foreign, P | US)).unwrap_err();
    assert_eq!(denied.why, Why::WrongOwner { mfn: foreign, owner: DOM0, wanted: DOM1 });
    let context = Context { frames: DOM0, ..world.context() };
    assert_eq!(errno(update(&world.memory, &context, tables[0], 0, entry(foreign, P | US))), Errno::PERM);

    let l1 = world.memory.allocate(&world.other, Request::order(0)).unwrap();
    let own = Context::own(&world.other, &Never);
    finish(|| world.memory.pin(&own, l1, 1)).unwrap();
    let leaf = world.frame();
    let named = Context { frames: DOM1, ..own };
    update(&world.memory, &named, l1, 0, entry(leaf, P | RW | US)).unwrap();
    update(&world.memory, &own, l1, 1, entry(leaf, P | US)).unwrap();
    assert_eq!((world.uses(leaf), world.references(leaf)), ((FrameType::Writable, 1), 3));
    assert_eq!(errno(update(&world.memory, &named, l1, 2, entry(foreign, P | US))), Errno::BUSY);
    assert_eq!(errno(update(&world.memory, &named, l1, 2, entry(tables[0], P | RW | US))), Errno::BUSY);
    assert_eq!(errno(update(&world.memory, &own, l1, 3, entry(Mfn(OURS), P))), Errno::BUSY);
}

#[test]
fn device_frames_need_permission_and_hold_no_reference() {
    let world = World::new();
    let tables = world.tree(0);
    for io in [IO, 1000, 1001] {
        let denied = world.set(tables[0], 0, entry(Mfn(io), P | RW | US)).unwrap_err();
        assert_eq!(denied.errno, Errno::PERM);
    }
    let own = Context::own(&world.other, &Never);
    let l1 = world.memory.allocate(&world.other, Request::order(0)).unwrap();
    finish(|| world.memory.pin(&own, l1, 1)).unwrap();
    for (slot, frames) in [DOM0, DomId::IO].into_iter().enumerate() {
        let context = Context { frames, ..own };
        update(&world.memory, &context, l1, slot, entry(Mfn(IO), P | RW | US | PCD)).unwrap();
        update(&world.memory, &context, l1, slot, entry(Mfn(1000), P | RW | US | PCD)).unwrap();
        update(&world.memory, &context, l1, slot, entry(Mfn(IO_READ_ONLY), P | RW | US)).unwrap();
        assert_eq!(peek(&world.memory, l1, slot), entry(Mfn(IO_READ_ONLY), P | US));
        assert_eq!(errno(update(&world.memory, &context, l1, slot, entry(Mfn(1001), P))), Errno::PERM);
    }
    let as_io = Context { frames: DomId::IO, ..own };
    assert_eq!(errno(update(&world.memory, &as_io, l1, 0, entry(l1, P))), Errno::BUSY);
    assert_eq!(world.references(Mfn(IO)), 0);
}

#[test]
fn linear_mappings_are_read_only_and_one_deep() {
    let world = World::new();
    let [a, b, c] = world.frames();
    for table in [a, b, c] {
        world.pin(table, 4).unwrap();
    }
    assert_eq!(errno(world.set(a, 1, entry(a, P | RW))), Errno::INVAL);
    world.set(a, 1, entry(a, P)).unwrap();
    assert_eq!(world.references(a), 2, "a table's mapping of itself holds nothing");
    assert_eq!(errno(world.set(a, 2, entry(b, P | RW))), Errno::INVAL);
    world.set(a, 2, entry(b, P)).unwrap();
    assert_eq!(world.uses(b), (FrameType::L4, 2));
    assert_eq!(errno(world.set(b, 2, entry(a, P))), Errno::INVAL, "no cycle");
    assert_eq!(errno(world.set(b, 2, entry(c, P))), Errno::INVAL, "no chain");
    world.set(a, 2, 0).unwrap();
    world.set(b, 2, entry(c, P)).unwrap();
    world.unpin(c).unwrap();
    assert_eq!(world.uses(c), (FrameType::L4, 1));
    world.unpin(b).unwrap();
    assert_eq!((world.uses(c).1, world.uses(b).1), (0, 0));
}

#[test]
fn writes_keep_what_they_should() {
    const AD: u64 = 0x60;
    let world = World::new();
    let leaf = world.frame();
    let tables = world.tree(entry(leaf, P | US));
    poke(&world.memory, tables[0], 0, entry(leaf, P | US | AD));
    let at = tables[0].address();
    let context = world.context();
    finish(|| world.memory.mmu_update(&context, at | 2, entry(leaf, P | RW | US))).unwrap();
    assert_eq!(peek(&world.memory, tables[0], 0), entry(leaf, P | RW | US | AD));
    finish(|| world.memory.mmu_update(&context, at, entry(leaf, P | US))).unwrap();
    assert_eq!(peek(&world.memory, tables[0], 0), entry(leaf, P | US));
    assert_eq!(world.memory.mmu_update(&context, at | 4, 0).unwrap_err().errno, Errno::NOSYS);
}

#[test]
fn addresses_are_walked_by_the_root() {
    let world = World::new();
    let [leaf, second] = world.frames();
    let tables = world.tree(entry(leaf, P | RW | US));
    let context = world.context();
    finish(|| world.memory.update_va_mapping(&context, tables[3], 0x1000, entry(second, P | RW))).unwrap();
    assert_eq!(world.memory.read_l1(tables[3], 0x1000).unwrap(), Pte(entry(second, P | RW | US)));
    for address in [1 << 21, 1 << 47, 0xffff_8000_0000_0000, 0xffff_8300_0000_0000] {
        let denied = world.memory.update_va_mapping(&context, tables[3], address, 0).unwrap_err();
        assert_eq!(denied.why, Why::NotMapped { address });
    }
}

#[test]
fn trapped_writes_follow_the_same_rules() {
    let world = World::new();
    let [leaf, second] = world.frames();
    let tables = world.tree(entry(leaf, P | RW | US));
    let context = world.context();
    let write = |expected, new| world.memory.emulate_pte_write(&context, tables[0], 0, expected, new);
    assert_eq!(write(Some(7), 0), Ok(Progress::Done(Cas::Differs(entry(leaf, P | RW | US)))));
    assert_eq!(write(Some(entry(leaf, P | RW | US)), entry(second, P | RW)), Ok(Progress::Done(Cas::Written)));
    assert_eq!((world.references(leaf), world.references(second)), (1, 2));
    assert_eq!(write(None, entry(tables[1], P | RW)).unwrap_err().errno, Errno::BUSY);
    assert_eq!(write(None, 0), Ok(Progress::Done(Cas::Written)));
    assert_eq!(world.references(second), 1);
    let denied = world.memory.emulate_pte_write(&context, tables[1], 0, None, 0).unwrap_err();
    assert_eq!(denied.errno, Errno::INVAL);
}

#[test]
fn interrupted_promotion_goes_on_where_it_was() {
    let world = World::new();
    let leaf = world.frame();
    let tables: [Mfn; 4] = world.frames();
    poke(&world.memory, tables[0], 0, entry(leaf, P | RW));
    for level in 1..4 {
        for slot in [0, 3, 511] {
            poke(&world.memory, tables[level], slot, entry(tables[level - 1], P | RW));
        }
    }
    let context = Context { preempt: world.memory.host(), ..world.context() };
    let mut rounds = 0;
    loop {
        yield_after(&world.memory, 0);
        rounds += 1;
        if let Progress::Done(()) = world.memory.pin(&context, tables[3], 4).unwrap() {
            break;
        }
    }
    assert!(rounds > 3, "{rounds}");
    assert_eq!(world.uses(tables[2]), (FrameType::L3, 3));
    assert_eq!(world.references(tables[2]), 4);
    assert_eq!(world.references(tables[3]), 2);
    yield_after(&world.memory, 0);
    assert!(matches!(world.memory.unpin(&context, tables[3]), Ok(Progress::Again(_))));
    assert!(world.memory.frames().view(tables[3]).unwrap().demoting);
    assert!(matches!(world.memory.pin(&context, tables[3], 4), Ok(Progress::Again(_))), "first what is left over");
    yield_after(&world.memory, u64::MAX);
    world.pin(leaf, 1).unwrap();
    assert_eq!(world.references(tables[0]), 1);
}

#[test]
fn granted_frames_change_hands_with_the_entry() {
    let world = World::new();
    let tables = world.tree(0);
    let granted = world.memory.allocate(&world.other, Request::order(0)).unwrap();
    let at = GrantTarget::Address { root: tables[3], address: 0x5000 };
    world.memory.get_writable(granted, DOM0).unwrap();
    world.memory.map_grant(&world.context(), at, Pte(entry(granted, P | RW))).unwrap();
    assert_eq!(peek(&world.memory, tables[0], 5), entry(granted, P | RW | US));
    assert!(world.memory.unmap_grant(DOM1, at, granted, false).is_err());
    let moved = GrantTarget::Entry(tables[0].address() + 48);
    let leaf = world.frame();
    world.set(tables[0], 6, entry(leaf, P | RW)).unwrap();
    assert!(world.memory.move_over_grant(DOM1, at, leaf, true, moved).is_err());
    assert_eq!(peek(&world.memory, tables[0], 6), entry(leaf, P | RW | US), "back where it was");
    let flags = entry(granted, P | RW | 0x20);
    let written = world.memory.emulate_pte_write(&world.context(), tables[0], 5, None, flags);
    assert_eq!(written, Ok(Progress::Done(Cas::Written)), "flags of a granted frame's entry are the guest's");
    world.memory.move_over_grant(DOM1, at, granted, true, moved).unwrap();
    world.memory.put_writable(granted);
    assert_eq!(peek(&world.memory, tables[0], 5), entry(leaf, P | RW | US));
    assert_eq!(peek(&world.memory, tables[0], 6), 0);
    assert_eq!((world.references(granted), world.references(leaf)), (1, 2));
}

#[test]
fn a_change_of_rights_takes_or_drops_a_use_alone() {
    let world = World::new();
    let tables = world.tree(0);
    let leaf = world.frame();
    for _ in 0..2 {
        world.set(tables[0], 1, entry(leaf, P)).unwrap();
        assert_eq!((world.references(leaf), world.uses(leaf).1), (2, 0));
        world.set(tables[0], 1, entry(leaf, P | RW)).unwrap();
        assert_eq!((world.references(leaf), world.uses(leaf)), (2, (FrameType::Writable, 1)));
    }
    world.set(tables[0], 2, entry(tables[1], P)).unwrap();
    assert_eq!(world.set(tables[0], 2, entry(tables[1], P | RW)).unwrap_err().errno, Errno::BUSY);
    assert_eq!(peek(&world.memory, tables[0], 2), entry(tables[1], P | US));
    assert_eq!((world.references(tables[1]), world.uses(tables[1])), (3, (FrameType::L2, 1)));

    let granted = world.memory.allocate(&world.other, Request::order(0)).unwrap();
    world.memory.get_frame(granted, DOM0).unwrap();
    let at = GrantTarget::Address { root: tables[3], address: 0x5000 };
    world.memory.map_grant(&world.context(), at, Pte(entry(granted, P))).unwrap();
    let writable = entry(granted, P | RW);
    assert_eq!(world.set(tables[0], 5, writable).unwrap_err().errno, Errno::BUSY, "granted to be read");
    let stored = world.memory.emulate_pte_write(&world.context(), tables[0], 5, None, writable);
    assert_eq!(stored.unwrap_err().errno, Errno::BUSY);
    assert_eq!(peek(&world.memory, tables[0], 5), entry(granted, P | US));
    assert_eq!((world.references(granted), world.uses(granted).1), (2, 0));
}

#[test]
fn roots_are_held_and_let_go() {
    let world = World::new();
    let tables = world.tree(0);
    let context = world.context();
    finish(|| world.memory.take_root(&context, tables[3])).unwrap();
    world.unpin(tables[3]).unwrap();
    assert_eq!(world.uses(tables[3]), (FrameType::L4, 1));
    assert!(world.memory.take_root(&context, tables[2]).is_err());
    world.memory.drop_root(tables[3]);
    finish(|| Ok(world.memory.settle(&world.domain, &Never))).unwrap();
    assert_eq!(world.uses(tables[0]).1, 0);
}
