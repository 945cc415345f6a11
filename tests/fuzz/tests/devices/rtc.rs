//! The real-time clock: its date against a calendar that counts days, its flags and edges against the time.

use crate::{rules, size};
use fuzz::Random;
use vrtc::{LINE, Rtc, WallTime};
use vtimer::{Action, Change, Now, all_ones};
use xen_abi::hvm_save::clocks::HvmHwRtc;

const SECOND: u64 = 1_000_000_000;
/// An update lasts from this long before a second on.
const UPDATE: u64 = 244_000;
/// Registers, and bits of B and C.
const A: u8 = 10;
const B: u8 = 11;
const C: u8 = 12;
const SET: u8 = 0x80;
const REQUEST: u8 = 0x80;
const PERIODIC: u8 = 0x40;
const UPDATED: u8 = 0x10;
const EVENTS: u8 = 0x70;
const BINARY: u8 = 4;
const HOURS_24: u8 = 2;
const STEPS: u64 = 250;
/// Dates of two thousand years are counted out, no others.
const COUNTED: i64 = 30_000_000_000;

struct Guest {
    rtc: Rtc,
    now: Now,
    /// The wall clock when the steady clock is 0.
    base: WallTime,
    /// The flags are from a record.
    is_loaded: bool,
    /// Steady time of the beginning, how often periodic ticks were set up since, and how many were delivered.
    since: u64,
    starts: u64,
    ticks: u64,
}

impl Guest {
    fn act(&mut self, action: Action) {
        self.base.seconds = self.base.seconds.wrapping_add(action.time_offset);
        for signal in action.signals() {
            assert_eq!(signal.line, LINE);
            assert_ne!(signal.change, Change::Raise);
        }
    }

    fn choose(&mut self, index: u8) {
        assert_eq!(self.rtc.write(0x70, 1, index.into(), self.now).is_some(), index & 0x7f < 14);
    }

    fn get(&mut self, index: u8) -> u8 {
        self.choose(index);
        let (value, action) = self.rtc.read(0x71, 1, self.now).expect("a register of the clock");
        assert!(action.time_offset == 0);
        self.act(action);
        value as u8
    }

    fn put(&mut self, index: u8, value: u8) {
        self.choose(index);
        let action = self.rtc.write(0x71, 1, value.into(), self.now).expect("a register of the clock");
        self.act(action);
        if matches!(index, A | B) {
            self.starts += 1;
            assert_eq!(self.get(index) & 0x7f, value & 0x7f);
        }
    }

    /// What the wall clock shows: seconds, and nanoseconds.
    fn wall(&self) -> (i64, u64) {
        let nanos = u64::from(self.base.nanos) + self.now.steady % SECOND;
        let passed = self.now.steady / SECOND + nanos / SECOND;
        (self.base.seconds.wrapping_add(passed as i64), nanos % SECOND)
    }

    fn check_date(&mut self) {
        let (seconds, nanos) = self.wall();
        let b = self.get(B);
        let is_updating = self.get(A) & 0x80 != 0;
        assert_eq!(is_updating, b & SET == 0 && nanos >= SECOND - UPDATE);
        if b & SET != 0 || seconds.abs() > COUNTED {
            return;
        }
        let number = |value: u8| if b & BINARY != 0 { value } else { (value >> 4) * 10 + (value & 15) };
        let raw = [0, 2, 4, 6, 7, 8, 9].map(|index| self.get(index));
        let mut shown = raw.map(number);
        if b & HOURS_24 == 0 {
            let hour = number(raw[2] & 0x7f);
            assert!((1..=12).contains(&hour), "{hour} o'clock");
            shown[2] = hour % 12 + if raw[2] & 0x80 != 0 { 12 } else { 0 };
        }
        assert_eq!(shown, date(seconds), "{seconds}");
    }

    /// An hour that is set is the one that is read.
    fn set_hour(&mut self, hour: u8) {
        let b = self.get(B);
        let (shown, afternoon) = match (b & HOURS_24 != 0, hour % 12) {
            (true, _) => (hour, 0),
            (false, 0) => (12, (hour / 12) << 7),
            (false, rest) => (rest, (hour / 12) << 7),
        };
        let value = afternoon | if b & BINARY != 0 { shown } else { ((shown / 10) << 4) | (shown % 10) };
        self.put(4, value);
        assert_eq!(self.get(4), value, "{hour} o'clock, B {b:#x}");
    }

    fn check_flags(&mut self) {
        let (b, c) = (self.get(B), self.get(C));
        assert!(self.is_loaded || b & c & EVENTS == 0 || c & REQUEST != 0, "B {b:#x}, C {c:#x}");
        assert_eq!(self.get(C), 0, "reading clears it");
        self.is_loaded = false;
    }

    /// Seconds are announced, unless the clock stands.
    fn check_second(&mut self) {
        self.check_flags();
        self.pass(SECOND);
        let (b, c) = (self.get(B), self.get(C));
        assert_eq!(c & UPDATED != 0, b & SET == 0, "B {b:#x}, C {c:#x}");
    }

    fn pass(&mut self, ns: u64) {
        self.now = Now::both(self.now.steady.saturating_add(ns));
    }

    fn tick(&mut self) {
        let enabled = self.get(B);
        let waited = !self.rtc.due().is_none();
        let action = self.rtc.tick(self.now);
        let is_edge = action.signals().any(|signal| signal.change == Change::Edge);
        assert!(!is_edge || waited || enabled & EVENTS != 0, "an interrupt that nobody wants");
        self.act(action);
        let (steady, next) = (self.now.steady, self.rtc.next_deadline());
        assert!(next.is_none_or(|at| at > steady), "{next:?} at {steady}");
    }

    fn deliver(&mut self) -> u64 {
        let waited = !self.rtc.due().is_none();
        let delivered = self.rtc.delivered(LINE, self.now);
        assert_eq!(delivered.is_some(), waited);
        if waited {
            self.ticks += 1;
            let most = (self.now.steady - self.since) / 100_000 + self.starts;
            assert!(self.ticks <= most, "{} ticks, {most} at most", self.ticks);
            assert_eq!(self.get(C) & (REQUEST | PERIODIC), REQUEST | PERIODIC);
        }
        waited.into()
    }

    fn reload(&mut self, r: &mut Random) {
        let mut record = self.rtc.save(self.now);
        if r.one_in(2) {
            record =
                HvmHwRtc { cmos_data: r.bytes(), cmos_index: r.next() as u8, pad0: 0, rtc_offset: r.next() as i64 };
        }
        let action = self.rtc.load(&record, self.now).expect("always");
        self.act(action);
        let saved = self.rtc.save(self.now);
        assert_eq!((saved.cmos_index, saved.rtc_offset), (record.cmos_index & 0x7f, record.rtc_offset));
        assert_eq!(saved.cmos_data[11..], record.cmos_data[11..]);
        self.is_loaded = true;
        self.starts += 1;
    }
}

/// Second, minute, hour, weekday, day, month and year of a century, counted out year by year and month by month.
fn date(seconds: i64) -> [u8; 7] {
    let is_leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let (mut day, time) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // 1 January 1970 was a Thursday.
    let weekday = (day + 4).rem_euclid(7);
    let mut year = 1970;
    while day < 0 {
        year -= 1;
        day += if is_leap(year) { 366 } else { 365 };
    }
    loop {
        let length = if is_leap(year) { 366 } else { 365 };
        if day < length {
            break;
        }
        (day, year) = (day - length, year + 1);
    }
    let mut month = 1;
    for length in [31, if is_leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if day < length {
            break;
        }
        (day, month) = (day - length, month + 1);
    }
    let all = [time % 60, time / 60 % 60, time / 3600, weekday, day + 1, month, year.rem_euclid(100)];
    all.map(|part| part as u8)
}

fn access(r: &mut Random, g: &mut Guest) {
    let (port, size) = (r.pick(&[0x70, 0x71]), size(r, &[1]));
    if let Some((value, action)) = g.rtc.read(port, size, g.now) {
        assert_eq!(u64::from(value) & !all_ones(size), 0);
        g.act(action);
    }
    if size != 1 {
        assert_eq!(g.rtc.write(port, size, r.next() as u32, g.now), Some(Action::NONE));
    }
}

pub fn case(r: &mut Random) -> u64 {
    let now = Now::both(r.below(1 << 50));
    let wall = |r: &mut Random| WallTime {
        seconds: if r.one_in(20) { r.next() as i64 } else { r.below(8_000_000_000) as i64 - 4_000_000_000 },
        nanos: r.below(SECOND) as u32,
    };
    let base = wall(r);
    let rtc = Rtc::new(base, now, rules(r));
    let mut g = Guest { rtc, now, base, is_loaded: false, since: now.steady, starts: 0, ticks: 0 };
    let mut reached = 0;
    for _ in 0..STEPS {
        match r.below(32) {
            0..=9 => {
                let (index, value) = (r.below(14) as u8, r.next() as u8);
                // A frozen clock shows nothing: not too often.
                let frozen = if index == B && !r.one_in(4) { value & !SET } else { value };
                g.put(index, frozen);
            }
            10 if r.one_in(2) => g.set_hour(r.below(24) as u8),
            10 => g.choose(14 + r.below(100) as u8),
            11 => access(r, &mut g),
            12..=13 => g.check_flags(),
            14..=15 => g.check_second(),
            16 if r.one_in(4) => {
                g.base = wall(r);
                g.rtc.set_wall_clock(g.base, g.now);
            }
            17 if r.one_in(4) => g.reload(r),
            18 if r.one_in(4) => g.rtc.set_rules(rules(r)),
            19 if r.one_in(4) => g.rtc.reset(),
            20 => _ = g.rtc.resume(g.now),
            21 if r.one_in(20) => g.pass(r.next() >> (12 + r.below(30))),
            21..=24 => g.pass(r.below(3 * SECOND)),
            25..=28 => g.tick(),
            _ => reached += g.deliver(),
        }
        g.check_date();
    }
    reached
}
