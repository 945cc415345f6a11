//! Ticks: when they fall due, how many wait, and what becomes of those that the guest could not take in time.

use crate::Now;
use types::{Errno, Result};
use xen_abi::hvm_params::{
    HVMPTM_DELAY_FOR_MISSED_TICKS, HVMPTM_NO_DELAY_FOR_MISSED_TICKS, HVMPTM_NO_MISSED_TICKS_PENDING,
    HVMPTM_ONE_MISSED_TICK_PENDING,
};

/// What becomes of ticks that the guest missed (hvm/params.h, `HVM_PARAM_TIMER_MODE`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissedTicks {
    /// All are delivered, and guest time waits for each of them.
    #[default]
    Delay,
    /// All are delivered; guest time goes on.
    NoDelay,
    /// None is delivered, but the next tick is not held back if the vCPU loses its processor once more.
    Drop,
    /// They become one late tick.
    One,
}

impl TryFrom<u64> for MissedTicks {
    type Error = Errno;

    /// From the parameter's value. INVAL: no such mode.
    fn try_from(value: u64) -> Result<Self> {
        Ok(match u32::try_from(value) {
            Ok(HVMPTM_DELAY_FOR_MISSED_TICKS) => Self::Delay,
            Ok(HVMPTM_NO_DELAY_FOR_MISSED_TICKS) => Self::NoDelay,
            Ok(HVMPTM_NO_MISSED_TICKS_PENDING) => Self::Drop,
            Ok(HVMPTM_ONE_MISSED_TICK_PENDING) => Self::One,
            _ => return Err(Errno::INVAL),
        })
    }
}

/// What a domain's parameters say of all its timers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// `HVM_PARAM_TIMER_MODE`.
    pub missed: MissedTicks,
    /// `HVM_PARAM_VPT_ALIGN`: ticks fall on multiples of the period, so that those of many timers come together.
    pub align: bool,
}

/// Shorter periods are made this long, in nanoseconds, lest a guest keep the processor busy with nothing but ticks.
const SHORTEST_PERIOD: u64 = 100_000;

/// The ticks of one interrupt source.
///
/// A tick is *due* from its deadline until the guest's processor accepts the interrupt; meanwhile there is no further
/// deadline, and later ticks are counted when that one is delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timer {
    rules: Rules,
    run: Option<Run>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    /// Nanoseconds; 0: there is one tick only.
    period: u64,
    /// Steady time of the next tick that is not counted yet.
    scheduled: u64,
    /// Ticks that are counted and not delivered.
    waiting: u64,
    /// Guest time at which the next tick that will be delivered should have come.
    guest: u64,
    /// The next tick is not held back while the vCPU waits for a processor.
    insistent: bool,
}

impl Run {
    /// Counts the ticks that should have come before `now`, and schedules the first that comes after it.
    fn count_missed(&mut self, now: Now, missed: MissedTicks) {
        let late = now.steady.saturating_sub(self.scheduled);
        if self.period == 0 || late == 0 {
            return;
        }
        let ticks = late / self.period + 1;
        if missed == MissedTicks::Drop {
            self.insistent = self.waiting == 0;
        } else {
            self.waiting = self.waiting.saturating_add(ticks);
        }
        self.scheduled = self.scheduled.saturating_add(ticks.saturating_mul(self.period));
    }
}

impl Timer {
    /// A stopped timer.
    pub const fn new(rules: Rules) -> Self {
        Self { rules, run: None }
    }

    /// Changes the rules; a running timer goes on under the new ones, its schedule unchanged.
    pub fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// The rules that hold.
    pub fn rules(&self) -> Rules {
        self.rules
    }

    /// Starts it anew: the first tick comes after `delay` nanoseconds, then one every `period`; with `period` 0 only that
    /// one. Ticks that waited are forgotten.
    pub fn start(&mut self, now: Now, delay: u64, period: u64) {
        let period = if period == 0 { 0 } else { period.max(SHORTEST_PERIOD) };
        let mut scheduled = now.steady.saturating_add(delay);
        if self.rules.align {
            scheduled = scheduled.checked_next_multiple_of(period).unwrap_or(scheduled);
        }
        let guest = now.guest.saturating_add(scheduled - now.steady);
        self.run = Some(Run { period, scheduled, waiting: 0, guest, insistent: false });
    }

    /// Stops it; ticks that waited are forgotten.
    pub fn stop(&mut self) {
        self.run = None;
    }

    /// Whether it has been started and has ticks to come or to deliver.
    pub fn is_running(&self) -> bool {
        self.run.is_some()
    }

    /// Steady time at which [`Timer::tick`] wants to be called while the vCPU has a processor or sleeps of its own will.
    pub fn next_deadline(&self) -> Option<u64> {
        self.run.filter(|run| run.waiting == 0).map(|run| run.scheduled)
    }

    /// The same while the vCPU waits for a processor: nothing for most timers, which go on with [`Timer::resume`].
    pub fn insistent_deadline(&self) -> Option<u64> {
        if self.run?.insistent { self.next_deadline() } else { None }
    }

    /// Counts a tick whose deadline has come. True: it is due now.
    pub fn tick(&mut self, now: Now) -> bool {
        match &mut self.run {
            Some(run) if run.waiting == 0 && now.steady >= run.scheduled => {
                run.waiting = 1;
                run.scheduled = run.scheduled.saturating_add(run.period);
                run.insistent = false;
                true
            }
            _ => false,
        }
    }

    /// The vCPU has a processor again after it had to wait for one: counts what it missed meanwhile. True: ticks are due.
    pub fn resume(&mut self, now: Now) -> bool {
        let missed = self.rules.missed;
        match &mut self.run {
            Some(run) if run.waiting == 0 => {
                run.count_missed(now, missed);
                run.waiting != 0
            }
            _ => false,
        }
    }

    /// How many ticks wait to be delivered, if any.
    pub fn due(&self) -> Option<u64> {
        self.run.map(|run| run.waiting).filter(|&ticks| ticks != 0)
    }

    /// The guest's processor has accepted the interrupt of a waiting tick. Gives the guest time that the guest's clock has
    /// to be set forward to, which is `now.guest` but under [`MissedTicks::Delay`]; nothing if no tick waited.
    pub fn delivered(&mut self, now: Now) -> Option<u64> {
        let missed = self.rules.missed;
        let run = self.run.as_mut().filter(|run| run.waiting != 0)?;
        let guest = if missed == MissedTicks::Delay { now.guest.max(run.guest) } else { now.guest };
        run.guest = run.guest.saturating_add(run.period);
        if run.period == 0 {
            self.run = None;
            return Some(guest);
        }
        match missed {
            MissedTicks::Drop | MissedTicks::One => {
                run.count_missed(now, missed);
                run.waiting = 0;
            }
            MissedTicks::Delay | MissedTicks::NoDelay => {
                run.waiting -= 1;
                if run.waiting == 0 {
                    run.count_missed(now, missed);
                }
            }
        }
        Some(guest)
    }
}

#[cfg(test)]
#[path = "timer_tests.rs"]
mod tests;
