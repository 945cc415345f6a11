//! The FIFO ABI: against a model of its queues, and with senders and a guest that run at once.

mod common;

use common::{FifoGuest, MASK, PENDING, SPARE, bit, set_bit, table};
use evtchn::{EventChannels, Raised};
use platform::Frames;
use platform::fakes::FakeMachine;
use proptest::prelude::*;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use types::{Mfn, VcpuId};

const PORTS: u32 = 20;
const VCPUS: u32 = 2;

/// Frames: control blocks of both vCPUs in one, then the array. Offsets as Linux and as nobody uses them.
fn control(vcpu: u32) -> (Mfn, usize) {
    (Mfn(SPARE), [0, 1024 + 8][vcpu as usize])
}

fn set_up(machine: &FakeMachine) -> EventChannels {
    let table = table(1, VCPUS, 5000);
    for _ in 1..=PORTS {
        table.bind_ipi(machine, 0).unwrap();
    }
    for vcpu in 0..VCPUS {
        table.init_control(machine, vcpu, control(vcpu).1 as u32, || Ok(control(vcpu).0)).unwrap();
    }
    table.expand_array(machine, || Ok(Mfn(SPARE + 1)), &mut |_| {}).unwrap();
    table
}

fn guest(machine: &FakeMachine, vcpu: u32) -> FifoGuest<'_> {
    FifoGuest::new(machine, control(vcpu), vec![Mfn(SPARE + 1)])
}

#[test]
fn events_come_by_priority_then_in_order() {
    let m = FakeMachine::new(32);
    let t = set_up(&m);
    t.set_priority(3, 0).unwrap();
    t.set_priority(9, 15).unwrap();
    assert_eq!(t.set_pending(&m, 9).upcall, Some(VcpuId(0)));
    for port in [5, 4, 3, 5] {
        assert_eq!(t.set_pending(&m, port).upcall, None, "the upcall is pending already");
    }
    assert_eq!(guest(&m, 0).consume(), [(0, 3), (7, 5), (7, 4), (15, 9)]);
}

#[test]
fn events_before_the_array_are_kept() {
    let m = FakeMachine::new(32);
    let t = table(1, 1, 5000);
    for _ in 0..4 {
        t.bind_ipi(&m, 0).unwrap();
    }
    // Port 2 in the bitmap before the switch, masked there; port 3 between the switch and the page.
    set_bit(m.table(Mfn(1)).unwrap(), MASK, 2, true);
    let _ = t.set_pending(&m, 2);
    t.init_control(&m, 0, 0, || Ok(Mfn(SPARE))).unwrap();
    assert_eq!(t.set_pending(&m, 3), Raised { port: 3, ..Raised::default() });
    assert!(!t.is_pending(&m, 3) && t.is_masked(&m, 3));
    assert!(!bit(m.table(Mfn(1)).unwrap(), PENDING, 3));
    let mut upcalls = Vec::new();
    t.expand_array(&m, || Ok(Mfn(SPARE + 1)), &mut |raised| upcalls.extend(raised.upcall)).unwrap();
    assert_eq!(upcalls, [VcpuId(0)]);
    assert_eq!(guest(&m, 0).consume(), [(7, 2), (7, 3)]);
}

#[test]
fn a_vcpu_without_control_block_loses_events_only() {
    let m = FakeMachine::new(32);
    let t = table(1, 2, 100);
    t.init_control(&m, 0, 0, || Ok(Mfn(SPARE))).unwrap();
    t.expand_array(&m, || Ok(Mfn(SPARE + 1)), &mut |_| {}).unwrap();
    let port = t.bind_ipi(&m, 1).unwrap();
    assert_eq!(t.set_pending(&m, port).upcall, None);
    assert!(t.is_pending(&m, port));
    t.init_control(&m, 1, 1032, || Ok(Mfn(SPARE))).unwrap();
    assert_eq!(t.set_pending(&m, port).upcall, Some(VcpuId(1)));
    assert_eq!(guest(&m, 1).consume(), [(7, port)]);
}

#[test]
fn a_guest_that_scribbles_hurts_only_itself() {
    let m = FakeMachine::new(32);
    let t = set_up(&m);
    let (array, control) = (m.table(Mfn(SPARE + 1)).unwrap(), m.table(Mfn(SPARE)).unwrap());
    for round in 0..2000_u64 {
        let noise = round.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ round << 29;
        array[round as usize % 12].store(noise, Ordering::Relaxed);
        control[round as usize % 9].store(!noise, Ordering::Relaxed);
        let _ = t.set_pending(&m, 1 + round as u32 % PORTS);
        let _ = t.unmask(&m, 1 + round as u32 / 3 % PORTS);
        t.bind_ipi(&m, 0).unwrap_or(0);
    }
    assert!(m.table(Mfn(SPARE + 2)).unwrap().iter().all(|word| word.load(Ordering::Relaxed) == 0));
}

#[derive(Clone, Debug)]
enum Step {
    Send(u32),
    Mask(u32),
    Unmask(u32),
    Priority(u32, u32),
    Take(u32, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let port = 1..=PORTS;
    prop_oneof![
        6 => port.clone().prop_map(Step::Send),
        1 => port.clone().prop_map(Step::Mask),
        2 => port.clone().prop_map(Step::Unmask),
        2 => (port, 5..9_u32).prop_map(|(port, priority)| Step::Priority(port, priority)),
        2 => (0..VCPUS, 1..8_usize).prop_map(|(vcpu, count)| Step::Take(vcpu, count)),
    ]
}

/// What the queues should hold.
struct Model {
    queues: Vec<[VecDeque<u32>; 16]>,
    ports: Vec<Modelled>,
}

#[derive(Clone, Default)]
struct Modelled {
    vcpu: usize,
    priority: usize,
    pending: bool,
    masked: bool,
    linked: bool,
}

impl Model {
    fn raise(&mut self, port: u32) {
        let p = &mut self.ports[port as usize];
        p.pending = true;
        if !p.masked && !p.linked {
            p.linked = true;
            self.queues[p.vcpu][p.priority].push_back(port);
        }
    }

    fn take(&mut self, vcpu: usize, limit: usize) -> Vec<(u32, u32)> {
        let mut events = Vec::new();
        for _ in 0..limit {
            let Some(priority) = self.queues[vcpu].iter().position(|queue| !queue.is_empty()) else {
                break;
            };
            let port = self.queues[vcpu][priority].pop_front().unwrap();
            let p = &mut self.ports[port as usize];
            p.linked = false;
            if p.pending && !p.masked {
                p.pending = false;
                events.push((priority as u32, port));
            }
        }
        events
    }
}

proptest! {
    /// The guest finds on each queue exactly what the model has there, in its order.
    #[test]
    fn queues_follow_the_model(steps in prop::collection::vec(step(), 1..300)) {
        let m = FakeMachine::new(32);
        let t = table(1, VCPUS, 5000);
        let mut model = Model {
            queues: (0..VCPUS).map(|_| Default::default()).collect(),
            ports: vec![Modelled { priority: 7, ..Modelled::default() }; PORTS as usize + 1],
        };
        for port in 1..=PORTS {
            t.bind_ipi(&m, port % VCPUS).unwrap();
            model.ports[port as usize].vcpu = (port % VCPUS) as usize;
        }
        for vcpu in 0..VCPUS {
            t.init_control(&m, vcpu, control(vcpu).1 as u32, || Ok(control(vcpu).0)).unwrap();
        }
        t.expand_array(&m, || Ok(Mfn(SPARE + 1)), &mut |_| {}).unwrap();
        let mut guests = [guest(&m, 0), guest(&m, 1)];
        for step in steps {
            match step {
                Step::Send(port) => {
                    let was = model.ports[port as usize].pending;
                    prop_assert_eq!(guests[0].is_pending(port), was);
                    let _ = t.set_pending(&m, port);
                    model.raise(port);
                }
                Step::Mask(port) => {
                    guests[0].mask(port);
                    model.ports[port as usize].masked = true;
                }
                Step::Unmask(port) => {
                    if guests[0].unmask(port) {
                        let _ = t.unmask(&m, port).unwrap();
                    }
                    model.ports[port as usize].masked = false;
                    if model.ports[port as usize].pending {
                        model.raise(port);
                    }
                }
                Step::Priority(port, priority) => {
                    t.set_priority(port, priority).unwrap();
                    model.ports[port as usize].priority = priority as usize;
                }
                Step::Take(vcpu, count) => {
                    platform::write_bytes(m.table(Mfn(1)).unwrap(), vcpu as usize * 64, &[0]);
                    let events = guests[vcpu as usize].consume_some(count);
                    prop_assert_eq!(events, model.take(vcpu as usize, count));
                }
            }
            for vcpu in 0..VCPUS {
                if guests[vcpu as usize].has_ready() {
                    prop_assert!(t.upcall_state(&m, VcpuId(vcpu)).0, "a ready queue without an upcall");
                }
            }
        }
        for (vcpu, guest) in guests.iter_mut().enumerate() {
            prop_assert_eq!(guest.consume(), model.take(vcpu, usize::MAX));
        }
    }
}

/// Senders, a guest thread a vCPU, and one that masks, moves and re-prioritises ports, all at once. Each sender counts an
/// event before it sends it; whoever takes the event notes the count. In the end no count may be missing.
#[test]
fn no_event_is_lost_under_load() {
    const EVENTS: u64 = 30_000;
    let m = FakeMachine::new(32);
    let t = table(1, VCPUS, 5000);
    for port in 1..=PORTS {
        assert_eq!(t.alloc_unbound(&m, types::DomId(1)), Ok(port));
    }
    for vcpu in 0..VCPUS {
        t.init_control(&m, vcpu, control(vcpu).1 as u32, || Ok(control(vcpu).0)).unwrap();
    }
    t.expand_array(&m, || Ok(Mfn(SPARE + 1)), &mut |_| {}).unwrap();
    let counters = || (0..=PORTS).map(|_| AtomicU64::new(0)).collect::<Vec<_>>();
    let (sent, seen) = (counters(), counters());
    let done = AtomicBool::new(false);
    let take = |guest: &mut FifoGuest<'_>, vcpu: u32| {
        platform::write_bytes(m.table(Mfn(1)).unwrap(), vcpu as usize * 64, &[0]);
        for (_, port) in guest.consume() {
            let count = sent[port as usize].load(Ordering::SeqCst);
            seen[port as usize].fetch_max(count, Ordering::SeqCst);
        }
    };
    let mut guests = std::thread::scope(|scope| {
        let senders: Vec<_> = (0..2_u64)
            .map(|thread| {
                let (t, m, sent) = (&t, &m, &sent);
                scope.spawn(move || {
                    for event in 0..EVENTS {
                        let port = 1 + (event * (3 + thread * 4) + event / 7) as u32 % PORTS;
                        sent[port as usize].fetch_add(1, Ordering::SeqCst);
                        let _ = t.set_pending(m, port);
                    }
                })
            })
            .collect();
        let consumers: Vec<_> = (0..VCPUS)
            .map(|vcpu| {
                let (done, take, m) = (&done, &take, &m);
                scope.spawn(move || {
                    let mut guest = guest(m, vcpu);
                    while !done.load(Ordering::SeqCst) {
                        take(&mut guest, vcpu);
                        std::thread::yield_now();
                    }
                    guest
                })
            })
            .collect();
        let meddler = scope.spawn(|| {
            let guest = guest(&m, 0);
            let mut round = 0_u32;
            while !done.load(Ordering::SeqCst) {
                round = round.wrapping_add(1);
                let port = 1 + round % PORTS;
                guest.mask(port);
                t.bind_vcpu(port, round / 5 % VCPUS).unwrap();
                t.set_priority(port, round / 3 % 16).unwrap();
                if guest.unmask(port) {
                    let _ = t.unmask(&m, port).unwrap();
                }
            }
        });
        senders.into_iter().for_each(|thread| thread.join().unwrap());
        done.store(true, Ordering::SeqCst);
        meddler.join().unwrap();
        consumers.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    guests.iter_mut().enumerate().for_each(|(vcpu, guest)| take(guest, vcpu as u32));
    for port in 1..=PORTS {
        assert!(!guests[0].is_linked(port) && !guests[0].is_pending(port), "port {port} was left behind");
        let (sent, seen) = (&sent[port as usize], &seen[port as usize]);
        assert_eq!(seen.load(Ordering::SeqCst), sent.load(Ordering::SeqCst), "port {port}");
    }
}

/// One queue that is nearly always of length one or two, so that the hypervisor links a tail while the guest takes it.
#[test]
fn linking_a_tail_that_is_being_taken_loses_nothing() {
    const EVENTS: u64 = 200_000;
    let m = FakeMachine::new(32);
    let t = set_up(&m);
    let counters = || [const { AtomicU64::new(0) }; 3];
    let (sent, seen) = (counters(), counters());
    let done = AtomicBool::new(false);
    let take = |guest: &mut FifoGuest<'_>| {
        for (_, port) in guest.consume() {
            let count = sent[port as usize].load(Ordering::SeqCst);
            seen[port as usize].fetch_max(count, Ordering::SeqCst);
        }
    };
    let mut guest = std::thread::scope(|scope| {
        let consumer = scope.spawn(|| {
            let mut guest = guest(&m, 0);
            while !done.load(Ordering::SeqCst) {
                take(&mut guest);
            }
            guest
        });
        for event in 0..EVENTS {
            let port = 1 + event as u32 % 2;
            sent[port as usize].fetch_add(1, Ordering::SeqCst);
            let _ = t.set_pending(&m, port);
        }
        done.store(true, Ordering::SeqCst);
        consumer.join().unwrap()
    });
    take(&mut guest);
    for port in 1..=2 {
        assert!(!guest.is_linked(port), "port {port} was left behind");
        assert_eq!(seen[port as usize].load(Ordering::SeqCst), sent[port as usize].load(Ordering::SeqCst));
    }
}
