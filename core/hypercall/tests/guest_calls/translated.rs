//! Memory and grants of a translated domain.

use super::*;
use hypercall::grant::grant_table_op;
use hypercall::memory::memory_op;
use p2m::Type;
use platform::Frames;
use std::sync::atomic::Ordering::SeqCst;
use types::Gfn;
use xen_abi::domctl::XEN_DOMCTL_CDF_HVM;
use xen_abi::grant_table::*;
use xen_abi::memory::*;

/// A machine with dom0, PV domain 1, and translated domain 2.
pub struct Hvm {
    pub world: World,
    pub hvm: Arc<Domain<FakeArch>>,
    /// Frames that were free before domain 2 was.
    free: u64,
}

impl Hvm {
    pub fn new() -> Hvm {
        let world = World::with_frames(4096);
        let free = world.hypervisor.memory.free_pages();
        let mut creation = Creation::of_test(false, 2);
        (creation.flags, creation.max_frames) = (XEN_DOMCTL_CDF_HVM, 2048);
        let hvm = world.hypervisor.create_domain(DomId(2), creation).unwrap();
        world.hypervisor.create_vcpus(&hvm).unwrap();
        Hvm { world, hvm, free }
    }

    /// A memory operation of dom0's for domain 2, on these frame numbers.
    fn reserve(&self, op: u32, gfns: &[u64], order: u32, flags: u32) -> i64 {
        self.world.put(LIST, gfns);
        let mut call = MemoryReservation {
            extent_start: list(),
            nr_extents: gfns.len() as u64,
            extent_order: order,
            mem_flags: flags,
            domid: 2,
            _gap0: [0; 6],
        };
        self.world.with(&self.world.dom0, memory_op, op, &mut call, &[])
    }

    pub fn populate(&self, gfns: &[u64], order: u32) {
        assert_eq!(self.reserve(XENMEM_POPULATE_PHYSMAP, gfns, order, 0), gfns.len() as i64);
    }

    fn add(&self, space: u32, idx: u64, gpfn: u64) -> i64 {
        let mut call = AddToPhysmap { domid: 2, size: 0, space, idx, gpfn };
        self.world.with(&self.world.dom0, memory_op, XENMEM_ADD_TO_PHYSMAP, &mut call, &[])
    }

    pub fn at(&self, gfn: u64) -> (Type, Mfn) {
        let entry = self.hvm.p2m().unwrap().get(Gfn(gfn));
        (entry.ty, entry.mfn)
    }

    fn m2p(&self, mfn: Mfn) -> u64 {
        domain::Arch::m2p(self.world.hypervisor.machine(), mfn)
    }

    /// Ends domain 2 and sees that nothing is lost.
    pub fn end(self) {
        self.world.hypervisor.destroy(&self.hvm).unwrap();
        assert_eq!(self.world.hypervisor.memory.free_pages(), self.free);
    }
}

#[test]
fn memory_comes_where_it_is_wanted_and_goes_again() {
    let hvm = Hvm::new();
    hvm.populate(&[512], 9);
    hvm.populate(&[5, 7], 0);
    let (_, mfn) = hvm.at(513);
    assert_eq!((hvm.hvm.memory.total_pages(), hvm.m2p(mfn), hvm.m2p(hvm.at(7).1)), (514, 513, 7));
    assert_eq!(hvm.hvm.p2m().unwrap().get(Gfn(600)).order, 9, "one page");
    let mut most = MemoryDomain { domid: 2 };
    assert_eq!(hvm.world.with(&hvm.world.dom0, memory_op, XENMEM_MAXIMUM_GPFN, &mut most, &[]), 1023);

    let free = hvm.world.hypervisor.memory.free_pages();
    assert_eq!(hvm.reserve(XENMEM_DECREASE_RESERVATION, &[5, 5, 7], 0, 0), 1, "nothing is there any more");
    assert_eq!(hvm.reserve(XENMEM_DECREASE_RESERVATION, &[700], 0, 0), 1);
    assert_eq!((hvm.at(700).0, hvm.at(701).0, hvm.at(5).0), (Type::MmioDm, Type::RamRw, Type::MmioDm));
    // A table more for the page that was split comes from the domain's pool.
    assert_eq!(hvm.world.hypervisor.memory.free_pages(), free + 2, "freed in the same call");
    assert_eq!(hvm.reserve(XENMEM_DECREASE_RESERVATION, &[512], 9, 0), 1, "without the hole");
    assert_eq!(hvm.hvm.memory.total_pages(), 1);
    assert_eq!(hvm.world.machine().flushes.lock().unwrap().get(&2).copied().unwrap_or(0), 10, "one a batch of entries");
    hvm.end();
}

#[test]
fn a_place_that_is_taken_loses_what_it_had() {
    let hvm = Hvm::new();
    hvm.populate(&[5], 0);
    let (_, old) = hvm.at(5);
    hvm.populate(&[5], 0);
    assert_ne!(hvm.at(5).1, old);
    assert_eq!((hvm.m2p(old), hvm.m2p(hvm.at(5).1)), (!0, 5));
    assert_eq!(hvm.hvm.memory.total_pages(), 2, "it is the domain's own still");
    assert_eq!(hvm.reserve(XENMEM_POPULATE_PHYSMAP, &[1 << 36], 0, 0), 0, "no such frame number");
    assert_eq!(hvm.hvm.memory.total_pages(), 2);
    hvm.end();
}

#[test]
fn memory_on_demand_is_given_when_touched() {
    let hvm = Hvm::new();
    assert_eq!(hvm.reserve(XENMEM_POPULATE_PHYSMAP, &[0], 9, XENMEMF_POPULATE_ON_DEMAND), 1);
    let pod = |op, domid, target_pages| {
        let mut call =
            PodTarget { target_pages, tot_pages: 0, pod_cache_pages: 0, pod_entries: 0, domid, _gap0: [0; 6] };
        let result = hvm.world.with(&hvm.world.dom0, memory_op, op, &mut call, &[]);
        (result, call.tot_pages, call.pod_cache_pages, call.pod_entries)
    };
    assert_eq!(pod(XENMEM_SET_POD_TARGET, 2, 3000).0, error(Errno::INVAL), "above its limit");
    assert_eq!(pod(XENMEM_SET_POD_TARGET, 2, 3), (0, 3, 3, 512));
    assert_eq!(pod(XENMEM_GET_POD_TARGET, 1, 0).0, error(Errno::INVAL), "a PV domain");
    assert_eq!(pod(XENMEM_GET_POD_TARGET, 77, 0).0, error(Errno::SRCH));
    let held = hvm.world.hypervisor.hold(&hvm.hvm, 9, true).unwrap();
    assert_eq!((hvm.at(9), hvm.at(8).0), ((Type::RamRw, held.mfn()), Type::PopulateOnDemand));
    drop(held);
    assert_eq!(hvm.reserve(XENMEM_DECREASE_RESERVATION, &[0], 9, 0), 1);
    assert_eq!(pod(XENMEM_GET_POD_TARGET, 2, 0), (0, 0, 0, 0));
    let own = MemoryReservation {
        extent_start: list(),
        nr_extents: 1,
        extent_order: 0,
        mem_flags: XENMEMF_POPULATE_ON_DEMAND,
        domid: DomId::SELF.0,
        _gap0: [0; 6],
    };
    hvm.world.put(LIST, &[0u64]);
    assert_eq!(hvm.world.with(&hvm.hvm, memory_op, XENMEM_POPULATE_PHYSMAP, &mut { own }, &[]), 0);
    hvm.end();
}

#[test]
fn shared_frames_get_places() {
    let hvm = Hvm::new();
    hvm.populate(&[5, 6], 0);
    let (_, ram) = hvm.at(5);
    assert_eq!(hvm.add(XENMAPSPACE_SHARED_INFO, 0, 5), 0);
    assert_eq!((hvm.at(5), hvm.hvm.memory.total_pages()), ((Type::RamRw, hvm.hvm.shared_info), 1));
    assert_eq!(hvm.world.hypervisor.memory.frames().view(ram).unwrap().references, 0, "what was there is free");
    assert_eq!(hvm.add(XENMAPSPACE_SHARED_INFO, 0, 9), 0);
    assert_eq!((hvm.at(5).0, hvm.at(9).1), (Type::MmioDm, hvm.hvm.shared_info), "it is in one place only");
    assert_eq!(hvm.add(XENMAPSPACE_SHARED_INFO, 1, 9), error(Errno::INVAL));
    assert_eq!(hvm.add(XENMAPSPACE_GRANT_TABLE, 1, 20), 0);
    assert_eq!(Some(hvm.at(20).1), hvm.hvm.gnttab.frame(gnttab::FrameKind::Shared, 1));
    assert_eq!(hvm.add(XENMAPSPACE_GRANT_TABLE, 99, 21), error(Errno::INVAL));
    // Its own memory moves.
    let (_, ram) = hvm.at(6);
    assert_eq!(hvm.add(XENMAPSPACE_GMFN, 6, 30), 0);
    assert_eq!((hvm.at(6).0, hvm.at(30), hvm.m2p(ram)), (Type::MmioDm, (Type::RamRw, ram), 30));
    assert_eq!(hvm.add(XENMAPSPACE_GMFN, 6, 30), error(Errno::ACCES), "nothing is there");
    assert_eq!(hvm.add(XENMAPSPACE_DEV_MMIO, 6, 30), error(Errno::ACCES));
    assert_eq!(hvm.add(XENMAPSPACE_GMFN_FOREIGN, 6, 30), error(Errno::NOSYS));
    let remove = |gpfn| {
        let mut call = RemoveFromPhysmap { domid: 2, _gap0: [0; 6], gpfn };
        hvm.world.with(&hvm.world.dom0, memory_op, XENMEM_REMOVE_FROM_PHYSMAP, &mut call, &[])
    };
    assert_eq!((remove(30), remove(30)), (0, error(Errno::NOENT)));
    assert_eq!((hvm.hvm.memory.total_pages(), hvm.m2p(ram)), (1, !0), "it is the domain's still");
    hvm.end();
}

#[test]
fn a_batch_tells_of_each() {
    let hvm = Hvm::new();
    hvm.populate(&[5], 0);
    let other = hvm.world.frames(&hvm.world.guest, 1)[0];
    let batch = |space: u32, foreign: u16, idxs: [u64; 2], gfns: [u64; 2]| {
        hvm.world.put(LIST, &idxs);
        hvm.world.put(LIST + 64, &gfns);
        hvm.world.put(LIST + 128, &[0i32; 2]);
        let mut call = AddToPhysmapBatch {
            domid: 2,
            space: space as u16,
            size: 2,
            u: foreign,
            idxs: list(),
            gpfns: GuestHandle::new(LIST + 64),
            errs: GuestHandle::new(LIST + 128),
        };
        let result = hvm.world.with(&hvm.world.dom0, memory_op, XENMEM_ADD_TO_PHYSMAP_BATCH, &mut call, &[]);
        (result, hvm.world.get::<[i32; 2]>(LIST + 128))
    };
    assert_eq!(batch(XENMAPSPACE_GMFN, 0, [5, 6], [8, 9]), (0, [0, error(Errno::ACCES) as i32]));
    assert_eq!(hvm.at(8).0, Type::RamRw);
    assert_eq!(batch(XENMAPSPACE_GMFN_FOREIGN, 1, [other.0, 4000], [8, 9]), (0, [0, error(Errno::INVAL) as i32]));
    assert_eq!(hvm.at(8), (Type::MapForeign, other));
    assert_eq!(hvm.hvm.memory.total_pages(), 0, "its own memory there has gone");
    assert_eq!(batch(XENMAPSPACE_GMFN_FOREIGN, 2, [8, 8], [8, 9]), (0, [error(Errno::INVAL) as i32; 2]), "its own");
    assert_eq!(batch(XENMAPSPACE_GMFN_RANGE, 0, [0; 2], [0; 2]).0, error(Errno::OPNOTSUPP));
    hvm.world.hypervisor.destroy(&hvm.hvm).unwrap();
    assert_eq!(hvm.world.hypervisor.memory.frames().view(other).unwrap().references, 1);
}

#[test]
fn a_range_moves_piece_by_piece() {
    let hvm = Hvm::new();
    hvm.populate(&[512], 9);
    let (_, first) = hvm.at(512);
    hvm.world.machine().yield_after.store(100, SeqCst);
    let mut call = AddToPhysmap { domid: 2, size: 300, space: XENMAPSPACE_GMFN_RANGE, idx: 512, gpfn: 2048 };
    hvm.world.put(AT, &call);
    let args = [u64::from(XENMEM_ADD_TO_PHYSMAP), AT];
    let outcome = hvm.world.call(&hvm.world.dom0, memory_op, &args);
    assert!(matches!(outcome, Outcome::Again(again) if again[0] >> 6 > 0), "{outcome:?}");
    hvm.world.machine().yield_after.store(u64::MAX, SeqCst);
    let Outcome::Again(args) = outcome else { unreachable!() };
    assert_eq!(hvm.world.finish(&hvm.world.dom0, memory_op, &args), 0);
    assert_eq!((hvm.at(2048).1, hvm.at(2347).1, hvm.at(811).0), (first, first.offset(299), Type::MmioDm));
    call.domid = 1;
    let refused = |domain, call: &mut AddToPhysmap| hvm.world.with(domain, memory_op, XENMEM_ADD_TO_PHYSMAP, call, &[]);
    assert_eq!(refused(&hvm.world.dom0, &mut call), error(Errno::ACCES), "a PV domain");
    call.domid = 2;
    assert_eq!(refused(&hvm.world.guest, &mut call), error(Errno::PERM));
    hvm.end();
}

#[test]
fn what_only_pv_domains_have_is_refused() {
    let hvm = Hvm::new();
    hvm.populate(&[5], 0);
    let side = |order| MemoryReservation {
        extent_start: list(),
        nr_extents: 1,
        extent_order: order,
        mem_flags: 0,
        domid: DomId::SELF.0,
        _gap0: [0; 6],
    };
    hvm.world.put(LIST, &[5u64]);
    let mut call = MemoryExchange { r#in: side(0), out: side(0), nr_exchanged: 0 };
    assert_eq!(hvm.world.with(&hvm.hvm, memory_op, XENMEM_EXCHANGE, &mut call, &[]), error(Errno::OPNOTSUPP));
    let mut call = Transfer { mfn: 5, domid: 1, _gap0: [0; 2], r#ref: 0, status: 0, _gap1: [0; 6] };
    for command in [GNTTABOP_TRANSFER, GNTTABOP_UNMAP_AND_REPLACE, GNTTABOP_CACHE_FLUSH, GNTTABOP_GET_STATUS_FRAMES] {
        assert_eq!(hvm.world.with(&hvm.hvm, grant_table_op, command, &mut call, &[1]), error(Errno::NOSYS));
    }
    assert_eq!(call.status, 0);
    hvm.end();
}

/// Writes a grant of version 1 into a domain's table.
fn grant(hvm: &Hvm, domain: &Domain<FakeArch>, reference: u64, to: u16, frame: u64) {
    let table = domain.gnttab.frame(gnttab::FrameKind::Shared, 0).unwrap();
    let word = u64::from(GTF_PERMIT_ACCESS) | u64::from(to) << 16 | frame << 32;
    hvm.world.machine().table(table).unwrap()[reference as usize].store(word, SeqCst);
}

fn map(hvm: &Hvm, domain: &Arc<Domain<FakeArch>>, from: u16, address: u64, flags: u32) -> MapGrantRef {
    let mut call =
        MapGrantRef { host_addr: address, flags, r#ref: 9, dom: from, status: 0, handle: 0, dev_bus_addr: 0 };
    assert_eq!(hvm.world.with(domain, grant_table_op, GNTTABOP_MAP_GRANT_REF, &mut call, &[1]), 0);
    call
}

#[test]
fn grants_are_mapped_by_a_translated_domain() {
    let hvm = Hvm::new();
    hvm.populate(&[5], 0);
    let mut setup = SetupTable { dom: 1, _gap0: [0; 2], nr_frames: 1, status: 0, _gap1: [0; 6], frame_list: list() };
    assert_eq!(hvm.world.with(&hvm.world.dom0, grant_table_op, GNTTABOP_SETUP_TABLE, &mut setup, &[1]), 0);
    let frame = hvm.world.frames(&hvm.world.guest, 1)[0];
    grant(&hvm, &hvm.world.guest, 9, 2, frame.0);
    assert_eq!(map(&hvm, &hvm.hvm, 1, 0x8000, GNTMAP_HOST_MAP | GNTMAP_DEVICE_MAP).status, GNTST_GENERAL_ERROR);
    let call = map(&hvm, &hvm.hvm, 1, 0x8000, GNTMAP_HOST_MAP | GNTMAP_READONLY);
    assert_eq!((call.status, call.dev_bus_addr, hvm.at(8)), (GNTST_OKAY, frame.address(), (Type::GrantMapRo, frame)));
    let writable = map(&hvm, &hvm.hvm, 1, 0x9000, GNTMAP_HOST_MAP);
    assert_eq!((writable.status, hvm.at(9).0), (GNTST_OKAY, Type::GrantMapRw));
    let view = || hvm.world.hypervisor.memory.frames().view(frame).unwrap();
    assert_eq!((view().references, view().uses), (3, 1));

    let unmap = |host_addr, handle| {
        let mut call = UnmapGrantRef { host_addr, dev_bus_addr: 0, handle, status: 0, _gap0: [0; 2] };
        assert_eq!(hvm.world.with(&hvm.hvm, grant_table_op, GNTTABOP_UNMAP_GRANT_REF, &mut call, &[1]), 0);
        call.status
    };
    assert_eq!(unmap(0x7000, writable.handle), GNTST_GENERAL_ERROR, "it is elsewhere");
    assert_eq!(unmap(0x9000, writable.handle), GNTST_OKAY);
    assert_eq!((view().references, view().uses, hvm.at(9).0), (2, 0, Type::MmioDm));
    // The other one goes with the domain.
    hvm.world.hypervisor.destroy(&hvm.hvm).unwrap();
    assert_eq!(view().references, 1);
}

#[test]
fn a_translated_domain_grants_by_its_own_numbers() {
    let hvm = Hvm::new();
    hvm.populate(&[5], 0);
    assert_eq!(hvm.add(XENMAPSPACE_GRANT_TABLE, 0, 20), 0);
    grant(&hvm, &hvm.hvm, 9, 0, 5);
    let (_, mfn) = hvm.at(5);
    let call = map(&hvm, &hvm.world.dom0, 2, 0, GNTMAP_DEVICE_MAP);
    assert_eq!((call.status, call.dev_bus_addr), (GNTST_OKAY, mfn.address()));
    // While it is mapped it outlives its place.
    assert_eq!(hvm.reserve(XENMEM_DECREASE_RESERVATION, &[5], 0, 0), 1);
    assert_eq!(hvm.world.hypervisor.memory.frames().view(mfn).unwrap().references, 1);
    let mut unmap =
        UnmapGrantRef { host_addr: 0, dev_bus_addr: mfn.address(), handle: call.handle, status: 0, _gap0: [0; 2] };
    assert_eq!(hvm.world.with(&hvm.world.dom0, grant_table_op, GNTTABOP_UNMAP_GRANT_REF, &mut unmap, &[1]), 0);
    assert_eq!((unmap.status, hvm.hvm.memory.total_pages()), (GNTST_OKAY, 0));
    grant(&hvm, &hvm.hvm, 9, 0, 6);
    assert_eq!(map(&hvm, &hvm.world.dom0, 2, 0, GNTMAP_DEVICE_MAP).status, GNTST_BAD_PAGE);
    let mut table = SetupTable { dom: 2, _gap0: [0; 2], nr_frames: 1, status: 0, _gap1: [0; 6], frame_list: list() };
    assert_eq!(hvm.world.with(&hvm.world.dom0, grant_table_op, GNTTABOP_SETUP_TABLE, &mut table, &[1]), 0);
    assert_eq!((table.status, hvm.world.get::<u64>(LIST)), (GNTST_OKAY, 20), "where it is");
    hvm.end();
}
