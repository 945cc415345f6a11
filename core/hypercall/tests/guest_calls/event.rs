use super::*;
use hypercall::event::{event_channel_op, event_channel_op_compat};
use std::sync::atomic::Ordering::SeqCst;
use xen_abi::event_channel::*;

fn unbound(world: &World, domain: &Arc<Domain<FakeArch>>, dom: u16, remote_dom: u16) -> (i64, u32) {
    let mut call = AllocUnbound { dom, remote_dom, port: 0 };
    let result = world.with(domain, event_channel_op, EVTCHNOP_ALLOC_UNBOUND, &mut call, &[]);
    (result, call.port)
}

fn status(world: &World, domain: &Arc<Domain<FakeArch>>, dom: u16, port: u32) -> (i64, Status) {
    let mut call = Status { dom, _gap0: [0; 2], port, status: 9, vcpu: 9, u: xen_abi::Union([0; 2]) };
    (world.with(domain, event_channel_op, EVTCHNOP_STATUS, &mut call, &[]), call)
}

#[test]
fn an_event_goes_from_one_domain_to_the_other() {
    let world = World::new();
    let (result, port) = unbound(&world, &world.dom0, 1, 0);
    assert_eq!((result, port), (0, 1));
    assert_eq!(status(&world, &world.dom0, 1, 1).1.status, EVTCHNSTAT_UNBOUND);
    let mut bind = BindInterdomain { remote_dom: 1, _gap0: [0; 2], remote_port: port, local_port: 0 };
    assert_eq!(world.with(&world.dom0, event_channel_op, EVTCHNOP_BIND_INTERDOMAIN, &mut bind, &[]), 0);
    let (result, found) = status(&world, &world.guest, DomId::SELF.0, port);
    let other: StatusInterdomain = found.u.read();
    assert_eq!((result, found.status, other.dom, other.port), (0, EVTCHNSTAT_INTERDOMAIN, 0, bind.local_port));

    let mut send = Send { port: bind.local_port };
    assert_eq!(world.with(&world.dom0, event_channel_op, EVTCHNOP_SEND, &mut send, &[]), 0);
    assert!(world.guest.evtchn.is_pending(world.machine(), port));
    let mut close = Close { port };
    assert_eq!(world.with(&world.guest, event_channel_op, EVTCHNOP_CLOSE, &mut close, &[]), 0);
    assert_eq!(status(&world, &world.dom0, 0, bind.local_port).1.status, EVTCHNSTAT_UNBOUND);
}

#[test]
fn others_ports_are_the_control_domains_only() {
    let world = World::new();
    assert_eq!(unbound(&world, &world.guest, 0, 1).0, error(Errno::PERM));
    assert_eq!(unbound(&world, &world.guest, 77, 1).0, error(Errno::SRCH));
    assert_eq!(status(&world, &world.guest, 0, 0).0, error(Errno::PERM));
    assert_eq!(unbound(&world, &world.guest, DomId::SELF.0, DomId::SELF.0), (0, 1));
    assert_eq!(status(&world, &world.guest, 1, 1).1.u.read::<StatusUnbound>().dom, 1);
    assert_eq!(world.call(&world.guest, event_channel_op, &[99, AT]), Outcome::from(Errno::NOSYS));
    assert_eq!(world.call(&world.guest, event_channel_op, &[4, 0xdead_0000]), Outcome::from(Errno::FAULT));
}

#[test]
fn lines_are_bound_once() {
    let world = World::new();
    let mut virq = BindVirq { virq: 0, vcpu: 1, port: 0 };
    assert_eq!(world.with(&world.guest, event_channel_op, EVTCHNOP_BIND_VIRQ, &mut virq, &[]), 0);
    assert_eq!(world.with(&world.guest, event_channel_op, EVTCHNOP_BIND_VIRQ, &mut virq, &[]), error(Errno::EXIST));
    virq.vcpu = 2;
    assert_eq!(world.with(&world.guest, event_channel_op, EVTCHNOP_BIND_VIRQ, &mut virq, &[]), error(Errno::NOENT));
    let mut pirq = BindPirq { pirq: 9, flags: BIND_PIRQ__WILL_SHARE, port: 0 };
    assert_eq!(world.with(&world.dom0, event_channel_op, EVTCHNOP_BIND_PIRQ, &mut pirq, &[]), 0);
    assert_eq!(*world.hypervisor.machine().pirqs.lock(), [(0, 9)]);
    let mut close = Close { port: pirq.port };
    assert_eq!(world.with(&world.dom0, event_channel_op, EVTCHNOP_CLOSE, &mut close, &[]), 0);
    assert!(world.hypervisor.machine().pirqs.lock().is_empty());
}

#[test]
fn queues_take_the_guests_own_frames_and_give_them_back() {
    let world = World::new();
    let frames = world.frames(&world.guest, 2);
    let references = |mfn| world.hypervisor.memory.frames().view(mfn).unwrap().references;
    let mut control = InitControl { control_gfn: frames[0].0, offset: 0, vcpu: 0, link_bits: 0, _pad: [0; 7] };
    assert_eq!(
        world.with(&world.dom0, event_channel_op, EVTCHNOP_INIT_CONTROL, &mut control, &[]),
        error(Errno::INVAL)
    );
    assert_eq!(world.with(&world.guest, event_channel_op, EVTCHNOP_INIT_CONTROL, &mut control, &[]), 0);
    assert_eq!((control.link_bits, references(frames[0])), (17, 2));
    let mut array = ExpandArray { array_gfn: frames[1].0 };
    assert_eq!(world.with(&world.guest, event_channel_op, EVTCHNOP_EXPAND_ARRAY, &mut array, &[]), 0);
    let (_, port) = unbound(&world, &world.guest, 1, 0);
    let mut priority = SetPriority { port, priority: 16 };
    let set = |call: &mut SetPriority| world.with(&world.guest, event_channel_op, EVTCHNOP_SET_PRIORITY, call, &[]);
    assert_eq!(set(&mut priority), error(Errno::INVAL));
    priority.priority = 15;
    assert_eq!(set(&mut priority), 0);

    let mut reset = Reset { dom: 1 };
    world.guest.toolstack_pauses.store(0, SeqCst);
    assert_eq!(world.with(&world.dom0, event_channel_op, EVTCHNOP_RESET, &mut reset, &[]), error(Errno::INVAL));
    world.machine().yield_after.store(1, SeqCst);
    assert_eq!(world.with(&world.guest, event_channel_op, EVTCHNOP_RESET, &mut reset, &[]), 0);
    assert_eq!((references(frames[0]), references(frames[1])), (1, 1));
}

#[test]
fn the_envelope_of_old_carries_the_operations_of_old() {
    let world = World::new();
    let call = |cmd| {
        let mut envelope = EvtchnOp { cmd, u: xen_abi::Union([0; 6]) };
        envelope.u.write(&AllocUnbound { dom: DomId::SELF.0, remote_dom: 0, port: 0 });
        world.put(AT, &envelope);
        (world.call(&world.guest, event_channel_op_compat, &[AT]), world.get::<EvtchnOp>(AT))
    };
    let (result, envelope) = call(EVTCHNOP_ALLOC_UNBOUND);
    assert_eq!(result, Outcome::Done(0));
    let port = envelope.u.read::<AllocUnbound>().port;
    assert_eq!(status(&world, &world.guest, 1, port).1.status, EVTCHNSTAT_UNBOUND);
    for later in [EVTCHNOP_RESET, EVTCHNOP_EXPAND_ARRAY, 14, !0] {
        assert_eq!(call(later).0, Errno::NOSYS.into(), "{later}");
    }
    assert_eq!(world.call(&world.guest, event_channel_op_compat, &[8]), Errno::FAULT.into());
}
