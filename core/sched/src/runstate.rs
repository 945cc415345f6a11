//! How long a vCPU was in which state (vcpu.h, `vcpu_runstate_info`).

/// State of a vCPU; the numbers are the interface's `RUNSTATE_*`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Runstate {
    /// On a physical CPU.
    Running = 0,
    /// Could run, but waits for a physical CPU.
    Runnable = 1,
    /// Waits for an event.
    Blocked = 2,
    /// Neither runs nor may: paused or not up.
    Offline = 3,
}

/// State and times of one vCPU, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RunstateClock {
    state: Runstate,
    since: u64,
    times: [u64; 4],
}

impl RunstateClock {
    /// A vCPU that comes into being at the system time `now`, offline.
    pub const fn new(now: u64) -> Self {
        RunstateClock { state: Runstate::Offline, since: now, times: [0; 4] }
    }

    /// Present state.
    pub const fn state(&self) -> Runstate {
        self.state
    }

    /// System time of the last change (`state_entry_time`).
    pub const fn since(&self) -> u64 {
        self.since
    }

    /// Times that were complete at the last change (`time`), by state. These are what a registered area shows.
    pub const fn times(&self) -> [u64; 4] {
        self.times
    }

    /// Times including the present state's until `now`; together exactly the vCPU's age.
    pub fn times_at(&self, now: u64) -> [u64; 4] {
        let mut times = self.times;
        times[self.state as usize] += now.saturating_sub(self.since);
        times
    }

    /// Goes over to `state` at the system time `now`. Returns false, and changes nothing, if it is in that state.
    pub fn change(&mut self, state: Runstate, now: u64) -> bool {
        if state == self.state {
            return false;
        }
        self.times = self.times_at(now);
        // A clock that lags behind must not count time twice.
        self.since = self.since.max(now);
        self.state = state;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn times_add_up_to_the_age(start in 0u64..1 << 60, steps in prop::collection::vec((0u64..1 << 40, 0usize..4), 0..50)) {
            let states = [Runstate::Running, Runstate::Runnable, Runstate::Blocked, Runstate::Offline];
            let mut clock = RunstateClock::new(start);
            let mut now = start;
            let mut expected = [0; 4];
            for (passed, state) in steps {
                expected[clock.state() as usize] += passed;
                now += passed;
                clock.change(states[state], now);
                prop_assert_eq!(clock.state(), states[state]);
                prop_assert_eq!(clock.times_at(now), expected);
                prop_assert_eq!(clock.times_at(now + 9).iter().sum::<u64>(), now + 9 - start);
            }
        }
    }

    #[test]
    fn changing_to_the_same_state_keeps_its_start() {
        let mut clock = RunstateClock::new(5);
        assert!(clock.change(Runstate::Running, 10));
        assert!(!clock.change(Runstate::Running, 20));
        assert_eq!((clock.since(), clock.times(), clock.times_at(20)), (10, [0, 0, 0, 5], [10, 0, 0, 5]));
    }
}
