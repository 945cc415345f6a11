use super::*;
use hypercall::memory::memory_op;
use std::sync::atomic::Ordering::SeqCst;
use xen_abi::memory::*;

fn reservation(domid: u16, count: u64, order: u32, bits: u32) -> MemoryReservation {
    MemoryReservation {
        extent_start: list(),
        nr_extents: count,
        extent_order: order,
        mem_flags: bits,
        domid,
        _gap0: [0; 6],
    }
}

#[test]
fn populate_names_frames_and_goes_on_after_a_cut() {
    let world = World::new();
    let gfns: Vec<u64> = (0..10).map(|index| 100 + index * 2).collect();
    world.put(LIST, gfns.as_slice());
    world.machine().yield_after.store(3, SeqCst);
    let mut call = reservation(1, 10, 1, 0);
    let first = world.call(
        &world.dom0,
        memory_op,
        &[XENMEM_POPULATE_PHYSMAP.into(), {
            world.put(AT, &call);
            AT
        }],
    );
    assert!(matches!(first, Outcome::Again(args) if args[0] == 6 | 4 << 6 && args[1] == AT), "{first:?}");
    let Outcome::Again(args) = first else { unreachable!() };
    world.machine().yield_after.store(u64::MAX, SeqCst);
    assert_eq!(world.finish(&world.dom0, memory_op, &args), 10);
    assert_eq!(world.guest.memory.total_pages(), 20);
    let mfns: [u64; 10] = world.get(LIST);
    for (mfn, gfn) in mfns.iter().zip(gfns) {
        let named = |mfn| domain::Arch::m2p(world.hypervisor.machine(), Mfn(mfn));
        assert_eq!((named(*mfn), named(mfn + 1)), (gfn, gfn + 1));
    }
    call.domid = DomId::SELF.0;
    assert_eq!(world.with(&world.guest, memory_op, XENMEM_DECREASE_RESERVATION, &mut call, &[]), 10);
    assert_eq!(world.guest.memory.total_pages(), 0);
    assert_eq!(world.with(&world.guest, memory_op, XENMEM_DECREASE_RESERVATION, &mut call, &[]), 0);
}

#[test]
fn a_guest_does_not_get_more_than_it_may_have() {
    let world = World::new();
    world.guest.memory.set_max_pages(5);
    world.put(LIST, &[0u64; 8]);
    let mut call = reservation(DomId::SELF.0, 8, 0, 0);
    assert_eq!(world.with(&world.guest, memory_op, XENMEM_POPULATE_PHYSMAP, &mut call, &[]), 5);
    for refused in
        [reservation(0, 8, 0, 0), reservation(1, 8, 10, 0), reservation(1, 8, 0, 12), reservation(9, 1, 0, 0)]
    {
        let mut call = refused;
        assert_eq!(world.with(&world.guest, memory_op, XENMEM_POPULATE_PHYSMAP, &mut call, &[]), 0);
    }
    let mut domain = MemoryDomain { domid: DomId::SELF.0 };
    let figure = |op, domain: &mut MemoryDomain| world.with(&world.guest, memory_op, op, domain, &[]);
    assert_eq!(figure(XENMEM_CURRENT_RESERVATION, &mut domain), 5);
    assert_eq!(figure(XENMEM_MAXIMUM_RESERVATION, &mut domain), 5);
    domain.domid = 0;
    assert_eq!(figure(XENMEM_MAXIMUM_RESERVATION, &mut domain), error(Errno::PERM));
}

fn exchange(world: &World, input: &[Mfn], out_order: u32, bits: u32) -> (i64, MemoryExchange) {
    let numbers: Vec<u64> = input.iter().map(|mfn| mfn.0).collect();
    world.put(LIST, numbers.as_slice());
    world.put(LIST + 0x1000, &[7000u64]);
    let mut call = MemoryExchange {
        r#in: reservation(DomId::SELF.0, input.len() as u64, 0, 0),
        out: reservation(DomId::SELF.0, input.len() as u64 >> out_order, out_order, bits),
        nr_exchanged: 0,
    };
    call.out.extent_start = GuestHandle::new(LIST + 0x1000);
    (world.with(&world.guest, memory_op, XENMEM_EXCHANGE, &mut call, &[]), call)
}

#[test]
fn single_frames_are_traded_for_a_block() {
    let world = World::new();
    let frames = world.frames(&world.guest, 64);
    let free = world.hypervisor.memory.free_pages();
    let (result, call) = exchange(&world, &frames, 6, 20);
    assert_eq!((result, call.nr_exchanged), (0, 64));
    let first: u64 = world.get(LIST + 0x1000);
    assert!(first % 64 == 0 && first + 64 <= 256, "{first:#x}");
    assert_eq!(domain::Arch::m2p(world.hypervisor.machine(), Mfn(first + 63)), 7063);
    assert_eq!((world.guest.memory.total_pages(), world.hypervisor.memory.free_pages()), (64, free));
}

#[test]
fn a_trade_that_fails_leaves_all_as_it_was() {
    let world = World::new();
    let mut frames = world.frames(&world.guest, 64);
    for (gfn, &mfn) in (500..).zip(&frames) {
        ::memory::PvPolicy::set_m2p(world.hypervisor.machine(), mfn, types::Gfn(gfn));
    }
    let free = world.hypervisor.memory.free_pages();
    // Nothing is that low.
    let (result, call) = exchange(&world, &frames, 6, 13);
    assert_eq!((result, call.nr_exchanged), (error(Errno::NOMEM), 0));
    let held = world.hypervisor.memory.frame_ref(frames[63], DomId(1)).unwrap();
    let (result, _) = exchange(&world, &frames, 6, 0);
    assert_eq!(result, error(Errno::INVAL), "one is in use");
    drop(held);
    assert_eq!((world.guest.memory.total_pages(), world.hypervisor.memory.free_pages()), (64, free));
    assert_eq!(domain::Arch::m2p(world.hypervisor.machine(), frames[3]), 503);
    frames.truncate(63);
    assert_eq!(exchange(&world, &frames, 6, 0).0, error(Errno::INVAL), "sizes differ");
    assert_eq!(exchange(&world, &frames, 10, 0).0, error(Errno::PERM), "too large");
}

#[test]
fn maps_are_given_and_read() {
    let world = World::new();
    world.put(LIST, &[0u8; 60]);
    let mut call = MemoryMap { nr_entries: 1, _gap0: [0; 4], buffer: GuestHandle::new(LIST) };
    let map = |domain, op, call: &mut MemoryMap| world.with(domain, memory_op, op, call, &[]);
    assert_eq!(map(&world.guest, XENMEM_MACHINE_MEMORY_MAP, &mut call), error(Errno::PERM));
    assert_eq!(map(&world.dom0, XENMEM_MACHINE_MEMORY_MAP, &mut call), error(Errno::INVAL), "too small");
    call.nr_entries = 3;
    assert_eq!((map(&world.dom0, XENMEM_MACHINE_MEMORY_MAP, &mut call), call.nr_entries), (0, 2));
    let entries: [E820Entry; 2] = world.get(LIST);
    assert_eq!((entries[0].size, entries[1].addr, entries[1].kind), (512 << 12, 0xfee0_0000, E820_RESERVED));

    assert_eq!(map(&world.guest, XENMEM_MEMORY_MAP, &mut call), error(Errno::NOSYS));
    let mut set = ForeignMemoryMap { domid: 1, _gap0: [0; 6], map: call };
    assert_eq!(world.with(&world.dom0, memory_op, XENMEM_SET_MEMORY_MAP, &mut set, &[]), 0);
    call.nr_entries = 1;
    assert_eq!((map(&world.guest, XENMEM_MEMORY_MAP, &mut call), call.nr_entries), (0, 1));
    set.map.nr_entries = 1025;
    assert_eq!(world.with(&world.dom0, memory_op, XENMEM_SET_MEMORY_MAP, &mut set, &[]), error(Errno::INVAL));
}

#[test]
fn the_toolstack_claims_memory_and_maps_grant_tables() {
    let world = World::new();
    let mut claim = reservation(1, 50, 0, 0);
    claim.extent_start = GuestHandle::null();
    assert_eq!(world.with(&world.guest, memory_op, XENMEM_CLAIM_PAGES, &mut claim, &[]), error(Errno::PERM));
    assert_eq!(world.with(&world.dom0, memory_op, XENMEM_CLAIM_PAGES, &mut claim, &[]), 0);
    assert_eq!(world.hypervisor.memory.claimed_pages(), 50);
    claim.nr_extents = 0;
    assert_eq!(world.with(&world.dom0, memory_op, XENMEM_CLAIM_PAGES, &mut claim, &[]), 0);
    assert_eq!(world.hypervisor.memory.claimed_pages(), 0);

    let resource = |nr_frames, frame_list| MemAcquireResource {
        domid: 1,
        r#type: XENMEM_RESOURCE_GRANT_TABLE as u16,
        id: XENMEM_RESOURCE_GRANT_TABLE_ID_SHARED,
        nr_frames,
        pad: 0,
        frame: 0,
        frame_list,
    };
    let acquire =
        |domain, call: &mut MemAcquireResource| world.with(domain, memory_op, XENMEM_ACQUIRE_RESOURCE, call, &[]);
    let mut size = resource(0, GuestHandle::null());
    assert_eq!((acquire(&world.dom0, &mut size), size.nr_frames), (0, 4));
    world.put(LIST, &[0u64; 2]);
    let mut call = resource(2, list());
    assert_eq!(acquire(&world.guest, &mut call), error(Errno::PERM));
    assert_eq!(acquire(&world.dom0, &mut call), 0);
    let frames: [u64; 2] = world.get(LIST);
    assert_eq!(world.guest.gnttab.size().0, 2);
    assert_eq!(world.guest.gnttab.frame(gnttab::FrameKind::Shared, 1), Some(Mfn(frames[1])));
    let mut beyond = resource(5, list());
    assert_eq!(acquire(&world.dom0, &mut beyond), error(Errno::INVAL));
    beyond.r#type = 2;
    assert_eq!(acquire(&world.dom0, &mut beyond), error(Errno::INVAL));
}

#[test]
fn what_a_pv_guest_has_not_is_refused_as_the_toolstack_expects() {
    let world = World::new();
    let mut numa = VnumaTopologyInfo {
        domid: 1,
        pad: 0,
        nr_vnodes: 0,
        nr_vcpus: 0,
        nr_vmemranges: 0,
        vdistance: 0,
        vcpu_to_vnode: 0,
        vmemrange: 0,
    };
    assert_eq!(world.with(&world.dom0, memory_op, XENMEM_GET_VNUMAINFO, &mut numa, &[]), error(Errno::OPNOTSUPP));
    let mut physmap = AddToPhysmap { domid: 1, size: 0, space: XENMAPSPACE_SHARED_INFO, idx: 0, gpfn: 0 };
    assert_eq!(world.with(&world.dom0, memory_op, XENMEM_ADD_TO_PHYSMAP, &mut physmap, &[]), error(Errno::ACCES));
    let access = |domain| {
        let (pfn_list, access_list) = (GuestHandle::new(0), GuestHandle::new(0));
        let mut rights = MemAccessOp { op: 0, access: 0, domid: 1, nr: 0, pfn: 0, pfn_list, access_list };
        world.with(domain, memory_op, XENMEM_ACCESS_OP, &mut rights, &[])
    };
    assert_eq!(access(&world.dom0), error(Errno::INVAL));
    assert_eq!(access(&world.guest), error(Errno::PERM), "one's own");
    let compat = u64::from(XENMEM_MACHPHYS_COMPAT_MFN_LIST);
    assert_eq!(world.finish(&world.dom0, memory_op, &[compat, 0]), error(Errno::OPNOTSUPP));
    assert_eq!(world.finish(&world.guest, memory_op, &[18, 0]), 0);
    assert_eq!(world.finish(&world.guest, memory_op, &[2, 0]), 512);
    assert_eq!(world.finish(&world.guest, memory_op, &[63, 0]), error(Errno::NOSYS));
    let mut mapping = MachphysMapping { v_start: 0, v_end: 0, max_mfn: 0 };
    assert_eq!(world.with(&world.guest, memory_op, XENMEM_MACHPHYS_MAPPING, &mut mapping, &[]), 0);
    assert_eq!((mapping.v_start, mapping.max_mfn), (0xffff_8000_0000_0000, 511));
}
