//! The interval timer: what a read-back tells against what was programmed, counts against the time, and ticks against the shortest
//! period that a guest gets.

use crate::{rules, size};
use fuzz::Random;
use vpit::{FREQUENCY, LINE, Pit, SPEAKER_PORT};
use vtimer::{Action, Now, all_ones};
use xen_abi::hvm_save::clocks::HvmHwPit;
use zerocopy::FromBytes;

const CONTROL: u16 = 0x43;
const STEPS: u64 = 300;
/// Most ticks in a nanosecond, as one in so many.
const SHORTEST: u64 = 100_000;

/// What was programmed last.
#[derive(Clone, Copy, Default)]
struct Counter {
    /// Access, mode and BCD, as the status shows them; nothing before they were chosen.
    control: Option<u8>,
    /// A latched count or status is still to be read.
    is_latched: bool,
}

struct Guest {
    pit: Pit,
    now: Now,
    counters: [Counter; 3],
    speaker: u8,
    /// Steady time of the beginning, how often the timer was set up since, and ticks that were delivered.
    since: u64,
    starts: u64,
    ticks: u64,
}

impl Guest {
    fn byte(&mut self, port: u16) -> u8 {
        self.pit.read(port, 1, self.now) as u8
    }

    fn put(&mut self, port: u16, value: u8) {
        self.pit.write(port, 1, value.into(), self.now);
        if port == SPEAKER_PORT {
            self.speaker = value & 3;
        } else if port != CONTROL {
            // A new count, or half of one.
            self.starts += 1;
        } else if let Some(counter) = self.counters.get_mut(usize::from(value >> 6)) {
            match value >> 4 & 3 {
                0 => counter.is_latched = true,
                access => {
                    // Modes 6 and 7 are 2 and 3.
                    let mode = if value & 0xc == 0xc { value >> 1 & 3 } else { value >> 1 & 7 };
                    counter.control = Some(access << 4 | mode << 1 | value & 1);
                }
            }
        } else {
            for (number, counter) in self.counters.iter_mut().enumerate() {
                counter.is_latched |= value & 2 << number != 0 && value & 0x30 != 0x30;
            }
        }
    }

    /// Reads all that is latched.
    fn drain(&mut self, number: usize) {
        // The status, and two bytes of the count.
        for _ in 0..3 {
            self.byte(0x40 + number as u16);
        }
        self.counters[number].is_latched = false;
    }

    /// The status of a counter, by a read-back of it alone.
    fn check_status(&mut self, number: usize) {
        self.drain(number);
        self.put(CONTROL, 0xe0 | 2 << number);
        let status = self.byte(0x40 + number as u16);
        self.counters[number].is_latched = false;
        if let Some(control) = self.counters[number].control {
            assert_eq!(status & 0x3f, control, "counter {number}");
        }
        if number == 2 {
            assert_eq!(self.byte(SPEAKER_PORT) >> 5 & 1, status >> 7, "OUT");
        }
    }

    /// Two counts, a moment apart and both latched: they differ by what the time is worth, in a mode that counts down plainly.
    fn check_count(&mut self, r: &mut Random) {
        self.put(CONTROL, 0x34);
        let count = r.next() as u16;
        count.to_le_bytes().into_iter().for_each(|byte| self.put(0x40, byte));
        let period = if count == 0 { 0x1_0000 } else { u64::from(count) };
        let start = self.now.guest;
        for _ in 0..3 {
            self.pass(r.below(20_000_000));
            let ticks = u128::from(self.now.guest - start) * u128::from(FREQUENCY) / 1_000_000_000;
            let expected = period - (ticks % u128::from(period)) as u64;
            self.drain(0);
            self.put(CONTROL, 0);
            let shown = u16::from_le_bytes([self.byte(0x40), self.byte(0x40)]);
            assert_eq!(u64::from(shown), expected & 0xffff, "{ticks} ticks of {period}");
        }
        self.counters[0].is_latched = false;
    }

    fn pass(&mut self, ns: u64) {
        self.now = Now::both(self.now.steady.saturating_add(ns));
    }

    fn tick(&mut self) {
        let _ = self.pit.tick(self.now);
        let (steady, next) = (self.now.steady, self.pit.next_deadline());
        assert!(next.is_none_or(|at| at > steady || steady == u64::MAX), "{next:?} at {steady}");
        assert!(next.is_none() || self.pit.due().is_none(), "a tick is to come while one waits");
    }

    fn deliver(&mut self) -> u64 {
        let waited = !self.pit.due().is_none();
        let delivered = self.pit.delivered(LINE, self.now);
        assert_eq!(delivered.is_some(), waited);
        assert!(delivered.is_none_or(|guest| guest >= self.now.guest), "the guest's time goes back");
        self.ticks += u64::from(waited);
        let most = (self.now.steady - self.since) / SHORTEST + self.starts;
        assert!(self.ticks <= most, "{} ticks, {most} at most", self.ticks);
        waited.into()
    }

    fn reload(&mut self, r: &mut Random) {
        let record = self.pit.save();
        if r.one_in(2) {
            let mut other = Pit::new(self.now, rules(r));
            assert_eq!(other.load(&record, self.now), Ok(Action::NONE));
            assert_eq!(other.save(), record);
            self.pit = other;
        } else {
            let bytes: [u8; size_of::<HvmHwPit>()] = r.bytes();
            let bytes = bytes.map(|byte| byte & if r.one_in(2) { 7 } else { 1 });
            let record = HvmHwPit::read_from_bytes(&bytes).expect("its size");
            let before = self.pit.clone();
            if self.pit.load(&record, self.now).is_err() {
                assert_eq!(self.pit, before, "a refused record changed something");
                return;
            }
            self.counters = <[Counter; 3]>::default();
            self.speaker = (record.speaker_data_on as u8) << 1 | record.channels[2].gate;
            self.counters.iter_mut().for_each(|counter| counter.is_latched = true);
        }
        self.starts += 1;
    }
}

pub fn case(r: &mut Random) -> u64 {
    let now = Now::both(r.below(1 << 40));
    let pit = Pit::new(now, rules(r));
    let mut g = Guest { pit, now, counters: Default::default(), speaker: 0, since: now.steady, starts: 0, ticks: 0 };
    let mut reached = 0;
    for _ in 0..STEPS {
        match r.below(32) {
            0..=6 => {
                let (port, value) = (r.pick(&[0x40, 0x41, 0x42, 0x43, 0x43, 0x43, 0x61]), r.next() as u8);
                g.put(port, if port == CONTROL && r.one_in(2) { value & 0x3f } else { value });
            }
            7 => {
                let (port, size) = (r.pick(&[0x40, 0x43, 0x61]), size(r, &[2, 4]));
                if size != 1 {
                    g.pit.write(port, size, r.next() as u32, g.now);
                }
                assert_eq!(u64::from(g.pit.read(port, size, g.now)) & !all_ones(size), 0);
                g.drain(0);
            }
            8..=10 => _ = g.byte(0x40 + r.below(4) as u16),
            11..=13 => g.check_status(r.below(3) as usize),
            14 => g.check_count(r),
            15 if r.one_in(4) => g.reload(r),
            16 if r.one_in(4) => g.pit.set_rules(rules(r)),
            17 => _ = g.pit.resume(g.now),
            18 if r.one_in(20) => g.pass(r.next() >> r.below(30)),
            18..=21 => g.pass(r.below(100_000_000)),
            22..=26 => g.tick(),
            _ => reached += g.deliver(),
        }
        assert_eq!(g.byte(SPEAKER_PORT) & 3, g.speaker, "speaker");
    }
    reached
}
