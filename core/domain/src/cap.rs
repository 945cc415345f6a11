//! Caps of domains: the scheduler keeps the budget of a domain's vCPUs, a timer of the domain begins its periods.

use crate::{Arch, Domain, Hypervisor, Life, TimerEvent};
use sched::{GroupId, Replenished, Scheduler};
use types::{DomId, Result};

/// The scheduler's name of a domain's vCPUs.
pub const fn group_of(domain: DomId) -> GroupId {
    GroupId(domain.0 as u32)
}

impl<A: Arch> Hypervisor<A> {
    /// Limits the CPU time of a domain to `cap` percent of one CPU; 0 lifts the limit.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn set_cap(&self, domain: &Domain<A>, cap: u16) -> Result<()> {
        let now = self.machine().system_time();
        let set = self.scheduler.lock().set_cap(group_of(domain.id), cap, now)?;
        self.follow_budget(domain, set)
    }

    /// The next period of a domain's budget begins.
    pub(crate) fn replenish(&self, domain: &Domain<A>, now: u64) {
        let begun = self.scheduler.lock().replenish(group_of(domain.id), now);
        if let Err(errno) = self.follow_budget(domain, begun) {
            log::error!("{}: its cap is lifted, for its timer cannot be set: {errno}", domain.id);
        }
    }

    /// Kicks CPUs and sets the timer of the next period. Without that the domain would wait for ever, so it is freed instead.
    fn follow_budget(&self, domain: &Domain<A>, replenished: Replenished) -> Result<()> {
        for cpu in replenished.kicked.iter() {
            self.reschedule(cpu);
        }
        let Some(next) = replenished.next else {
            self.cancel_timer(&domain.budget_timer);
            return Ok(());
        };
        let armed = self.set_timer(&domain.budget_timer, next, TimerEvent::Budget(domain.id));
        if armed.is_err() {
            // Lifting a cap needs no memory.
            let _ = self.set_cap(domain, 0);
        } else if domain.life() != Life::Alive {
            // Its timers may have been stopped for good just before this one was set.
            self.forget_timer(&domain.budget_timer);
        }
        armed
    }
}
