//! One timer of the HPET.

use crate::TICK_NS;
use vtimer::{Line, NS_PER_SECOND, Now, Rules, Timer};
use xen_abi::hvm_save::clocks::HvmHwHpetTimer;

/// Bits of a timer's configuration (IA-PC HPET 1.0a, 2.3.8): by level; interrupts; periodic; the next write to the comparator
/// sets it and not the period; 32 bits.
const LEVEL: u64 = 1 << 1;
pub const ENABLE: u64 = 1 << 2;
pub const PERIODIC: u64 = 1 << 3;
const SET_VALUE: u64 = 1 << 6;
pub const WIDTH_32: u64 = 1 << 8;
const ROUTE: u64 = 0x1f << ROUTE_SHIFT;
const ROUTE_SHIFT: u32 = 9;
const WRITABLE: u64 = LEVEL | ENABLE | PERIODIC | SET_VALUE | WIDTH_32 | ROUTE;
/// What it can do: periodic, 64 bits, and the pins of the I/O APIC that it can use.
const ABILITIES: u64 = 1 << 4 | 1 << 5 | PINS << 32;
const PINS: u64 = 0xf << FIRST_PIN;
const FIRST_PIN: u32 = 20;

/// Ticks of the shortest period, 100 us.
const SHORTEST_PERIOD: u64 = 100_000 / TICK_NS;
/// A 32-bit comparator that is behind the counter by no more ticks than this was meant to be in the past: 2^-10 s.
const RECENT: u64 = (NS_PER_SECOND >> 10) / TICK_NS;

/// A timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Comparator {
    pub config: u64,
    /// What the guest reads: the low half in 32-bit mode.
    visible: u64,
    /// All 64 bits.
    full: u64,
    /// Ticks, 0 before one was written.
    period: u64,
    /// Message route: holds what is written, and does nothing.
    pub route: u64,
    pub timer: Timer,
    /// Line and trigger mode with which `timer` was started.
    pub line: Line,
    pub level: bool,
    /// The line that its level interrupt holds up.
    pub held: Option<Line>,
}

impl Comparator {
    /// As after power-on.
    pub fn new(rules: Rules) -> Self {
        Self {
            config: ABILITIES,
            visible: u64::MAX,
            full: u64::MAX,
            period: 0,
            route: 0,
            timer: Timer::new(rules),
            line: Line::Gsi(0),
            level: false,
            held: None,
        }
    }

    /// Whether all `bits` of the configuration are set.
    pub fn has(&self, bits: u64) -> bool {
        self.config & bits == bits
    }

    /// Cuts a value to the timer's width.
    fn cut(&self, value: u64) -> u64 {
        if self.has(WIDTH_32) { value & u64::from(u32::MAX) } else { value }
    }

    /// A period within bounds: not too many interrupts, and less than half of the counter's range. 0 is none.
    fn bounded(&self, period: u64) -> u64 {
        if period == 0 { 0 } else { period.clamp(SHORTEST_PERIOD, self.cut(u64::MAX) >> 1) }
    }

    /// Moves the comparator of a periodic timer past `counter`, if the counter runs, and gives what the guest reads.
    pub fn update(&mut self, counter: Option<u64>) -> u64 {
        if let (Some(counter), true, 1..) = (counter, self.has(PERIODIC), self.period) {
            let elapsed = counter.wrapping_sub(self.full);
            // Half of the range counts as past.
            if elapsed as i64 >= 0 {
                self.full = self.full.wrapping_add((elapsed / self.period + 1).wrapping_mul(self.period));
            }
        }
        self.visible = self.cut(self.full);
        self.visible
    }

    /// The counter starts: what the guest reads is what holds.
    pub fn show(&mut self) {
        self.full = self.cut(self.visible);
    }

    /// A write to the configuration; gives the bits that it had.
    pub fn write_config(&mut self, new: u64) -> u64 {
        let old = self.config;
        self.config = old & !WRITABLE | new & WRITABLE;
        self.mend_route();
        self.visible = self.cut(self.visible);
        self.period = self.bounded(self.cut(self.period));
        old
    }

    /// A route that does not exist becomes the first one, or 0 while there are no interrupts.
    fn mend_route(&mut self) {
        if !self.pin_exists() {
            self.config &= !ROUTE;
            if self.has(ENABLE) {
                self.config |= u64::from(FIRST_PIN) << ROUTE_SHIFT;
            }
        }
    }

    fn pin_exists(&self) -> bool {
        PINS >> self.pin() & 1 != 0
    }

    fn pin(&self) -> u8 {
        ((self.config & ROUTE) >> ROUTE_SHIFT) as u8
    }

    /// A write to the comparator, or to the period behind it.
    pub fn write(&mut self, value: u64) {
        if self.has(PERIODIC) && !self.has(SET_VALUE) {
            self.period = self.bounded(value.max(1));
        } else {
            self.config &= !SET_VALUE;
            self.full = value;
            self.visible = self.cut(value);
        }
    }

    /// Schedules the interrupts, by an up-to-date comparator: on `legacy` or on its own pin. `up`: its status bit is set.
    pub fn start(&mut self, legacy: Option<Line>, up: bool, counter: u64, restored: bool, now: Now) {
        let level = self.has(LEVEL) && legacy.is_none();
        if !self.has(ENABLE) || level && up {
            return;
        }
        self.level = level;
        self.line = legacy.unwrap_or(Line::Gsi(self.pin()));
        let ticks = self.cut(self.full).wrapping_sub(self.cut(counter));
        let ahead = if ticks as i64 >= 0 {
            ticks
        } else if self.has(WIDTH_32) && !restored && ticks.wrapping_neg() > RECENT {
            self.cut(ticks)
        } else {
            0
        };
        let period = if self.has(PERIODIC) && !level { ns(self.period) } else { 0 };
        self.timer.start(now, ns(ahead), period);
    }

    /// The saved record, and the period.
    pub fn save(&self) -> (HvmHwHpetTimer, u64) {
        (HvmHwHpetTimer { config: self.config, cmp: self.full, fsb: self.route, res4: 0 }, self.period)
    }

    /// From a saved record. `up`: its status bit is set. The timer is left stopped.
    pub fn load(&mut self, record: &HvmHwHpetTimer, period: u64, up: bool) {
        *self = Self {
            config: ABILITIES | record.config & WRITABLE,
            full: record.cmp,
            route: record.fsb,
            ..Self::new(self.timer.rules())
        };
        self.mend_route();
        self.visible = self.cut(self.full);
        self.period = self.bounded(period);
        self.level = self.has(LEVEL);
        self.held = (up && self.level && self.pin_exists()).then_some(Line::Gsi(self.pin()));
    }
}

/// Nanoseconds of `ticks`; very long times are cut to two centuries.
fn ns(ticks: u64) -> u64 {
    ticks.saturating_mul(TICK_NS).min(u64::MAX >> 10)
}
