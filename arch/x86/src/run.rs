//! The life of a physical CPU: choose a vCPU, run it until something else is due, choose again.

use crate::current::Current;
use crate::machine::{self, X86};
use crate::vcpu::{Guest, VcpuState};
use crate::{console, irq};
use alloc::sync::Arc;
use core::sync::atomic::Ordering::Relaxed;
use domain::{Arch, Hypervisor, PauseFlags, Vcpu};
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
    vcpu.set_running_on(Some(cpu));
    vcpu.runstate.lock().change(Runstate::Running, hypervisor.machine().system_time());
    let (reschedule, next_look) = (&hypervisor.cpu(cpu).reschedule, machine::next_look());
    let domain = &domain;
    let decision = match &mut *state {
        VcpuState::Pv(state) => {
            run_while_chosen(Current { hypervisor, domain, vcpu, state: &mut **state, reschedule, next_look }, cpu)
        }
        VcpuState::Hvm(state) => {
            run_while_chosen(Current { hypervisor, domain, vcpu, state: &mut **state, reschedule, next_look }, cpu)
        }
    };
    drop(state);
    leave(hypervisor, vcpu);
    decision
}

/// Makes the CPU the vCPU's, and runs it until another is to run, or none.
fn run_while_chosen<S: Guest>(mut current: Current<'_, S>, cpu: CpuId) -> Decision {
    let hypervisor = current.hypervisor;
    load(&mut current);
    let decision = loop {
        run_guest(&mut current);
        let decision = choose(hypervisor, cpu);
        if decision.unit != Some(current.vcpu.unit) || !hypervisor.may_run(current.vcpu) {
            break decision;
        }
    };
    save(&mut current);
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

fn load<S: Guest>(current: &mut Current<'_, S>) {
    current.machine().set_loaded(Some(current.domain.id));
    S::load(current);
    current.hypervisor.tick(current.domain, current.vcpu, current.machine().system_time());
}

fn save<S: Guest>(current: &mut Current<'_, S>) {
    current.hypervisor.stop_ticking(current.vcpu);
    S::save(current);
    current.machine().set_loaded(None);
}

/// Enters the guest again and again until the schedule has to be looked at.
fn run_guest<S: Guest>(current: &mut Current<'_, S>) {
    loop {
        // A guest without a place to deliver to is crashed, so this comes before the question.
        S::deliver(current);
        if current.reschedule.load(Relaxed) {
            return;
        }
        current.next_look.set(0);
        S::run(current);
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
