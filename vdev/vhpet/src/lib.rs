//! The high precision event timer of an HVM guest (IA-PC HPET specification 1.0a): a 64-bit counter and three timers in the
//! page at 0xfed00000.
//!
//! One tick is 16 ns of guest time, 62.5 MHz. Each timer is 64 bits wide or 32, single or periodic, by edge or level, on one
//! of the pins 20 to 23 of the I/O APIC; in legacy mode timers 0 and 1 take over ISA interrupts 0 and 8. There is no
//! delivery by message. Where the specification leaves something open, this device does as Xen's.
//!
//! A level interrupt of a periodic timer comes again only after the guest has cleared its status bit.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod comparator;

use comparator::{Comparator, ENABLE, PERIODIC, WIDTH_32};
use types::Result;
use vtimer::{Action, Change, Line, Now, Rules, all_ones};
use xen_abi::hvm_save::clocks::{HPET_TIMER_NUM, HvmHwHpet};
use zerocopy::FromZeros;

/// Guest-physical address of the registers.
pub const BASE: u64 = 0xfed0_0000;
/// Bytes of registers.
pub const SIZE: u64 = 1024;
/// Nanoseconds a tick.
pub const TICK_NS: u64 = 16;

const FEMTOSECONDS_PER_NS: u64 = 1_000_000;
/// Revision 1, three timers, 64-bit counter, legacy mode, vendor 0x8086; the length of a tick in femtoseconds above.
const CAPABILITY: u64 =
    0x8086_0001 | (HPET_TIMER_NUM as u64 - 1) << 8 | 1 << 13 | 1 << 15 | (TICK_NS * FEMTOSECONDS_PER_NS) << 32;

/// Register offsets.
const REG_CAPABILITY: u16 = 0x00;
const REG_CONFIG: u16 = 0x10;
const REG_STATUS: u16 = 0x20;
const REG_COUNTER: u16 = 0xf0;
const REG_TIMERS: u16 = 0x100;
const TIMER_STRIDE: u16 = 0x20;

/// Bits of the general configuration: the counter runs; legacy mode.
const CONFIG_RUN: u64 = 1 << 0;
const CONFIG_LEGACY: u64 = 1 << 1;

/// A register of one timer.
enum TimerRegister {
    Config,
    Comparator,
    Route,
}

enum Register {
    Capability,
    Config,
    Status,
    Counter,
    Timer(usize, TimerRegister),
    Reserved,
}

impl Register {
    /// The register that holds the 8 bytes at `offset`.
    fn at(offset: u16) -> Self {
        match offset & !7 {
            REG_CAPABILITY => Self::Capability,
            REG_CONFIG => Self::Config,
            REG_STATUS => Self::Status,
            REG_COUNTER => Self::Counter,
            offset => {
                let Some(offset) = offset.checked_sub(REG_TIMERS) else { return Self::Reserved };
                let timer = usize::from(offset / TIMER_STRIDE);
                match offset % TIMER_STRIDE {
                    _ if timer >= HPET_TIMER_NUM => Self::Reserved,
                    0x00 => Self::Timer(timer, TimerRegister::Config),
                    0x08 => Self::Timer(timer, TimerRegister::Comparator),
                    0x10 => Self::Timer(timer, TimerRegister::Route),
                    _ => Self::Reserved,
                }
            }
        }
    }
}

/// Timers that a write stops, and those that it starts after that.
#[derive(Default)]
struct Switch {
    stop: [bool; HPET_TIMER_NUM],
    start: [bool; HPET_TIMER_NUM],
}

impl Switch {
    fn restart(&mut self, n: usize) {
        self.stop[n] = true;
        self.start[n] = true;
    }
}

/// The high precision event timer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hpet {
    capability: u64,
    config: u64,
    /// Status bits of level interrupts.
    status: u64,
    main: Counter,
    timers: [Comparator; HPET_TIMER_NUM],
}

/// The main counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counter {
    Halted(u64),
    /// What it is ahead of guest time, in ticks modulo 2^64.
    Running(u64),
}

impl Counter {
    fn value(self, now: Now) -> u64 {
        match self {
            Self::Halted(value) => value,
            Self::Running(ahead) => (now.guest / TICK_NS).wrapping_add(ahead),
        }
    }

    fn running(value: u64, now: Now) -> Self {
        Self::Running(value.wrapping_sub(now.guest / TICK_NS))
    }
}

impl Hpet {
    /// As after power-on: halted.
    pub fn new(rules: Rules) -> Self {
        let timers = core::array::from_fn(|_| Comparator::new(rules));
        Self { capability: CAPABILITY, config: 0, status: 0, main: Counter::Halted(0), timers }
    }

    /// As after power-on, with the same rules.
    pub fn reset(&mut self) -> Action {
        let held = self.held();
        *self = Self::new(self.timers[0].timer.rules());
        self.moved(held)
    }

    /// Reads `size` bytes at `offset` from the start of the registers; all ones unless they are 1, 2, 4 or 8 aligned bytes.
    /// (A domain with `HVM_PARAM_HPET_ENABLED` 0 reads all ones everywhere: the owner's part.)
    pub fn read(&mut self, offset: u64, size: u8, now: Now) -> u64 {
        let Some((offset, shift)) = position(offset, size) else { return all_ones(size) };
        self.register(&Register::at(offset), now) >> shift & all_ones(size)
    }

    /// Writes `size` bytes at `offset`; only 1, 2, 4 or 8 aligned bytes. Deadlines may have changed.
    pub fn write(&mut self, offset: u64, size: u8, value: u64, now: Now) -> Action {
        let Some((offset, shift)) = position(offset, size) else { return Action::NONE };
        let register = Register::at(offset);
        let mask = all_ones(size) << shift;
        let old = self.register(&register, now);
        let new = old & !mask | value << shift & mask;
        let held = self.held();
        let mut switch = Switch::default();
        match register {
            Register::Config => self.write_config(new, now, &mut switch),
            // Only the bytes that were written clear bits.
            Register::Status => self.write_status(new & mask, &mut switch),
            Register::Counter => self.write_counter(new, &mut switch),
            Register::Timer(n, TimerRegister::Config) => {
                let change = self.timers[n].write_config(new);
                self.switch_timer(n, change, &mut switch);
            }
            Register::Timer(n, TimerRegister::Comparator) => {
                self.timers[n].write(new);
                if self.is_running() && self.timers[n].has(ENABLE) {
                    switch.restart(n);
                }
            }
            Register::Timer(n, TimerRegister::Route) => self.timers[n].route = new,
            Register::Capability | Register::Reserved => {}
        }
        self.carry_out(&switch, now).and(self.moved(held))
    }

    /// When [`Hpet::tick`] wants to be called, in steady time, while the vCPU has a processor or sleeps.
    pub fn next_deadline(&self) -> Option<u64> {
        self.timers.iter().filter_map(|c| c.timer.next_deadline()).min()
    }

    /// The same while the vCPU waits for a processor.
    pub fn insistent_deadline(&self) -> Option<u64> {
        self.timers.iter().filter_map(|c| c.timer.insistent_deadline()).min()
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Now) -> Action {
        let held = self.held();
        for (n, comparator) in self.timers.iter_mut().enumerate() {
            if comparator.timer.tick(now) && comparator.level {
                // A level stays up by itself; there is no acceptance to wait for.
                comparator.timer.stop();
                comparator.held = Some(comparator.line);
                self.status |= 1 << n;
            }
        }
        self.moved(held).and(self.due())
    }

    /// The vCPU has a processor again after waiting for one.
    pub fn resume(&mut self, now: Now) -> Action {
        for comparator in &mut self.timers {
            comparator.timer.resume(now);
        }
        self.due()
    }

    /// The edges of ticks that the guest has not accepted yet. To be repeated whenever the guest may have become able to take
    /// them: an edge at a masked pin is lost.
    pub fn due(&self) -> Action {
        let waiting = self.timers.iter().filter(|c| c.timer.due().is_some() && !c.level);
        waiting.fold(Action::NONE, |action, c| action.and(Action::one(c.line, Change::Edge)))
    }

    /// The guest has accepted the interrupt of `line`. If it was a tick of this device: the guest time to go forward to.
    pub fn delivered(&mut self, line: Line, now: Now) -> Option<u64> {
        self.timers.iter_mut().filter(|c| c.line == line && !c.level).find_map(|c| c.timer.delivered(now))
    }

    /// Other rules for missed ticks.
    pub fn set_rules(&mut self, rules: Rules) {
        for comparator in &mut self.timers {
            comparator.timer.set_rules(rules);
        }
    }

    /// The saved record.
    pub fn save(&mut self, now: Now) -> HvmHwHpet {
        let mut record = HvmHwHpet::new_zeroed();
        record.capability = self.capability;
        record.config = self.config;
        record.isr = self.status;
        record.mc64 = self.main.value(now);
        for n in 0..HPET_TIMER_NUM {
            self.comparator(n, now);
            (record.timers[n], record.period[n]) = self.timers[n].save();
        }
        record
    }

    /// Takes over a saved record; the counter goes on from now. The action has the levels that are up. It always succeeds:
    /// what no device can hold is left out, as Xen does.
    pub fn load(&mut self, record: &HvmHwHpet, now: Now) -> Result<Action> {
        let held = self.held();
        self.capability = record.capability;
        self.config = record.config & (CONFIG_RUN | CONFIG_LEGACY);
        self.status = record.isr & ((1 << HPET_TIMER_NUM) - 1);
        self.main = if self.is_running() { Counter::running(record.mc64, now) } else { Counter::Halted(record.mc64) };
        let mut action = Action::NONE;
        for n in 0..HPET_TIMER_NUM {
            let up = self.status & 1 << n != 0;
            self.timers[n].load(&record.timers[n], record.period[n], up);
            if self.is_running() && self.timers[n].has(ENABLE) {
                action = action.and(self.start(n, now, true));
            }
        }
        Ok(action.and(self.moved(held)))
    }

    fn is_running(&self) -> bool {
        self.config & CONFIG_RUN != 0
    }

    fn register(&mut self, register: &Register, now: Now) -> u64 {
        match register {
            Register::Capability => self.capability,
            Register::Config => self.config,
            Register::Status => self.status,
            Register::Counter => self.main.value(now),
            Register::Timer(n, TimerRegister::Config) => self.timers[*n].config,
            Register::Timer(n, TimerRegister::Comparator) => self.comparator(*n, now),
            Register::Timer(n, TimerRegister::Route) => self.timers[*n].route,
            Register::Reserved => 0,
        }
    }

    /// A timer's comparator, brought up to date.
    fn comparator(&mut self, n: usize, now: Now) -> u64 {
        let running = self.is_running().then(|| self.main.value(now));
        self.timers[n].update(running)
    }

    fn write_config(&mut self, new: u64, now: Now, switch: &mut Switch) {
        let was_running = self.is_running();
        self.config = new & (CONFIG_RUN | CONFIG_LEGACY);
        if was_running == self.is_running() {
            return;
        }
        let value = self.main.value(now);
        let enabled = self.timers.each_ref().map(|c| c.has(ENABLE));
        if was_running {
            // Comparators are brought up to date by the counter's last value.
            for comparator in &mut self.timers {
                comparator.update(Some(value));
            }
            self.main = Counter::Halted(value);
            switch.stop = enabled;
        } else {
            self.main = Counter::running(value, now);
            for comparator in &mut self.timers {
                comparator.show();
            }
            switch.start = enabled;
        }
    }

    fn write_status(&mut self, clear: u64, switch: &mut Switch) {
        for n in 0..HPET_TIMER_NUM {
            if clear & self.status & 1 << n == 0 {
                continue;
            }
            self.status &= !(1 << n);
            let running = self.is_running();
            let comparator = &mut self.timers[n];
            comparator.held = None;
            switch.start[n] = running && comparator.has(ENABLE) && comparator.has(PERIODIC) && comparator.level;
        }
    }

    /// A running counter is not changed by a write, as in Xen; the timers look at it anew.
    fn write_counter(&mut self, new: u64, switch: &mut Switch) {
        match &mut self.main {
            Counter::Halted(value) => *value = new,
            Counter::Running(_) => {
                for n in (0..HPET_TIMER_NUM).filter(|&n| self.timers[n].has(ENABLE)) {
                    switch.restart(n);
                }
            }
        }
    }

    /// What a change of a timer's configuration asks for, given the bits before it.
    fn switch_timer(&self, n: usize, old: u64, switch: &mut Switch) {
        let new = self.timers[n].config;
        if !self.is_running() {
            return;
        }
        if new & ENABLE == 0 {
            switch.stop[n] = old & ENABLE != 0;
        } else if (new ^ old) & PERIODIC != 0 || new & !old & WIDTH_32 != 0 {
            switch.restart(n);
        } else {
            switch.start[n] = old & ENABLE == 0;
        }
    }

    fn carry_out(&mut self, switch: &Switch, now: Now) -> Action {
        for n in (0..HPET_TIMER_NUM).filter(|&n| switch.stop[n]) {
            self.timers[n].timer.stop();
            self.comparator(n, now);
        }
        let started = (0..HPET_TIMER_NUM).filter(|&n| switch.start[n]);
        started.fold(Action::NONE, |action, n| action.and(self.start(n, now, false)))
    }

    /// Schedules a timer's interrupts. `restored`: a comparator behind the counter was passed while the domain was away.
    fn start(&mut self, n: usize, now: Now, restored: bool) -> Action {
        let legacy = self.config & CONFIG_LEGACY != 0;
        let action = if n == 0 && legacy { Action::STOP_PIT } else { Action::NONE };
        self.comparator(n, now);
        let counter = self.main.value(now);
        let up = self.status & 1 << n != 0;
        let line = match n {
            0 if legacy => Some(Line::Isa(0)),
            1 if legacy => Some(Line::Isa(8)),
            _ => None,
        };
        self.timers[n].start(line, up, counter, restored, now);
        action
    }

    /// The lines that are up, one of them for each timer at most.
    fn held(&self) -> [Option<Line>; HPET_TIMER_NUM] {
        self.timers.each_ref().map(|c| c.held)
    }

    /// The lines that are not as they were: a line is up while any timer holds it.
    fn moved(&self, before: [Option<Line>; HPET_TIMER_NUM]) -> Action {
        let after = self.held();
        let only = |these: &[Option<Line>], those: &[Option<Line>], change| {
            let lines = these.iter().flatten().filter(|line| !those.contains(&Some(**line)));
            lines.fold(Action::NONE, |action, line| action.and(Action::one(*line, change)))
        };
        only(&before, &after, Change::Lower).and(only(&after, &before, Change::Raise))
    }
}

/// The offset of an access within the registers, and by how many bits its bytes are shifted in their 8 bytes. Nothing for
/// accesses that are no 1, 2, 4 or 8 aligned bytes.
fn position(offset: u64, size: u8) -> Option<(u16, u32)> {
    if !matches!(size, 1 | 2 | 4 | 8) || offset % u64::from(size) != 0 {
        return None;
    }
    // Below 1024.
    let offset = (offset % SIZE) as u16;
    Some((offset, u32::from(offset & 7) * 8))
}
