//! The real-time clock of an HVM guest: the clock registers of an MC146818 behind ports 0x70 and 0x71.
//!
//! Registers 0 to 13 are served here: time of day, alarm, and the four control registers. The battery-backed bytes behind
//! them are the device model's: for those, reads and writes give nothing, and the owner passes the access on. It passes on the
//! write of the index too, since the device model has to know it.
//!
//! The time is the domain's wall clock, which goes on whatever the guest does: the guest moves an offset when it sets the
//! time. As in Xen, the day of the week counts from 0, a frozen clock (SET) has lost no time when it goes on, and each event
//! makes a new edge, whether the guest has read register C meanwhile or not.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod alarm;
mod date;
mod registers;

use registers::*;
use types::Result;
use vtimer::{Action, Change, Line, NS_PER_SECOND, Now, Rules, Timer, all_ones};
use xen_abi::hvm_save::clocks::{HvmHwRtc, RTC_CMOS_SIZE};

/// The index register; data is at the port after it.
pub const PORT: u16 = 0x70;
/// The interrupt.
pub const LINE: Line = Line::Isa(8);

/// An update lasts from this long before the second changes (MC146818, "Update cycle").
const UPDATE_NS: u64 = 244_000;
/// Frequency of the divided crystal in Hz.
const CRYSTAL: u64 = 32_768;

/// The wall clock, at some moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WallTime {
    /// Seconds since 1970, the domain's time offset included.
    pub seconds: i64,
    /// And nanoseconds.
    pub nanos: u32,
}

impl WallTime {
    /// This, `ns` later.
    fn after(self, ns: u64) -> Self {
        let nanos = u64::from(self.nanos) + ns % NS_PER_SECOND;
        // Both parts are below 2^31 seconds or 2^31 nanoseconds.
        let seconds = (ns / NS_PER_SECOND + nanos / NS_PER_SECOND) as i64;
        Self { seconds: self.seconds.wrapping_add(seconds), nanos: (nanos % NS_PER_SECOND) as u32 }
    }

    /// Nanoseconds until the second changes.
    fn left(self) -> u64 {
        NS_PER_SECOND - u64::from(self.nanos) % NS_PER_SECOND
    }
}

/// The real-time clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rtc {
    registers: Registers,
    index: u8,
    /// Saved and restored, never used.
    record_offset: i64,
    /// Wall-clock time when the steady clock is 0.
    base: WallTime,
    /// The time from which a frozen clock was set.
    frozen: i64,
    timer: Timer,
    /// Nanoseconds between periodic flags; 0: none.
    period: u64,
    /// Steady time from which periods are counted, and up to which the periodic flag is right.
    started: u64,
    checked: u64,
    /// Steady time of the next update-ended flag and of the alarm flag.
    update: Option<u64>,
    alarm: Option<u64>,
}

impl Rtc {
    /// As after power-on: 24 hours, BCD, 1024 Hz, no interrupts. `base` is the wall-clock time when the steady clock is 0.
    pub fn new(base: WallTime, now: Now, rules: Rules) -> Self {
        let mut rtc = Self {
            registers: Registers::new(),
            index: 0,
            record_offset: 0,
            base,
            frozen: 0,
            timer: Timer::new(rules),
            period: 0,
            started: now.steady,
            checked: now.steady,
            update: None,
            alarm: None,
        };
        rtc.show_date(now);
        rtc.schedule_update(now);
        rtc
    }

    /// Ends its periodic ticks (a reset of the machine). It has a battery: time and registers stay.
    pub fn reset(&mut self) {
        self.timer.stop();
        self.period = 0;
    }

    /// Whether it answers at `port`.
    pub const fn owns(port: u16) -> bool {
        matches!(port, PORT | 0x71)
    }

    /// Reads `size` bytes; all ones unless it is one. Nothing: the device model's.
    pub fn read(&mut self, port: u16, size: u8, now: Now) -> Option<(u32, Action)> {
        if size != 1 {
            return Some((all_ones(size.min(4)) as u32, Action::NONE));
        }
        let index = self.chosen()?;
        if port & 1 == 0 {
            return Some((0xff, Action::NONE));
        }
        if index == REG_C {
            let (flags, action) = self.read_flags(now);
            return Some((flags.into(), action));
        }
        let action = self.catch_up(now);
        Some((self.register(index, now).into(), action))
    }

    /// The same of a byte of the data port, where nothing else follows from it: no event is due, and it is not the flags that are read.
    #[inline]
    pub fn read_quietly(&mut self, port: u16, now: Now) -> Option<u8> {
        let is_due = [self.update, self.alarm].into_iter().flatten().any(|at| at <= now.steady);
        let index = self.chosen().filter(|&index| port == PORT + 1 && index != REG_C && !is_due)?;
        Some(self.register(index, now))
    }

    /// A register other than that of flags.
    fn register(&mut self, index: usize, now: Now) -> u8 {
        match index {
            REG_A => self.registers.get(REG_A) | if self.updating(now) { UPDATING } else { 0 },
            SECONDS | MINUTES | HOURS | WEEKDAY | DAY | MONTH | YEAR => {
                if !self.is_frozen() {
                    self.show_date(now);
                }
                self.registers.get(index)
            }
            _ => self.registers.get(index),
        }
    }

    /// Writes `size` bytes, of which only one is no error. Nothing: the device model has to see it.
    pub fn write(&mut self, port: u16, size: u8, value: u32, now: Now) -> Option<Action> {
        if size != 1 {
            return Some(Action::NONE);
        }
        // One byte.
        let value = value as u8;
        if port & 1 == 0 {
            self.index = value & 0x7f;
            return self.chosen().map(|_| Action::NONE);
        }
        let index = self.chosen()?;
        let late = self.catch_up(now);
        let action = match index {
            SECONDS_ALARM | MINUTES_ALARM | HOURS_ALARM => {
                self.registers.put(index, value);
                self.schedule_alarm(now);
                Action::NONE
            }
            REG_A => self.write_a(value, now),
            REG_B => self.write_b(value, now),
            REG_C | REG_D => Action::NONE,
            _ => self.write_date(index, value, now),
        };
        Some(late.and(action))
    }

    /// The domain's wall clock has been set, or its time offset: `base` is what it shows when the steady clock is 0.
    pub fn set_wall_clock(&mut self, base: WallTime, now: Now) {
        self.base = base;
        self.frozen = self.local(now).seconds;
        self.schedule_update(now);
        self.schedule_alarm(now);
    }

    /// When [`Rtc::tick`] wants to be called, in steady time, while the vCPU has a processor or sleeps.
    pub fn next_deadline(&self) -> Option<u64> {
        self.timer.next_deadline().into_iter().chain(self.clock_deadline()).min()
    }

    /// The same while the vCPU waits for a processor.
    pub fn insistent_deadline(&self) -> Option<u64> {
        self.timer.insistent_deadline().into_iter().chain(self.clock_deadline()).min()
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Now) -> Action {
        self.timer.tick(now);
        self.catch_up(now).and(self.due())
    }

    /// The vCPU has a processor again after waiting for one.
    pub fn resume(&mut self, now: Now) -> Action {
        self.timer.resume(now);
        self.due()
    }

    /// The edge of a periodic tick that the guest has not accepted yet. To be repeated whenever the guest may have become able
    /// to take it: an edge at a masked pin is lost.
    pub fn due(&self) -> Action {
        if self.timer.due().is_some() { Action::one(LINE, Change::Edge) } else { Action::NONE }
    }

    /// The guest has accepted the interrupt of `line`. If it was a periodic tick: the guest time to go forward to.
    pub fn delivered(&mut self, line: Line, now: Now) -> Option<u64> {
        if line != LINE {
            return None;
        }
        let guest = self.timer.delivered(now)?;
        self.registers.flag(PERIODIC | REQUEST);
        Some(guest)
    }

    /// Other rules for missed ticks.
    pub fn set_rules(&mut self, rules: Rules) {
        self.timer.set_rules(rules);
    }

    /// The saved record.
    pub fn save(&self, now: Now) -> HvmHwRtc {
        let mut shown = self.clone();
        if !shown.is_frozen() {
            shown.show_date(now);
        }
        HvmHwRtc { cmos_data: shown.registers.bytes(), cmos_index: self.index, pad0: 0, rtc_offset: self.record_offset }
    }

    /// Takes over a saved record; the time of day stays the wall clock's. No line moves. It always succeeds.
    pub fn load(&mut self, record: &HvmHwRtc, now: Now) -> Result<Action> {
        self.registers.load(record.cmos_data);
        self.index = record.cmos_index & 0x7f;
        self.record_offset = record.rtc_offset;
        self.frozen = self.local(now).seconds;
        self.timer.stop();
        self.period = 0;
        self.schedule_ticks(now);
        self.schedule_update(now);
        self.schedule_alarm(now);
        Ok(Action::NONE)
    }

    /// The chosen register, if it is one of the clock's.
    fn chosen(&self) -> Option<usize> {
        Some(usize::from(self.index)).filter(|&index| index < RTC_CMOS_SIZE)
    }

    fn local(&self, now: Now) -> WallTime {
        self.base.after(now.steady)
    }

    /// SET: the registers stand still.
    fn is_frozen(&self) -> bool {
        self.registers.get(REG_B) & SET != 0
    }

    /// UIP: the second is about to change.
    fn updating(&self, now: Now) -> bool {
        !self.is_frozen() && self.local(now).left() <= UPDATE_NS
    }

    fn show_date(&mut self, now: Now) {
        self.registers.show(&date::from_seconds(self.local(now).seconds));
    }

    fn clock_deadline(&self) -> Option<u64> {
        let enabled = |flag| self.registers.get(REG_B) & flag != 0;
        self.update.filter(|_| enabled(UPDATE)).into_iter().chain(self.alarm.filter(|_| enabled(ALARM))).min()
    }

    /// Sets the flags of the events that have happened. They have no deadline while they do not interrupt.
    fn catch_up(&mut self, now: Now) -> Action {
        let come = |at: &mut Option<u64>| at.take_if(|at| *at <= now.steady).is_some();
        let mut flags = 0;
        if come(&mut self.update) {
            flags |= UPDATE;
        }
        if come(&mut self.alarm) {
            flags |= ALARM;
        }
        self.registers.flag(flags);
        if flags & self.registers.get(REG_B) == 0 { Action::NONE } else { self.request() }
    }

    /// IRQF and an edge, if any event is flagged and enabled.
    fn request(&mut self) -> Action {
        if self.registers.get(REG_B) & self.registers.get(REG_C) & EVENTS == 0 {
            return Action::NONE;
        }
        self.registers.flag(REQUEST);
        Action::one(LINE, Change::Edge)
    }

    /// Sets the periodic flag if a period has passed since it was last looked at. With the interrupt enabled, ticks set it as
    /// they are accepted.
    fn check_period(&mut self, now: Now) {
        if self.period == 0 || self.registers.get(REG_B) & PERIODIC != 0 {
            return;
        }
        let periods = |until: u64| until.saturating_sub(self.started) / self.period;
        if periods(now.steady) != periods(self.checked) {
            self.registers.flag(PERIODIC);
        }
        self.checked = now.steady;
    }

    /// Register C: reading it clears all flags and takes the line down.
    fn read_flags(&mut self, now: Now) -> (u8, Action) {
        // What an event does to the line is over by the time that the read is.
        let _ = self.catch_up(now);
        self.check_period(now);
        let flags = self.registers.take_flags();
        self.schedule_update(now);
        self.schedule_alarm(now);
        let action = if flags & REQUEST != 0 { Action::one(LINE, Change::Lower) } else { Action::NONE };
        (flags, action)
    }

    fn write_a(&mut self, value: u8, now: Now) -> Action {
        let old = self.registers.get(REG_A);
        self.registers.put(REG_A, value & !UPDATING);
        if self.registers.get(REG_A) != old {
            self.schedule_ticks(now);
        }
        Action::NONE
    }

    fn write_b(&mut self, value: u8, now: Now) -> Action {
        let old = self.registers.get(REG_B);
        let mut action = Action::NONE;
        if value & !old & SET != 0 {
            self.show_date(now);
            self.frozen = self.local(now).seconds;
        } else if old & !value & SET != 0 {
            action = self.set_time(self.frozen);
        }
        self.check_period(now);
        self.registers.put(REG_B, value);
        let changed = old ^ value;
        if changed & PERIODIC != 0 {
            self.timer.stop();
            self.period = 0;
            self.schedule_ticks(now);
        }
        if changed & SET != 0 {
            self.schedule_update(now);
        }
        if changed & (HOURS_24 | BINARY | SET) != 0 {
            self.schedule_alarm(now);
        }
        action.and(self.request())
    }

    fn write_date(&mut self, index: usize, value: u8, now: Now) -> Action {
        if self.is_frozen() {
            self.registers.put(index, value);
            return Action::NONE;
        }
        self.show_date(now);
        self.registers.put(index, value);
        let action = self.set_time(self.local(now).seconds);
        self.schedule_alarm(now);
        action
    }

    /// Moves the wall clock by the difference between the registers and the time that they showed before.
    fn set_time(&mut self, before: i64) -> Action {
        let moved = self.registers.seconds().wrapping_sub(before);
        self.base.seconds = self.base.seconds.wrapping_add(moved);
        Action::move_time(moved)
    }

    /// The periodic ticks, by rate and interrupt enable (MC146818, "Periodic interrupt selection").
    fn schedule_ticks(&mut self, now: Now) {
        let Some(shift) = self.registers.rate_shift() else {
            self.timer.stop();
            self.period = 0;
            return;
        };
        let period = ((NS_PER_SECOND << shift) + CRYSTAL / 2) / CRYSTAL;
        if period == self.period {
            return;
        }
        self.period = period;
        if self.registers.get(REG_B) & PERIODIC == 0 {
            self.checked = now.steady;
            return;
        }
        let passed = now.steady.saturating_sub(self.started) % period;
        let delay = if self.timer.rules().align { 0 } else { period - passed };
        self.timer.start(now, delay, period);
    }

    fn schedule_update(&mut self, now: Now) {
        let wanted = self.registers.get(REG_C) & UPDATE == 0 && !self.is_frozen();
        self.update = wanted.then(|| now.steady.saturating_add(self.local(now).left()));
    }

    fn schedule_alarm(&mut self, now: Now) {
        self.alarm = None;
        if self.registers.get(REG_C) & ALARM != 0 || self.is_frozen() {
            return;
        }
        let local = self.local(now);
        // A second of the day.
        let time = local.seconds.rem_euclid(date::SECONDS_PER_DAY) as u32;
        if let Some(seconds) = self.registers.alarm().after(time) {
            let wait = local.left() + u64::from(seconds - 1) * NS_PER_SECOND;
            self.alarm = Some(now.steady.saturating_add(wait));
        }
    }
}
