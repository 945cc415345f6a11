//! Guest time.

use crate::MissedTicks;

/// What time it is, in nanoseconds.
///
/// `steady` always goes on: ticks are scheduled by it. `guest` is what the guest's counters show. They differ only by a
/// constant, but for [`MissedTicks::Delay`]: there `guest` stands still while the vCPU waits for a processor, and catches
/// up as its ticks are delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Time since some fixed moment; never stops while the domain exists here.
    pub steady: u64,
    /// The guest's own time.
    pub guest: u64,
}

impl Now {
    /// Both clocks show `time`.
    pub const fn both(time: u64) -> Self {
        Self { steady: time, guest: time }
    }

    /// The steady time at which the guest's clock will show `guest`, if it runs on; now if it does so already.
    pub const fn when(self, guest: u64) -> u64 {
        self.steady.saturating_add(guest.saturating_sub(self.guest))
    }
}

/// A vCPU's own time: the steady clock, an offset, and times at which it stands still.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GuestClock {
    /// Guest time minus steady time, modulo 2^64.
    offset: u64,
    frozen: Option<u64>,
}

impl GuestClock {
    /// A clock that shows `guest` at `steady`.
    pub const fn new(steady: u64, guest: u64) -> Self {
        Self { offset: guest.wrapping_sub(steady), frozen: None }
    }

    /// What it shows at `steady`.
    pub fn now(&self, steady: u64) -> Now {
        Now { steady, guest: self.frozen.unwrap_or(steady.wrapping_add(self.offset)) }
    }

    /// The vCPU has lost its processor against its will: under [`MissedTicks::Delay`] its time stands still from here on.
    pub fn freeze(&mut self, steady: u64, missed: MissedTicks) {
        if missed == MissedTicks::Delay {
            self.frozen = Some(self.now(steady).guest);
        }
    }

    /// The vCPU runs again, and its time with it.
    pub fn thaw(&mut self, steady: u64) {
        if let Some(guest) = self.frozen.take() {
            *self = Self::new(steady, guest);
        }
    }

    /// Sets it forward to `guest` ([`Timer::delivered`](crate::Timer::delivered)); never back.
    pub fn advance(&mut self, steady: u64, guest: u64) {
        if guest > self.now(steady).guest {
            *self = Self { frozen: self.frozen.map(|_| guest), ..Self::new(steady, guest) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_stands_still_while_frozen() {
        let mut clock = GuestClock::new(1000, 0);
        assert_eq!(clock.now(1500), Now { steady: 1500, guest: 500 });
        clock.freeze(1600, MissedTicks::NoDelay);
        assert_eq!(clock.now(1700).guest, 700);
        clock.freeze(1700, MissedTicks::Delay);
        assert_eq!(clock.now(5000).guest, 700);
        clock.thaw(5000);
        assert_eq!(clock.now(5100).guest, 800);
        clock.thaw(6000);
        assert_eq!(clock.now(6000).guest, 1700, "thawing a running clock changes nothing");
    }

    #[test]
    fn clock_is_set_forward_only() {
        let mut clock = GuestClock::new(0, 0);
        clock.advance(100, 250);
        assert_eq!(clock.now(110).guest, 260);
        clock.advance(110, 200);
        assert_eq!(clock.now(110).guest, 260);
        clock.freeze(110, MissedTicks::Delay);
        clock.advance(120, 300);
        assert_eq!(clock.now(130).guest, 300);
    }

    #[test]
    fn moment_of_a_guest_time() {
        let now = Now { steady: 1000, guest: 400 };
        assert_eq!(now.when(500), 1100);
        assert_eq!(now.when(300), 1000);
        assert_eq!(Now { steady: u64::MAX - 1, guest: 0 }.when(u64::MAX), u64::MAX);
    }
}
