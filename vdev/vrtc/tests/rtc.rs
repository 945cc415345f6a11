//! The real-time clock as a guest uses it.

use proptest::prelude::*;
use vrtc::{LINE, Rtc, WallTime};
use vtimer::{Action, Change, Line, MissedTicks, Now, Rules};

const RULES: Rules = Rules { missed: MissedTicks::NoDelay, align: false };
const SECOND: u64 = 1_000_000_000;
/// 2026-11-22 (a Sunday), 17:05:09.
const SOME_DAY: i64 = 1_795_367_109;
const EDGE: Action = Action::one(LINE, Change::Edge);
const LOWERED: Action = Action::one(LINE, Change::Lower);
/// Control registers, and the bits of B and C.
const A: u8 = 10;
const B: u8 = 11;
const C: u8 = 12;
const D: u8 = 13;
const SET: u8 = 0x80;
const PIE: u8 = 0x40;
const AIE: u8 = 0x20;
const UIE: u8 = 0x10;
const BINARY: u8 = 4;
const HOURS_24: u8 = 2;

struct Machine(Rtc);

impl Machine {
    fn at(seconds: i64) -> Self {
        Self(Rtc::new(WallTime { seconds, nanos: 0 }, Now::both(0), RULES))
    }
    fn put(&mut self, index: u8, value: u8, ns: u64) -> Action {
        assert_eq!(self.0.write(0x70, 1, index.into(), Now::both(ns)), Some(Action::NONE));
        self.0.write(0x71, 1, value.into(), Now::both(ns)).unwrap()
    }
    fn read(&mut self, index: u8, ns: u64) -> (u8, Action) {
        assert_eq!(self.0.write(0x70, 1, index.into(), Now::both(ns)), Some(Action::NONE));
        let (value, action) = self.0.read(0x71, 1, Now::both(ns)).unwrap();
        (value as u8, action)
    }
    fn get(&mut self, index: u8, ns: u64) -> u8 {
        self.read(index, ns).0
    }
    /// Second, minute, hour, weekday, day, month, year as they are read.
    fn date(&mut self, ns: u64) -> [u8; 7] {
        [0, 2, 4, 6, 7, 8, 9].map(|index| self.get(index, ns))
    }
}

#[test]
fn time_is_shown_in_all_formats() {
    let mut m = Machine::at(SOME_DAY);
    assert_eq!(m.date(0), [0x09, 0x05, 0x17, 0, 0x22, 0x11, 0x26]);
    let _ = m.put(B, HOURS_24 | BINARY, 0);
    assert_eq!(m.date(2 * SECOND), [11, 5, 17, 0, 22, 11, 26]);
    let _ = m.put(B, BINARY, 0);
    assert_eq!(m.date(0)[2], 5 | 0x80);
    let _ = m.put(B, 0, 0);
    let hour = |m: &mut Machine, hour: u64| m.date((hour + 7) * 3600 * SECOND)[2];
    let hours: Vec<u8> = [0, 1, 11, 12, 13, 23].iter().map(|&h| hour(&mut m, h)).collect();
    assert_eq!(hours, [0x12, 0x01, 0x11, 0x92, 0x81, 0x91]);
}

#[test]
fn control_registers_after_power_on() {
    let mut m = Machine::at(SOME_DAY);
    assert_eq!([A, B, C, D].map(|index| m.get(index, 0)), [0x26, HOURS_24, 0, 0x80]);
    let _ = (m.put(C, 0xff, 0), m.put(D, 0, 0));
    assert_eq!([C, D].map(|index| m.get(index, 0)), [0, 0x80], "read only");
    assert_eq!(m.0.next_deadline(), None);
}

#[test]
fn other_bytes_are_the_device_models() {
    let mut m = Machine::at(SOME_DAY);
    let now = Now::both(0);
    for index in 14..=0x7f {
        assert_eq!(m.0.write(0x70, 1, index | 0x80, now), None, "the device model has to know the index");
        assert_eq!((m.0.read(0x70, 1, now), m.0.read(0x71, 1, now), m.0.write(0x71, 1, 5, now)), (None, None, None));
        assert_eq!(u32::from(m.0.save(now).cmos_index), index);
    }
    assert_eq!(m.0.write(0x70, 1, 0x80, now), Some(Action::NONE));
    assert_eq!(m.0.read(0x70, 1, now), Some((0xff, Action::NONE)));
    assert_eq!(m.0.read(0x71, 2, now), Some((0xffff, Action::NONE)));
    let before = m.0.clone();
    assert_eq!(m.0.write(0x71, 2, 0xffff, now), Some(Action::NONE));
    assert_eq!(m.0, before);
    assert!(Rtc::owns(0x70) && Rtc::owns(0x71) && !Rtc::owns(0x72) && !Rtc::owns(0x6f));
}

#[test]
fn update_is_announced_before_the_second_changes() {
    let mut m = Machine::at(SOME_DAY);
    for (ns, uip) in [(0, 0), (SECOND - 244_001, 0), (SECOND - 244_000, 0x80), (SECOND - 1, 0x80), (SECOND, 0)] {
        assert_eq!(m.get(A, ns) & 0x80, uip, "{ns}");
    }
    let _ = m.put(B, SET | HOURS_24, SECOND);
    assert_eq!(m.get(A, 2 * SECOND - 1) & 0x80, 0);
}

#[test]
fn frozen_clock_is_set_when_it_goes_on() {
    let mut m = Machine::at(SOME_DAY);
    assert_eq!(m.put(B, SET | HOURS_24, 0), Action::NONE);
    assert_eq!(m.date(5 * SECOND)[0], 0x09, "it stands still");
    for (index, value) in [(0, 0x30), (2, 0x59), (4, 0x23), (7, 0x28), (8, 0x02), (9, 0x24)] {
        assert_eq!(m.put(index, value, 5 * SECOND), Action::NONE);
    }
    // From 2026-11-22 17:05:09 to 2024-02-28 23:59:30.
    let moved = 1_709_164_770 - SOME_DAY;
    assert_eq!(m.put(B, HOURS_24, 5 * SECOND), Action::move_time(moved));
    assert_eq!(m.date(5 * SECOND), [0x35, 0x59, 0x23, 3, 0x28, 0x02, 0x24]);
    assert_eq!(m.date(30 * SECOND), [0x00, 0x00, 0x00, 4, 0x29, 0x02, 0x24], "the next day is a leap day");
}

#[test]
fn running_clock_is_set_part_by_part() {
    let mut m = Machine::at(SOME_DAY);
    assert_eq!(m.put(4, 0x20, 0), Action::move_time(3 * 3600));
    assert_eq!(m.put(6, 5, 0), Action::NONE, "the weekday follows from the date");
    assert_eq!(m.date(SECOND), [0x10, 0x05, 0x20, 0, 0x22, 0x11, 0x26]);
    let _ = m.put(B, 0, 0);
    assert_eq!(m.put(4, 0x12, 0), Action::move_time(-20 * 3600), "12 in the morning is midnight");
    assert_eq!(m.put(4, 0x92, 0), Action::move_time(12 * 3600));
}

#[test]
fn wall_clock_can_be_set_from_outside() {
    let mut m = Machine::at(SOME_DAY);
    m.0.set_wall_clock(WallTime { seconds: SOME_DAY + 51, nanos: 900_000_000 }, Now::both(0));
    assert_eq!(m.date(0)[..2], [0x00, 0x06]);
    let _ = m.put(B, HOURS_24 | UIE, 0);
    assert_eq!(m.0.next_deadline(), Some(SECOND / 10));
    assert_eq!(m.date(SECOND / 10)[0], 0x01);
}

#[test]
fn rates_of_the_periodic_interrupt() {
    for rate in 0..16u8 {
        let mut m = Machine::at(SOME_DAY);
        let _ = m.put(A, 0x20 | rate, 0);
        let _ = m.put(B, HOURS_24 | PIE, 0);
        let hertz = match rate {
            0 => None,
            1 => Some(256),
            2 => Some(128),
            _ => Some(65_536u64 >> rate),
        };
        assert_eq!(m.0.next_deadline(), hertz.map(|hertz| (SECOND + hertz / 2) / hertz), "rate {rate}");
        let _ = m.put(A, 0x70 | rate, 0);
        assert_eq!(m.0.next_deadline(), None, "the divider is held");
    }
}

#[test]
fn periodic_interrupt() {
    let mut m = Machine::at(SOME_DAY);
    // 2 Hz, on whole halves of a second.
    let _ = m.put(A, 0x2f, 0);
    assert_eq!(m.put(B, HOURS_24 | PIE, SECOND / 5), Action::NONE);
    assert_eq!(m.0.next_deadline(), Some(SECOND / 2));
    assert_eq!(m.0.tick(Now::both(SECOND / 2)), EDGE);
    assert_eq!(m.0.due(), EDGE);
    assert_eq!(m.0.delivered(Line::Isa(0), Now::both(SECOND / 2)), None);
    assert_eq!(m.0.delivered(LINE, Now::both(SECOND / 2)), Some(SECOND / 2));
    assert_eq!(m.read(C, SECOND / 2), (0xc0, LOWERED));
    assert_eq!(m.read(C, SECOND / 2), (0, Action::NONE));
    assert_eq!(m.0.next_deadline(), Some(SECOND));
    let _ = m.put(B, HOURS_24, SECOND);
    assert_eq!(m.0.next_deadline(), None);
}

#[test]
fn periodic_flag_can_be_polled() {
    let mut m = Machine::at(SOME_DAY);
    let _ = m.put(A, 0x2f, 0);
    let polled = [0, 3, 5, 6, 9, 11, 12].map(|tenths| m.get(C, tenths * SECOND / 10) & 0x40);
    assert_eq!(polled, [0, 0, 0x40, 0, 0, 0x40, 0]);
}

#[test]
fn update_ended_interrupt() {
    let mut m = Machine::at(SOME_DAY);
    assert_eq!(m.put(B, HOURS_24 | UIE, SECOND / 2), Action::NONE);
    assert_eq!(m.0.next_deadline(), Some(SECOND));
    assert_eq!(m.0.tick(Now::both(SECOND - 1)), Action::NONE);
    assert_eq!(m.0.tick(Now::both(SECOND)), EDGE);
    assert_eq!(m.0.delivered(LINE, Now::both(SECOND)), None, "no tick to be counted");
    assert_eq!(m.0.next_deadline(), None, "until register C is read");
    assert_eq!(m.read(C, SECOND + 5), (0x90, LOWERED));
    assert_eq!(m.0.next_deadline(), Some(2 * SECOND));
    assert_eq!(m.read(C, 2 * SECOND), (0x90, LOWERED), "a read is as good as the deadline");
}

#[test]
fn flag_that_is_set_interrupts_when_it_is_enabled() {
    let mut m = Machine::at(SOME_DAY);
    assert_eq!(m.0.tick(Now::both(SECOND)), Action::NONE);
    assert_eq!(m.put(B, HOURS_24 | UIE, SECOND + 1), EDGE);
    assert_eq!(m.read(C, SECOND + 1), (0x90, LOWERED));
}

#[test]
fn alarm_goes_off_every_day() {
    let mut m = Machine::at(SOME_DAY);
    for (index, value) in [(1, 0x15), (3, 0x05), (5, 0x17)] {
        let _ = m.put(index, value, 0);
    }
    let _ = m.put(B, HOURS_24 | AIE, 0);
    assert_eq!(m.0.next_deadline(), Some(6 * SECOND));
    assert_eq!(m.0.tick(Now::both(6 * SECOND)), EDGE);
    assert_eq!(m.read(C, 6 * SECOND), (0xb0, LOWERED), "and the update has ended");
    let day = 86_400 * SECOND;
    assert_eq!(m.0.next_deadline(), Some(6 * SECOND + day));
    // In 12-hour mode 5 in the afternoon is another number.
    let _ = m.put(B, AIE, 6 * SECOND);
    let _ = m.put(5, 0x85, 6 * SECOND);
    assert_eq!(m.0.next_deadline(), Some(6 * SECOND + day));
    // Any hour, any minute.
    let _ = (m.put(5, 0xff, 6 * SECOND), m.put(3, 0xc0, 6 * SECOND));
    assert_eq!(m.0.next_deadline(), Some(66 * SECOND));
    // Setting the clock moves the alarm.
    assert_eq!(m.put(0, 0x10, 6 * SECOND), Action::move_time(-5));
    assert_eq!(m.0.next_deadline(), Some(11 * SECOND));
    let _ = m.put(1, 0x61, 6 * SECOND);
    assert_eq!(m.0.next_deadline(), None, "there is no second 61");
}

#[test]
fn restored_clock_shows_the_wall_clock() {
    let mut m = Machine::at(SOME_DAY);
    let _ = (m.put(A, 0x2f, 0), m.put(1, 0xc0, 0), m.put(3, 0xc0, 0), m.put(5, 0xc0, 0));
    let _ = m.put(B, HOURS_24 | PIE | AIE, 0);
    let record = m.0.save(Now::both(0));
    assert_eq!((record.cmos_index, record.cmos_data[0], record.cmos_data[10]), (B, 0x09, 0x2f));
    let mut other = Rtc::new(WallTime { seconds: SOME_DAY + 40, nanos: 0 }, Now::both(0), RULES);
    assert_eq!(other.load(&record, Now::both(SECOND / 4)), Ok(Action::NONE));
    assert_eq!(other.next_deadline(), Some(SECOND / 2));
    assert_eq!(other.save(Now::both(0)).cmos_data[0], 0x49);
    // A frozen clock keeps what the guest has written so far.
    let _ = m.put(B, SET | HOURS_24, 0);
    let _ = m.put(9, 0x99, 0);
    assert!(other.load(&m.0.save(Now::both(0)), Now::both(0)).is_ok());
    assert_eq!(other.save(Now::both(9 * SECOND)), m.0.save(Now::both(9 * SECOND)));
}

proptest! {
    /// The guest sets the clock, in any format, and finds it again later, moved by the time in between.
    #[test]
    fn clock_that_was_set_goes_on(
        start in 0i64..4_000_000_000,
        // Up to the end of 2099.
        target in 946_684_800i64..4_102_444_800 - 400_000_000,
        format in 0u8..4,
        frozen in 0..20 * SECOND,
        later in 0u64..400_000_000,
    ) {
        let mut m = Machine::at(start);
        let format = format << 1;
        let mut there = Machine::at(target);
        let _ = there.put(B, format, 0);
        let date = there.date(0);
        let _ = m.put(B, SET | format, 0);
        for (index, value) in [0, 2, 4, 6, 7, 8, 9].into_iter().zip(date) {
            prop_assert_eq!(m.put(index, value, 0), Action::NONE);
        }
        prop_assert_eq!(m.put(B, format, frozen), Action::move_time(target - start));
        prop_assert_eq!(m.date(later * SECOND), there.date(later * SECOND));
    }
}
