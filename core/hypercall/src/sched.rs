//! sched_op (sched.h).

use crate::{Args, Caller, Outcome};
use arrayvec::ArrayVec;
use core::sync::atomic::Ordering::SeqCst;
use domain::{Arch, PauseFlags, ShutdownCode, TimerEvent};
use types::{DomId, Errno, Result};
use xen_abi::GuestHandle;
use xen_abi::sched::*;

/// Ports that one poll may name.
const MAX_POLL_PORTS: usize = 128;

/// HYPERVISOR_sched_op: operation, address of its structure.
pub fn sched_op<A: Arch>(caller: &Caller<'_, A>, args: Args) -> Outcome {
    let at = args[1];
    let result = match args[0] as u32 {
        SCHEDOP_YIELD => {
            caller.hypervisor.yield_now(caller.vcpu);
            Ok(())
        }
        SCHEDOP_BLOCK => {
            caller.domain.evtchn.set_upcall_mask(caller.machine(), caller.vcpu.id, false);
            caller.hypervisor.block(caller.domain, caller.vcpu);
            Ok(())
        }
        SCHEDOP_SHUTDOWN => shutdown(caller, GuestHandle::new(at)),
        SCHEDOP_POLL => poll(caller, GuestHandle::new(at)),
        SCHEDOP_SHUTDOWN_CODE => shutdown_code(caller, GuestHandle::new(at)),
        SCHEDOP_WATCHDOG => return watchdog(caller, GuestHandle::new(at)).into(),
        SCHEDOP_REMOTE_SHUTDOWN => remote_shutdown(caller, GuestHandle::new(at)),
        SCHEDOP_PIN_OVERRIDE if !caller.domain.is_privileged() => Err(Errno::PERM),
        _ => Err(Errno::NOSYS),
    };
    result.into()
}

/// HYPERVISOR_sched_op_compat, the older form: the operation, and what it needs as the argument itself.
pub fn sched_op_compat<A: Arch>(caller: &Caller<'_, A>, args: Args) -> Outcome {
    match args[0] as u32 {
        SCHEDOP_YIELD | SCHEDOP_BLOCK => sched_op(caller, args),
        SCHEDOP_SHUTDOWN => {
            caller.hypervisor.shut_down(caller.domain, ShutdownCode(args[1] as u8));
            Outcome::Done(0)
        }
        _ => Errno::NOSYS.into(),
    }
}

fn shutdown<A: Arch>(caller: &Caller<'_, A>, at: GuestHandle<Shutdown>) -> Result<()> {
    let call = caller.read(at)?;
    caller.hypervisor.shut_down(caller.domain, ShutdownCode(call.reason as u8));
    Ok(())
}

/// Whatever ends the domain later, this is why.
fn shutdown_code<A: Arch>(caller: &Caller<'_, A>, at: GuestHandle<Shutdown>) -> Result<()> {
    let call = caller.read(at)?;
    caller.domain.latch_shutdown_code(ShutdownCode(call.reason as u8));
    Ok(())
}

fn watchdog<A: Arch>(caller: &Caller<'_, A>, at: GuestHandle<Watchdog>) -> Result<i64> {
    let call = caller.read(at)?;
    caller.hypervisor.set_watchdog(caller.domain, call.id, call.timeout).map(i64::from)
}

fn remote_shutdown<A: Arch>(caller: &Caller<'_, A>, at: GuestHandle<RemoteShutdown>) -> Result<()> {
    let call = caller.read(at)?;
    let domain = caller.hypervisor.domains.get(DomId(call.domain_id)).ok_or(Errno::SRCH)?;
    if !caller.domain.is_privileged() {
        return Err(Errno::PERM);
    }
    caller.hypervisor.shut_down(&domain, ShutdownCode(call.reason as u8));
    Ok(())
}

/// Sleeps until one of some ports has an event, a time has come, or the vCPU has an event that is not masked.
fn poll<A: Arch>(caller: &Caller<'_, A>, at: GuestHandle<Poll>) -> Result<()> {
    let call = caller.read(at)?;
    if call.nr_ports as usize > MAX_POLL_PORTS {
        return Err(Errno::INVAL);
    }
    if !caller.machine().is_guest_range(call.ports.address(), 0) {
        return Err(Errno::FAULT);
    }
    let mut ports = ArrayVec::<u32, MAX_POLL_PORTS>::new();
    for index in 0..call.nr_ports {
        ports.push(caller.read(call.ports.offset(index.into()))?);
    }
    let (hypervisor, domain, vcpu) = (caller.hypervisor, caller.domain, caller.vcpu);
    hypervisor.cancel_timer(&vcpu.poll_timer);
    // The flag comes first: whoever finds the vCPU among the pollers has to find it asleep too.
    vcpu.flags.fetch_or(PauseFlags::POLLING, SeqCst);
    let begun = domain.evtchn.begin_poll(caller.machine(), vcpu.id, &ports).and_then(|sleeps| {
        if sleeps && call.timeout != 0 {
            hypervisor.set_timer(&vcpu.poll_timer, call.timeout, TimerEvent::Poll(domain.id, vcpu.id))?;
        }
        Ok(sleeps)
    });
    if begun != Ok(true) || hypervisor.has_deliverable_event(domain, vcpu) {
        domain.evtchn.end_poll(vcpu.id);
        vcpu.flags.fetch_and(!PauseFlags::POLLING, SeqCst);
        return begun.map(|_| ());
    }
    hypervisor.sleep(vcpu);
    Ok(())
}
