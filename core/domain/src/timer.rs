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
        if first && deadline < self.cpu(cpu).slice_end.load(Relaxed) {
            self.machine().set_deadline(Some(deadline));
        }
        Ok(())
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
        } else {
            self.tick(domain, vcpu, now);
        }
    }

    /// Lets the periodic timer of a vCPU tick, which it does only while the vCPU runs: to be called when it begins to, and
    /// whenever the timer expires. Ticks that were missed are one.
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
        let event = TimerEvent::Periodic(domain.id, vcpu.id);
        if self.set_timer(&vcpu.periodic, last.saturating_add(period), event).is_err() {
            log::warn!("{}v{}: no memory for its periodic timer", domain.id, vcpu.id.0);
        }
    }

    /// The vCPU stops running: so does its periodic timer.
    pub fn stop_ticking(&self, vcpu: &Vcpu<A>) {
        if vcpu.period.load(SeqCst) != 0 {
            self.cancel_timer(&vcpu.periodic);
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
            TimerEvent::Periodic(..) => self.tick(&domain, vcpu, now),
            TimerEvent::Device(..) => self.notify(vcpu),
            _ => {
                if vcpu.flags.load(SeqCst) & PauseFlags::POLLING != 0 {
                    self.end_wait(vcpu);
                }
            }
        }
    }
}
