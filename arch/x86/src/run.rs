//! The life of a physical CPU: choose a vCPU, run it until something else is due, choose again.

use crate::current::Current;
use crate::machine::{self, X86};
use crate::vcpu::{Guest, VcpuState};
use crate::{console, irq};
use alloc::sync::Arc;
use core::sync::atomic::Ordering::Relaxed;
use domain::{Arch, Hypervisor, Vcpu};
use hal_irq::Irq;
use platform::Clock;
use sched::{Runstate, Scheduler, UnitId};
use types::CpuId;

/// What a CPU is to do, as was decided at a system time.
#[derive(Clone, Copy)]
struct Chosen {
    unit: Option<UnitId>,
    at: u64,
}

/// What a CPU does from start-up on.
pub fn run(hypervisor: &'static Hypervisor<X86>) -> ! {
    let cpu = hypervisor.machine().this_cpu();
    let mut chosen = choose(hypervisor, cpu);
    loop {
        let vcpu = chosen.unit.and_then(|unit| hypervisor.vcpu_of(unit));
        match vcpu {
            Some(vcpu) => chosen = run_vcpu(hypervisor, cpu, &vcpu, chosen.at),
            None => {
                idle(hypervisor, cpu);
                chosen = choose(hypervisor, cpu);
            }
        }
    }
}

/// Lets expired timers do what they are for, asks the scheduler, and sets the timer for the next time it has to be asked.
fn choose(hypervisor: &Hypervisor<X86>, cpu: CpuId) -> Chosen {
    hypervisor.cpu(cpu).reschedule.store(false, Relaxed);
    hypervisor.reap_dead();
    console::tell_news(hypervisor);
    let now = hypervisor.machine().system_time();
    let decision = hypervisor.scheduler.lock().schedule(cpu, now);
    hypervisor.begin_slice(cpu, decision.time_slice.map(|slice| now + slice));
    Chosen { unit: decision.unit, at: now }
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

/// Runs a vCPU, which was chosen at `now`, until another is to run. The lock on its state is held all the while: whatever the
/// scheduler says, no other CPU can run it.
fn run_vcpu(hypervisor: &'static Hypervisor<X86>, cpu: CpuId, vcpu: &Arc<Vcpu<X86>>, now: u64) -> Chosen {
    let Some(domain) = vcpu.domain.upgrade() else {
        return choose(hypervisor, cpu);
    };
    let mut state = vcpu.state.lock();
    vcpu.set_running_on(Some(cpu));
    vcpu.runstate.lock().change(Runstate::Running, now);
    let (reschedule, next_look) = (&hypervisor.cpu(cpu).reschedule, machine::next_look());
    let domain = &domain;
    let next = match &mut *state {
        VcpuState::Pv(state) => {
            run_while_chosen(Current { hypervisor, domain, vcpu, state: &mut **state, reschedule, next_look }, cpu, now)
        }
        VcpuState::Hvm(state) => {
            run_while_chosen(Current { hypervisor, domain, vcpu, state: &mut **state, reschedule, next_look }, cpu, now)
        }
    };
    drop(state);
    leave(hypervisor, vcpu, next.at);
    next
}

/// Makes the CPU the vCPU's, and runs it until another is to run, or none.
fn run_while_chosen<S: Guest>(mut current: Current<'_, S>, cpu: CpuId, now: u64) -> Chosen {
    load(&mut current, now);
    let next = loop {
        run_guest(&mut current);
        let next = choose(current.hypervisor, cpu);
        if next.unit != Some(current.vcpu.unit) || !current.vcpu.may_run() {
            break next;
        }
    };
    save(&mut current);
    next
}

/// The vCPU has left this CPU: it may run on another.
fn leave(hypervisor: &Hypervisor<X86>, vcpu: &Vcpu<X86>, now: u64) {
    let mut scheduler = hypervisor.scheduler.lock();
    vcpu.set_running_on(None);
    let kind = if vcpu.may_run() {
        Runstate::Runnable
    } else if vcpu.is_up() && vcpu.is_blocked() {
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

fn load<S: Guest>(current: &mut Current<'_, S>, now: u64) {
    current.machine().set_loaded(Some(current.domain.id));
    S::load(current);
    current.hypervisor.tick(current.domain, current.vcpu, now);
}

fn save<S: Guest>(current: &mut Current<'_, S>) {
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
        Irq::Timer => hypervisor.alarm_rang(hypervisor.machine().this_cpu()),
        Irq::Device(vector) => irq::handle(hypervisor, vector),
        Irq::Kick | Irq::Flush | Irq::Error(_) | Irq::Spurious => {}
    }
}
