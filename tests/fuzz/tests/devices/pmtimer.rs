//! The ACPI timer and its events, against the time and a model of the two registers (ACPI 4.0, 4.7.3).

use crate::size;
use fuzz::Random;
use vpmtimer::{FREQUENCY, LINE, PmTimer};
use vtimer::{Action, Change, Now, all_ones};
use xen_abi::hvm_save::clocks::HvmHwPmtimer;

const BASES: [u16; 2] = [0x1f40, 0xb000];
const TIMER: u16 = 1;
/// Those that interrupt.
const EVENTS: u16 = 0x321;
const STEPS: u64 = 300;

struct Guest {
    timer: PmTimer,
    now: Now,
    base: u16,
    /// What the line was told last.
    is_up: bool,
    /// Registers, but that the timer's own status bit may come at any time.
    status: u16,
    enable: u16,
    /// A count, and the guest time to which it belonged.
    count: u32,
    counted: u64,
}

impl Guest {
    fn act(&mut self, action: Action) {
        for signal in action.signals() {
            assert_eq!(signal.line, LINE);
            assert_ne!(signal.change, Change::Edge);
            assert_ne!(signal.change == Change::Raise, self.is_up, "the line moves to where it is");
            self.is_up = signal.change == Change::Raise;
        }
    }

    /// The line sets itself, whatever it was.
    fn set_line(&mut self, action: Action) {
        self.is_up = action.signals().any(|signal| signal.change == Change::Raise);
    }

    fn read(&mut self, offset: u16, size: u8) -> u32 {
        let (value, action) = self.timer.read(self.base + offset, size, self.now);
        assert_eq!(u64::from(value) & !all_ones(size), 0);
        self.act(action);
        value
    }

    fn write(&mut self, offset: u16, size: u8, value: u32) {
        // What came before belongs to the state before.
        self.check();
        let action = self.timer.write(self.base + offset, size, value, self.now);
        self.act(action);
        let inside = matches!(size, 1 | 2 | 4) && offset + u16::from(size) <= 4;
        for byte in (0..u16::from(size)).filter(|_| inside) {
            let (at, bits) = (offset + byte, u16::from((value >> (8 * byte)) as u8) << (8 * ((offset + byte) & 1)));
            let place = 0xff << (8 * (at & 1));
            if at < 2 {
                self.status &= !bits;
            } else {
                self.enable = self.enable & !place | bits;
            }
        }
    }

    /// The count is what the time is worth, and the line what the registers say.
    fn check(&mut self) {
        let count = self.read(8, 4);
        let passed = self.now.guest.saturating_sub(self.counted);
        let ticks = u128::from(passed) * u128::from(FREQUENCY) / 1_000_000_000;
        // The scale has 32 bits of fraction.
        let tolerance = 2 + (ticks >> 20);
        let off = (i128::from(count) - (i128::from(self.count) + ticks as i128)).rem_euclid(1 << 32);
        let off = off.min((1 << 32) - off) as u128;
        assert!(off <= tolerance, "{off} off after {passed} ns, {count:#x}");
        let turned = (u128::from(self.count) + ticks) >> 31 != u128::from(self.count) >> 31;
        (self.count, self.counted) = (count, self.counted.max(self.now.guest));
        let registers = self.read(0, 4);
        let (status, enable) = (registers as u16, (registers >> 16) as u16);
        assert_eq!((status & !TIMER, enable), (self.status & !TIMER, self.enable));
        assert!(status & TIMER != 0 || self.status & TIMER == 0, "a status bit cleared itself");
        assert!(!turned || tolerance > 2 || status & TIMER != 0 || off != 0, "the top bit turned unnoticed");
        self.status = status;
        assert_eq!(self.is_up, status & enable & EVENTS != 0);
        assert_eq!(self.timer.line(), Action::one(LINE, if self.is_up { Change::Raise } else { Change::Lower }));
        let next = self.timer.next_deadline(self.now);
        assert!(next.is_none_or(|at| at > self.now.steady || self.now.steady == u64::MAX), "{next:?}");
        assert_eq!(next.is_some(), status & TIMER == 0 && enable & TIMER != 0);
    }

    fn press(&mut self, is_power: bool) {
        let action = if is_power { self.timer.power_button(self.now) } else { self.timer.sleep_button(self.now) };
        self.act(action);
        self.status |= if is_power { 0x100 } else { 0x200 };
    }

    fn reload(&mut self, r: &mut Random) {
        let mut record = self.timer.save(self.now);
        if r.one_in(2) {
            record = HvmHwPmtimer { tmr_val: r.next() as u32, pm1a_sts: r.next() as u16, pm1a_en: r.next() as u16 };
        }
        let action = self.timer.load(&record, self.now).expect("always");
        self.set_line(action);
        assert_eq!(self.timer.save(self.now), record);
        (self.count, self.counted) = (record.tmr_val, self.now.guest);
        (self.status, self.enable) = (record.pm1a_sts, record.pm1a_en);
    }

    /// At its deadline, and no earlier, the timer's bit comes.
    fn wait(&mut self) -> u64 {
        let Some(at) = self.timer.next_deadline(self.now).filter(|&at| at < 1 << 62) else { return 0 };
        let ahead = at - self.now.steady;
        self.now = Now { steady: at - 1, guest: self.now.guest + ahead - 1 };
        self.check();
        assert_eq!(self.status & TIMER, 0, "early");
        self.now = Now { steady: at, guest: self.now.guest + 1 };
        let action = self.timer.tick(self.now);
        self.act(action);
        self.check();
        assert_eq!(self.status & TIMER, TIMER, "late");
        1
    }
}

pub fn case(r: &mut Random) -> u64 {
    let now = Now { steady: r.below(1 << 40), guest: r.below(1 << 40) };
    let timer = PmTimer::new(now);
    let counted = now.guest;
    let mut g = Guest { timer, now, base: BASES[0], is_up: false, status: 0, enable: 0, count: 0, counted };
    let mut reached = 0;
    for _ in 0..STEPS {
        match r.below(16) {
            0..=1 => _ = g.read(r.below(20) as u16, size(r, &[1, 2, 4])),
            2..=6 => g.write(r.below(14) as u16, size(r, &[1, 2, 4]), r.next() as u32 & r.value() as u32),
            7 => g.press(r.one_in(2)),
            8 if r.one_in(4) => g.reload(r),
            9 if r.one_in(2) => {
                let version = r.below(3);
                assert_eq!(g.timer.set_location(version).is_ok(), version < 2);
                g.base = BASES.get(version as usize).copied().unwrap_or(g.base);
                assert!(g.timer.owns(g.base, 4) && !g.timer.owns(g.base + 4, 1) && !g.timer.owns(g.base + 6, 4));
            }
            10 if r.one_in(4) => {
                g.timer.reset(g.now);
                (g.count, g.counted) = (0, g.now.guest);
            }
            10..=11 => {
                // All of the events wanted, none of them there.
                if r.one_in(4) {
                    g.write(0, 4, u32::MAX);
                }
                reached += g.wait();
            }
            _ => {
                let by = if r.one_in(20) { r.below(1 << 50) } else { r.below(700_000_000_000) };
                g.now = Now { steady: g.now.steady + by, guest: g.now.guest + by };
                let action = g.timer.tick(g.now);
                g.act(action);
            }
        }
        g.check();
    }
    reached
}
