//! Page tables of 32-bit guests: three levels, whose root the hypervisor puts below a table of its own.

mod common;

use common::world::*;
use common::*;
use memory::{FrameType, check_descriptor};
use types::{DomId, Errno, Mfn};

/// Entry of the machine-to-physical table that a highest GiB gets.
const M2P_ENTRY: u64 = 0x200_0085;

fn world() -> World {
    let world = World::new();
    world.domain.set_pae(true);
    world
}

/// An L1 table, the L2 tables of the lowest and the highest GiB, and a root, which map `leaf` at address 0. Not pinned.
fn tables(world: &World, leaf: u64) -> [Mfn; 4] {
    let tables: [Mfn; 4] = world.frames();
    let [l1, low, top, root] = tables;
    poke(&world.memory, l1, 0, leaf);
    poke(&world.memory, low, 0, entry(l1, P | RW | US));
    poke(&world.memory, root, 0, entry(low, P));
    poke(&world.memory, root, 3, entry(top, P));
    tables
}

#[test]
fn a_root_types_its_tables_and_gets_the_hypervisors_entries() {
    let world = world();
    let leaf = world.frame();
    let [l1, low, top, root] = tables(&world, entry(leaf, P | RW));
    poke(&world.memory, root, 17, !0);
    poke(&world.memory, top, 500, entry(leaf, P | RW));
    world.pin(root, 3).unwrap();
    let types = [l1, low, top, root].map(|mfn| world.uses(mfn).0);
    assert_eq!(types, [FrameType::PaeL1, FrameType::PaeL2, FrameType::PaeL2Top, FrameType::PaeL3]);
    assert_eq!(peek(&world.memory, l1, 0), entry(leaf, P | RW), "the kernel's page stays the kernel's");
    assert_eq!(peek(&world.memory, root, 0), entry(low, P | RW | US), "a root has no rights of its own");
    assert_eq!(peek(&world.memory, root, 17), 0, "what 32-bit CPUs never see");
    assert_eq!((peek(&world.memory, top, 428), peek(&world.memory, top, 500)), (M2P_ENTRY, M2P_ENTRY));
    assert_eq!(peek(&world.memory, top, 427), 0);
    world.unpin(root).unwrap();
    for frame in [l1, low, top, root, leaf] {
        assert_eq!((world.uses(frame).1, world.references(frame)), (0, 1));
    }
    assert_eq!(peek(&world.memory, top, 428), 0, "the hypervisor's entries are gone");
}

#[test]
fn a_root_needs_its_highest_gib() {
    let world = world();
    let [l1, low, top, root] = tables(&world, 0);
    poke(&world.memory, root, 3, 0);
    assert_eq!(errno(world.pin(root, 3)), Errno::INVAL);
    for frame in [l1, low, top, root] {
        assert_eq!((world.uses(frame).1, world.references(frame)), (0, 1));
    }
}

#[test]
fn one_table_is_not_of_the_highest_gib_and_of_another() {
    let world = world();
    let [_, _, top, root] = tables(&world, 0);
    poke(&world.memory, root, 1, entry(top, P));
    assert_eq!(errno(world.pin(root, 3)), Errno::INVAL);
    poke(&world.memory, root, 1, 0);
    world.pin(root, 3).unwrap();
    assert_eq!(errno(world.set(root, 1, entry(top, P))), Errno::INVAL);
}

#[test]
fn the_hypervisors_slots_and_the_highest_gib_stay() {
    let world = world();
    let [_, low, top, root] = tables(&world, 0);
    let other = world.frame();
    world.pin(root, 3).unwrap();
    for (table, slot) in [(root, 3), (root, 4), (root, 511), (top, 428), (top, 511)] {
        assert_eq!(errno(world.set(table, slot, 0)), Errno::INVAL, "{table:#x} {slot}");
    }
    world.set(root, 0, 0).unwrap();
    world.set(root, 1, entry(other, P)).unwrap();
    assert_eq!((world.uses(other), world.uses(low).1), ((FrameType::PaeL2, 1), 0));
}

#[test]
fn the_highest_table_may_map_all_four_to_be_read() {
    let world = world();
    let [_, low, top, root] = tables(&world, 0);
    world.pin(root, 3).unwrap();
    world.set(top, 0, entry(low, P | US)).unwrap();
    world.set(top, 1, entry(top, P | US)).unwrap();
    assert_eq!(errno(world.set(top, 2, entry(low, P | RW | US))), Errno::INVAL);
    world.unpin(root).unwrap();
    assert_eq!((world.uses(low).1, world.uses(top).1), (0, 0));
}

#[test]
fn the_two_kinds_of_guest_have_no_tables_in_common() {
    let world = world();
    let [.., root] = tables(&world, 0);
    assert_eq!(errno(world.pin(root, 4)), Errno::INVAL, "there is no level 4");
    let root = finish(|| world.memory.take_root(&world.context(), root));
    root.unwrap();
    let wide = World::new();
    let tables = wide.tree(0);
    assert_eq!(errno(finish(|| wide.memory.take_root(&wide.context(), tables[2]))), Errno::INVAL);
}

#[test]
fn segments_keep_ring_1_and_have_no_64_bit_code() {
    const CODE32: u64 = 0x00cf_9a00_0000_ffff;
    const CODE64: u64 = 0x00af_9a00_0000_ffff;
    let ring = |ring: u64| CODE32 | ring << 45;
    assert_eq!(check_descriptor(ring(0), true), Some(ring(1)));
    for kept in 1..4 {
        assert_eq!(check_descriptor(ring(kept), true), Some(ring(kept)));
    }
    assert_eq!(check_descriptor(ring(1), false), Some(ring(3)));
    for bad in 0..4 {
        assert_eq!(check_descriptor(CODE64 | bad << 45, true), None);
    }
    let world = world();
    let table = world.frame();
    poke(&world.memory, table, 7, CODE64 | 1 << 45);
    assert_eq!(errno(world.memory.get_descriptors(table, DomId(1))), Errno::INVAL);
    poke(&world.memory, table, 7, CODE32);
    world.memory.get_descriptors(table, DomId(1)).unwrap();
    assert_eq!(peek(&world.memory, table, 7), ring(1));
}
