//! Timers of vCPUs: what a CPU's timer queue holds, and what happens when one expires.

use crate::{Arch, Domain, Hypervisor, PauseFlags, Vcpu};
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use platform::sync::Mutex;
use timers::TimerId;
use types::{CpuId, DomId, Result, VcpuId};
use xen_abi::xen::VIRQ_TIMER;

/// Where a timer is, if it was ever set: the CPU in whose queue, and its name there.
pub type TimerSlot = Mutex<Option<(CpuId, TimerId)>>;

/// What a timer stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimerEvent {
    /// The vCPU's one-shot timer: VIRQ_TIMER.
    Singleshot(DomId, VcpuId),
    /// The vCPU's periodic timer, while the vCPU runs: VIRQ_TIMER, and again after its period.
    Periodic(DomId, VcpuId),
    /// The vCPU's SCHEDOP_poll has lasted long enough.
    Poll(DomId, VcpuId),
    /// The domain has not set its watchdog of this number again.
    Watchdog(DomId, u32),
    /// The next period of the domain's CPU time begins.
    Budget(DomId),
    /// A device of the architecture's has something for the vCPU, which is to look.
    Device(DomId, VcpuId),
    /// A device of a domain's has something to do, whether or not a vCPU runs.
    Board(DomId),
}

impl<A: Arch> Hypervisor<A> {
    /// Sets a timer of a vCPU in this CPU's queue, whatever it was set to and wherever. `deadline` is in nanoseconds of system
    /// time; one that has passed expires at once.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn set_timer(&self, slot: &TimerSlot, deadline: u64, event: TimerEvent) -> Result<()> {
        let cpu = self.machine().this_cpu();
        let mut place = slot.lock();
        let here = match *place {
            Some((other, timer)) if other == cpu => timer,
            elsewhere => {
                let here = self.cpu(cpu).timers.lock().create(event)?;
                *place = Some((cpu, here));
                if let Some((other, timer)) = elsewhere {
                    self.cpu(other).timers.lock().destroy(timer);
                }
                here
            }
        };
        let first = self.cpu(cpu).timers.lock().set(here, deadline);
        drop(place);
        if first {
            self.interrupt_by(cpu, deadline);
        }
        Ok(())
    }

    /// Has the timer interrupt of this CPU come by `deadline`. One that comes sooner is left as it is: whoever gets it calls this
    /// again, which costs less than to set the timer whenever somebody else's deadline counts.
    fn interrupt_by(&self, cpu: CpuId, deadline: u64) {
        if deadline < self.cpu(cpu).alarm.load(Relaxed) {
            self.set_alarm(cpu, Some(deadline));
        }
    }

    /// Has the timer interrupt of this CPU come at `deadline` and not before, so that it is not woken for nothing.
    fn set_alarm(&self, cpu: CpuId, deadline: Option<u64>) {
        self.cpu(cpu).alarm.store(deadline.unwrap_or(u64::MAX), Relaxed);
        self.machine().set_deadline(deadline);
    }

    /// The timer interrupt has come: does what the CPU's expired timers are for, and sets the timer for what comes next.
    pub fn alarm_rang(&self, cpu: CpuId) {
        let state = self.cpu(cpu);
        state.alarm.store(u64::MAX, Relaxed);
        let now = loop {
            let now = self.machine().system_time();
            let expired = state.timers.lock().expire(now);
            let Some((_, event)) = expired else { break now };
            self.timer_expired(event, now);
        };
        let end = state.slice_end.load(Relaxed);
        if now >= end {
            state.slice_end.store(u64::MAX, Relaxed);
            state.reschedule.store(true, Relaxed);
            return;
        }
        let next = state.timers.lock().next_deadline().unwrap_or(u64::MAX).min(end);
        self.interrupt_by(cpu, next);
    }

    /// Notes until when this CPU runs what the scheduler has decided on, `None` to be idle, and sets the timer for it.
    pub fn begin_slice(&self, cpu: CpuId, end: Option<u64>) {
        let state = self.cpu(cpu);
        let next = state.timers.lock().next_deadline();
        match end {
            Some(end) => self.interrupt_by(cpu, next.map_or(end, |next| next.min(end))),
            None => self.set_alarm(cpu, next),
        }
        state.slice_end.store(end.unwrap_or(u64::MAX), Relaxed);
    }

    /// Makes a timer not expire.
    pub fn cancel_timer(&self, slot: &TimerSlot) {
        let place = slot.lock();
        if let Some((cpu, timer)) = *place {
            self.cpu(cpu).timers.lock().cancel(timer);
        }
    }

    /// Removes a timer for good: its vCPU goes.
    pub fn forget_timer(&self, slot: &TimerSlot) {
        let place = slot.lock().take();
        if let Some((cpu, timer)) = place {
            self.cpu(cpu).timers.lock().destroy(timer);
        }
    }

    /// Sets the period of a vCPU's periodic timer, in nanoseconds; 0 stops it. The first tick comes a period from now.
    pub fn set_period(&self, domain: &Domain<A>, vcpu: &Vcpu<A>, period: u64) {
        let now = self.machine().system_time();
        vcpu.period.store(period, SeqCst);
        vcpu.ticked.store(now, SeqCst);
        if period == 0 {
            self.cancel_timer(&vcpu.periodic);
            vcpu.next_tick.store(0, SeqCst);
        } else {
            self.tick(domain, vcpu, now);
        }
    }

    /// Lets the periodic timer of a vCPU tick, which it does only while the vCPU runs: to be called when it begins to, and
    /// whenever the timer expires. Ticks that were missed are one. When the vCPU stops, the timer is left alone: it may well run again
    /// before.
    pub fn tick(&self, domain: &Domain<A>, vcpu: &Vcpu<A>, now: u64) {
        let period = vcpu.period.load(SeqCst);
        if period == 0 {
            return;
        }
        let mut last = vcpu.ticked.load(SeqCst);
        if now >= last.saturating_add(period) {
            last = now;
            vcpu.ticked.store(now, SeqCst);
            self.raise_vcpu_virq(domain, vcpu.id, VIRQ_TIMER);
        }
        let next = last.saturating_add(period);
        if vcpu.next_tick.swap(next, SeqCst) == next {
            return;
        }
        if self.set_timer(&vcpu.periodic, next, TimerEvent::Periodic(domain.id, vcpu.id)).is_err() {
            vcpu.next_tick.store(0, SeqCst);
            log::warn!("{}v{}: no memory for its periodic timer", domain.id, vcpu.id.0);
        }
    }

    /// Does what an expired timer is for.
    pub fn timer_expired(&self, event: TimerEvent, now: u64) {
        let (domain, vcpu) = match event {
            TimerEvent::Singleshot(domain, vcpu)
            | TimerEvent::Periodic(domain, vcpu)
            | TimerEvent::Poll(domain, vcpu)
            | TimerEvent::Device(domain, vcpu) => (domain, vcpu),
            TimerEvent::Watchdog(domain, id) => {
                if let Some(domain) = self.domains.get(domain) {
                    self.watchdog_fired(&domain, id);
                }
                return;
            }
            TimerEvent::Budget(domain) => {
                if let Some(domain) = self.domains.get(domain) {
                    self.replenish(&domain, now);
                }
                return;
            }
            TimerEvent::Board(domain) => {
                if let Some(domain) = self.domains.get(domain) {
                    self.machine().tick_board(self, &domain);
                }
                return;
            }
        };
        let Some(domain) = self.domains.get(domain) else { return };
        let Some(vcpu) = domain.vcpu(vcpu) else { return };
        match event {
            TimerEvent::Singleshot(..) => self.raise_vcpu_virq(&domain, vcpu.id, VIRQ_TIMER),
            TimerEvent::Periodic(..) => {
                // Before the question: a vCPU that begins to run now sees this, or is seen to run.
                vcpu.next_tick.store(0, SeqCst);
                if vcpu.running_on().is_some() {
                    self.tick(&domain, vcpu, now);
                }
            }
            TimerEvent::Device(..) => self.notify(vcpu),
            _ => {
                if vcpu.flags.load(SeqCst) & PauseFlags::POLLING != 0 {
                    self.end_wait(vcpu);
                }
            }
        }
    }
}
