//! The two timers that a PV vCPU has: one-shot and periodic (vcpu.h, `VCPUOP_set_*_timer`; sched op `set_timer_op`).

use types::{Errno, Result};

/// Shortest period, in nanoseconds.
const MIN_PERIOD: u64 = 1_000_000;
/// Longest period, in nanoseconds: `STIME_DELTA_MAX`.
const MAX_PERIOD: u64 = u64::MAX >> 2;
/// A one-shot deadline this far ahead, set by `set_timer_op`, is taken for a mistake of the guest.
const TOO_FAR: u64 = 1 << 50;
/// What such a deadline is replaced by, in nanoseconds from now.
const INSTEAD: u64 = 100_000_000;

/// Timers of a vCPU. Whenever they change, [`VcpuTimers::next_deadline`] is where the CPU's timer for this vCPU belongs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct VcpuTimers {
    one_shot: Option<u64>,
    period: Option<u64>,
    /// When the periodic timer last fired.
    fired: u64,
}

impl VcpuTimers {
    /// Neither timer is set.
    pub const fn new() -> Self {
        VcpuTimers { one_shot: None, period: None, fired: 0 }
    }

    /// `VCPUOP_set_singleshot_timer`. A deadline in the past fires at once; with `only_future` (`VCPU_SSHOTTMR_future`) it is
    /// refused: `ETIME`.
    pub fn set_one_shot(&mut self, deadline: u64, only_future: bool, now: u64) -> Result<()> {
        if only_future && deadline < now {
            return Err(Errno::TIME);
        }
        self.one_shot = Some(deadline);
        Ok(())
    }

    /// `VCPUOP_stop_singleshot_timer`.
    pub fn stop_one_shot(&mut self) {
        self.one_shot = None;
    }

    /// `set_timer_op`: 0 stops; a deadline that is absurdly far ahead, or negative, becomes one in 100 ms.
    pub fn set_timer_op(&mut self, deadline: i64, now: u64) {
        self.one_shot = match u64::try_from(deadline) {
            Ok(0) => None,
            Ok(deadline) if deadline.saturating_sub(now) < TOO_FAR => Some(deadline),
            _ => Some(now.saturating_add(INSTEAD)),
        };
    }

    /// `VCPUOP_set_periodic_timer`: `EINVAL` for a period below 1 ms or beyond all reason. The first tick comes a period from
    /// now.
    pub fn set_periodic(&mut self, period: u64, now: u64) -> Result<()> {
        if !(MIN_PERIOD..=MAX_PERIOD).contains(&period) {
            return Err(Errno::INVAL);
        }
        self.period = Some(period);
        self.fired = now;
        Ok(())
    }

    /// `VCPUOP_stop_periodic_timer`.
    pub fn stop_periodic(&mut self) {
        self.period = None;
    }

    /// Period in nanoseconds, if the periodic timer is on.
    pub const fn period(&self) -> Option<u64> {
        self.period
    }

    /// When the next timer fires. The periodic timer ticks only while its vCPU runs; for one that does not run,
    /// `running` is false.
    pub fn next_deadline(&self, running: bool) -> Option<u64> {
        let tick = self.period.filter(|_| running).map(|period| self.fired.saturating_add(period));
        match (self.one_shot, tick) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Takes what is due at `now`; returns whether the vCPU gets `VIRQ_TIMER`. Ticks that were missed are one tick. Also to
    /// be called when the vCPU is about to run.
    pub fn expire(&mut self, running: bool, now: u64) -> bool {
        let one_shot = self.one_shot.is_some_and(|deadline| deadline <= now);
        if one_shot {
            self.one_shot = None;
        }
        let tick = running && self.period.is_some_and(|period| self.fired.saturating_add(period) <= now);
        if tick {
            self.fired = now;
        }
        one_shot || tick
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn past_deadlines_fire_at_once() {
        let mut timers = VcpuTimers::new();
        assert_eq!(timers.set_one_shot(99, true, 100), Err(Errno::TIME));
        assert_eq!(timers.next_deadline(true), None);
        timers.set_one_shot(100, true, 100).unwrap();
        timers.set_one_shot(5, false, 100).unwrap();
        assert_eq!(timers.next_deadline(false), Some(5));
        assert!(timers.expire(true, 100));
        assert!(!timers.expire(true, 200));
        timers.set_one_shot(300, false, 200).unwrap();
        assert!(!timers.expire(true, 299));
        timers.stop_one_shot();
        assert!(!timers.expire(true, 300));
    }

    #[test]
    fn set_timer_op_mends_mistakes() {
        let mut timers = VcpuTimers::new();
        for (deadline, expected) in [
            (0, None),
            (50, Some(50)),
            (100 + (1 << 50) - 1, Some(100 + (1 << 50) - 1)),
            (100 + (1 << 50), Some(100_000_100)),
            (-1, Some(100_000_100)),
        ] {
            timers.set_timer_op(deadline, 100);
            assert_eq!(timers.next_deadline(true), expected);
        }
    }

    #[test]
    fn ticks_come_while_it_runs_and_missed_ones_count_once() {
        let mut timers = VcpuTimers::new();
        assert_eq!(timers.set_periodic(999_999, 0), Err(Errno::INVAL));
        assert_eq!(timers.set_periodic(u64::MAX / 2, 0), Err(Errno::INVAL));
        timers.set_periodic(10_000_000, 1000).unwrap();
        assert_eq!((timers.next_deadline(true), timers.next_deadline(false)), (Some(10_001_000), None));
        assert!(!timers.expire(true, 10_000_999));
        assert!(!timers.expire(false, 50_000_000));
        assert!(timers.expire(true, 50_000_000));
        assert!(!timers.expire(true, 50_000_001));
        assert_eq!(timers.next_deadline(true), Some(60_000_000));
        timers.set_one_shot(55_000_000, false, 0).unwrap();
        assert_eq!(timers.next_deadline(true), Some(55_000_000));
        timers.stop_periodic();
        assert_eq!(timers.period(), None);
    }
}
