use super::*;
use domain::{MachineEnd, PauseFlags, ShutdownCode, TimerEvent};
use hypercall::sched::{sched_op, sched_op_compat};
use hypercall::vcpu::{set_timer_op, vcpu_op};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use types::{CpuId, VcpuId};
use xen_abi::sched::*;
use xen_abi::vcpu::*;
use xen_abi::xen::VIRQ_TIMER;

fn vcpu_call<T: FromBytes + IntoBytes + Immutable>(world: &World, op: u32, vcpu: u64, value: &mut T) -> i64 {
    world.put(AT, value);
    let result = world.finish(&world.guest, vcpu_op, &[op.into(), vcpu, AT]);
    *value = world.get(AT);
    result
}

fn plain(world: &World, op: u32, vcpu: u64) -> i64 {
    world.finish(&world.guest, vcpu_op, &[op.into(), vcpu, AT])
}

#[test]
fn vcpus_come_up_after_they_have_registers() {
    let world = World::new();
    assert_eq!(plain(&world, VCPUOP_IS_UP, 1), 0);
    assert_eq!(plain(&world, VCPUOP_IS_UP, 2), error(Errno::NOENT));
    assert_eq!(plain(&world, VCPUOP_UP, 1), error(Errno::INVAL));
    assert_eq!(plain(&world, VCPUOP_INITIALISE, 1), 0);
    assert_eq!(plain(&world, VCPUOP_INITIALISE, 1), error(Errno::EXIST));
    assert_eq!(plain(&world, VCPUOP_UP, 1), 0);
    assert_eq!(plain(&world, VCPUOP_IS_UP, 1), 1);
    world.hypervisor.bring_up(&world.guest.vcpus()[0]);
    assert_eq!(plain(&world, VCPUOP_DOWN, 1), 0);
    assert_eq!((plain(&world, VCPUOP_IS_UP, 1), world.guest.shutdown_code()), (0, None));
    assert_eq!(plain(&world, VCPUOP_DOWN, 0), 0);
    assert_eq!(world.guest.shutdown_code(), Some(ShutdownCode::POWEROFF), "it was the last one");
}

#[test]
fn vcpu_info_moves_once() {
    let world = World::new();
    let mfn = world.frames(&world.guest, 1)[0];
    let register = |vcpu, offset| {
        let mut call = RegisterVcpuInfo { mfn: mfn.0, offset, rsvd: 0 };
        vcpu_call(&world, VCPUOP_REGISTER_VCPU_INFO, vcpu, &mut call)
    };
    assert_eq!(register(1, 4096), error(Errno::INVAL));
    assert_eq!(register(1, 4), error(Errno::NXIO));
    assert_eq!(
        world.hypervisor.memory.get_type(mfn, ::memory::FrameType::SegDesc, world.machine()),
        Ok(types::Progress::Done(()))
    );
    assert_eq!(register(1, 64), error(Errno::ACCES), "in another use");
    world.hypervisor.memory.put_type(mfn);
    assert_eq!(register(1, 64), 0);
    assert_eq!(register(1, 64), error(Errno::BUSY));
    assert_eq!(world.guest.evtchn.vcpu_info(VcpuId(1)), Some((mfn, 64)));
    assert_eq!(world.hypervisor.memory.frames().view(mfn).unwrap().references, 2);
    world.hypervisor.bring_up(&world.guest.vcpus()[0]);
    assert_eq!(register(0, 0), 0, "the caller itself is up");
}

#[test]
fn timers_are_armed_and_stopped() {
    let world = World::new();
    world.machine().set_time(1000);
    let deadline = || world.hypervisor.machine().deadline.load(SeqCst);
    let port = world.guest.evtchn.bind_virq(world.machine(), VIRQ_TIMER, 0).unwrap();
    let mut call = SetSingleshotTimer { timeout_abs_ns: 900, flags: VCPU_SSHOTTMR_FUTURE, _gap0: [0; 4] };
    assert_eq!(deadline(), u64::MAX);
    assert_eq!(vcpu_call(&world, VCPUOP_SET_SINGLESHOT_TIMER, 1, &mut call), error(Errno::INVAL));
    assert_eq!(vcpu_call(&world, VCPUOP_SET_SINGLESHOT_TIMER, 0, &mut call), 0);
    assert_eq!(deadline(), u64::MAX, "nothing is left to wait for");
    assert!(world.guest.evtchn.is_pending(world.machine(), port), "a deadline that has passed expires at once");
    call.timeout_abs_ns = 1001;
    assert_eq!(vcpu_call(&world, VCPUOP_SET_SINGLESHOT_TIMER, 0, &mut call), 0);
    assert_eq!(deadline(), 1001);
    call.timeout_abs_ns = 1000;
    assert_eq!(vcpu_call(&world, VCPUOP_SET_SINGLESHOT_TIMER, 0, &mut call), 0);
    assert!(world.hypervisor.cpus[0].timers.lock().expire(2000).is_none(), "the later deadline is forgotten");
    call.timeout_abs_ns = 1001;
    assert_eq!(vcpu_call(&world, VCPUOP_SET_SINGLESHOT_TIMER, 0, &mut call), 0);
    assert_eq!(world.finish(&world.guest, set_timer_op, &[0]), 0);
    assert!(world.hypervisor.cpus[0].timers.lock().expire(2000).is_none());
    assert_eq!(world.finish(&world.guest, set_timer_op, &[1500]), 0);
    assert!(world.hypervisor.cpus[0].timers.lock().expire(2000).is_some());

    let mut period = SetPeriodicTimer { period_ns: 999_999 };
    assert_eq!(vcpu_call(&world, VCPUOP_SET_PERIODIC_TIMER, 1, &mut period), error(Errno::INVAL));
    period.period_ns = 1_000_000;
    assert_eq!(vcpu_call(&world, VCPUOP_SET_PERIODIC_TIMER, 1, &mut period), 0);
    assert_eq!(world.hypervisor.cpus[0].timers.lock().next_deadline(), Some(1_001_000));
    assert_eq!(plain(&world, VCPUOP_STOP_PERIODIC_TIMER, 1), 0);
    assert!(world.hypervisor.cpus[0].timers.lock().expire(u64::MAX).is_none());
}

#[test]
fn absurd_deadlines_become_soon() {
    let world = World::new();
    world.machine().set_time(1000);
    for (deadline, set) in [(1 << 50, 1 << 50), (1000 + (1 << 50), 100_001_000), (u64::MAX, 100_001_000)] {
        assert_eq!(world.finish(&world.guest, set_timer_op, &[deadline]), 0);
        assert_eq!(world.hypervisor.cpus[0].timers.lock().next_deadline(), Some(set));
    }
}

#[test]
fn periodic_timers_tick_while_their_vcpu_runs() {
    let world = World::new();
    let (hypervisor, vcpu) = (&world.hypervisor, &world.guest.vcpus()[0]);
    let port = world.guest.evtchn.bind_virq(hypervisor.machine(), VIRQ_TIMER, 0).unwrap();
    let ticked = || world.guest.evtchn.is_pending(hypervisor.machine(), port);
    let next = || hypervisor.cpus[0].timers.lock().next_deadline();
    let mut period = SetPeriodicTimer { period_ns: 2_000_000 };
    assert_eq!(vcpu_call(&world, VCPUOP_SET_PERIODIC_TIMER, 0, &mut period), 0);
    assert_eq!((next(), ticked()), (Some(2_000_000), false));
    hypervisor.tick(&world.guest, vcpu, 1_000_000);
    assert_eq!((next(), ticked()), (Some(2_000_000), false), "nothing was missed yet");
    world.machine().set_time(2_000_000);
    hypervisor.alarm_rang(CpuId(0));
    assert_eq!((next(), ticked()), (None, false), "it does not run");
    hypervisor.tick(&world.guest, vcpu, 9_000_000);
    assert_eq!((next(), ticked()), (Some(11_000_000), true), "three were missed");
    vcpu.set_running_on(Some(CpuId(0)));
    world.machine().set_time(12_000_000);
    hypervisor.alarm_rang(CpuId(0));
    assert_eq!((next(), ticked()), (Some(14_000_000), true), "it runs");
}

#[test]
fn the_timer_is_set_anew_only_for_what_comes_sooner() {
    let world = World::new();
    let (hypervisor, cpu) = (&world.hypervisor, CpuId(0));
    let set_for = || hypervisor.machine().deadline.load(SeqCst);
    hypervisor.begin_slice(cpu, Some(10_000));
    hypervisor.begin_slice(cpu, Some(30_000));
    assert_eq!(set_for(), 10_000, "it interrupts early enough");
    let event = TimerEvent::Singleshot(world.guest.id, VcpuId(0));
    let slot = &world.guest.vcpus()[0].singleshot;
    for (deadline, set) in [(20_000, 10_000), (5_000, 5_000), (25_000, 5_000)] {
        hypervisor.set_timer(slot, deadline, event).unwrap();
        assert_eq!(set_for(), set);
    }
    for (now, set) in [(5_000, 25_000), (25_000, 30_000)] {
        world.machine().set_time(now);
        hypervisor.alarm_rang(cpu);
        assert_eq!(set_for(), set, "for what comes next");
        assert!(!hypervisor.cpu(cpu).reschedule.load(SeqCst));
    }
    world.machine().set_time(30_000);
    hypervisor.alarm_rang(cpu);
    assert!(hypervisor.cpu(cpu).reschedule.load(SeqCst), "the slice is over");
    hypervisor.begin_slice(cpu, Some(50_000));
    hypervisor.set_timer(slot, 90_000, event).unwrap();
    hypervisor.begin_slice(cpu, None);
    assert_eq!(set_for(), 90_000, "nobody idle is woken for nothing");
    hypervisor.cancel_timer(slot);
    hypervisor.begin_slice(cpu, None);
    assert_eq!(set_for(), u64::MAX);
}

#[test]
fn time_spent_is_written_where_the_guest_wants_it() {
    let world = World::new();
    let area = 0x9_0000;
    let mut call = RegisterRunstateMemoryArea { addr: area };
    assert_eq!(vcpu_call(&world, VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA, 0, &mut call), 0, "it may be mapped later");
    world.put(area, &[0u8; 48]);
    assert_eq!(vcpu_call(&world, VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA, 0, &mut call), 0);
    assert_eq!(world.get::<RunstateInfo>(area).state, RUNSTATE_OFFLINE);
    world.machine().set_time(77);
    world.put(AT, &[0u8; 48]);
    assert_eq!(plain(&world, VCPUOP_GET_RUNSTATE_INFO, 0), 0);
    assert_eq!(world.get::<RunstateInfo>(AT).time, [0, 0, 0, 77]);
}

#[test]
fn a_32_bit_guests_record_is_shorter() {
    let world = World::new();
    world.guest.memory.set_pae(true);
    world.guest.evtchn.set_narrow(true);
    let area = 0x7000;
    let bytes = size_of::<xen_abi::compat::RunstateInfo>();
    world.put(area, &[[0xffu8; 44]; 1]);
    world.put(area + bytes as u64, &[0xffu8; 8]);
    let mut call = RegisterRunstateMemoryArea { addr: area };
    assert_eq!(vcpu_call(&world, VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA, 0, &mut call), 0);
    let record: xen_abi::compat::RunstateInfo = world.get(area);
    assert_eq!((record.state, record.time), (RUNSTATE_OFFLINE as u32, [[0; 2]; 4]));
    assert_eq!(world.get::<[u8; 8]>(area + bytes as u64), [0xff; 8], "what is behind it stays");
}

#[test]
fn records_by_machine_address_hold_their_frame() {
    let world = World::new();
    let mfns = world.frames(&world.guest, 2);
    let memory = &world.hypervisor.memory;
    let references = |index: usize| memory.frames().view(mfns[index]).unwrap().references;
    let register = |op, addr| vcpu_call(&world, op, 1, &mut RegisterRunstateMemoryArea { addr });
    for (op, size) in [(VCPUOP_REGISTER_RUNSTATE_PHYS_AREA, 48), (VCPUOP_REGISTER_VCPU_TIME_PHYS_AREA, 32)] {
        let free = references(0);
        assert_eq!(register(op, mfns[0].address() + 4096 - size + 8), error(Errno::NXIO), "over the frame's end");
        assert_eq!(register(op, mfns[0].address() + 4), error(Errno::NXIO), "not aligned");
        assert_eq!(register(op, 0x1000), error(Errno::INVAL), "nobody's");
        assert_eq!(register(op, !0xfff), error(Errno::INVAL), "no memory");
        assert_eq!(references(0), free);
        assert_eq!(register(op, mfns[0].address() + 4096 - size), 0);
        assert_eq!((references(0), references(1)), (free + 1, free));
        assert_eq!(register(op, mfns[1].address() + 64), 0);
        assert_eq!((references(0), references(1)), (free, free + 1));
        assert_eq!((register(op, !0), register(op, !0)), (0, 0));
        assert_eq!((references(0), references(1)), (free, free));
    }
    assert_eq!(memory.get_type(mfns[0], ::memory::FrameType::SegDesc, world.machine()), Ok(types::Progress::Done(())));
    assert_eq!(register(VCPUOP_REGISTER_RUNSTATE_PHYS_AREA, mfns[0].address()), error(Errno::ACCES), "in another use");
    memory.put_type(mfns[0]);
}

#[test]
fn a_32_bit_guests_records_by_machine_address_are_aligned_to_its_words() {
    let world = World::new();
    world.guest.memory.set_pae(true);
    world.guest.evtchn.set_narrow(true);
    let start = world.frames(&world.guest, 1)[0].address();
    let register = |op, addr| vcpu_call(&world, op, 0, &mut RegisterRunstateMemoryArea { addr });
    for (op, size) in [(VCPUOP_REGISTER_RUNSTATE_PHYS_AREA, 44), (VCPUOP_REGISTER_VCPU_TIME_PHYS_AREA, 32)] {
        assert_eq!(register(op, start + 4096 - size + 4), error(Errno::NXIO), "over the frame's end");
        assert_eq!(register(op, start + 2), error(Errno::NXIO), "not aligned");
        assert_eq!(register(op, start + 4096 - size), 0);
        assert_eq!(register(op, start + 60), 0);
        assert_eq!(register(op, !0), 0);
    }
    let word = |index| world.word(types::Mfn::containing(start), index);
    (7..14).for_each(|index| word(index).store(!0, SeqCst));
    assert_eq!(register(VCPUOP_REGISTER_RUNSTATE_PHYS_AREA, start + 60), 0);
    assert_eq!(word(7).load(SeqCst), (RUNSTATE_OFFLINE as u64) << 32 | 0xffff_ffff, "the state");
    assert!((8..13).all(|index| word(index).load(SeqCst) == 0), "times follow without a gap");
    assert_eq!(word(13).load(SeqCst), !0, "what is behind it stays");
}

#[test]
fn records_by_machine_address_are_written_and_go_with_the_domain() {
    let world = World::new();
    let mfn = world.frames(&world.guest, 1)[0];
    world.machine().set_time(33);
    let mut runstate = RegisterRunstateMemoryArea { addr: mfn.address() + 64 };
    assert_eq!(vcpu_call(&world, VCPUOP_REGISTER_RUNSTATE_PHYS_AREA, 0, &mut runstate), 0);
    let mut time = RegisterTimeMemoryArea { addr: mfn.address() };
    assert_eq!(vcpu_call(&world, VCPUOP_REGISTER_VCPU_TIME_PHYS_AREA, 0, &mut time), 0);
    assert_eq!(world.word(mfn, 2).load(SeqCst), 33, "the time");
    assert_eq!(world.word(mfn, 8).load(SeqCst), RUNSTATE_OFFLINE as u64);
    world.hypervisor.bring_up(&world.guest.vcpus()[0]);
    while world.hypervisor.destroy(&world.guest) == Err(Errno::AGAIN) {}
    assert!(!world.hypervisor.record_runstate(&world.guest.vcpus()[0]));
    assert!(world.hypervisor.domains.get(DomId(1)).is_none(), "nothing holds a frame of it");
}

#[test]
fn polls_sleep_until_an_event_or_a_time() {
    let world = World::new();
    let vcpu = &world.guest.vcpus()[0];
    world.hypervisor.unpause_domain(&world.guest);
    world.hypervisor.bring_up(vcpu);
    let port = world.guest.evtchn.alloc_unbound(world.machine(), DomId(0)).unwrap();
    world.put(LIST, &[port]);
    let poll = |nr_ports, timeout| {
        let mut call = Poll { ports: GuestHandle::new(LIST), nr_ports, _gap0: [0; 4], timeout };
        world.with(&world.guest, sched_op, SCHEDOP_POLL, &mut call, &[])
    };
    assert_eq!(poll(129, 0), error(Errno::INVAL));
    assert_eq!(poll(1, 5000), 0);
    assert_ne!(vcpu.flags.load(SeqCst) & PauseFlags::POLLING, 0);
    let raised = world.guest.evtchn.set_pending(world.machine(), port);
    world.hypervisor.follow(&world.guest, raised);
    assert_eq!(vcpu.flags.load(SeqCst) & PauseFlags::POLLING, 0, "the event ends it");
    assert_eq!(poll(1, 0), 0);
    assert_eq!(vcpu.flags.load(SeqCst) & PauseFlags::POLLING, 0, "the event is still pending");

    let other = world.guest.evtchn.alloc_unbound(world.machine(), DomId(0)).unwrap();
    world.put(LIST, &[other]);
    assert_eq!(poll(1, 6000), 0);
    assert_ne!(vcpu.flags.load(SeqCst) & PauseFlags::POLLING, 0);
    let (_, event) = world.hypervisor.cpus[0].timers.lock().expire(6000).unwrap();
    world.hypervisor.timer_expired(event, 6000);
    assert_eq!(vcpu.flags.load(SeqCst) & PauseFlags::POLLING, 0, "the time ends it");
}

/// Whoever ends a wait for another reason must not take the poll that follows it away from those who send.
#[test]
fn a_poll_is_not_lost_to_the_end_of_the_one_before() {
    const POLLS: usize = 100_000;
    let world = World::new();
    let vcpu = &world.guest.vcpus()[0];
    world.hypervisor.unpause_domain(&world.guest);
    world.hypervisor.bring_up(vcpu);
    let port = world.guest.evtchn.alloc_unbound(world.machine(), DomId(0)).unwrap();
    world.put(LIST, &[port]);
    world.put(AT, &Poll { ports: GuestHandle::new(LIST), nr_ports: 1, _gap0: [0; 4], timeout: 0 });
    // The first word of evtchn_pending (struct shared_info, xen.h).
    let pending = world.word(world.guest.shared_info, 256);
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Another that wants the vCPU to look, for nothing. One alone, since each further one would end what is lost.
        scope.spawn(|| {
            while !is_done.load(SeqCst) {
                world.hypervisor.end_wait(vcpu);
            }
        });
        let still_waits = |_: usize| {
            pending.store(0, SeqCst);
            assert_eq!(world.finish(&world.guest, sched_op, &[SCHEDOP_POLL.into(), AT]), 0);
            let raised = world.guest.evtchn.set_pending(world.machine(), port);
            world.hypervisor.follow(&world.guest, raised);
            vcpu.flags.load(SeqCst) & PauseFlags::POLLING != 0
        };
        let _ = (0..POLLS).any(still_waits);
        is_done.store(true, SeqCst);
    });
    // If the other was half-way, it has come to its end.
    assert!(!vcpu.is_blocked(), "an event was sent that does not end the poll");
}

#[test]
fn blocking_unmasks_and_returns_when_an_event_waits() {
    let world = World::new();
    let vcpu = &world.guest.vcpus()[0];
    world.hypervisor.unpause_domain(&world.guest);
    world.hypervisor.bring_up(vcpu);
    assert_eq!(world.finish(&world.guest, sched_op, &[SCHEDOP_BLOCK.into()]), 0);
    assert!(vcpu.is_blocked());
    let port = world.guest.evtchn.alloc_unbound(world.machine(), DomId(0)).unwrap();
    let raised = world.guest.evtchn.set_pending(world.machine(), port);
    world.hypervisor.follow(&world.guest, raised);
    assert!(!vcpu.is_blocked());
    assert_eq!(world.finish(&world.guest, sched_op, &[SCHEDOP_BLOCK.into()]), 0);
    assert!(!vcpu.is_blocked(), "the event still waits");
}

/// Events of an HVM guest are interrupts: while it takes none, one that waits is no reason to come back at once.
#[test]
fn a_poll_with_interrupts_off_waits_for_its_time() {
    let world = World::new();
    let vcpu = &world.guest.vcpus()[0];
    world.hypervisor.unpause_domain(&world.guest);
    world.hypervisor.bring_up(vcpu);
    let port = world.guest.evtchn.alloc_unbound(world.machine(), DomId(0)).unwrap();
    let raised = world.guest.evtchn.set_pending(world.machine(), port);
    world.hypervisor.follow(&world.guest, raised);
    world.guest.evtchn.set_upcall_mask(world.machine(), vcpu.id, false);
    let poll = |timeout| {
        let mut call = Poll { ports: GuestHandle::new(LIST), nr_ports: 0, _gap0: [0; 4], timeout };
        assert_eq!(world.with(&world.guest, sched_op, SCHEDOP_POLL, &mut call, &[]), 0);
        vcpu.flags.load(SeqCst) & PauseFlags::POLLING != 0
    };
    assert!(!poll(5000), "it takes the event");
    vcpu.holds_events_back.store(true, SeqCst);
    assert!(poll(5000), "it cannot take it");
    let (_, event) = world.hypervisor.cpus[0].timers.lock().expire(5000).unwrap();
    world.hypervisor.timer_expired(event, 5000);
    assert_eq!(vcpu.flags.load(SeqCst) & PauseFlags::POLLING, 0, "the time ends it");
}

#[test]
fn the_older_form_has_its_arguments_in_registers() {
    let world = World::new();
    let vcpu = &world.guest.vcpus()[0];
    world.hypervisor.unpause_domain(&world.guest);
    world.hypervisor.bring_up(vcpu);
    let call = |op: u32, argument: u32| world.finish(&world.guest, sched_op_compat, &[op.into(), argument.into()]);
    assert_eq!(call(SCHEDOP_YIELD, 0), 0);
    assert_eq!(call(SCHEDOP_BLOCK, 0), 0);
    assert!(vcpu.is_blocked());
    assert_eq!(call(SCHEDOP_POLL, 0), error(Errno::NOSYS));
    assert_eq!(call(SCHEDOP_SHUTDOWN, SHUTDOWN_REBOOT), 0);
    assert_eq!(world.guest.shutdown_code(), Some(ShutdownCode::REBOOT));
}

#[test]
fn only_the_control_domain_shuts_others_down() {
    let world = World::new();
    let mut call = RemoteShutdown { domain_id: 0, _gap0: [0; 2], reason: SHUTDOWN_CRASH };
    let op = SCHEDOP_REMOTE_SHUTDOWN;
    assert_eq!(world.with(&world.guest, sched_op, op, &mut call, &[]), error(Errno::PERM));
    call.domain_id = 50;
    assert_eq!(world.with(&world.dom0, sched_op, op, &mut call, &[]), error(Errno::SRCH));
    call.domain_id = 1;
    assert_eq!(world.with(&world.dom0, sched_op, op, &mut call, &[]), 0);
    assert_eq!(world.guest.shutdown_code(), Some(domain::ShutdownCode::CRASH));
}

#[test]
fn a_watchdog_ends_the_domain_unless_it_is_set_again() {
    const SECOND: u64 = 1_000_000_000;
    let world = World::new();
    let set = |id, timeout| world.with(&world.guest, sched_op, SCHEDOP_WATCHDOG, &mut Watchdog { id, timeout }, &[]);
    let expire = |now| {
        let due = world.hypervisor.cpus[0].timers.lock().expire(now);
        due.map(|(_, event)| world.hypervisor.timer_expired(event, now)).is_some()
    };
    assert_eq!((set(1, 5), set(3, 5)), (error(Errno::INVAL), error(Errno::INVAL)));
    assert_eq!((set(0, 5), set(0, 6), set(0, 7)), (1, 2, error(Errno::NOSPC)));
    world.machine().set_time(4 * SECOND);
    assert_eq!((set(1, 5), set(2, 0), set(2, 1)), (0, 0, error(Errno::INVAL)));
    assert!(!expire(9 * SECOND - 1));
    assert!(expire(9 * SECOND));
    assert_eq!(world.guest.shutdown_code(), Some(ShutdownCode::WATCHDOG));
}

#[test]
fn a_reason_given_before_is_that_of_any_shutdown() {
    let world = World::new();
    let call = |domain, op, reason| world.with(domain, sched_op, op, &mut Shutdown { reason }, &[]);
    assert_eq!(call(&world.guest, SCHEDOP_SHUTDOWN_CODE, SHUTDOWN_CRASH), 0);
    assert_eq!(call(&world.guest, SCHEDOP_SHUTDOWN_CODE, SHUTDOWN_REBOOT), 0);
    assert_eq!(world.guest.shutdown_code(), None, "it goes on");
    assert_eq!(call(&world.guest, SCHEDOP_SHUTDOWN, SHUTDOWN_POWEROFF), 0);
    assert_eq!(world.guest.shutdown_code(), Some(ShutdownCode::CRASH));
    world.hypervisor.resume(&world.guest);
    assert_eq!(call(&world.guest, SCHEDOP_SHUTDOWN, SHUTDOWN_POWEROFF), 0);
    assert_eq!(world.guest.shutdown_code(), Some(ShutdownCode::POWEROFF), "the first one is over");
}

#[test]
fn the_machine_ends_as_dom0_does() {
    for (reason, end) in [
        (SHUTDOWN_POWEROFF, MachineEnd::Halt),
        (SHUTDOWN_REBOOT, MachineEnd::Restart),
        (SHUTDOWN_CRASH, MachineEnd::RestartAfterFault),
        (99, MachineEnd::RestartAfterFault),
    ] {
        let world = World::new();
        world.with(&world.dom0, sched_op, SCHEDOP_SHUTDOWN, &mut Shutdown { reason }, &[]);
        assert_eq!(*world.hypervisor.machine().ended.lock(), Some(end));
    }
}

#[test]
fn only_the_control_domain_could_override_its_affinity() {
    let world = World::new();
    let pin = |domain| world.call(domain, sched_op, &[SCHEDOP_PIN_OVERRIDE.into(), 0]);
    assert_eq!(pin(&world.guest), Errno::PERM.into());
    assert_eq!(pin(&world.dom0), Errno::NOSYS.into());
}
