//! Every error that an operation can answer with, and what it does otherwise.

mod common;

use common::{SPARE, World, send, table};
use evtchn::{Consumer, Delivery, EventChannels, Raised, State};
use platform::fakes::FakeMachine;
use std::num::NonZeroU8;
use std::sync::atomic::Ordering;
use types::{DomId, Errno, Mfn, Progress, VcpuId};

fn machine() -> FakeMachine {
    FakeMachine::new(256)
}

fn fifo(machine: &FakeMachine, table: &EventChannels) {
    table.init_control(machine, 0, 0, || Ok(Mfn(SPARE))).unwrap();
    table.expand_array(machine, || Ok(Mfn(SPARE + 1)), &mut |_| {}).unwrap();
}

#[test]
fn ports_are_given_out_from_the_lowest_up_to_the_limit() {
    let m = machine();
    let t = table(1, 1, 3);
    assert_eq!((1..=3).map(|_| t.alloc_unbound(&m, DomId(0)).unwrap()).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(t.alloc_unbound(&m, DomId(0)), Err(Errno::NOSPC));
    t.close(&m, &World::default(), 2).unwrap();
    assert_eq!(t.alloc_unbound(&m, DomId(0)), Ok(2));
    assert_eq!(t.status(2).unwrap().state, State::Unbound { remote: DomId(0) });
    t.set_dying();
    t.close(&m, &World::default(), 3).unwrap();
    assert_eq!(t.alloc_unbound(&m, DomId(0)), Err(Errno::INVAL));
}

#[test]
fn each_abi_has_its_own_limit() {
    let m = machine();
    let t = table(1, 1, u32::MAX);
    let give = |count: u32| (0..count).map(|_| t.bind_ipi(&m, 0)).find_map(Result::err);
    assert_eq!(give(4095), None);
    assert_eq!(give(1), Some(Errno::NOSPC));
    t.init_control(&m, 0, 0, || Ok(Mfn(SPARE))).unwrap();
    assert_eq!(t.bind_ipi(&m, 0), Ok(4096));
    assert_eq!(give(131072 - 4097), None);
    assert_eq!(give(1), Some(Errno::NOSPC));

    let narrow = table(2, 1, u32::MAX);
    narrow.set_narrow(true);
    assert_eq!((0..1024).map(|_| narrow.bind_ipi(&m, 0)).find_map(Result::err), Some(Errno::NOSPC));
}

#[test]
fn binding_needs_a_port_that_waits_for_the_binder() {
    let m = machine();
    let (a, b, c) = (table(1, 1, 100), table(2, 1, 100), table(3, 1, 100));
    let port = a.alloc_unbound(&m, DomId(2)).unwrap();
    assert_eq!(c.bind_interdomain(&m, &a, port).unwrap_err(), Errno::INVAL);
    assert_eq!(b.bind_interdomain(&m, &a, 70_000).unwrap_err(), Errno::INVAL);
    assert_eq!(b.bind_interdomain(&m, &a, 0).unwrap_err(), Errno::INVAL);
    let (local, raised) = b.bind_interdomain(&m, &a, port).unwrap();
    assert_eq!(local, 1, "failed attempts give their port back");
    assert_eq!(raised.upcall, Some(VcpuId(0)), "the local end is raised");
    assert!(b.is_pending(&m, local) && !a.is_pending(&m, port));
    assert_eq!(a.status(port).unwrap().state, State::Interdomain { remote: DomId(2), port: local });
    assert_eq!(b.status(local).unwrap().state, State::Interdomain { remote: DomId(1), port });
    assert_eq!(b.bind_interdomain(&m, &a, port).unwrap_err(), Errno::INVAL, "bound already");

    // No port left is said before the remote port is looked at.
    let full = table(4, 1, 0);
    assert_eq!(full.bind_interdomain(&m, &a, 99).unwrap_err(), Errno::NOSPC);
}

#[test]
fn a_connection_can_loop_back() {
    let m = machine();
    let t = table(1, 2, 100);
    let world = World::default();
    let one = t.alloc_unbound(&m, DomId(1)).unwrap();
    let (two, _) = t.bind_interdomain(&m, &t, one).unwrap();
    t.bind_vcpu(one, 1).unwrap();
    let Delivery::Local(raised) = t.send(&m, two).unwrap() else { panic!("not local") };
    assert_eq!((raised.port, raised.upcall), (one, Some(VcpuId(1))));
    t.close(&m, &world, two).unwrap();
    assert_eq!(t.status(one).unwrap().state, State::Unbound { remote: DomId(1) });
    assert_eq!(t.status(two).unwrap().state, State::Free);
    assert!(!t.is_pending(&m, two));
}

#[test]
fn virqs_follow_their_scope() {
    let m = machine();
    let t = table(1, 2, 100);
    assert_eq!(t.bind_virq(&m, 24, 0), Err(Errno::INVAL));
    assert_eq!(t.bind_virq(&m, 3, 1), Err(Errno::INVAL), "a global line is bound on vCPU 0");
    assert_eq!(t.bind_virq(&m, 0, 2), Err(Errno::NOENT));
    assert_eq!(t.bind_virq(&m, 3, 2), Err(Errno::INVAL), "the scope is checked before the vCPU");
    let timer = t.bind_virq(&m, 0, 1).unwrap();
    assert_eq!(t.bind_virq(&m, 0, 1), Err(Errno::EXIST));
    let console = t.bind_virq(&m, 2, 0).unwrap();
    assert_eq!(t.bind_vcpu(timer, 0), Err(Errno::INVAL));
    assert_eq!(t.bind_vcpu(console, 1), Ok(None));
    assert_eq!(t.raise_virq(&m, VcpuId(0), 0), Raised::default());
    assert_eq!(t.raise_virq(&m, VcpuId(1), 0).upcall, Some(VcpuId(1)));
    assert_eq!(t.raise_virq(&m, VcpuId(0), 2).port, console);
    t.close(&m, &World::default(), console).unwrap();
    assert_eq!(t.raise_virq(&m, VcpuId(0), 2), Raised::default());
    assert_eq!(t.bind_virq(&m, 2, 0), Ok(console));
}

#[test]
fn pirqs_are_attached_and_detached() {
    let m = machine();
    let t = table(1, 2, 100);
    let world = World::default();
    assert_eq!(t.bind_pirq(&m, 32, || Ok(())), Err(Errno::INVAL));
    assert_eq!(t.bind_pirq(&m, 5, || Err(Errno::BUSY)), Err(Errno::BUSY));
    assert_eq!(t.pirq_port(5), None);
    let port = t.bind_pirq(&m, 5, || Ok(())).unwrap();
    assert_eq!(port, 1, "the failed attempt gave its port back");
    assert_eq!(t.bind_pirq(&m, 5, || panic!("attached twice")), Err(Errno::EXIST));
    assert_eq!(t.raise_pirq(&m, 5).port, port);
    assert_eq!(t.raise_pirq(&m, 6), Raised::default());
    assert_eq!(t.raise_pirq(&m, 77), Raised::default());
    assert_eq!(t.bind_vcpu(port, 0), Ok(None), "it is there already");
    assert_eq!(t.bind_vcpu(port, 1), Ok(Some(5)));
    t.close(&m, &world, port).unwrap();
    assert_eq!(*world.detached.borrow(), [5]);
    assert_eq!(t.raise_pirq(&m, 5), Raised::default());
}

#[test]
fn sending_needs_a_port_for_it() {
    let m = machine();
    let (a, b) = (table(1, 1, 100), table(2, 2, 100));
    let world = World { domains: vec![&a, &b], ..World::default() };
    assert_eq!(a.send(&m, 1_000_000), Err(Errno::INVAL));
    assert_eq!(a.send(&m, 0), Err(Errno::INVAL));
    assert_eq!(a.send(&m, 7), Err(Errno::INVAL));
    let virq = a.bind_virq(&m, 1, 0).unwrap();
    assert_eq!(a.send(&m, virq), Err(Errno::INVAL));
    let port = a.alloc_unbound(&m, DomId(2)).unwrap();
    assert_eq!(a.send(&m, port), Ok(Delivery::Dropped));
    let (other, _) = b.bind_interdomain(&m, &a, port).unwrap();
    let sent = a.send(&m, port).unwrap();
    assert_eq!(sent, Delivery::Remote { domain: DomId(2), port: other, from: (DomId(1), port) });
    assert_eq!(send(&m, &world, &b, other).unwrap().upcall, Some(VcpuId(0)));

    // An event that was under way when the other end closed goes nowhere.
    b.close(&m, &world, other).unwrap();
    assert_eq!(b.bind_virq(&m, 0, 1).unwrap(), other);
    assert_eq!(b.deliver(&m, other, (DomId(1), port)), Raised::default());
    assert_eq!(a.status(port).unwrap().state, State::Unbound { remote: DomId(2) });
    let ipi = b.bind_ipi(&m, 1).unwrap();
    assert_eq!(send(&m, &world, &b, ipi).unwrap().upcall, Some(VcpuId(1)));
    assert_eq!(b.bind_ipi(&m, 2), Err(Errno::NOENT));
    assert_eq!(b.bind_vcpu(ipi, 0), Err(Errno::INVAL));
    assert_eq!(b.bind_vcpu(ipi, 2), Err(Errno::NOENT));
    assert_eq!(b.bind_vcpu(9999, 0), Err(Errno::INVAL));
}

#[test]
fn the_hypervisor_takes_events_of_its_ports() {
    let m = machine();
    let (guest, model) = (table(1, 2, 100), table(2, 1, 100));
    let world = World { domains: vec![&guest, &model], ..World::default() };
    let consumer = Consumer(NonZeroU8::new(3).unwrap());
    assert_eq!(guest.alloc_for_consumer(&m, VcpuId(2), DomId(2), consumer), Err(Errno::NOENT));
    let port = guest.alloc_for_consumer(&m, VcpuId(1), DomId(2), consumer).unwrap();
    let (other, _) = model.bind_interdomain(&m, &guest, port).unwrap();
    assert_eq!(send(&m, &world, &model, other).unwrap().consumer, Some((consumer, VcpuId(1))));
    assert!(!guest.is_pending(&m, port));
    assert_eq!(guest.send(&m, port), Err(Errno::INVAL));
    assert_eq!(guest.close(&m, &world, port), Err(Errno::INVAL));
    assert_eq!(guest.bind_vcpu(port, 0), Err(Errno::INVAL));
    assert_eq!(model.send_from_hypervisor(&m, other), Err(Errno::INVAL));
    assert!(matches!(guest.send_from_hypervisor(&m, port), Ok(Delivery::Remote { domain: DomId(2), .. })));
    guest.close_for_consumer(&m, &world, port).unwrap();
    assert_eq!(model.status(other).unwrap().state, State::Unbound { remote: DomId(1) });
}

#[test]
fn closing_needs_a_port_in_use() {
    let m = machine();
    let t = table(1, 1, 100);
    let world = World::default();
    for port in [0, 5, 300, u32::MAX] {
        assert_eq!(t.close(&m, &world, port), Err(Errno::INVAL));
    }
    assert_eq!(t.status(300).unwrap_err(), Errno::INVAL);
    assert_eq!(t.unmask(&m, 300).unwrap_err(), Errno::INVAL);
    assert_eq!(t.status(5).unwrap().state.number(), 0);
}

#[test]
fn fifo_operations_check_their_arguments() {
    let m = machine();
    let t = table(1, 2, u32::MAX);
    let port = t.bind_ipi(&m, 0).unwrap();
    let nothing = || -> types::Result<Mfn> { panic!("resolved too early") };
    assert_eq!(t.expand_array(&m, nothing, &mut |_| {}), Err(Errno::OPNOTSUPP));
    assert_eq!(t.set_priority(port, 3), Err(Errno::NOSYS));
    assert_eq!(t.init_control(&m, 2, 0, nothing), Err(Errno::NOENT));
    assert_eq!(t.init_control(&m, 0, 4, nothing), Err(Errno::INVAL));
    assert_eq!(t.init_control(&m, 0, 4096 - 64, nothing), Err(Errno::INVAL));
    assert_eq!(t.init_control(&m, 0, u32::MAX, nothing), Err(Errno::INVAL));
    assert_eq!(t.init_control(&m, 0, 0, || Err(Errno::INVAL)), Err(Errno::INVAL));
    assert_eq!(t.set_priority(port, 3), Err(Errno::NOSYS), "a failed switch changes nothing");
    assert_eq!(t.init_control(&m, 0, 4096 - 72, || Ok(Mfn(SPARE))), Ok(()));
    assert_eq!(t.init_control(&m, 0, 0, nothing), Err(Errno::INVAL));
    assert_eq!(t.set_priority(port, 16), Err(Errno::INVAL));
    assert_eq!(t.set_priority(9999, 3), Err(Errno::INVAL));
    assert_eq!(t.set_priority(port, 15), Ok(()));
    assert_eq!(t.expand_array(&m, || Err(Errno::INVAL), &mut |_| {}), Err(Errno::INVAL));
    for page in 0..128 {
        t.expand_array(&m, || Ok(Mfn(SPARE + 1 + page)), &mut |_| {}).unwrap();
    }
    assert_eq!(t.expand_array(&m, nothing, &mut |_| {}), Err(Errno::NOSPC));
}

#[test]
fn reset_closes_everything_and_gives_the_frames_back() {
    let m = machine();
    let (t, peer) = (table(1, 1, 5000), table(2, 1, 100));
    let world = World { domains: vec![&peer, &t], ..World::default() };
    fifo(&m, &t);
    let theirs = peer.alloc_unbound(&m, DomId(1)).unwrap();
    let _ = t.bind_interdomain(&m, &peer, theirs).unwrap();
    t.bind_virq(&m, 0, 0).unwrap();
    t.bind_pirq(&m, 1, || Ok(())).unwrap();
    let ours = t.alloc_for_consumer(&m, VcpuId(0), DomId(2), Consumer(NonZeroU8::MIN)).unwrap();
    for _ in 0..300 {
        t.bind_ipi(&m, 0).unwrap();
    }

    let mut released = Vec::new();
    m.yield_after.store(1, Ordering::Relaxed);
    let cursor = match t.reset(&m, &world, &m, 0, &mut |mfn| released.push(mfn)).unwrap() {
        Progress::Again(cursor) => cursor,
        Progress::Done(()) => panic!("not preempted"),
    };
    assert!(released.is_empty() && cursor > 0);
    m.yield_after.store(u64::MAX, Ordering::Relaxed);
    assert_eq!(t.reset(&m, &world, &m, cursor, &mut |mfn| released.push(mfn)), Ok(Progress::Done(())));
    assert_eq!(released, [Mfn(SPARE), Mfn(SPARE + 1)]);
    assert_eq!(peer.status(theirs).unwrap().state, State::Unbound { remote: DomId(1) });
    assert_eq!(*world.detached.borrow(), [1]);
    assert_eq!(t.max_channels(), 4096);
    assert_ne!(t.status(ours).unwrap().state, State::Free, "the hypervisor's own port stays");

    fifo(&m, &t);
    assert_eq!(t.destroy(&m, &world, &m, 0, &mut |mfn| released.push(mfn)), Progress::Done(()));
    assert_eq!(released.len(), 4);
    assert_eq!(t.status(ours).unwrap().state, State::Free);
    assert_eq!(t.bind_ipi(&m, 0), Err(Errno::INVAL));
}

#[test]
fn a_port_whose_word_is_still_linked_is_not_given_out() {
    let m = machine();
    let t = table(1, 1, 100);
    fifo(&m, &t);
    let port = t.bind_ipi(&m, 0).unwrap();
    assert_eq!(t.set_pending(&m, port).upcall, Some(VcpuId(0)));
    t.close(&m, &World::default(), port).unwrap();
    assert_ne!(t.bind_ipi(&m, 0).unwrap(), port);
    let mut guest = common::FifoGuest::new(&m, (Mfn(SPARE), 0), vec![Mfn(SPARE + 1)]);
    assert!(guest.consume().is_empty(), "the event of the closed port is gone");
    assert_eq!(t.bind_ipi(&m, 0).unwrap(), port);
}

#[test]
fn tables_need_a_vcpu() {
    let config = evtchn::Config { domain: DomId(1), shared_info: Mfn(1), vcpus: 0, max_port: 10, pirqs: 0 };
    assert_eq!(EventChannels::new(config).unwrap_err(), Errno::INVAL);
    assert_eq!(EventChannels::new(evtchn::Config { vcpus: 65536, ..config }).unwrap_err(), Errno::INVAL);
}
