use super::*;
use gnttab::FrameKind;
use hypercall::grant::grant_table_op;
use std::sync::atomic::Ordering::SeqCst;
use x86_defs::pte::Pte;
use xen_abi::grant_table::*;

fn op<T: FromBytes + IntoBytes + Immutable>(
    world: &World,
    domain: &Arc<Domain<FakeArch>>,
    op: u32,
    call: &mut T,
) -> i64 {
    world.with(domain, grant_table_op, op, call, &[1])
}

/// Domain 1 grants a frame to dom0 as grant 8; dom0 has page tables with an L1 for the addresses from 0 on.
struct Granting {
    world: World,
    frame: Mfn,
    l1: Mfn,
}

impl Granting {
    fn new(flags: u16) -> Granting {
        let world = World::new();
        world.put(LIST, &[0u64; 1]);
        let mut setup =
            SetupTable { dom: 1, _gap0: [0; 2], nr_frames: 1, status: 9, _gap1: [0; 6], frame_list: list() };
        assert_eq!(op(&world, &world.guest, GNTTABOP_SETUP_TABLE, &mut setup), 0);
        assert_eq!(setup.status, GNTST_OKAY);
        let shared = Mfn(world.get(LIST));
        let frame = world.frames(&world.guest, 1)[0];
        world.word(shared, 8).store(u64::from(flags) | frame.0 << 32, SeqCst);

        let tables = world.frames(&world.dom0, 4);
        for pair in tables.windows(2) {
            world.word(pair[0], 0).store(pair[1].address() | 7, SeqCst);
        }
        let memory = &world.hypervisor.memory;
        let context = ::memory::Context::own(&world.dom0.memory, world.hypervisor.machine());
        assert_eq!(memory.take_root(&context, tables[0]), Ok(types::Progress::Done(())));
        *world.hypervisor.machine().root.lock() = Some(tables[0]);
        Granting { world, frame, l1: tables[3] }
    }

    fn map(&self, host_addr: u64, flags: u32) -> MapGrantRef {
        let mut call = MapGrantRef { host_addr, flags, r#ref: 8, dom: 1, status: 9, handle: 99, dev_bus_addr: 0 };
        assert_eq!(op(&self.world, &self.world.dom0, GNTTABOP_MAP_GRANT_REF, &mut call), 0);
        call
    }

    fn unmap(&self, handle: u32, host_addr: u64, dev_bus_addr: u64) -> i16 {
        let mut call = UnmapGrantRef { host_addr, dev_bus_addr, handle, status: 9, _gap0: [0; 2] };
        assert_eq!(op(&self.world, &self.world.dom0, GNTTABOP_UNMAP_GRANT_REF, &mut call), 0);
        call.status
    }

    fn entry(&self, slot: usize) -> Pte {
        Pte(self.world.word(self.l1, slot).load(SeqCst))
    }

    /// References and uses of the granted frame.
    fn uses(&self) -> (u32, u32) {
        let view = self.world.hypervisor.memory.frames().view(self.frame).unwrap();
        (view.references, view.uses)
    }

    fn flags(&self) -> u64 {
        let shared = self.world.guest.gnttab.frame(FrameKind::Shared, 0).unwrap();
        self.world.word(shared, 8).load(SeqCst) & 0xffff
    }
}

#[test]
fn a_grant_is_mapped_by_address_and_by_entry() {
    let granting = Granting::new(GTF_PERMIT_ACCESS);
    let by_address = granting.map(5 << 12, GNTMAP_HOST_MAP | 1 << 16);
    assert_eq!((by_address.status, by_address.dev_bus_addr), (GNTST_OKAY, granting.frame.address()));
    let entry = granting.entry(5);
    assert_eq!((entry.frame(), entry.0 & 7, entry.0 >> 9 & 7), (granting.frame.0, 7, 1));
    let place = granting.l1.address() + 6 * 8;
    let by_entry = granting.map(place, GNTMAP_HOST_MAP | GNTMAP_CONTAINS_PTE | GNTMAP_READONLY);
    assert_eq!((by_entry.status, granting.entry(6).0 & 3), (GNTST_OKAY, 1));
    assert_eq!(granting.uses(), (3, 1));
    assert_eq!(granting.flags(), (GTF_PERMIT_ACCESS | GTF_READING | GTF_WRITING).into());

    assert_eq!(granting.unmap(by_entry.handle, 5 << 12, 0), GNTST_GENERAL_ERROR, "not there");
    assert_eq!(granting.unmap(by_entry.handle, place, 0), GNTST_OKAY);
    assert_eq!(granting.unmap(by_entry.handle, place, 0), GNTST_BAD_HANDLE);
    assert_eq!(granting.unmap(by_address.handle, 5 << 12, 0), GNTST_OKAY);
    assert_eq!((granting.entry(5), granting.entry(6)), (Pte::EMPTY, Pte::EMPTY));
    assert_eq!((granting.uses(), granting.flags()), ((1, 0), GTF_PERMIT_ACCESS.into()));
    assert!(granting.world.machine().flushes.lock().unwrap()[&0] >= 2);
}

#[test]
fn a_mapping_that_fails_leaves_nothing() {
    let granting = Granting::new(GTF_PERMIT_ACCESS | GTF_READONLY);
    assert_eq!(granting.map(5 << 12, GNTMAP_HOST_MAP).status, GNTST_GENERAL_ERROR, "read-only");
    assert_eq!(granting.map(0, 0).status, GNTST_BAD_GNTREF, "neither host nor device");
    let nowhere = granting.map(1 << 40, GNTMAP_HOST_MAP | GNTMAP_DEVICE_MAP | GNTMAP_READONLY);
    assert_eq!((nowhere.status, nowhere.handle), (GNTST_GENERAL_ERROR, 99));
    assert_eq!(granting.map(granting.l1.address() + 4, 0x16).status, GNTST_GENERAL_ERROR, "not aligned");
    assert_eq!((granting.uses(), granting.flags()), ((1, 0), (GTF_PERMIT_ACCESS | GTF_READONLY).into()));
    assert_eq!(granting.world.dom0.maptrack.next(0), None);
    let mut call = MapGrantRef { host_addr: 0, flags: 2, r#ref: 8, dom: 44, status: 9, handle: 0, dev_bus_addr: 0 };
    assert_eq!(op(&granting.world, &granting.world.dom0, GNTTABOP_MAP_GRANT_REF, &mut call), 0);
    assert_eq!(call.status, GNTST_BAD_DOMAIN);
}

#[test]
fn host_and_device_parts_are_given_back_apart() {
    let granting = Granting::new(GTF_PERMIT_ACCESS);
    let call = granting.map(7 << 12, GNTMAP_HOST_MAP | GNTMAP_DEVICE_MAP);
    assert_eq!((call.status, granting.uses()), (GNTST_OKAY, (3, 2)));
    assert_eq!(granting.unmap(call.handle, 0, call.dev_bus_addr + 4096), GNTST_GENERAL_ERROR);
    assert_eq!(granting.unmap(call.handle, 0, call.dev_bus_addr), GNTST_OKAY);
    assert_eq!(granting.uses(), (2, 1));
    assert_eq!(granting.unmap(call.handle, 7 << 12, 0), GNTST_OKAY);
    assert_eq!(granting.uses(), (1, 0));
    assert_eq!(granting.unmap(call.handle, 7 << 12, 0), GNTST_BAD_HANDLE);
}

#[test]
fn a_mapping_is_replaced_by_another() {
    let granting = Granting::new(GTF_PERMIT_ACCESS);
    let own = granting.world.frames(&granting.world.dom0, 1)[0];
    let memory = &granting.world.hypervisor.memory;
    let context = ::memory::Context::own(&granting.world.dom0.memory, granting.world.hypervisor.machine());
    let at = granting.l1.address() + 9 * 8;
    assert_eq!(memory.mmu_update(&context, at, own.address() | 7), Ok(types::Progress::Done(())));
    let call = granting.map(7 << 12, GNTMAP_HOST_MAP);
    let mut replace =
        UnmapAndReplace { host_addr: 7 << 12, new_addr: 9 << 12, handle: call.handle, status: 9, _gap0: [0; 2] };
    assert_eq!(op(&granting.world, &granting.world.dom0, GNTTABOP_UNMAP_AND_REPLACE, &mut replace), 0);
    assert_eq!(replace.status, GNTST_OKAY);
    assert_eq!((granting.entry(7).frame(), granting.entry(9)), (own.0, Pte::EMPTY));
    assert_eq!(granting.uses(), (1, 0));
}

fn end(u: u64, domid: u16, offset: u16) -> CopyPtr {
    CopyPtr { u, domid, offset, _gap0: [0; 4] }
}

#[test]
fn bytes_are_copied_between_a_grant_and_an_own_frame() {
    let granting = Granting::new(GTF_PERMIT_ACCESS);
    let world = &granting.world;
    let own = world.frames(&world.dom0, 1)[0];
    world.word(own, 1).store(0x1122_3344_5566_7788, SeqCst);
    let copy = |source, dest, len, flags| {
        let mut call = Copy { source, dest, len, flags, status: 9, _gap0: [0; 2] };
        assert_eq!(op(world, &world.dom0, GNTTABOP_COPY, &mut call), 0);
        call.status
    };
    let mine = |offset| end(own.0, DomId::SELF.0, offset);
    assert_eq!(copy(mine(8), end(8, 1, 16), 8, GNTCOPY_DEST_GREF), GNTST_OKAY);
    assert_eq!(world.word(granting.frame, 2).load(SeqCst), 0x1122_3344_5566_7788);
    assert_eq!(copy(end(8, 1, 17), mine(0), 2, GNTCOPY_SOURCE_GREF), GNTST_OKAY);
    assert_eq!(world.word(own, 0).load(SeqCst), 0x6677);
    assert_eq!(copy(mine(4095), end(8, 1, 0), 2, GNTCOPY_DEST_GREF), GNTST_BAD_COPY_ARG);
    assert_eq!(copy(end(granting.frame.0, 1, 0), mine(0), 2, 0), GNTST_PERMISSION_DENIED);
    assert_eq!(copy(end(granting.frame.0, DomId::SELF.0, 0), mine(0), 2, 0), GNTST_BAD_PAGE, "another's frame");
    assert_eq!(copy(end(9, 1, 0), mine(0), 2, GNTCOPY_SOURCE_GREF), GNTST_GENERAL_ERROR, "not granted");
    assert_eq!((granting.uses(), granting.flags()), ((1, 0), GTF_PERMIT_ACCESS.into()));
}

#[test]
fn batches_are_cut_and_continued() {
    let granting = Granting::new(GTF_PERMIT_ACCESS);
    let world = &granting.world;
    let mapping = |slot: u64| MapGrantRef {
        host_addr: slot << 12,
        flags: GNTMAP_HOST_MAP,
        r#ref: 8,
        dom: 1,
        status: 9,
        handle: 0,
        dev_bus_addr: 0,
    };
    let calls: Vec<MapGrantRef> = (1..=40).map(mapping).collect();
    world.put(AT, calls.as_slice());
    world.machine().yield_after.store(5, SeqCst);
    let Outcome::Again(args) = world.call(&world.dom0, grant_table_op, &[0, AT, 40]) else { panic!("not cut") };
    assert_eq!((args[1], args[2]), (AT + 6 * size_of::<MapGrantRef>() as u64, 34));
    world.machine().yield_after.store(u64::MAX, SeqCst);
    assert_eq!(world.finish(&world.dom0, grant_table_op, &args), 0);
    let done: [MapGrantRef; 40] = world.get(AT);
    assert!(done.iter().all(|call| call.status == GNTST_OKAY));
    assert_eq!(granting.uses(), (41, 40));
    let unmap = |call: &MapGrantRef| UnmapGrantRef {
        host_addr: call.host_addr,
        dev_bus_addr: 0,
        handle: call.handle,
        status: 9,
        _gap0: [0; 2],
    };
    let calls: Vec<UnmapGrantRef> = done.iter().map(unmap).collect();
    world.put(AT, calls.as_slice());
    world.machine().yield_after.store(0, SeqCst);
    let Outcome::Again(args) = world.call(&world.dom0, grant_table_op, &[1, AT, 40]) else { panic!("not cut") };
    assert_eq!((args[2], granting.uses()), (8, (9, 8)));
    world.machine().yield_after.store(u64::MAX, SeqCst);
    assert_eq!(world.finish(&world.dom0, grant_table_op, &args), 0);
    assert_eq!(granting.uses(), (1, 0));
    assert_eq!(world.finish(&world.dom0, grant_table_op, &[0, AT, 1 << 31]), error(Errno::INVAL));
    assert_eq!(world.finish(&world.dom0, grant_table_op, &[0, 0xdead_0000, 1]), error(Errno::FAULT));
}

#[test]
fn versions_and_sizes() {
    let granting = Granting::new(GTF_PERMIT_ACCESS);
    let world = &granting.world;
    let mut size =
        QuerySize { dom: DomId::SELF.0, _gap0: [0; 2], nr_frames: 0, max_nr_frames: 0, status: 9, _gap1: [0; 2] };
    assert_eq!(op(world, &world.guest, GNTTABOP_QUERY_SIZE, &mut size), 0);
    assert_eq!((size.nr_frames, size.max_nr_frames, size.status), (1, 4, 0));
    size.dom = 0;
    assert_eq!(op(world, &world.guest, GNTTABOP_QUERY_SIZE, &mut size), 0);
    assert_eq!(size.status, GNTST_PERMISSION_DENIED);
    let mut version = SetVersion { version: 3 };
    assert_eq!(op(world, &world.guest, GNTTABOP_SET_VERSION, &mut version), error(Errno::INVAL));
    assert_eq!(version.version, 1);
    version.version = 2;
    assert_eq!(op(world, &world.guest, GNTTABOP_SET_VERSION, &mut version), 0);
    let mut status = GetStatusFrames { nr_frames: 1, dom: DomId::SELF.0, status: 9, frame_list: list() };
    assert_eq!(op(world, &world.guest, GNTTABOP_GET_STATUS_FRAMES, &mut status), 0);
    let frame = Mfn(world.get(LIST));
    assert_eq!((status.status, world.guest.gnttab.frame(FrameKind::Status, 0)), (0, Some(frame)));
    let shared = world.guest.memory.shared_pages();
    version.version = 1;
    let held = world.hypervisor.memory.frame_ref(frame, DomId(1)).unwrap();
    assert_eq!(op(world, &world.guest, GNTTABOP_SET_VERSION, &mut version), error(Errno::BUSY), "it is mapped");
    drop(held);
    version.version = 1;
    assert_eq!(op(world, &world.guest, GNTTABOP_SET_VERSION, &mut version), 0);
    assert_eq!(world.guest.memory.shared_pages(), shared - 1);
    let mut asked = GetVersion { dom: 1, pad: 0, version: 0 };
    assert_eq!((op(world, &world.dom0, GNTTABOP_GET_VERSION, &mut asked), asked.version), (0, 1));
}

#[test]
fn a_granter_that_dies_stays_until_its_last_grant_is_unmapped() {
    let granting = Granting::new(GTF_PERMIT_ACCESS);
    let world = &granting.world;
    let call = granting.map(7 << 12, GNTMAP_HOST_MAP);
    assert_eq!(world.hypervisor.destroy(&world.guest), Ok(()));
    assert!(world.hypervisor.domains.get(DomId(1)).is_some(), "dom0 still maps a frame");
    assert_eq!(granting.unmap(call.handle, 7 << 12, 0), GNTST_OKAY);
    assert!(world.hypervisor.domains.get(DomId(1)).is_none());
}

#[test]
fn a_mapper_that_dies_gives_its_grants_back() {
    let world = World::new();
    let own = world.frames(&world.dom0, 1)[0];
    world.put(LIST, &[0u64; 1]);
    let mut setup = SetupTable { dom: 0, _gap0: [0; 2], nr_frames: 1, status: 9, _gap1: [0; 6], frame_list: list() };
    assert_eq!(op(&world, &world.dom0, GNTTABOP_SETUP_TABLE, &mut setup), 0);
    let shared = Mfn(world.get(LIST));
    world.word(shared, 8).store(u64::from(GTF_PERMIT_ACCESS) | 1 << 16 | own.0 << 32, SeqCst);
    let mut call =
        MapGrantRef { host_addr: 0, flags: GNTMAP_DEVICE_MAP, r#ref: 8, dom: 0, status: 9, handle: 0, dev_bus_addr: 0 };
    assert_eq!(op(&world, &world.guest, GNTTABOP_MAP_GRANT_REF, &mut call), 0);
    let references = || world.hypervisor.memory.frames().view(own).unwrap().references;
    assert_eq!((call.status, references()), (GNTST_OKAY, 2));
    assert_eq!(world.hypervisor.destroy(&world.guest), Ok(()));
    assert_eq!((references(), world.dom0.gnttab.pins(8)), (1, [0; 4]));
    assert!(world.hypervisor.domains.get(DomId(1)).is_none());
}

#[test]
fn a_dead_domain_goes_when_its_last_foreign_mapping_does() {
    let granting = Granting::new(GTF_PERMIT_ACCESS);
    let world = &granting.world;
    let shared = world.guest.gnttab.frame(FrameKind::Shared, 0).unwrap();
    let memory = &world.hypervisor.memory;
    let own = ::memory::Context::own(&world.dom0.memory, world.hypervisor.machine());
    let foreign = ::memory::Context { frames: DomId(1), ..own };
    let at = granting.l1.address() + 3 * 8;
    assert_eq!(memory.mmu_update(&foreign, at, shared.address() | 7), Ok(types::Progress::Done(())));
    assert_eq!(world.hypervisor.destroy(&world.guest), Ok(()));
    world.hypervisor.reap_dead();
    assert!(world.hypervisor.domains.get(DomId(1)).is_some(), "dom0 still maps its grant table");
    assert_eq!(memory.mmu_update(&own, at, 0), Ok(types::Progress::Done(())));
    world.hypervisor.reap_dead();
    assert!(world.hypervisor.domains.get(DomId(1)).is_none());
}

#[test]
fn a_list_outside_the_guests_addresses_is_refused_first() {
    let world = World::new();
    let setup = |list| {
        let mut call = SetupTable {
            dom: 1,
            _gap0: [0; 2],
            nr_frames: 1,
            status: 9,
            _gap1: [0; 6],
            frame_list: GuestHandle::new(list),
        };
        (op(&world, &world.guest, GNTTABOP_SETUP_TABLE, &mut call), call.status)
    };
    assert_eq!(setup(0xffff_8300_0000_0000), (error(Errno::FAULT), 9));
    assert_eq!(world.guest.gnttab.size().0, 0, "nothing is done");
    assert_eq!(setup(0x7000_0000_0000), (0, GNTST_BAD_VIRT_ADDR));
}

#[test]
fn a_copy_does_not_go_onto_a_page_table() {
    let granting = Granting::new(GTF_PERMIT_ACCESS);
    let own = granting.world.frames(&granting.world.dom0, 1)[0];
    let mine = |mfn: Mfn| end(mfn.0, DomId::SELF.0, 0);
    let mut call = Copy { source: mine(own), dest: mine(granting.l1), len: 8, flags: 0, status: 9, _gap0: [0; 2] };
    assert_eq!(op(&granting.world, &granting.world.dom0, GNTTABOP_COPY, &mut call), 0);
    assert_eq!(call.status, GNTST_GENERAL_ERROR);
}

#[test]
fn a_frame_is_given_away_for_good() {
    let granting = Granting::new(GTF_PERMIT_ACCESS);
    let (world, memory) = (&granting.world, &granting.world.hypervisor.memory);
    let give = |mfn: Mfn, domid| {
        let mut call = Transfer { mfn: mfn.0, domid, _gap0: [0; 2], r#ref: 9, status: 99, _gap1: [0; 6] };
        assert_eq!(op(world, &world.dom0, GNTTABOP_TRANSFER, &mut call), 0);
        call.status
    };
    let shared = world.guest.gnttab.frame(FrameKind::Shared, 0).unwrap();
    let frames = world.frames(&world.dom0, 3);
    let (mine, theirs) = (world.dom0.memory.total_pages(), world.guest.memory.total_pages());
    assert_eq!(give(granting.l1, 1), GNTST_BAD_PAGE, "it is in use");
    assert_eq!(give(granting.frame, 1), GNTST_BAD_PAGE, "it is another's");
    assert_eq!(world.dom0.memory.total_pages(), mine);

    assert_eq!(give(frames[0], 77), GNTST_BAD_DOMAIN);
    assert_eq!(give(frames[1], 1), GNTST_GENERAL_ERROR, "nobody waits for it");
    assert_eq!(world.dom0.memory.total_pages(), mine - 2, "a frame that nobody takes is lost");

    let name = 0x55;
    world.word(shared, 9).store(u64::from(GTF_ACCEPT_TRANSFER) | name << 32, SeqCst);
    assert_eq!(give(frames[2], 1), GNTST_OKAY);
    assert_eq!(memory.frames().view(frames[2]).unwrap().owner, DomId(1));
    assert_eq!((world.dom0.memory.total_pages(), world.guest.memory.total_pages()), (mine - 3, theirs + 1));
    let entry = world.word(shared, 9).load(SeqCst);
    let flags = GTF_ACCEPT_TRANSFER | GTF_TRANSFER_COMMITTED | GTF_TRANSFER_COMPLETED;
    assert_eq!((entry as u16, entry >> 32), (flags, frames[2].0));
    assert_eq!(domain::Arch::m2p(world.hypervisor.machine(), frames[2]), name);
}

#[test]
fn caches_are_flushed_for_owners_and_users_of_a_grant() {
    let granting = Granting::new(GTF_PERMIT_ACCESS);
    let (world, frame) = (&granting.world, granting.frame);
    let call = |domain, a, offset, length, op_bits| {
        let mut call = CacheFlush { a, offset, length, op: op_bits };
        op(world, domain, GNTTABOP_CACHE_FLUSH, &mut call)
    };
    let (dom0, guest, at) = (&world.dom0, &world.guest, frame.address());
    let both = GNTTAB_CACHE_CLEAN | GNTTAB_CACHE_INVAL;
    assert_eq!(call(guest, at, 4096, 0, both), error(Errno::INVAL));
    assert_eq!(call(guest, at, 1, 4096, both), error(Errno::INVAL));
    assert_eq!((call(guest, 1 << 50, 0, 0, both), call(guest, 1 << 50, 0, 1, 0)), (0, 0), "nothing to do");
    assert_eq!(call(guest, at, 0, 1, GNTTAB_CACHE_SOURCE_GREF), error(Errno::INVAL));
    assert_eq!(call(guest, at, 0, 1, 4), error(Errno::INVAL));
    assert_eq!(call(guest, 1 << 50, 0, 1, both), error(Errno::INVAL), "no memory");
    assert_eq!(call(guest, 0x1000, 0, 1, both), error(Errno::PERM), "nobody's");
    assert_eq!(call(guest, at, 0, 1, GNTTAB_CACHE_INVAL), error(Errno::OPNOTSUPP));
    assert_eq!(call(dom0, at, 0, 1, both), error(Errno::INVAL), "granted, but not mapped");
    assert!(world.hypervisor.machine().flushed.lock().is_empty());
    let mapped = granting.map(5 << 12, GNTMAP_HOST_MAP | GNTMAP_READONLY);
    assert_eq!((call(dom0, at, 64, 100, both), call(guest, at, 0, 4096, GNTTAB_CACHE_CLEAN)), (0, 0));
    assert_eq!(*world.hypervisor.machine().flushed.lock(), [(frame, 64..164), (frame, 0..4096)]);
    assert_eq!(granting.unmap(mapped.handle, 5 << 12, 0), GNTST_OKAY);
    assert_eq!(call(dom0, at, 0, 1, both), error(Errno::INVAL));
}

#[test]
fn a_search_for_a_grant_is_gone_on_with() {
    let granting = Granting::new(GTF_PERMIT_ACCESS);
    let world = &granting.world;
    let start = |op: u32, length| {
        world.put(AT, &CacheFlush { a: granting.frame.address(), offset: 0, length, op: GNTTAB_CACHE_CLEAN });
        world.finish(&world.dom0, grant_table_op, &[op.into(), AT, 1])
    };
    granting.map(5 << 12, GNTMAP_HOST_MAP);
    assert_eq!(start(GNTTABOP_CACHE_FLUSH | 8 << 12, 1), 0);
    assert_eq!(start(GNTTABOP_CACHE_FLUSH | 9 << 12, 1), error(Errno::INVAL), "it was before");
    assert_eq!(start(GNTTABOP_CACHE_FLUSH | 9 << 12, 0), error(Errno::ILSEQ));
    assert_eq!(start(GNTTABOP_COPY | 9 << 12, 1), error(Errno::INVAL));
}
