//! A ring, with a watcher that behaves, and with one that does not.

use platform::fakes::FakeMachine;
use platform::{Frames, Table, read_bytes, write_bytes};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering::SeqCst;
use types::{DomId, Errno, Gfn, Mfn, Result, VcpuId};
use vm_event::{Book, Host, Monitor, SLOTS, Sent, Wait};
use xen_abi::vm_event::*;
use zerocopy::{FromZeros, IntoBytes};

const WATCHER: DomId = DomId(0);
const PAGE: Mfn = Mfn(3);
const VCPUS: u32 = 12;
/// Where slots begin, and how long they are.
const SLOT: (usize, usize) = (64, 400);

#[derive(Default)]
struct Books {
    is_dying: bool,
    ports: BTreeSet<u32>,
    ports_left: u32,
    next_port: u32,
    notified: u32,
    held: BTreeSet<u64>,
    /// vCPU, and whether it waits for room.
    stopped: BTreeSet<(u32, bool)>,
}

struct World {
    machine: FakeMachine,
    books: RefCell<Books>,
}

impl Frames for &World {
    fn table(&self, mfn: Mfn) -> Option<&Table> {
        self.machine.table(mfn)
    }
}

impl Host for &World {
    fn is_dying(&self) -> bool {
        self.books.borrow().is_dying
    }
    fn open_port(&self, watcher: DomId) -> Result<u32> {
        assert_eq!(watcher, WATCHER);
        let mut books = self.books.borrow_mut();
        books.ports_left = books.ports_left.checked_sub(1).ok_or(Errno::NOSPC)?;
        books.next_port += 1;
        let port = books.next_port;
        books.ports.insert(port);
        Ok(port)
    }
    fn close_port(&self, port: u32) {
        assert!(self.books.borrow_mut().ports.remove(&port));
    }
    fn notify(&self, port: u32) {
        let mut books = self.books.borrow_mut();
        assert!(books.ports.contains(&port));
        books.notified += 1;
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
    fn stop(&self, vcpu: VcpuId, wait: Wait) {
        assert!(vcpu.0 < VCPUS);
        self.books.borrow_mut().stopped.insert((vcpu.0, wait == Wait::Room));
    }
    fn waits(&self, vcpu: VcpuId, wait: Wait) -> bool {
        self.books.borrow().stopped.contains(&(vcpu.0, wait == Wait::Room))
    }
    fn go_on(&self, vcpu: VcpuId, wait: Wait) {
        self.books.borrow_mut().stopped.remove(&(vcpu.0, wait == Wait::Room));
    }
    fn vcpus(&self) -> u32 {
        VCPUS
    }
}

impl World {
    fn new() -> World {
        World { machine: FakeMachine::new(8), books: RefCell::new(Books { ports_left: 4, ..Books::default() }) }
    }

    fn page(&self) -> &Table {
        self.machine.table(PAGE).unwrap()
    }

    /// What the watcher does first: `SHARED_RING_INIT`.
    fn prepare(&self) {
        self.page()[0].store(1 << 32, SeqCst);
        self.page()[1].store(1 << 32, SeqCst);
    }

    fn produced(&self) -> u32 {
        self.page()[0].load(SeqCst) as u32
    }

    fn request(&self, number: u32) -> VmEvent {
        let mut event = VmEvent::new_zeroed();
        read_bytes(self.page(), SLOT.0 + (number % SLOTS) as usize * SLOT.1, event.as_mut_bytes());
        event
    }

    /// Writes response `number`, and says that there are so many.
    fn respond(&self, number: u32, event: &VmEvent, produced: u32) {
        write_bytes(self.page(), SLOT.0 + (number % SLOTS) as usize * SLOT.1, event.as_bytes());
        let old = self.page()[1].load(SeqCst);
        self.page()[1].store(old & !0xffff_ffff | u64::from(produced), SeqCst);
    }

    fn stopped(&self) -> Vec<(u32, bool)> {
        self.books.borrow().stopped.iter().copied().collect()
    }
}

fn event(vcpu: u32) -> VmEvent {
    let mut event = VmEvent::new_zeroed();
    (event.vcpu_id, event.reason) = (vcpu, VM_EVENT_REASON_MEM_ACCESS);
    event
}

/// The response that has a vCPU go on.
fn release(vcpu: u32) -> VmEvent {
    VmEvent { version: VM_EVENT_INTERFACE_VERSION, flags: VM_EVENT_FLAG_VCPU_PAUSED, ..event(vcpu) }
}

/// Those that `resume` passes on.
fn answers(monitor: &Monitor<'_, &World>) -> Vec<u32> {
    let mut seen = Vec::new();
    monitor.resume(|vcpu, _| seen.push(vcpu.0)).unwrap();
    seen
}

#[test]
fn one_watches_at_a_time() {
    let (book, world) = (Book::default(), World::new());
    let monitor = Monitor::new(&book, &world);
    assert_eq!((monitor.disable(), monitor.resume(|_, _| ())), (Err(Errno::INVAL), Err(Errno::NODEV)));
    assert_eq!(monitor.send(event(0), true), Sent::Nobody);
    assert_eq!(monitor.enable(Gfn(0), WATCHER), Err(Errno::OPNOTSUPP), "no page was set aside");
    assert_eq!(monitor.enable(Gfn(9), WATCHER), Err(Errno::INVAL), "no RAM");
    assert_eq!(monitor.enable(Gfn(3), WATCHER), Ok(1));
    assert_eq!(monitor.enable(Gfn(3), WATCHER), Err(Errno::BUSY));
    assert!(book.is_watched());
    assert_eq!(monitor.disable(), Ok(()));
    assert!(!book.is_watched() && world.books.borrow().held.is_empty() && world.books.borrow().ports.is_empty());
    world.books.borrow_mut().ports_left = 0;
    assert_eq!(monitor.enable(Gfn(3), WATCHER), Err(Errno::NOSPC));
    world.books.borrow_mut().is_dying = true;
    assert_eq!(monitor.enable(Gfn(3), WATCHER), Err(Errno::INVAL));
    assert!(world.books.borrow().held.is_empty(), "what was held is let go of");
}

#[test]
fn a_vcpu_waits_for_its_answer() {
    let (book, world) = (Book::default(), World::new());
    let monitor = Monitor::new(&book, &world);
    monitor.enable(Gfn(3), WATCHER).unwrap();
    world.prepare();
    for round in 0..3 * SLOTS {
        assert_eq!(monitor.send(event(5), true), Sent::Done);
        assert_eq!((world.produced(), world.books.borrow().notified), (round + 1, round + 1));
        let request = world.request(round);
        assert_eq!((request.version, request.flags), (VM_EVENT_INTERFACE_VERSION, VM_EVENT_FLAG_VCPU_PAUSED));
        assert_eq!((request.vcpu_id, request.reason), (5, VM_EVENT_REASON_MEM_ACCESS));
        assert_eq!((world.stopped(), answers(&monitor)), (vec![(5, false)], vec![]));
        world.respond(round, &release(5), round + 1);
        assert_eq!((answers(&monitor), world.stopped()), (vec![5], vec![]));
        assert_eq!(world.page()[1].load(SeqCst) >> 32, u64::from(round) + 2, "it is asked for the next");
    }
}

#[test]
fn events_that_nobody_waits_for() {
    let (book, world) = (Book::default(), World::new());
    let monitor = Monitor::new(&book, &world);
    monitor.enable(Gfn(3), WATCHER).unwrap();
    world.prepare();
    assert_eq!((monitor.send(event(2), false), world.stopped()), (Sent::Done, vec![]));
    assert_eq!(world.request(0).flags, 0);
    world.respond(0, &release(2), 1);
    assert_eq!((answers(&monitor), world.stopped()), (vec![], vec![]), "it does not wait");
}

#[test]
fn a_full_ring_has_vcpus_wait_for_room() {
    let (book, world) = (Book::default(), World::new());
    let monitor = Monitor::new(&book, &world);
    monitor.enable(Gfn(3), WATCHER).unwrap();
    world.prepare();
    for vcpu in 0..SLOTS {
        assert_eq!(monitor.send(event(vcpu), true), Sent::Done);
    }
    assert_eq!((monitor.send(event(SLOTS), true), monitor.send(event(SLOTS + 1), false)), (Sent::Full, Sent::Full));
    assert_eq!((world.produced(), world.books.borrow().notified), (SLOTS, SLOTS));
    assert_eq!(world.stopped()[SLOTS as usize..], [(SLOTS, true), (SLOTS + 1, true)], "for room, not for an answer");
    world.respond(0, &release(0), 1);
    assert_eq!(answers(&monitor), [0]);
    assert!(world.stopped().iter().all(|(vcpu, room)| !room && *vcpu < SLOTS));
    assert_eq!(monitor.send(event(SLOTS), true), Sent::Done);
    assert_eq!(monitor.send(event(SLOTS + 1), true), Sent::Full, "there was room for one");
}

#[test]
fn whoever_waits_goes_on_without_a_watcher() {
    let (book, world) = (Book::default(), World::new());
    let monitor = Monitor::new(&book, &world);
    monitor.enable(Gfn(3), WATCHER).unwrap();
    world.prepare();
    for vcpu in 0..SLOTS + 2 {
        monitor.send(event(vcpu), true);
    }
    assert_eq!(world.stopped().len() as u32, SLOTS + 2);
    monitor.disable().unwrap();
    assert_eq!(world.stopped(), []);
    // The next one finds an empty ring.
    monitor.enable(Gfn(3), WATCHER).unwrap();
    world.prepare();
    assert_eq!((monitor.send(event(1), true), world.produced()), (Sent::Done, 1));
}

#[test]
fn more_responses_than_requests_are_none() {
    let (book, world) = (Book::default(), World::new());
    let monitor = Monitor::new(&book, &world);
    monitor.enable(Gfn(3), WATCHER).unwrap();
    world.prepare();
    monitor.send(event(1), true);
    for produced in [2, SLOTS + 1, 1 << 31, u32::MAX] {
        world.respond(0, &release(1), produced);
        assert_eq!((answers(&monitor), world.stopped()), (vec![], vec![(1, false)]), "{produced:#x}");
    }
    world.respond(0, &release(1), 1);
    assert_eq!((answers(&monitor), world.stopped()), (vec![1], vec![]), "it has come to its senses");
}

#[test]
fn responses_with_nonsense_in_them() {
    let (book, world) = (Book::default(), World::new());
    let monitor = Monitor::new(&book, &world);
    monitor.enable(Gfn(3), WATCHER).unwrap();
    world.prepare();
    let bad = [
        VmEvent { version: 6, ..release(1) },
        VmEvent { vcpu_id: VCPUS, ..release(1) },
        VmEvent { vcpu_id: u32::MAX, ..release(1) },
        VmEvent { vcpu_id: 2, ..release(1) },
        VmEvent::new_zeroed(),
    ];
    for (number, response) in (0..).zip(bad) {
        monitor.send(event(1), number == 0);
        world.respond(number, &response, number + 1);
        assert_eq!((answers(&monitor), world.stopped()), (vec![], vec![(1, false)]), "{number}");
    }
    // One that lets it wait further is an answer, but no end.
    monitor.send(event(1), false);
    world.respond(5, &VmEvent { flags: 0, ..release(1) }, 6);
    assert_eq!((answers(&monitor), world.stopped()), (vec![1], vec![(1, false)]));
}

/// Every word of the page is whatever it is, all the time.
#[test]
fn a_page_of_noise() {
    let (book, world) = (Book::default(), World::new());
    let monitor = Monitor::new(&book, &world);
    monitor.enable(Gfn(3), WATCHER).unwrap();
    let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..2000 {
        for word in world.page() {
            noise = noise.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            // Small numbers now and then, lest all be refused alike.
            word.store(if noise >> 60 == 0 { noise >> 56 & 7 } else { noise }, SeqCst);
        }
        let vcpu = round % VCPUS;
        let (free, blocked) = (world.stopped().len(), world.stopped().iter().any(|(other, _)| *other == vcpu));
        if !blocked {
            assert!(monitor.send(event(vcpu), true) != Sent::Nobody);
            assert_eq!(world.stopped().len(), free + 1);
        }
        let mut taken = 0;
        monitor.resume(|_, _| taken += 1).unwrap();
        assert!(taken <= SLOTS);
    }
    monitor.disable().unwrap();
    assert_eq!(world.stopped(), []);
}
