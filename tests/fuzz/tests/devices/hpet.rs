//! The HPET: its counter against the time, its registers against their bits (IA-PC HPET 1.0a, 2.3), its lines against its status.

use crate::{rules, size};
use fuzz::Random;
use std::collections::BTreeSet;
use vhpet::{Hpet, TICK_NS};
use vtimer::{Action, Change, Line, Now, all_ones};
use xen_abi::hvm_save::clocks::HvmHwHpet;
use zerocopy::FromZeros;

const CAPABILITY: u64 = 0x00;
const CONFIG: u64 = 0x10;
const STATUS: u64 = 0x20;
const COUNTER: u64 = 0xf0;
const RUN: u64 = 1;
const LEGACY: u64 = 2;
const ENABLE: u64 = 4;
const PERIODIC: u64 = 8;
const NARROW: u64 = 0x100;
/// Of a timer's configuration: what can be written, and what it can do.
const WRITABLE: u64 = 0x3f4e;
const ABILITIES: u64 = 0x00f0_0000_0000_0030;
/// Ticks of the shortest period.
const SHORTEST: u64 = 6250;
const STEPS: u64 = 250;

struct Guest {
    hpet: Hpet,
    now: Now,
    up: BTreeSet<Line>,
    capability: u64,
    /// Steady time of the beginning, how often timers may have been set up since, and edges that were delivered.
    since: u64,
    starts: u64,
    ticks: u64,
}

impl Guest {
    fn get(&mut self, offset: u64) -> u64 {
        self.hpet.read(offset, 8, self.now)
    }

    fn act(&mut self, action: Action) {
        assert!(!action.stop_pit || self.get(CONFIG) & (RUN | LEGACY) == RUN | LEGACY);
        for signal in action.signals() {
            assert!(matches!(signal.line, Line::Isa(0 | 8) | Line::Gsi(20..=23)), "{signal:?}");
            match signal.change {
                Change::Raise => assert!(self.up.insert(signal.line), "{signal:?}"),
                Change::Lower => assert!(self.up.remove(&signal.line), "{signal:?}"),
                Change::Edge => {}
            }
        }
    }

    fn write(&mut self, offset: u64, size: u8, value: u64) {
        let before = [CONFIG, COUNTER, STATUS].map(|register| self.get(register));
        let action = self.hpet.write(offset, size, value, self.now);
        self.act(action);
        self.starts += 1;
        let after = [CONFIG, COUNTER, STATUS].map(|register| self.get(register));
        let at = |register: u64| offset & 0x3f8 == register;
        assert!(at(CONFIG) || after[0] == before[0]);
        assert!(at(COUNTER) && before[0] & RUN == 0 || after[1] == before[1], "the counter jumps");
        assert_eq!(after[2], if at(STATUS) { after[2] & before[2] } else { before[2] }, "status");
        if size == 8 && offset % 8 == 0 {
            assert!(!at(CONFIG) || after[0] == value & (RUN | LEGACY));
            assert!(!at(COUNTER) || before[0] & RUN != 0 || after[1] == value);
            assert!(!at(STATUS) || after[2] == before[2] & !value);
        }
    }

    fn pass(&mut self, ns: u64) {
        let (before, then) = (self.get(COUNTER), self.now.guest);
        self.now = Now::both(self.now.steady.saturating_add(ns));
        let ticks = if self.get(CONFIG) & RUN != 0 { self.now.guest / TICK_NS - then / TICK_NS } else { 0 };
        assert_eq!(self.get(COUNTER), before.wrapping_add(ticks));
    }

    fn tick(&mut self) {
        let action = self.hpet.tick(self.now);
        self.act(action);
        let (steady, next) = (self.now.steady, self.hpet.next_deadline());
        assert!(next.is_none_or(|at| at > steady), "{next:?} at {steady}");
    }

    fn deliver(&mut self, line: Line) -> u64 {
        let waited = self.hpet.due().signals().any(|signal| signal.line == line);
        assert_eq!(self.hpet.delivered(line, self.now).is_some(), waited);
        self.ticks += u64::from(waited);
        let most = 3 * ((self.now.steady - self.since) / (SHORTEST * TICK_NS) + self.starts);
        assert!(self.ticks <= most, "{} ticks, {most} at most", self.ticks);
        waited.into()
    }

    fn reload(&mut self, r: &mut Random) {
        let mut record = self.hpet.save(self.now);
        let is_own = r.one_in(2);
        if !is_own {
            record = HvmHwHpet::new_zeroed();
            (record.capability, record.config, record.isr, record.mc64) = (r.next(), r.next(), r.next(), r.value());
            for timer in &mut record.timers {
                (timer.config, timer.cmp, timer.fsb) = (r.next(), r.value(), r.next());
            }
            record.period = std::array::from_fn(|_| r.value());
            self.capability = record.capability;
        }
        let action = self.hpet.load(&record, self.now).expect("always");
        self.act(action);
        let saved = self.hpet.save(self.now);
        assert!(!is_own || saved == record);
        assert_eq!(saved.mc64, record.mc64);
        self.starts += 1;
    }

    fn check(&mut self) {
        assert_eq!(self.get(CAPABILITY), self.capability);
        let config = self.get(CONFIG);
        assert_eq!(config & !(RUN | LEGACY), 0);
        let status = self.get(STATUS);
        assert!(status < 8 && self.up.len() <= status.count_ones() as usize, "{:?} are up by {status:#b}", self.up);
        let record = self.hpet.save(self.now);
        for n in 0..3 {
            let timer = self.get(0x100 + 0x20 * n);
            assert_eq!(timer & !WRITABLE, ABILITIES);
            let (pin, is_enabled) = (timer >> 9 & 31, timer & ENABLE != 0);
            assert!((20..24).contains(&pin) || pin == 0 && !is_enabled, "pin {pin}");
            let comparator = self.get(0x108 + 0x20 * n);
            assert!(timer & NARROW == 0 || comparator <= u32::MAX.into());
            let period = record.period[n as usize];
            assert!(period == 0 || (SHORTEST..=u64::MAX >> 1).contains(&period), "period {period}");
            if config & RUN != 0 && timer & PERIODIC != 0 && period != 0 {
                let behind = record.mc64.wrapping_sub(record.timers[n as usize].cmp);
                assert!((behind as i64) < 0, "a periodic comparator is behind by {behind}");
            }
        }
    }
}

/// Values that matter to the registers.
fn value(r: &mut Random, counter: u64) -> u64 {
    match r.below(6) {
        0 => r.value(),
        1 => r.below(4),
        2 => r.below(1_000_000),
        3 => counter.wrapping_add(r.below(1_000_000)),
        _ => r.below(0x4000) | ENABLE,
    }
}

/// A timer that ticks, as guests set it up: at random it seldom comes about.
fn set_up(r: &mut Random, g: &mut Guest) {
    let (n, flags) = (0x20 * r.below(3), r.pick(&[0, NARROW, PERIODIC | 0x40]) | r.below(2) << 1);
    g.write(0x100 + n, 8, (20 + r.below(4)) << 9 | ENABLE | flags);
    let soon = g.get(COUNTER).wrapping_add(r.below(1_000_000));
    g.write(0x108 + n, 8, soon);
    g.write(0x108 + n, 8, r.below(1_000_000));
    g.write(CONFIG, 8, RUN | r.below(2) << 1);
}

pub fn case(r: &mut Random) -> u64 {
    let now = Now::both(r.below(1 << 40));
    let mut hpet = Hpet::new(rules(r));
    let capability = hpet.read(CAPABILITY, 8, now);
    let mut g = Guest { hpet, now, up: BTreeSet::new(), capability, since: now.steady, starts: 0, ticks: 0 };
    let mut reached = 0;
    for _ in 0..STEPS {
        match r.below(32) {
            0..=9 => {
                let timer = 0x100 + 0x20 * r.below(3) + r.pick(&[0, 0, 8, 8, 8, 16]);
                let offset = if r.one_in(2) { timer } else { r.pick(&[CONFIG, CONFIG, STATUS, COUNTER]) };
                let value = value(r, g.hpet.read(COUNTER, 8, g.now));
                g.write(offset, 8, value);
            }
            10..=11 => g.write(r.below(0x180), size(r, &[1, 2, 4, 8]), r.value()),
            12 if r.one_in(2) => g.write(r.value(), 8, r.value()),
            12 => set_up(r, &mut g),
            13 => {
                let (offset, size) = (if r.one_in(4) { r.value() } else { r.below(0x180) }, size(r, &[1, 2, 4, 8]));
                assert_eq!(g.hpet.read(offset, size, g.now) & !all_ones(size), 0);
            }
            14 if r.one_in(4) => g.reload(r),
            15 if r.one_in(4) => g.hpet.set_rules(rules(r)),
            16 if r.one_in(8) => {
                let action = g.hpet.reset();
                g.act(action);
                assert!(g.up.is_empty());
                g.capability = capability;
                g.starts += 1;
            }
            17 => {
                let action = g.hpet.resume(g.now);
                g.act(action);
            }
            18 if r.one_in(20) => g.pass(r.next() >> (12 + r.below(30))),
            18..=21 => g.pass(r.below(100_000_000)),
            22..=26 => g.tick(),
            _ => {
                reached += g.deliver(r.pick(&[Line::Isa(0), Line::Isa(8), Line::Gsi(20), Line::Gsi(21), Line::Gsi(23)]))
            }
        }
        g.check();
    }
    reached
}
