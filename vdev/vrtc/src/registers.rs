//! The clock registers: their numbers, bits and number formats (MC146818, "Address map" and "Registers").

use crate::alarm::Alarm;
use crate::date::{self, Date, SECONDS_PER_DAY};
use xen_abi::hvm_save::clocks::RTC_CMOS_SIZE;

pub const SECONDS: usize = 0;
pub const SECONDS_ALARM: usize = 1;
pub const MINUTES: usize = 2;
pub const MINUTES_ALARM: usize = 3;
pub const HOURS: usize = 4;
pub const HOURS_ALARM: usize = 5;
pub const WEEKDAY: usize = 6;
pub const DAY: usize = 7;
pub const MONTH: usize = 8;
pub const YEAR: usize = 9;
pub const REG_A: usize = 10;
pub const REG_B: usize = 11;
pub const REG_C: usize = 12;
pub const REG_D: usize = 13;

/// Register A: update in progress; which crystal; rate of the periodic interrupt.
pub const UPDATING: u8 = 1 << 7;
const DIVIDER: u8 = 7 << 4;
const DIVIDER_4_MHZ: u8 = 0;
const DIVIDER_1_MHZ: u8 = 1 << 4;
const DIVIDER_32_KHZ: u8 = 2 << 4;
const RATE: u8 = 0xf;
const RATE_1024_HZ: u8 = 6;

/// Register B: the clock is frozen; numbers are binary; hours go to 24. The enable bits of the events are at the places of
/// their flags in register C.
pub const SET: u8 = 1 << 7;
pub const BINARY: u8 = 1 << 2;
pub const HOURS_24: u8 = 1 << 1;

/// Register C: interrupt request; periodic, alarm, update ended.
pub const REQUEST: u8 = 1 << 7;
pub const PERIODIC: u8 = 1 << 6;
pub const ALARM: u8 = 1 << 5;
pub const UPDATE: u8 = 1 << 4;
/// All events.
pub const EVENTS: u8 = PERIODIC | ALARM | UPDATE;

/// Register D: the battery is good.
const VALID: u8 = 1 << 7;

/// In 12-hour mode: afternoon.
const PM: u8 = 1 << 7;
/// Both bits in a part of the alarm: any value will do.
const ANY: u8 = 3 << 6;
/// The century that the two digits of the year are in.
const CENTURY: i64 = 2000;

/// Registers 0 to 13.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers([u8; RTC_CMOS_SIZE]);

impl Registers {
    pub fn new() -> Self {
        let mut bytes = [0; RTC_CMOS_SIZE];
        bytes[REG_A] = DIVIDER_32_KHZ | RATE_1024_HZ;
        bytes[REG_B] = HOURS_24;
        bytes[REG_D] = VALID;
        Self(bytes)
    }

    pub fn get(&self, index: usize) -> u8 {
        self.0[index]
    }

    pub fn put(&mut self, index: usize, value: u8) {
        self.0[index] = value;
    }

    pub fn bytes(&self) -> [u8; RTC_CMOS_SIZE] {
        self.0
    }

    /// Takes over saved bytes. UIP is no state; it follows from the time.
    pub fn load(&mut self, bytes: [u8; RTC_CMOS_SIZE]) {
        self.0 = bytes;
        self.0[REG_A] &= !UPDATING;
    }

    /// Sets flags of register C.
    pub fn flag(&mut self, flags: u8) {
        self.0[REG_C] |= flags;
    }

    /// Reads and clears register C.
    pub fn take_flags(&mut self) -> u8 {
        core::mem::take(&mut self.0[REG_C])
    }

    fn has(&self, bit: u8) -> bool {
        self.0[REG_B] & bit != 0
    }

    fn encode(&self, value: u8) -> u8 {
        if self.has(BINARY) { value } else { ((value / 10) << 4) | (value % 10) }
    }

    /// Digits above 9 count as they are, so the greatest value is 165.
    fn decode(&self, value: u8) -> u8 {
        if self.has(BINARY) { value } else { (value >> 4) * 10 + (value & 0xf) }
    }

    /// Hour of the day from 12 or 24 hours.
    fn decode_hour(&self, value: u8) -> u8 {
        let hour = self.decode(value & !PM);
        match (self.has(HOURS_24), value & PM != 0) {
            (true, _) => hour,
            (false, afternoon) => hour % 12 + if afternoon { 12 } else { 0 },
        }
    }

    fn encode_hour(&self, hour: u8) -> u8 {
        if self.has(HOURS_24) {
            return self.encode(hour);
        }
        let shown = if hour % 12 == 0 { 12 } else { hour % 12 };
        self.encode(shown) | if hour >= 12 { PM } else { 0 }
    }

    /// Puts a date into the registers.
    pub fn show(&mut self, date: &Date) {
        // Below 100.
        let year = date.year.rem_euclid(100) as u8;
        for (index, value) in [
            (SECONDS, date.second),
            (MINUTES, date.minute),
            (WEEKDAY, date.weekday),
            (DAY, date.day),
            (MONTH, date.month),
            (YEAR, year),
        ] {
            self.0[index] = self.encode(value);
        }
        self.0[HOURS] = self.encode_hour(date.hour);
    }

    /// Seconds since 1970 of the date in the registers. Impossible values go on into the next minute, hour, day, month, year.
    pub fn seconds(&self) -> i64 {
        let part = |index: usize| i64::from(self.decode(self.0[index]));
        let days = date::days(CENTURY + part(YEAR), part(MONTH), part(DAY));
        let hour = i64::from(self.decode_hour(self.0[HOURS]));
        days * SECONDS_PER_DAY + hour * 3600 + part(MINUTES) * 60 + part(SECONDS)
    }

    /// The alarm.
    pub fn alarm(&self) -> Alarm {
        let part = |index: usize| Some(self.0[index]).filter(|value| value & ANY != ANY);
        Alarm {
            hour: part(HOURS_ALARM).map(|hour| self.decode_hour(hour)),
            minute: part(MINUTES_ALARM).map(|minute| self.decode(minute)),
            second: part(SECONDS_ALARM).map(|second| self.decode(second)),
        }
    }

    /// The periodic rate: a period is 2^this cycles of 32768 Hz. Nothing: there is none.
    pub fn rate_shift(&self) -> Option<u8> {
        let rate = self.0[REG_A] & RATE;
        let rate = match (self.0[REG_A] & DIVIDER, rate) {
            (_, 0) => return None,
            // Of the slow crystal the two fastest rates do not exist.
            (DIVIDER_32_KHZ, 1 | 2) => rate + 7,
            (DIVIDER_4_MHZ | DIVIDER_1_MHZ | DIVIDER_32_KHZ, _) => rate,
            _ => return None,
        };
        Some(rate - 1)
    }
}
