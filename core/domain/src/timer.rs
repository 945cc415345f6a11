//! Timers of vCPUs: what a CPU's timer queue holds, and what happens when one expires.

use crate::{Arch, Hypervisor, PauseFlags};
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
    /// The vCPU's periodic timer: VIRQ_TIMER, and again after its period.
    Periodic(DomId, VcpuId),
    /// The vCPU's SCHEDOP_poll has lasted long enough.
    Poll(DomId, VcpuId),
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
    pub(crate) fn forget_timer(&self, slot: &TimerSlot) {
        let place = slot.lock().take();
        if let Some((cpu, timer)) = place {
            self.cpu(cpu).timers.lock().destroy(timer);
        }
    }

    /// Does what an expired timer is for.
    pub fn timer_expired(&self, event: TimerEvent, now: u64) {
        let (TimerEvent::Singleshot(domain, vcpu)
        | TimerEvent::Periodic(domain, vcpu)
        | TimerEvent::Poll(domain, vcpu)) = event;
        let Some(domain) = self.domains.get(domain) else { return };
        let Some(vcpu) = domain.vcpu(vcpu) else { return };
        match event {
            TimerEvent::Singleshot(..) => self.raise_vcpu_virq(&domain, vcpu.id, VIRQ_TIMER),
            TimerEvent::Periodic(..) => {
                let period = vcpu.period.load(SeqCst);
                if period != 0 && self.set_timer(&vcpu.periodic, now + period, event).is_err() {
                    log::warn!("{}v{}: no memory for its periodic timer", domain.id, vcpu.id.0);
                }
                self.raise_vcpu_virq(&domain, vcpu.id, VIRQ_TIMER);
            }
            TimerEvent::Poll(..) => {
                if vcpu.flags.load(SeqCst) & PauseFlags::POLLING != 0 {
                    self.end_wait(vcpu);
                }
            }
        }
    }
}
