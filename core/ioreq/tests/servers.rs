//! Servers, with an emulator that behaves, and with one that does not.

use ioreq::{Claim, Direction, Host, Info, Kind, Pending, Polled, Request, Sent, Servers};
use platform::fakes::FakeMachine;
use platform::{Frames, Table};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use types::{DomId, Errno, Gfn, Mfn, Result, VcpuId};
use xen_abi::dm_op::*;
use xen_abi::hvm_op::*;

const QEMU: DomId = DomId(0);
const OTHER: DomId = DomId(7);
const VCPU: VcpuId = VcpuId(1);

#[derive(Default)]
struct Books {
    ports: BTreeMap<u32, (VcpuId, DomId)>,
    next_port: u32,
    ports_left: u32,
    notified: Vec<u32>,
    frames: BTreeSet<u64>,
    held: BTreeSet<u64>,
    hidden: BTreeSet<u64>,
}

struct World {
    machine: FakeMachine,
    books: RefCell<Books>,
}

impl Frames for World {
    fn table(&self, mfn: Mfn) -> Option<&Table> {
        self.machine.table(mfn)
    }
}

impl Host for World {
    fn open_port(&self, vcpu: VcpuId, emulator: DomId) -> Result<u32> {
        let mut books = self.books.borrow_mut();
        books.ports_left = books.ports_left.checked_sub(1).ok_or(Errno::NOSPC)?;
        books.next_port += 1;
        let port = books.next_port;
        books.ports.insert(port, (vcpu, emulator));
        Ok(port)
    }
    fn close_port(&self, port: u32) {
        let mut books = self.books.borrow_mut();
        books.ports.remove(&port).expect("an open port");
        books.ports_left += 1;
    }
    fn notify(&self, port: u32) {
        let mut books = self.books.borrow_mut();
        assert!(books.ports.contains_key(&port));
        books.notified.push(port);
    }
    fn allocate_page(&self) -> Result<Mfn> {
        let mut books = self.books.borrow_mut();
        let mfn = (8..16).find(|mfn| !books.frames.contains(mfn)).ok_or(Errno::NOMEM)?;
        books.frames.insert(mfn);
        self.machine.zero(Mfn(mfn));
        Ok(Mfn(mfn))
    }
    fn free_page(&self, mfn: Mfn) {
        assert!(self.books.borrow_mut().frames.remove(&mfn.0));
    }
    fn hold(&self, gfn: Gfn) -> Result<Mfn> {
        if gfn.0 >= 8 {
            return Err(Errno::INVAL);
        }
        assert!(self.books.borrow_mut().held.insert(gfn.0));
        Ok(Mfn(gfn.0))
    }
    fn release(&self, mfn: Mfn) {
        assert!(self.books.borrow_mut().held.remove(&mfn.0));
    }
    fn hide(&self, gfn: Gfn, mfn: Mfn) {
        assert_eq!(gfn.0, mfn.0);
        assert!(self.books.borrow_mut().hidden.insert(gfn.0));
    }
    fn show(&self, gfn: Gfn, mfn: Mfn) {
        assert!(self.machine.table(mfn).unwrap().iter().all(|word| word.load(Ordering::Relaxed) == 0));
        assert!(self.books.borrow_mut().hidden.remove(&gfn.0));
    }
}

fn servers() -> Servers<'static, World> {
    let books = RefCell::new(Books { ports_left: 40, ..Books::default() });
    Servers::new(Box::leak(Box::default()), World { machine: FakeMachine::new(16), books })
}

fn vcpus() -> impl Iterator<Item = VcpuId> {
    (0..2).map(VcpuId)
}

/// An enabled server with its own pages, for ports 0x100 to 0x1ff.
fn serving(servers: &Servers<'static, World>, buffering: u8) -> (u16, Mfn, Option<Mfn>) {
    let id = servers.create(QEMU, buffering, vcpus()).unwrap();
    let page = servers.frame(id, QEMU, 1).unwrap();
    let ring = servers.frame(id, QEMU, 0).ok();
    servers.map_range(id, QEMU, XEN_DMOP_IO_RANGE_PORT, 0x100, 0x1ff).unwrap();
    servers.set_enabled(id, QEMU, true).unwrap();
    (id, page, ring)
}

fn read_port(port: u64) -> Request {
    Request::single(Kind::Port, Direction::Read, port, 0, 4)
}

fn word(servers: &Servers<'static, World>, mfn: Mfn, index: usize) -> u64 {
    servers.host().table(mfn).unwrap()[index].load(Ordering::Relaxed)
}

fn set_word(servers: &Servers<'static, World>, mfn: Mfn, index: usize, value: u64) {
    servers.host().table(mfn).unwrap()[index].store(value, Ordering::Relaxed);
}

fn set_state(servers: &Servers<'static, World>, page: Mfn, vcpu: VcpuId, state: u64) {
    let index = vcpu.index() * 4 + 3;
    set_word(servers, page, index, word(servers, page, index) & !(0xf << 48) | state << 48);
}

fn wait(sent: Sent) -> Pending {
    match sent {
        Sent::Wait(pending) => pending,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_request_goes_out_and_its_answer_comes_back() {
    let servers = servers();
    let (_, page, ring) = serving(&servers, HVM_IOREQSRV_BUFIOREQ_OFF);
    assert_eq!(ring, None);
    let request = Request {
        kind: Kind::Port,
        direction: Direction::Write,
        address: 0x1f0,
        data: 0x1122_3344_5566_7788,
        size: 2,
        count: 3,
        downwards: true,
        data_is_address: true,
    };
    let mut pending = wait(servers.send(VCPU, &request, false));
    assert_eq!(servers.host().books.borrow().notified, [pending.port()]);
    assert_eq!((word(&servers, page, 4), word(&servers, page, 5)), (0x1f0, 0x1122_3344_5566_7788));
    assert_eq!(word(&servers, page, 6), 2 << 32 | 3);
    // READY, data_is_ptr, a write, downwards; type 0.
    assert_eq!(word(&servers, page, 7), u64::from(pending.port()) | 0x51 << 48);
    assert_eq!(servers.poll(&mut pending), Polled::Waiting);
    set_state(&servers, page, VCPU, 2);
    assert_eq!(servers.poll(&mut pending), Polled::Waiting);
    set_word(&servers, page, 5, 99);
    set_state(&servers, page, VCPU, 3);
    assert_eq!(servers.poll(&mut pending), Polled::Done(99));
    assert_eq!(word(&servers, page, 7) >> 48 & 0xf, 0);
    wait(servers.send(VCPU, &read_port(0x100), false));
}

#[test]
fn an_emulator_that_breaks_the_page_harms_the_guest_alone() {
    let servers = servers();
    let (id, page, _) = serving(&servers, HVM_IOREQSRV_BUFIOREQ_OFF);
    let mut pending = wait(servers.send(VCPU, &read_port(0x100), false));
    set_state(&servers, page, VCPU, 2);
    assert_eq!(servers.poll(&mut pending), Polled::Waiting);
    set_state(&servers, page, VCPU, 1);
    assert_eq!(servers.poll(&mut pending), Polled::Broken { before: 2, now: 1 });
    set_state(&servers, page, VCPU, 9);
    assert_eq!(servers.poll(&mut pending), Polled::Broken { before: 2, now: 9 });
    assert_eq!(servers.send(VCPU, &read_port(0x100), false), Sent::Unhandled, "the place is taken");
    set_word(&servers, page, 7, 0x1234);
    assert_eq!(servers.send(VCPU, &read_port(0x100), false), Sent::Unhandled, "another port");
    assert_eq!(servers.send(VcpuId(5), &read_port(0x100), false), Sent::Unhandled, "no such vCPU");
    assert_eq!(servers.poll(&mut pending), Polled::Done(!0), "as if the emulator had cleared it");
    let mut pending = wait(servers.send(VcpuId(0), &read_port(0x100), false));
    servers.destroy(id, QEMU).unwrap();
    serving(&servers, HVM_IOREQSRV_BUFIOREQ_OFF);
    assert_eq!(servers.poll(&mut pending), Polled::Done(!0), "a server of the same number is another");
}

#[test]
fn ranges_decide() {
    let servers = servers();
    let (first, ..) = serving(&servers, HVM_IOREQSRV_BUFIOREQ_OFF);
    let (second, ..) = serving(&servers, HVM_IOREQSRV_BUFIOREQ_OFF);
    let who = |request: &Request| match servers.send(VCPU, request, false) {
        // Its page is free again for the next.
        Sent::Wait(pending) => {
            let page = servers.frame(if pending.port() < 3 { first } else { second }, QEMU, 1).unwrap();
            set_state(&servers, page, VCPU, 0);
            Some(if pending.port() < 3 { first } else { second })
        }
        Sent::Nobody => None,
        other => panic!("{other:?}"),
    };
    assert_eq!(who(&read_port(0x1fc)), Some(second), "the later one goes first");
    servers.set_enabled(second, QEMU, false).unwrap();
    assert_eq!(who(&read_port(0x1fc)), Some(first));
    assert_eq!(who(&read_port(0x1fd)), None, "all of it or nothing");
    assert_eq!(who(&read_port(u64::MAX)), None);
    servers.set_enabled(second, QEMU, true).unwrap();
    let memory = |address, count, downwards| Request {
        count,
        downwards,
        ..Request::single(Kind::Memory, Direction::Read, address, 0, 8)
    };
    assert_eq!(servers.map_range(second, QEMU, XEN_DMOP_IO_RANGE_MEMORY, 0x1000, 0x1fff), Ok(()));
    assert_eq!(who(&memory(0x1f80, 16, false)), Some(second));
    assert_eq!(who(&memory(0x1f80, 17, false)), None);
    assert_eq!(who(&memory(0x1018, 4, true)), Some(second));
    assert_eq!(who(&memory(0x1018, 5, true)), None);
    assert_eq!(who(&memory(8, 5, true)), None);
    assert_eq!(who(&memory(!7, 5, false)), None);
    assert!(servers.is_claimed(&memory(0x1000, 1, false)) && !servers.is_claimed(&memory(0x2000, 1, false)));
    let range = |kind, start, end| servers.map_range(second, QEMU, kind, start, end);
    assert_eq!(range(XEN_DMOP_IO_RANGE_MEMORY, 0x1fff, 0x2000), Err(Errno::EXIST));
    assert_eq!(range(XEN_DMOP_IO_RANGE_MEMORY, 2, 1), Err(Errno::INVAL));
    assert_eq!(range(3, 1, 2), Err(Errno::INVAL));
    assert_eq!(servers.unmap_range(second, QEMU, XEN_DMOP_IO_RANGE_MEMORY, 0x1fff, 0x2000), Err(Errno::NOENT));
    assert_eq!(servers.unmap_range(second, QEMU, XEN_DMOP_IO_RANGE_MEMORY, 0x1000, 0x1fff), Ok(()));
    assert_eq!(who(&memory(0x1f80, 1, false)), None);
    assert_eq!(servers.unmap_range(second, OTHER, XEN_DMOP_IO_RANGE_PORT, 0x100, 0x1ff), Err(Errno::PERM));
    assert_eq!(servers.map_range(5, QEMU, XEN_DMOP_IO_RANGE_PORT, 0, 1), Err(Errno::NOENT));
    assert_eq!(servers.map_range(999, QEMU, XEN_DMOP_IO_RANGE_PORT, 0, 1), Err(Errno::NOENT));
}

#[test]
fn configuration_space_goes_by_device() {
    let servers = servers();
    let (id, page, _) = serving(&servers, HVM_IOREQSRV_BUFIOREQ_OFF);
    let device = 3 << 3 | 1;
    servers.map_range(id, QEMU, XEN_DMOP_IO_RANGE_PCI, device, device).unwrap();
    let data = Request::single(Kind::Port, Direction::Read, 0xcfe, 0, 2);
    assert_eq!(servers.send(VCPU, &data, false), Sent::Nobody);
    servers.note_pci_address(0x8000_0000 | (device as u32) << 8 | 0x3c);
    wait(servers.send(VCPU, &data, false));
    assert_eq!(word(&servers, page, 4), device << 32 | 0x3e);
    assert_eq!(word(&servers, page, 7) >> 56, 2);
    set_state(&servers, page, VCPU, 0);
    servers.note_pci_address(0x8000_0000 | (device as u32 + 1) << 8);
    assert_eq!(servers.send(VCPU, &data, false), Sent::Nobody);
    // Without the enabling bit they are ports.
    servers.note_pci_address((device as u32) << 8);
    servers.map_range(id, QEMU, XEN_DMOP_IO_RANGE_PORT, 0xcf8, 0xcff).unwrap();
    wait(servers.send(VCPU, &data, false));
    assert_eq!(word(&servers, page, 7) >> 56, 0);
}

#[test]
fn the_ring_takes_what_needs_no_answer() {
    let servers = servers();
    let (_, _, ring) = serving(&servers, HVM_IOREQSRV_BUFIOREQ_ATOMIC);
    let ring = ring.unwrap();
    let write = |address, data, size| {
        servers.send(VCPU, &Request::single(Kind::Port, Direction::Write, address, data, size), true)
    };
    assert_eq!(write(0x104, 0xabcd, 2), Sent::Buffered);
    assert_eq!(word(&servers, ring, 0), 1 << 32);
    assert_eq!(word(&servers, ring, 1), 0xabcd << 32 | 0x104 << 12 | 1 << 10);
    assert_eq!(write(0x108, 0x1111_2222_3333_4444, 8), Sent::Buffered);
    assert_eq!(word(&servers, ring, 0), 3 << 32);
    assert_eq!(word(&servers, ring, 2) >> 32, 0x3333_4444);
    assert_eq!(word(&servers, ring, 3) >> 32, 0x1111_2222);
    assert_eq!(write(0x100, 0, 3), Sent::Unhandled);
    let repeated = Request { count: 2, ..read_port(0x100) };
    assert_eq!(servers.send(VCPU, &repeated, true), Sent::Unhandled);
    (3..510).for_each(|n| assert_eq!(write(0x100, n, 1), Sent::Buffered));
    assert_eq!(write(0x108, 0, 8), Sent::Unhandled, "one slot is left");
    assert_eq!(write(0x100, 0, 1), Sent::Buffered);
    assert_eq!(write(0x100, 0, 1), Sent::Unhandled);
    assert_eq!(word(&servers, ring, 0), 511 << 32);
    // The emulator has read all: the pointers go back with the next.
    set_word(&servers, ring, 0, 511 << 32 | 511);
    assert_eq!(write(0x100, 7, 1), Sent::Buffered);
    assert_eq!(word(&servers, ring, 0), 1 << 32);
    assert_eq!(word(&servers, ring, 1) >> 32, 7);
    // The emulator lies about where it is.
    for pointers in [!0u64, 5, 0xffff_ffff, 0xffff_fff0_0000_0000, 0x8000_0000_7fff_ffff] {
        set_word(&servers, ring, 0, pointers);
        let _ = write(0x100, 7, 8);
    }
    let time = Request::single(Kind::TimeOffset, Direction::Write, 0, 1 << 40, 8);
    set_word(&servers, ring, 0, 0);
    assert_eq!(servers.broadcast(&time), 0);
    assert_eq!((word(&servers, ring, 1), word(&servers, ring, 2)), (7 | 3 << 10, 7 | 3 << 10 | 1 << 40));
    serving(&servers, HVM_IOREQSRV_BUFIOREQ_OFF);
    assert_eq!(servers.broadcast(&time), 1);
}

#[test]
fn pages_are_frames_or_guest_frames() {
    let servers = servers();
    let id = servers.create(QEMU, HVM_IOREQSRV_BUFIOREQ_LEGACY, vcpus()).unwrap();
    assert_eq!(servers.info(id, QEMU, true), Err(Errno::NOMEM));
    assert_eq!(servers.set_frame_count(0), Err(Errno::INVAL));
    assert_eq!(servers.set_frame_count(65), Err(Errno::INVAL));
    servers.set_frame_base(Gfn(2));
    servers.set_frame_count(1).unwrap();
    assert_eq!(servers.info(id, QEMU, true), Err(Errno::NOMEM), "the ring needs one, too");
    assert!(servers.host().books.borrow().held.is_empty());
    servers.set_legacy_frame(true, Gfn(5));
    let info = Info { requests: Some(Gfn(2)), ring: Some(Gfn(5)), ring_port: Some(2) };
    assert_eq!(servers.info(id, QEMU, true), Ok(info));
    assert_eq!(servers.info(id, QEMU, false), Ok(Info { ring_port: Some(2), ..Info::default() }));
    assert_eq!(servers.frame(id, QEMU, 1), Err(Errno::PERM));
    assert!(servers.is_server_page(Mfn(2)) && servers.is_server_page(Mfn(5)) && !servers.is_server_page(Mfn(3)));
    set_word(&servers, Mfn(2), 9, 5);
    servers.set_enabled(id, QEMU, true).unwrap();
    servers.set_enabled(id, QEMU, true).unwrap();
    assert_eq!(servers.host().books.borrow().hidden, [2, 5].into());
    assert_eq!((word(&servers, Mfn(2), 3), word(&servers, Mfn(2), 7), word(&servers, Mfn(2), 9)), (1, 3, 0));
    assert_eq!(servers.destroy(id, OTHER), Err(Errno::PERM));
    servers.destroy(id, QEMU).unwrap();
    let books = servers.host().books.borrow();
    assert!(books.hidden.is_empty() && books.held.is_empty() && books.ports.is_empty());
    drop(books);

    let id = servers.create(QEMU, HVM_IOREQSRV_BUFIOREQ_OFF, vcpus()).unwrap();
    assert_eq!(servers.frame(id, QEMU, 0), Err(Errno::NOENT));
    assert_eq!(servers.frame(id, QEMU, 2), Err(Errno::INVAL));
    assert_eq!(servers.frame(id, QEMU, 1), Ok(Mfn(8)));
    assert_eq!(servers.info(id, QEMU, true), Err(Errno::PERM));
    servers.destroy_all();
    assert!(servers.host().books.borrow().frames.is_empty());
}

#[test]
fn vcpus_come_and_go() {
    let servers = servers();
    let (id, page, _) = serving(&servers, HVM_IOREQSRV_BUFIOREQ_ATOMIC);
    servers.add_vcpu(VcpuId(2)).unwrap();
    assert_eq!(servers.add_vcpu(VcpuId(2)), Err(Errno::EXIST));
    assert_eq!(servers.add_vcpu(VcpuId(128)), Err(Errno::INVAL));
    assert_ne!(word(&servers, page, 11), 0, "its port is announced");
    wait(servers.send(VcpuId(2), &read_port(0x100), false));
    servers.create(QEMU, HVM_IOREQSRV_BUFIOREQ_OFF, []).unwrap();
    servers.host().books.borrow_mut().ports_left = 1;
    assert_eq!(servers.add_vcpu(VcpuId(3)), Err(Errno::NOSPC));
    assert_eq!(servers.host().books.borrow().ports_left, 1, "none has it");
    assert_eq!(servers.create(QEMU, HVM_IOREQSRV_BUFIOREQ_OFF, vcpus()), Err(Errno::NOSPC));
    assert_eq!(servers.host().books.borrow().ports_left, 1);
    (0..3).for_each(|vcpu| servers.remove_vcpu(VcpuId(vcpu)));
    assert!(servers.host().books.borrow().ports.is_empty());
    servers.destroy(id, QEMU).unwrap();
    assert_eq!(servers.create(QEMU, 3, []), Err(Errno::INVAL));
    for _ in 0..7 {
        servers.create(QEMU, 0, []).unwrap();
    }
    assert_eq!(servers.create(QEMU, 0, []), Err(Errno::NOSPC));
}

#[test]
fn one_server_claims_memory() {
    let servers = servers();
    let (first, ..) = serving(&servers, HVM_IOREQSRV_BUFIOREQ_OFF);
    let (second, ..) = serving(&servers, HVM_IOREQSRV_BUFIOREQ_OFF);
    let write = XEN_DMOP_IOREQ_MEM_ACCESS_WRITE;
    let claim = |id, accesses, entries| servers.claim_memory(id, QEMU, HVMMEM_IOREQ_SERVER, accesses, entries);
    assert_eq!(claim(first, XEN_DMOP_IOREQ_MEM_ACCESS_READ, 0), Err(Errno::INVAL));
    assert_eq!(servers.claim_memory(first, QEMU, HVMMEM_RAM_RW, write, 0), Err(Errno::INVAL));
    assert_eq!(claim(first, 0, 0), Err(Errno::INVAL));
    assert_eq!(claim(first, write, 1), Err(Errno::BUSY), "of an earlier claim");
    assert_eq!(claim(first, write, 0), Ok(()));
    assert_eq!(servers.claim(), Some(Claim { server: first, accesses: write }));
    assert_eq!(claim(second, write, 0), Err(Errno::BUSY));
    assert_eq!(claim(second, 0, 0), Err(Errno::INVAL));
    let store = Request::single(Kind::Memory, Direction::Write, 0x5000, 1, 4);
    assert_eq!(servers.send(VCPU, &store, false), Sent::Nobody);
    wait(servers.send_to(first, VCPU, &store));
    assert_eq!(claim(first, 0, 9), Ok(()));
    assert_eq!(claim(second, write, 0), Ok(()));
    servers.destroy(second, QEMU).unwrap();
    assert_eq!(servers.claim(), None);
    assert_eq!(servers.send_to(second, VCPU, &store), Sent::Nobody);
}

/// Changes a word of some server's page. `next` gives a number below its argument.
fn scribble(servers: &Servers<'static, World>, next: &mut impl FnMut(u64) -> u64) {
    let books = servers.host().books.borrow();
    let pages: Vec<u64> = books.frames.iter().chain(&books.held).copied().collect();
    if pages.is_empty() {
        return;
    }
    let page = Mfn(pages[next(pages.len() as u64) as usize]);
    let at = next(13) as usize;
    let old = word(servers, page, at);
    let value = match next(16) {
        0 => next(1 << 53) << 11 | next(2048),
        1 => old ^ 1 << next(64),
        // A state, if it is a word with one.
        _ => old & !(0xf << 48) | next(5) << 48,
    };
    set_word(servers, page, at, value);
}

fn any_request(next: &mut impl FnMut(u64) -> u64) -> Request {
    let kinds = [Kind::Port, Kind::Memory, Kind::TimeOffset];
    let direction = if next(2) == 0 { Direction::Read } else { Direction::Write };
    let address = if next(9) == 0 { !next(64) } else { next(0x400) };
    let single = Request::single(kinds[next(3) as usize], direction, address, next(1 << 50), 1 << next(4));
    Request { count: 1 + next(2) as u32 * next(1 << 32) as u32, downwards: next(2) == 0, ..single }
}

/// An emulator that writes anything anywhere while a guest does anything.
#[test]
fn random_scribbling() {
    let mut state = 0x1234_5678_9abc_def1u64;
    let mut next = move |limit: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) % limit
    };
    let servers = servers();
    let steps = std::env::var("XENOLITH_FUZZ_STEPS").ok().and_then(|text| text.parse().ok()).unwrap_or(30_000);
    let mut pending: [Option<Pending>; 3] = [None; 3];
    let (mut answered, mut broken, mut buffered) = (0, 0, 0);
    for _ in 0..steps {
        let id = next(9) as u16;
        let vcpu = VcpuId(next(3) as u32);
        match next(16) {
            0 => {
                let _full = servers.create(DomId(u16::from(next(16) == 0)), next(3) as u8, (0..2).map(VcpuId));
            }
            1 if next(8) == 0 => {
                let _none = servers.destroy(id, DomId(next(2) as u16));
            }
            2 => {
                let _refused = servers.frame(id, QEMU, next(3));
            }
            3 => {
                servers.set_frame_count(1 + next(3)).unwrap();
                let _ = servers.info(id, QEMU, next(2) == 0);
            }
            4..=5 => {
                let start = next(0x300);
                let _ = servers.map_range(id, QEMU, next(4) as u32, start, start + next(0x80));
            }
            6 => {
                let _lacking = servers.unmap_range(id, QEMU, next(3) as u32, next(0x300), next(0x300));
            }
            7 => {
                let _none = servers.set_enabled(id, QEMU, next(3) != 0);
            }
            8..=9 => scribble(&servers, &mut next),
            10 => servers.note_pci_address(next(1 << 32) as u32 | 0x8000_0000),
            11..=13 => {
                let request = any_request(&mut next);
                let ring = next(2) == 0;
                match servers.send(vcpu, &request, ring) {
                    Sent::Wait(waiting) => pending[vcpu.index()] = Some(waiting),
                    Sent::Buffered => buffered += 1,
                    _ => {}
                }
                servers.broadcast(&request);
            }
            _ => {
                if let Some(waiting) = &mut pending[vcpu.index()] {
                    match servers.poll(waiting) {
                        Polled::Waiting => continue,
                        Polled::Done(_) => answered += 1,
                        Polled::Broken { .. } => broken += 1,
                    }
                    pending[vcpu.index()] = None;
                }
            }
        }
    }
    assert!(answered > 10 && broken > 2 && buffered > 10, "{answered} {broken} {buffered}");
    servers.destroy_all();
    let books = servers.host().books.borrow();
    assert!(books.ports.is_empty() && books.frames.is_empty() && books.held.is_empty() && books.hidden.is_empty());
}
