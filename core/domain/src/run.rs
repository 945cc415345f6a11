//! Whether a vCPU may run, and how it stops and starts.

use crate::{Arch, Domain, Hypervisor, PauseFlags, Vcpu};
use core::sync::atomic::Ordering::SeqCst;
use platform::sync::relax;
use sched::{Runstate, Scheduler};

impl<A: Arch> Hypervisor<A> {
    /// Puts a vCPU that may have become able to run into the schedule.
    pub fn wake(&self, vcpu: &Vcpu<A>) {
        let now = self.machine().system_time();
        let mut scheduler = self.scheduler.lock();
        if !vcpu.may_run() {
            return;
        }
        let mut runstate = vcpu.runstate.lock();
        if runstate.state() != Runstate::Running {
            runstate.change(Runstate::Runnable, now);
        }
        drop(runstate);
        let tickle = scheduler.wake(vcpu.unit, now);
        drop(scheduler);
        if let Some(cpu) = tickle {
            self.reschedule(cpu);
        }
    }

    /// Takes a vCPU that may not run any more out of the schedule; if it runs, its CPU is told.
    pub fn sleep(&self, vcpu: &Vcpu<A>) {
        let now = self.machine().system_time();
        let mut scheduler = self.scheduler.lock();
        if vcpu.may_run() {
            return;
        }
        let running = scheduler.sleep(vcpu.unit, now);
        if running.is_none() {
            let kind = if vcpu.is_up() && vcpu.is_blocked() { Runstate::Blocked } else { Runstate::Offline };
            vcpu.runstate.lock().change(kind, now);
        }
        drop(scheduler);
        if let Some(cpu) = running {
            self.reschedule(cpu);
        }
    }

    fn wait_until_off(&self, vcpu: &Vcpu<A>) {
        while vcpu.running_on().is_some_and(|cpu| cpu != self.machine().this_cpu()) {
            relax();
        }
    }

    /// Stops a domain without waiting: each vCPU stops when its CPU next looks.
    pub fn pause_domain_nosync(&self, domain: &Domain<A>) {
        domain.pauses.fetch_add(1, SeqCst);
        for vcpu in domain.vcpus() {
            self.sleep(vcpu);
        }
    }

    /// Stops a domain and waits until no vCPU of it runs on another CPU.
    pub fn pause_domain(&self, domain: &Domain<A>) {
        self.pause_domain_nosync(domain);
        for vcpu in domain.vcpus() {
            self.wait_until_off(vcpu);
        }
    }

    /// Undoes one [`Hypervisor::pause_domain`].
    pub fn unpause_domain(&self, domain: &Domain<A>) {
        if domain.pauses.fetch_sub(1, SeqCst) == 1 {
            for vcpu in domain.vcpus() {
                self.wake(vcpu);
            }
        }
    }

    /// Blocks the calling vCPU until an event is pending (SCHEDOP_block); the caller has unmasked events.
    pub fn block(&self, domain: &Domain<A>, vcpu: &Vcpu<A>) {
        self.wait_unless(vcpu, || self.has_deliverable_event(domain, vcpu));
    }

    /// Has the calling vCPU wait until something is raised for it, unless there is something already. That is asked when whoever
    /// raises something finds it waiting.
    pub fn wait_unless(&self, vcpu: &Vcpu<A>, is_due: impl FnOnce() -> bool) {
        vcpu.flags.fetch_or(PauseFlags::BLOCKED, SeqCst);
        if is_due() {
            vcpu.flags.fetch_and(!PauseFlags::BLOCKED, SeqCst);
            return;
        }
        self.sleep(vcpu);
    }

    /// Lets others run first (SCHEDOP_yield).
    pub fn yield_now(&self, vcpu: &Vcpu<A>) {
        self.scheduler.lock().yield_now(vcpu.unit);
        self.reschedule(self.machine().this_cpu());
    }
}
