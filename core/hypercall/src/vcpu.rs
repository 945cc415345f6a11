//! vcpu_op (vcpu.h) and set_timer_op.

use crate::{Args, Caller, Outcome, area};
use alloc::sync::Arc;
use core::sync::atomic::Ordering::SeqCst;
use domain::{Arch, RunstateRecord, TimerEvent, Vcpu};
use types::{Errno, Result, VcpuId};
use xen_abi::GuestHandle;
use xen_abi::vcpu::*;
use xen_abi::xen::VIRQ_TIMER;

/// Shortest and longest period of a vCPU's timer, in nanoseconds.
const MIN_PERIOD: u64 = 1_000_000;
const MAX_PERIOD: u64 = u64::MAX >> 2;
/// A deadline of set_timer_op that is this far ahead, in nanoseconds, is taken for a mistake.
const TOO_FAR: u64 = 1 << 50;
/// From now to the deadline that takes its place, in nanoseconds.
const INSTEAD: u64 = 100_000_000;

/// HYPERVISOR_vcpu_op: operation, vCPU, address of the operation's structure.
pub fn vcpu_op<A: Arch>(caller: &Caller<'_, A>, args: Args) -> Outcome {
    let Some(vcpu) = caller.domain.vcpu(VcpuId(args[1] as u32)) else {
        return Errno::NOENT.into();
    };
    let at = args[2];
    let result = match args[0] as u32 {
        VCPUOP_INITIALISE => return initialise(caller, vcpu, args),
        VCPUOP_UP => up(caller, vcpu),
        VCPUOP_DOWN => {
            caller.hypervisor.go_down(caller.domain, vcpu);
            Ok(())
        }
        VCPUOP_IS_UP => return Outcome::Done(vcpu.is_up().into()),
        VCPUOP_GET_RUNSTATE_INFO => caller.write(GuestHandle::new(at), &runstate(caller, vcpu)),
        VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA => register_runstate(caller, vcpu, GuestHandle::new(at)),
        VCPUOP_SET_PERIODIC_TIMER => set_periodic(caller, vcpu, GuestHandle::new(at)),
        VCPUOP_STOP_PERIODIC_TIMER => {
            caller.hypervisor.set_period(caller.domain, vcpu, 0);
            Ok(())
        }
        VCPUOP_SET_SINGLESHOT_TIMER => set_singleshot(caller, vcpu, GuestHandle::new(at)),
        VCPUOP_STOP_SINGLESHOT_TIMER => stop_singleshot(caller, vcpu),
        VCPUOP_REGISTER_VCPU_INFO => register_info(caller, vcpu, GuestHandle::new(at)),
        VCPUOP_SEND_NMI => {
            caller.hypervisor.send_nmi(vcpu);
            Ok(())
        }
        // Only for vCPUs that are bound to a CPU for good, of which there are none.
        VCPUOP_GET_PHYSID => Err(Errno::INVAL),
        VCPUOP_REGISTER_VCPU_TIME_MEMORY_AREA => register_time(caller, vcpu, GuestHandle::new(at)),
        VCPUOP_REGISTER_RUNSTATE_PHYS_AREA => area::register_runstate(caller, vcpu, GuestHandle::new(at)),
        VCPUOP_REGISTER_VCPU_TIME_PHYS_AREA => area::register_time(caller, vcpu, GuestHandle::new(at)),
        _ => Err(Errno::NOSYS),
    };
    result.into()
}

/// HYPERVISOR_set_timer_op: the calling vCPU's one-shot timer, in nanoseconds of system time; 0 stops it.
pub fn set_timer_op<A: Arch>(caller: &Caller<'_, A>, args: Args) -> Outcome {
    if args[0] == 0 {
        caller.hypervisor.cancel_timer(&caller.vcpu.singleshot);
        return Outcome::Done(0);
    }
    let now = caller.machine().system_time();
    // Guests whose own clock has wrapped ask for times like these; some mean "now", others "never".
    let is_mistake = args[0] >> 63 != 0 || args[0].saturating_sub(now) >= TOO_FAR;
    arm_singleshot(caller, now, if is_mistake { now.saturating_add(INSTEAD) } else { args[0] }).into()
}

fn is_own<A: Arch>(caller: &Caller<'_, A>, vcpu: &Vcpu<A>) -> bool {
    vcpu.id == caller.vcpu.id
}

fn initialise<A: Arch>(caller: &Caller<'_, A>, vcpu: &Arc<Vcpu<A>>, args: Args) -> Outcome {
    if caller.domain.evtchn.vcpu_info(vcpu.id).is_none() {
        return Errno::INVAL.into();
    }
    match caller.machine().initialise_vcpu(caller.hypervisor, caller.domain, vcpu, args[2]) {
        // Its page tables are checked in pieces.
        Err(Errno::AGAIN) => Outcome::Again(args),
        result => result.into(),
    }
}

fn up<A: Arch>(caller: &Caller<'_, A>, vcpu: &Vcpu<A>) -> Result<()> {
    if !vcpu.initialised.load(SeqCst) {
        return Err(Errno::INVAL);
    }
    caller.hypervisor.bring_up(vcpu);
    Ok(())
}

fn runstate<A: Arch>(caller: &Caller<'_, A>, vcpu: &Vcpu<A>) -> RunstateInfo {
    let now = caller.machine().system_time();
    let clock = *vcpu.runstate.lock();
    RunstateInfo {
        state: clock.state() as i32,
        _gap0: [0; 4],
        state_entry_time: clock.since(),
        time: clock.times_at(now),
    }
}

/// The record is written at once, where that is possible, and later whenever the vCPU begins to run.
fn register_runstate<A: Arch>(
    caller: &Caller<'_, A>,
    vcpu: &Vcpu<A>,
    at: GuestHandle<RegisterRunstateMemoryArea>,
) -> Result<()> {
    let area = caller.read(at)?.addr;
    if !caller.machine().is_guest_range(area, 0) {
        return Err(Errno::FAULT);
    }
    if area != 0 {
        let clock = *vcpu.runstate.lock();
        let record = RunstateRecord::new(&clock, caller.domain.evtchn.is_narrow(), false);
        // What cannot be written now may be writable when the vCPU runs.
        let _ = caller.machine().copy_out(area, record.bytes());
    }
    vcpu.runstate_area.store(area, SeqCst);
    Ok(())
}

fn register_time<A: Arch>(
    caller: &Caller<'_, A>,
    vcpu: &Vcpu<A>,
    at: GuestHandle<RegisterTimeMemoryArea>,
) -> Result<()> {
    let area = caller.read(at)?.addr;
    if !caller.machine().is_guest_range(area, 0) {
        return Err(Errno::FAULT);
    }
    vcpu.time_area.store(area, SeqCst);
    if is_own(caller, vcpu) {
        caller.machine().update_time(caller.hypervisor, vcpu);
    }
    Ok(())
}

fn set_periodic<A: Arch>(caller: &Caller<'_, A>, vcpu: &Vcpu<A>, at: GuestHandle<SetPeriodicTimer>) -> Result<()> {
    let period = caller.read(at)?.period_ns;
    if !(MIN_PERIOD..=MAX_PERIOD).contains(&period) {
        return Err(Errno::INVAL);
    }
    caller.hypervisor.set_period(caller.domain, vcpu, period);
    Ok(())
}

fn set_singleshot<A: Arch>(caller: &Caller<'_, A>, vcpu: &Vcpu<A>, at: GuestHandle<SetSingleshotTimer>) -> Result<()> {
    if !is_own(caller, vcpu) {
        return Err(Errno::INVAL);
    }
    // VCPU_SSHOTTMR_FUTURE may be ignored (vcpu.h), as Xen does: a time that has passed expires at once.
    let deadline = caller.read(at)?.timeout_abs_ns;
    arm_singleshot(caller, caller.machine().system_time(), deadline)
}

fn arm_singleshot<A: Arch>(caller: &Caller<'_, A>, now: u64, deadline: u64) -> Result<()> {
    if deadline <= now {
        // The CPU's timer would only interrupt the guest to say so.
        caller.hypervisor.cancel_timer(&caller.vcpu.singleshot);
        caller.hypervisor.raise_vcpu_virq(caller.domain, caller.vcpu.id, VIRQ_TIMER);
        return Ok(());
    }
    let event = TimerEvent::Singleshot(caller.domain.id, caller.vcpu.id);
    caller.hypervisor.set_timer(&caller.vcpu.singleshot, deadline, event)
}

fn stop_singleshot<A: Arch>(caller: &Caller<'_, A>, vcpu: &Vcpu<A>) -> Result<()> {
    if !is_own(caller, vcpu) {
        return Err(Errno::INVAL);
    }
    caller.hypervisor.cancel_timer(&vcpu.singleshot);
    Ok(())
}

fn register_info<A: Arch>(caller: &Caller<'_, A>, vcpu: &Vcpu<A>, at: GuestHandle<RegisterVcpuInfo>) -> Result<()> {
    let call = caller.read(at)?;
    let channels = &caller.domain.evtchn;
    channels.check_vcpu_info(vcpu.id, call.offset)?;
    if !is_own(caller, vcpu) && vcpu.is_up() {
        return Err(Errno::INVAL);
    }
    let held = caller.hypervisor.hold(caller.domain, call.mfn, true).map_err(|denied| {
        let errno = caller.explain("register_vcpu_info", denied);
        if denied.is_other_use() { Errno::ACCES } else { errno }
    })?;
    channels.register_vcpu_info(caller.machine(), vcpu.id, held.mfn(), call.offset)?;
    held.keep();
    // All events are marked as pending there.
    caller.machine().upcall_raised(vcpu);
    if is_own(caller, vcpu) {
        caller.machine().update_time(caller.hypervisor, vcpu);
    }
    Ok(())
}
