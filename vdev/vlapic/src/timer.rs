//! The APIC timer (SDM vol. 3, 11.5.4): a counter that needs no ticking, only the time at which it reaches 0.

/// Nanoseconds of a bus cycle: the clock before the divider.
pub const BUS_CYCLE_NS: u64 = 10;

/// A periodic timer does not fire more often than this, in nanoseconds: ticks closer together are dropped.
pub const MIN_PERIOD_NS: u64 = 100_000;

/// The bits of the divide register that exist.
pub const DIVIDE_BITS: u32 = 0b1011;

/// How often the timer fires after the counter was loaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Once.
    OneShot,
    /// Each time the counter reaches 0, when it is loaded again.
    Periodic,
    /// The counter does not run: the time stamp counter decides. Bits 18 and 17 both set, which is reserved, counts as this.
    Deadline,
}

/// The running counter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timer {
    /// Initial count in nanoseconds.
    pub period: u64,
    /// Nanoseconds a count.
    pub tick: u64,
    /// When the counter reaches 0 next, or the deadline; nothing if it stands.
    pub end: Option<u64>,
}

/// Bus cycles for each count that a value of the divide register asks for (SDM vol. 3, figure 11-10).
pub const fn divisor(divide: u32) -> u32 {
    1 << (((divide & 3 | divide >> 1 & 4) + 1) & 7)
}

impl Timer {
    /// A timer that stands.
    pub const fn stopped(divide: u32) -> Timer {
        Timer { period: 0, tick: BUS_CYCLE_NS * divisor(divide) as u64, end: None }
    }

    /// Loads the counter; 0 stops it.
    pub fn start(&mut self, initial: u32, now: u64) {
        self.period = u64::from(initial) * self.tick;
        self.end = if initial == 0 { None } else { Some(now.saturating_add(self.period)) };
    }

    /// The counter at a time (SDM vol. 3, figure 11-11).
    pub fn count(&self, mode: Mode, now: u64) -> u32 {
        let Some(end) = self.end else { return 0 };
        let left = match (end.checked_sub(now), mode) {
            (_, Mode::Deadline) => 0,
            (Some(left), Mode::OneShot) => left,
            (None, Mode::OneShot) => 0,
            // The end may be several periods ahead: see `MIN_PERIOD_NS`.
            (Some(left @ 1..), Mode::Periodic) => (left - 1) % self.period.max(1) + 1,
            (_, Mode::Periodic) => self.period - (now - end) % self.period.max(1),
        };
        left.div_ceil(self.tick) as u32
    }

    /// Changes the divider; the counter keeps its value.
    pub fn set_divide(&mut self, divide: u32, mode: Mode, initial: u32, now: u64) {
        let count = self.count(mode, now);
        self.tick = BUS_CYCLE_NS * u64::from(divisor(divide));
        if mode != Mode::Deadline {
            self.period = u64::from(initial) * self.tick;
            self.end = if count == 0 { None } else { Some(now.saturating_add(u64::from(count) * self.tick)) };
        }
    }

    /// Goes from one counting mode to the other; the counter keeps its value.
    pub fn set_mode(&mut self, old: Mode, now: u64) {
        let count = self.count(old, now);
        self.end = if count == 0 { None } else { Some(now.saturating_add(u64::from(count) * self.tick)) };
    }

    /// Whether the timer fires at `now`. A periodic one is then set for its next time; ticks that were missed are lost.
    pub fn expire(&mut self, mode: Mode, now: u64) -> bool {
        let Some(end) = self.end else { return false };
        let Some(late) = now.checked_sub(end) else { return false };
        self.end = None;
        if mode == Mode::Periodic {
            let period = self.period.max(1);
            let periods = match period {
                MIN_PERIOD_NS.. => late / period + 1,
                _ => late.saturating_add(MIN_PERIOD_NS).div_ceil(period),
            };
            self.end = Some(end.saturating_add(periods.saturating_mul(period)));
        }
        true
    }
}
