//! The high precision event timer as a guest uses it.

use proptest::prelude::*;
use vhpet::{Hpet, SIZE, TICK_NS};
use vtimer::{Action, Change, Line, MissedTicks, Now, Rules, all_ones};

const RULES: Rules = Rules { missed: MissedTicks::NoDelay, align: false };
const CONFIG: u64 = 0x10;
const STATUS: u64 = 0x20;
const COUNTER: u64 = 0xf0;
const RUN: u64 = 1;
const LEGACY: u64 = 2;
const LEVEL: u64 = 2;
const ENABLE: u64 = 4;
const PERIODIC: u64 = 8;
const SET_VALUE: u64 = 0x40;
const NARROW: u64 = 0x100;
const PIN_21: u64 = 21 << 9;
/// Ticks of a millisecond.
const MS: u64 = 62_500;

const fn config(n: u64) -> u64 {
    0x100 + 0x20 * n
}

const fn compare(n: u64) -> u64 {
    0x108 + 0x20 * n
}

/// When `ticks` have passed.
fn at(ticks: u64) -> Now {
    Now::both(ticks * TICK_NS)
}

fn edge(line: Line) -> Action {
    Action::one(line, Change::Edge)
}

struct Machine(Hpet);

impl Machine {
    fn new() -> Self {
        Self(Hpet::new(RULES))
    }
    fn put(&mut self, offset: u64, value: u64, ticks: u64) -> Action {
        self.0.write(offset, 8, value, at(ticks))
    }
    fn get(&mut self, offset: u64, ticks: u64) -> u64 {
        self.0.read(offset, 8, at(ticks))
    }
    fn deadline(&self) -> Option<u64> {
        self.0.next_deadline().map(|ns| ns / TICK_NS)
    }
}

#[test]
fn capabilities_are_xens() {
    let mut m = Machine::new();
    assert_eq!(m.get(0, 0), 0x00f4_2400_8086_a201);
    assert_eq!(m.0.read(4, 4, at(0)), 16_000_000, "femtoseconds a tick");
    assert_eq!((0..3).map(|n| m.get(config(n), 0)).collect::<Vec<_>>(), [0x00f0_0000_0000_0030; 3]);
    assert_eq!((m.get(compare(0), 0), m.get(config(3), 0), m.get(0x118, 0)), (u64::MAX, 0, 0));
    let _ = m.put(0, 0, 0);
    assert_eq!(m.get(0, 0) as u32, 0x8086_a201, "read only");
}

#[test]
fn counter_runs_while_enabled() {
    let mut m = Machine::new();
    assert_eq!(m.get(COUNTER, 500), 0);
    let _ = m.put(COUNTER, 1 << 40, 500);
    let _ = m.put(CONFIG, RUN | 0xff00, 600);
    assert_eq!((m.get(CONFIG, 600), m.get(COUNTER, 650)), (RUN, (1 << 40) + 50));
    let _ = m.put(COUNTER, 0, 650);
    assert_eq!(m.get(COUNTER, 650), (1 << 40) + 50, "a running counter is not written");
    let _ = m.put(CONFIG, 0, 700);
    assert_eq!(m.get(COUNTER, 9000), (1 << 40) + 100);
}

#[test]
fn parts_of_registers_are_read_and_written() {
    let mut m = Machine::new();
    let _ = m.0.write(COUNTER, 4, 0x1122_3344, at(0));
    let _ = m.0.write(COUNTER + 4, 2, 0x5566, at(0));
    let _ = m.0.write(COUNTER + 7, 1, 0x77, at(0));
    assert_eq!(m.get(COUNTER, 0), 0x7700_5566_1122_3344);
    assert_eq!(m.0.read(COUNTER + 2, 2, at(0)), 0x1122);
    let before = m.0.clone();
    for (offset, size) in [(COUNTER + 4, 8), (COUNTER + 1, 2), (COUNTER, 3), (COUNTER, 16), (COUNTER, 0)] {
        assert_eq!(m.0.read(offset, size, at(0)), all_ones(size));
        assert_eq!(m.0.write(offset, size, 0, at(0)), Action::NONE);
    }
    assert_eq!(m.0, before);
    assert_eq!(m.0.read(SIZE + COUNTER, 4, at(0)), 0x1122_3344, "the page repeats");
}

#[test]
fn single_interrupt_by_edge() {
    let mut m = Machine::new();
    let _ = m.put(CONFIG, RUN, 0);
    let _ = m.put(config(1), ENABLE | PIN_21, 0);
    let _ = m.put(compare(1), 1000, 10);
    assert_eq!(m.deadline(), Some(1000));
    assert_eq!(m.0.tick(at(999)), Action::NONE);
    assert_eq!(m.0.tick(at(1000)), edge(Line::Gsi(21)));
    assert_eq!((m.0.due(), m.get(STATUS, 1000)), (edge(Line::Gsi(21)), 0));
    assert_eq!(m.0.delivered(Line::Gsi(20), at(1001)), None);
    assert_eq!(m.0.delivered(Line::Gsi(21), at(1001)), Some(1001 * TICK_NS));
    assert_eq!((m.0.due(), m.deadline()), (Action::NONE, None));
}

#[test]
fn comparator_in_the_past() {
    // 64 bits: now. 32 bits: now if it is a little late, else a round later.
    for (bits, late, expected) in
        [(0, 1 << 20, 0), (NARROW, 61_035, 0), (NARROW, 61_036, (1 << 32) - 61_036), (NARROW, 1 << 31, 1 << 31)]
    {
        let mut m = Machine::new();
        let counter = (1u64 << 33) + (3 << 30);
        let _ = m.put(COUNTER, counter, 0);
        let _ = m.put(CONFIG, RUN, 0);
        let _ = m.put(config(2), ENABLE | bits, 0);
        let _ = m.put(compare(2), counter - late, 0);
        assert_eq!(m.deadline(), Some(expected), "{late} late");
    }
}

#[test]
fn periodic_interrupt_in_legacy_mode() {
    for n in 0..2 {
        let line = Line::Isa([0, 8][n as usize]);
        let mut m = Machine::new();
        let _ = m.put(config(n), ENABLE | PERIODIC | SET_VALUE, 0);
        let _ = m.put(compare(n), 3 * MS, 0);
        let _ = m.put(compare(n), MS, 0);
        assert_eq!(m.get(config(n), 0) & SET_VALUE, 0);
        assert_eq!(m.put(CONFIG, RUN | LEGACY, 0), if n == 0 { Action::STOP_PIT } else { Action::NONE });
        for tick in 3..6 {
            assert_eq!(m.deadline(), Some(tick * MS));
            assert_eq!(m.0.tick(at(tick * MS)), edge(line));
            assert!(m.0.delivered(line, at(tick * MS)).is_some());
            assert_eq!(m.get(compare(n), tick * MS), (tick + 1) * MS);
        }
        assert_eq!(m.put(config(n), PERIODIC, 9 * MS), Action::NONE);
        assert_eq!(m.deadline(), None);
    }
}

#[test]
fn level_stays_up_until_its_status_is_cleared() {
    let mut m = Machine::new();
    let line = Line::Gsi(21);
    let _ = m.put(CONFIG, RUN, 0);
    let _ = m.put(config(0), ENABLE | PERIODIC | SET_VALUE | LEVEL | PIN_21, 0);
    let _ = m.put(compare(0), MS, 0);
    let _ = m.put(compare(0), MS, 0);
    assert_eq!(m.0.tick(at(MS)), Action::one(line, Change::Raise));
    assert_eq!((m.get(STATUS, MS), m.deadline(), m.0.due()), (1, None, Action::NONE));
    assert_eq!(m.0.delivered(line, at(MS)), None, "a level is not accepted but cleared");
    assert_eq!(m.put(STATUS, 6, MS), Action::NONE);
    assert_eq!(m.put(STATUS, 1, 2 * MS + MS / 2), Action::one(line, Change::Lower));
    assert_eq!((m.get(STATUS, 3 * MS), m.deadline()), (0, Some(3 * MS)));
}

#[test]
fn two_timers_hold_one_level() {
    let mut m = Machine::new();
    let line = Line::Gsi(20);
    for n in 0..2 {
        let _ = m.put(config(n), ENABLE | LEVEL | 20 << 9, 0);
        let _ = m.put(compare(n), 100 + 100 * n, 0);
    }
    let _ = m.put(CONFIG, RUN, 0);
    assert_eq!(m.0.tick(at(100)), Action::one(line, Change::Raise));
    assert_eq!(m.0.tick(at(200)), Action::NONE);
    assert_eq!(m.put(STATUS, 1, 300), Action::NONE);
    assert_eq!(m.put(STATUS, 2, 300), Action::one(line, Change::Lower));
}

#[test]
fn routes_that_do_not_exist_become_the_first() {
    let mut m = Machine::new();
    let route = |m: &mut Machine| m.get(config(0), 0) >> 9 & 0x1f;
    for (bits, expected) in [(3 << 9, 0), (ENABLE | 3 << 9, 20), (ENABLE | 23 << 9, 23), (ENABLE | 31 << 9, 20)] {
        let _ = m.put(config(0), bits, 0);
        assert_eq!(route(&mut m), expected);
    }
}

#[test]
fn short_and_long_periods_are_bounded() {
    let mut m = Machine::new();
    let _ = m.put(config(0), PERIODIC | NARROW, 0);
    let _ = m.put(compare(0), 1, 0);
    assert_eq!(m.0.save(at(0)).period[0], 6250);
    let _ = m.put(compare(0), 0xffff_ffff, 0);
    assert_eq!(m.0.save(at(0)).period[0], 0x7fff_ffff);
    let _ = m.put(config(1), PERIODIC, 0);
    let _ = m.put(compare(1), u64::MAX, 0);
    assert_eq!(m.0.save(at(0)).period[1], u64::MAX >> 1);
}

#[test]
fn change_of_width_or_mode_starts_anew() {
    let mut m = Machine::new();
    let _ = m.put(CONFIG, RUN, 0);
    let _ = m.put(config(0), ENABLE, 0);
    let _ = m.put(compare(0), (1 << 33) + 5000, 0);
    assert_eq!(m.deadline(), Some((1 << 33) + 5000));
    let _ = m.put(config(0), ENABLE | NARROW, 0);
    assert_eq!((m.deadline(), m.get(compare(0), 0)), (Some(5000), 5000));
    assert!(!m.0.tick(at(5000)).is_none());
    let _ = m.put(config(0), ENABLE | NARROW | PERIODIC, 5001);
    assert!(m.0.due().is_none(), "what waited is forgotten");
}

#[test]
fn restored_timer_goes_on() {
    let mut m = Machine::new();
    let _ = m.put(config(0), ENABLE | PERIODIC | SET_VALUE, 0);
    let _ = m.put(compare(0), 3 * MS, 0);
    let _ = m.put(compare(0), 2 * MS, 0);
    let _ = m.put(config(2), ENABLE | LEVEL | PIN_21, 0);
    let _ = m.put(compare(2), 5, 0);
    let _ = m.put(CONFIG, RUN | LEGACY, 0);
    assert!(!m.0.tick(at(MS)).is_none());
    let record = m.0.save(at(4 * MS));
    assert_eq!((record.mc64, record.isr, record.timers[0].cmp, record.period[0]), (4 * MS, 4, 5 * MS, 2 * MS));
    let mut other = Machine::new();
    let action = other.0.load(&record, at(1000 * MS)).unwrap();
    assert_eq!(action, Action::one(Line::Gsi(21), Change::Raise).and(Action::STOP_PIT));
    assert_eq!(other.0.save(at(1000 * MS)), record);
    assert_eq!(other.deadline(), Some(1001 * MS));
    assert_eq!(other.get(COUNTER, 1001 * MS), 5 * MS);
}

proptest! {
    /// A periodic timer ticks as often as its period fits into the time, and its comparator is the next tick.
    #[test]
    fn ticks_as_often_as_periods_fit(
        first in 0u64..1_000_000,
        period in 6250u64..1_000_000,
        narrow in any::<bool>(),
        waits in prop::collection::vec(0u64..2_000_000, 1..40),
    ) {
        let mut m = Machine::new();
        let _ = m.put(config(0), ENABLE | PERIODIC | SET_VALUE | if narrow { NARROW } else { 0 }, 0);
        let _ = m.put(compare(0), first, 0);
        let _ = m.put(compare(0), period, 0);
        let _ = m.put(CONFIG, RUN, 0);
        // A first comparator of 0 has passed when the counter starts: it is the next period's.
        let first = if first == 0 { period } else { first };
        let (mut time, mut ticks) = (0u64, 0);
        for wait in waits {
            time += wait;
            let _ = m.0.tick(at(time));
            while m.0.delivered(Line::Gsi(20), at(time)).is_some() {
                ticks += 1;
                let _ = m.0.tick(at(time));
            }
            let expected = time.checked_sub(first).map_or(0, |after| after / period + 1);
            prop_assert_eq!(ticks, expected);
            prop_assert_eq!(m.get(compare(0), time), first + expected * period);
            prop_assert_eq!(m.deadline(), Some(first + expected * period));
        }
    }

    /// A restored device shows what the saved one would have shown without the pause.
    #[test]
    fn restored_device_shows_the_same(
        set in prop::collection::vec((0u64..3, 0u64..0x4000, any::<u32>(), any::<u32>()), 0..6),
        before in 0u64..1 << 50, gap in 0u64..1 << 50, after in 0u64..1 << 50,
    ) {
        let mut m = Machine::new();
        for (n, bits, value, period) in set {
            let _ = m.put(config(n), bits, 0);
            let _ = m.put(compare(n), value.into(), 0);
            let _ = m.put(compare(n), period.into(), 0);
        }
        let _ = m.put(CONFIG, RUN, 0);
        let record = m.0.save(at(before));
        let mut other = Machine::new();
        prop_assert!(other.0.load(&record, at(gap)).is_ok());
        for offset in (0..0x160).step_by(8) {
            prop_assert_eq!(other.get(offset, gap + after), m.get(offset, before + after), "register {:#x}", offset);
        }
    }
}
