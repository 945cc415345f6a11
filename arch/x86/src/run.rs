//! The life of a physical CPU: choose a vCPU, run it until something else is due, choose again.

use crate::current::Current;
use crate::machine::{self, X86};
use crate::pv;
use crate::{console, irq, time};
use alloc::sync::Arc;
use core::sync::atomic::Ordering::Relaxed;
use domain::{Arch, Hypervisor, PauseFlags, Vcpu};
use hal_cpu::Exit;
use hal_irq::Irq;
use platform::Clock;
use sched::{Decision, Runstate, Scheduler};
use types::CpuId;

/// What a CPU does from start-up on.
pub fn run(hypervisor: &'static Hypervisor<X86>) -> ! {
    let cpu = hypervisor.machine().this_cpu();
    let mut decision = choose(hypervisor, cpu);
    loop {
        let vcpu = decision.unit.and_then(|unit| hypervisor.vcpu_of(unit));
        match vcpu {
            Some(vcpu) => decision = run_vcpu(hypervisor, cpu, &vcpu),
            None => {
                idle(hypervisor, cpu);
                decision = choose(hypervisor, cpu);
            }
        }
    }
}

/// Lets expired timers do what they are for, asks the scheduler, and sets the timer for the next time it has to be asked.
fn choose(hypervisor: &Hypervisor<X86>, cpu: CpuId) -> Decision {
    let state = hypervisor.cpu(cpu);
    state.reschedule.store(false, Relaxed);
    hypervisor.reap_dead();
    console::tell_news(hypervisor);
    let now = hypervisor.machine().system_time();
    let decision = hypervisor.scheduler.lock().schedule(cpu, now);
    let end = decision.time_slice.map(|slice| now + slice);
    let next = state.timers.lock().next_deadline();
    hypervisor.machine().set_deadline(match (end, next) {
        (Some(end), Some(next)) => Some(end.min(next)),
        (end, next) => end.or(next),
    });
    state.slice_end.store(end.unwrap_or(u64::MAX), Relaxed);
    decision
}

/// Sleeps until there is something to do.
fn idle(hypervisor: &Hypervisor<X86>, cpu: CpuId) {
    let state = hypervisor.cpu(cpu);
    let began = hypervisor.machine().system_time();
    hal_irq::ipi::enter_idle();
    while !state.reschedule.load(Relaxed) {
        if hypervisor.memory.scrub_free(hypervisor.machine()) {
            hal_cpu::interrupt_window();
        } else {
            hal_cpu::idle_wait();
        }
    }
    hal_irq::ipi::leave_idle();
    state.idle_time.fetch_add(hypervisor.machine().system_time() - began, Relaxed);
}

/// Runs a vCPU until another is to run. The lock on its state is held all the while: whatever the scheduler says, no other CPU
/// can run it.
fn run_vcpu(hypervisor: &'static Hypervisor<X86>, cpu: CpuId, vcpu: &Arc<Vcpu<X86>>) -> Decision {
    let Some(domain) = vcpu.domain.upgrade() else {
        return choose(hypervisor, cpu);
    };
    let mut state = vcpu.state.lock();
    let mut current = Current { hypervisor, domain: &domain, vcpu, state: &mut state };
    vcpu.set_running_on(Some(cpu));
    enter_runstate(&current, Runstate::Running);
    load(&mut current);
    let decision = loop {
        run_guest(&mut current, cpu);
        let decision = choose(hypervisor, cpu);
        if decision.unit != Some(vcpu.unit) || !hypervisor.may_run(vcpu) {
            break decision;
        }
    };
    save(&mut current);
    drop(state);
    leave(hypervisor, vcpu);
    decision
}

/// The vCPU has left this CPU: it may run on another.
fn leave(hypervisor: &Hypervisor<X86>, vcpu: &Vcpu<X86>) {
    let now = hypervisor.machine().system_time();
    let mut scheduler = hypervisor.scheduler.lock();
    vcpu.set_running_on(None);
    let flags = vcpu.flags.load(Relaxed);
    let kind = if hypervisor.may_run(vcpu) {
        Runstate::Runnable
    } else if flags & PauseFlags::DOWN == 0 && vcpu.is_blocked() {
        Runstate::Blocked
    } else {
        Runstate::Offline
    };
    vcpu.runstate.lock().change(kind, now);
    let tickle = scheduler.context_saved(vcpu.unit, now);
    drop(scheduler);
    hypervisor.record_runstate(vcpu);
    if let Some(other) = tickle {
        hypervisor.reschedule(other);
    }
}

fn enter_runstate(current: &Current<'_>, kind: Runstate) {
    let now = current.machine().system_time();
    current.vcpu.runstate.lock().change(kind, now);
}

/// Makes the CPU the vCPU's: page tables, descriptors, segments, vector and debug registers, time.
fn load(current: &mut Current<'_>) {
    current.machine().set_loaded(Some(current.domain.id));
    current.find_info();
    pv::context::load(current);
    time::update_record(current.machine(), current.domain, current.vcpu);
    pv::context::write_records(current);
    current.hypervisor.tick(current.domain, current.vcpu, current.machine().system_time());
}

fn save(current: &mut Current<'_>) {
    current.hypervisor.stop_ticking(current.vcpu);
    pv::context::save(current);
    hal_cpu::load_hypervisor_root();
    current.machine().set_loaded(None);
}

/// Enters the guest again and again until the schedule has to be looked at.
fn run_guest(current: &mut Current<'_>, cpu: CpuId) {
    let reschedule = &current.hypervisor.cpu(cpu).reschedule;
    loop {
        hal_irq::ipi::poll_mailbox();
        // A guest without a place to deliver to is crashed, so this comes before the question.
        pv::events::deliver_pending(current);
        if reschedule.load(Relaxed) {
            return;
        }
        machine::forget_looks();
        let exit = hal_cpu::enter(&mut current.state.context);
        let exit = match current.state.narrow {
            None => exit,
            Some(_) => match pv::compat::sort(current, exit) {
                Some(exit) => exit,
                None => continue,
            },
        };
        match exit {
            Exit::Interrupt(vector) => interrupt(current.hypervisor, vector),
            Exit::Nmi => hal_irq::ipi::stop_if_asked(),
            exit => pv::traps::handle(current, exit),
        }
    }
}

/// Handles a machine interrupt, wherever it arrived.
pub fn interrupt(hypervisor: &Hypervisor<X86>, vector: u8) {
    match hal_irq::dispatch(vector) {
        Irq::Timer => expire_timers(hypervisor),
        Irq::Device(vector) => irq::handle(hypervisor, vector),
        Irq::Kick | Irq::Flush | Irq::Error(_) | Irq::Spurious => {}
    }
}

/// Does what this CPU's expired timers are for, and sets the next deadline.
fn expire_timers(hypervisor: &Hypervisor<X86>) {
    let cpu = hypervisor.machine().this_cpu();
    let state = hypervisor.cpu(cpu);
    loop {
        let now = hypervisor.machine().system_time();
        let expired = state.timers.lock().expire(now);
        let Some((_, event)) = expired else { break };
        hypervisor.timer_expired(event, now);
    }
    let now = hypervisor.machine().system_time();
    let end = state.slice_end.load(Relaxed);
    if now >= end {
        state.slice_end.store(u64::MAX, Relaxed);
        state.reschedule.store(true, Relaxed);
        return;
    }
    let next = state.timers.lock().next_deadline().unwrap_or(u64::MAX).min(end);
    hypervisor.machine().set_deadline((next != u64::MAX).then_some(next));
}
