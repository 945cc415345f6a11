//! The clocks of the board: interval timer, real-time clock, ACPI timer, high precision event timer. Registers keep what they are to
//! keep, and counters move; what depends on when they are read is not printed.

use super::{Case, byte, code, table};
use crate::memory::{Guest, VIRT_BASE, read, write};
use crate::pvh::board::*;
use crate::pvh::{self, has_board};
use crate::report::{Outcome, yes};
use crate::say;
use crate::shared::{MS, now, wait};
use xen_abi::hvm_params::HVM_PARAM_ACPI_IOPORTS_LOCATION;

/// The interval timer's counters and control word, and the port with the third counter's gate and output.
const COUNTER_0: u16 = 0x40;
const COUNTER_2: u16 = 0x42;
const CONTROL: u16 = 0x43;
const SPEAKER: u16 = 0x61;
/// The bits of that port that do not toggle.
const STEADY: u8 = 0x2f;
/// The ACPI registers: where they are at first, and where firmware has them be.
const OLD_ACPI: u16 = 0x1f40;
const ACPI: u16 = 0xb000;
/// The HPET, and its counter.
const HPET: u64 = 0xfed0_0000;
const HPET_COUNTER: u64 = 0xf0;

/// Runs the group.
pub fn run(guest: &Guest) {
    assert!(has_board(), "no board");
    table(guest, "clocks", INTERVAL);
    for register in 10..14 {
        say!("clocks.rtc-{register}: {}", byte(steady(register)));
    }
    table(guest, "clocks", CALENDAR);
    table(guest, "clocks", POWER);
    for at in (0..0x160).step_by(8).filter(|at| *at != HPET_COUNTER) {
        say!("clocks.hpet-{at:#x}: {:#x}", hpet(at));
    }
    table(guest, "clocks", PRECISE);
}

fn pass(time: u64) {
    let end = now() + time;
    while now() < end {}
}

/// Whether it is so at one of several tries: between two clocks' reading others may run.
fn once(is_so: impl FnMut(u32) -> bool) -> Outcome {
    yes((0..50).any(is_so))
}

fn pit(at: u16) -> u16 {
    u16::from(port(at)) | u16::from(port(at)) << 8
}

fn set_pit(at: u16, value: u16) {
    set_port(at, value as u8);
    set_port(at, (value >> 8) as u8);
}

/// The count of a counter, latched.
fn latched(number: u16) -> u16 {
    set_port(CONTROL, (number << 6) as u8);
    pit(COUNTER_0 + number)
}

/// What the read-back command says of a counter's mode and output.
fn status(number: u16) -> u8 {
    set_port(CONTROL, 0xe0 | 2 << number);
    port(COUNTER_0 + number)
}

const INTERVAL: &[Case] = &[
    ("pit-0-status-at-first", |_| byte(status(0) & 0x3f)),
    ("pit-2-status-at-first", |_| byte(status(2))),
    ("pit-control-read", |_| byte(port(CONTROL))),
    ("speaker-at-first", |_| byte(port(SPEAKER) & STEADY)),
    ("pit-0-rate", |_| {
        set_port(CONTROL, 0x34);
        set_pit(COUNTER_0, 0);
        once(|_| {
            let (first, start) = (latched(0), now());
            pass(10 * MS);
            let (second, end) = (latched(0), now());
            // In 838 ns each.
            let passed = (end - start) * 1_193_182 / 1_000_000_000;
            u64::from(first.wrapping_sub(second)).abs_diff(passed) < 240
        })
    }),
    ("pit-0-status-mode-2", |_| byte(status(0) & 0x7f)),
    ("pit-0-below-its-period", |_| {
        set_port(CONTROL, 0x34);
        set_pit(COUNTER_0, 1000);
        yes((0..100).all(|_| (1..=1000).contains(&latched(0))))
    }),
    ("pit-0-low-byte-alone", |_| {
        set_port(CONTROL, 0x14);
        set_port(COUNTER_0, 0x50);
        yes((0..100).all(|_| port(COUNTER_0) <= 0x50))
    }),
    ("pit-0-status-low-byte", |_| byte(status(0) & 0x7f)),
    ("pit-0-decimal-status", |_| {
        set_port(CONTROL, 0x35);
        set_pit(COUNTER_0, 0x9999);
        byte(status(0) & 0x7f)
    }),
    ("pit-0-latch-stays", |_| {
        set_port(CONTROL, 0x34);
        set_pit(COUNTER_0, 0);
        set_port(CONTROL, 0);
        pass(40 * MS);
        yes(pit(COUNTER_0) > 0x8000)
    }),
    ("pit-0-latched-twice", |_| {
        set_port(CONTROL, 0x34);
        set_pit(COUNTER_0, 0);
        set_port(CONTROL, 0);
        pass(40 * MS);
        set_port(CONTROL, 0);
        yes(pit(COUNTER_0) > 0x8000)
    }),
    ("pit-2-stands-without-gate", |_| {
        set_port(SPEAKER, 0);
        set_port(CONTROL, 0xb4);
        set_pit(COUNTER_2, 0x8000);
        let first = latched(2);
        pass(MS);
        yes(first == latched(2))
    }),
    ("pit-2-once", |_| {
        set_port(SPEAKER, 1);
        set_port(CONTROL, 0xb0);
        set_pit(COUNTER_2, 60_000);
        let before = port(SPEAKER) & STEADY;
        pass(60 * MS);
        Outcome::Hex(u64::from(before) << 8 | u64::from(port(SPEAKER) & STEADY))
    }),
    ("pit-2-status-after-that", |_| byte(status(2))),
    ("speaker-ones", |_| {
        set_port(SPEAKER, 0xff);
        let value = port(SPEAKER) & STEADY & !0x20;
        set_port(SPEAKER, 0);
        byte(value)
    }),
    ("pit-wide-read", |_| Outcome::Hex(wide_port(CONTROL).into())),
];

fn rtc(register: u8) -> u8 {
    set_port(0x70, register);
    port(0x71)
}

/// A register of the clock without what depends on the time: in the first one, that a second is about to pass; in the third, that one,
/// or a period, has passed.
fn steady(register: u8) -> u8 {
    rtc(register)
        & match register {
            10 => 0x7f,
            12 => 0x8f,
            _ => 0xff,
        }
}

fn set_rtc(register: u8, value: u8) {
    set_port(0x70, register);
    set_port(0x71, value);
}

/// Seconds of the day, in binary.
fn seconds() -> u32 {
    [(4, 3600), (2, 60), (0, 1)].iter().map(|(register, factor)| u32::from(rtc(*register)) * factor).sum()
}

const CALENDAR: &[Case] = &[
    ("rtc-index-read", |_| {
        set_port(0x70, 0x8b);
        byte(port(0x70))
    }),
    ("rtc-set-and-read", |_| {
        // Stands still, 24 hours, binary.
        set_rtc(11, 0x86);
        for (register, value) in [(0, 56), (2, 34), (4, 12), (6, 4), (7, 29), (8, 2), (9, 24)] {
            set_rtc(register, value);
        }
        pass(2 * MS);
        Outcome::Hex([9, 8, 7, 4, 2, 0].iter().fold(0, |all, at| all << 8 | u64::from(rtc(*at))))
    }),
    ("rtc-goes-on", |_| {
        set_rtc(11, 6);
        let start = seconds();
        yes(start == 12 * 3600 + 34 * 60 + 56 && wait(|| (start + 1..=start + 2).contains(&seconds())))
    }),
    ("rtc-in-decimal", |_| {
        set_rtc(11, 2);
        byte(rtc(2))
    }),
    ("rtc-12-hours", |_| {
        set_rtc(11, 0x80);
        set_rtc(4, 0x92);
        set_rtc(11, 2);
        byte(rtc(4))
    }),
    ("rtc-alarm-registers", |_| {
        [(1, 0x11), (3, 0x22), (5, 0xc3)].iter().for_each(|(register, value)| set_rtc(*register, *value));
        Outcome::Hex([1, 3, 5].iter().fold(0, |all, at| all << 8 | u64::from(rtc(*at))))
    }),
    ("rtc-a-written", |_| {
        set_rtc(10, 0xff);
        let value = steady(10);
        set_rtc(10, 0x26);
        byte(value)
    }),
    ("rtc-c-and-d-read-only", |_| {
        set_rtc(12, 0xff);
        set_rtc(13, 0);
        Outcome::Hex(u64::from(steady(12)) << 8 | u64::from(rtc(13)))
    }),
    ("rtc-periodic-flag", |_| {
        set_rtc(11, 0x42);
        rtc(12);
        let came = wait(|| rtc(12) & 0xc0 == 0xc0);
        set_rtc(11, 2);
        yes(came)
    }),
    ("rtc-alarm-every-second", |_| {
        [1, 3, 5].iter().for_each(|register| set_rtc(*register, 0xc0));
        set_rtc(11, 0x22);
        rtc(12);
        let came = wait(|| rtc(12) & 0xa0 == 0xa0);
        set_rtc(11, 2);
        yes(came)
    }),
    ("rtc-update-ended", |_| {
        set_rtc(11, 0x12);
        rtc(12);
        let came = wait(|| rtc(12) & 0x90 == 0x90);
        set_rtc(11, 2);
        yes(came)
    }),
    ("memory-behind-rtc", |_| {
        set_rtc(0x40, 0x5a);
        set_rtc(0x41, 0xa5);
        Outcome::Hex(u64::from(rtc(0x40)) << 8 | u64::from(rtc(0x41)))
    }),
];

/// Reads 16 bits from a port.
fn half(at: u16) -> Outcome {
    let mut value = 0u64;
    crate::attempt!("in ax, dx"; in("dx") at, inout("rax") value);
    Outcome::Hex(value & 0xffff)
}

fn set_half(at: u16, value: u16) {
    crate::attempt!("out dx, ax"; in("dx") at, in("rax") u64::from(value));
}

/// Whether the timer at a port counts 3.58 million a second.
fn counts(at: u16) -> Outcome {
    once(|_| {
        let (first, start) = (wide_port(at), now());
        pass(4 * MS);
        let (second, end) = (wide_port(at), now());
        let passed = (end - start) * 3_579_545 / 1_000_000_000;
        u64::from(second.wrapping_sub(first)).abs_diff(passed) < 400
    })
}

const POWER: &[Case] = &[
    ("acpi-timer-at-first", |_| counts(OLD_ACPI + 8)),
    ("acpi-elsewhere", |_| code(pvh::set_parameter(HVM_PARAM_ACPI_IOPORTS_LOCATION, 1))),
    ("acpi-timer", |_| counts(ACPI + 8)),
    ("acpi-timer-no-longer-there", |_| Outcome::Hex(wide_port(OLD_ACPI + 8).into())),
    ("acpi-timer-written", |_| {
        set_wide_port(ACPI + 8, 0);
        counts(ACPI + 8)
    }),
    ("acpi-status", |_| half(ACPI)),
    ("acpi-enabled", |_| half(ACPI + 2)),
    ("acpi-enabled-ones", |_| {
        set_half(ACPI + 2, 0xffff);
        let value = half(ACPI + 2);
        set_half(ACPI + 2, 0);
        value
    }),
    ("acpi-status-and-enabled", |_| {
        set_wide_port(ACPI, 0x0120_0000);
        let value = wide_port(ACPI);
        set_wide_port(ACPI, 0);
        Outcome::Hex(value.into())
    }),
    ("acpi-status-byte", |_| byte(port(ACPI))),
    ("acpi-control", |_| half(ACPI + 4)),
    ("acpi-control-ones", |_| {
        // But for what makes it sleep.
        set_half(ACPI + 4, 1);
        half(ACPI + 4)
    }),
    ("acpi-back", |_| code(pvh::set_parameter(HVM_PARAM_ACPI_IOPORTS_LOCATION, 0))),
    ("acpi-timer-back", |_| counts(OLD_ACPI + 8)),
];

fn hpet(at: u64) -> u64 {
    // SAFETY: that GiB is mapped, and no memory is there.
    unsafe { read(VIRT_BASE | (HPET + at)) }
}

fn set_hpet(at: u64, value: u64) {
    // SAFETY: as above.
    unsafe { write(VIRT_BASE | (HPET + at), value) }
}

/// What a register is after ones were written to it; it gets back what it was.
fn ones(at: u64) -> Outcome {
    let before = hpet(at);
    set_hpet(at, !0);
    let value = hpet(at);
    set_hpet(at, before);
    Outcome::Hex(value)
}

const PRECISE: &[Case] = &[
    ("hpet-stands", |_| {
        set_hpet(0x10, 0);
        set_hpet(HPET_COUNTER, 0x1_2345_6789);
        Outcome::Hex(hpet(HPET_COUNTER))
    }),
    ("hpet-counts", |_| {
        set_hpet(HPET_COUNTER, 0);
        set_hpet(0x10, 1);
        let period = hpet(0) >> 32;
        let counts = once(|_| {
            let (first, start) = (hpet(HPET_COUNTER), now());
            pass(4 * MS);
            let (second, end) = (hpet(HPET_COUNTER), now());
            (second - first).abs_diff((end - start) * 1_000_000 / period) < 12_000
        });
        set_hpet(0x10, 0);
        counts
    }),
    ("hpet-stands-again", |_| {
        let first = hpet(HPET_COUNTER);
        pass(MS);
        yes(first == hpet(HPET_COUNTER))
    }),
    ("hpet-identity-ones", |_| ones(0)),
    ("hpet-configuration-ones", |_| {
        set_hpet(0x10, !1);
        let value = hpet(0x10);
        set_hpet(0x10, 0);
        Outcome::Hex(value)
    }),
    ("hpet-status-ones", |_| ones(0x20)),
    ("hpet-timer-0-ones", |_| {
        set_hpet(0x100, !4);
        let value = hpet(0x100);
        set_hpet(0x100, 0);
        Outcome::Hex(value)
    }),
    ("hpet-timer-0-comparator", |_| {
        set_hpet(0x108, 0x12_3456_789a);
        Outcome::Hex(hpet(0x108))
    }),
    ("hpet-timer-0-narrow-comparator", |_| {
        set_hpet(0x100, 0x100);
        set_hpet(0x108, 0x12_3456_789a);
        let value = hpet(0x108);
        set_hpet(0x100, 0);
        Outcome::Hex(value)
    }),
    ("hpet-timer-2-ones", |_| {
        set_hpet(0x140, !4);
        let value = hpet(0x140);
        set_hpet(0x140, 0);
        Outcome::Hex(value)
    }),
    ("hpet-half-read", |_| Outcome::Hex(device(HPET + 4).into())),
    ("hpet-half-written", |_| {
        set_hpet(HPET_COUNTER, 0);
        set_device(HPET + HPET_COUNTER + 4, 7);
        Outcome::Hex(hpet(HPET_COUNTER))
    }),
    ("hpet-beyond", |_| Outcome::Hex(hpet(0x3f8))),
    ("hpet-uneven", |_| Outcome::Hex(device(HPET + 2).into())),
    ("hpet-time-comes", |_| {
        // Level-triggered, so that the status says so; its line goes nowhere.
        set_hpet(HPET_COUNTER, 0);
        set_hpet(0x100, 1 << 1 | 1 << 2 | 20 << 9);
        set_hpet(0x108, 20_000);
        set_hpet(0x10, 1);
        let came = wait(|| hpet(0x20) & 1 != 0);
        set_hpet(0x10, 0);
        set_hpet(0x100, 0);
        set_hpet(0x20, 1);
        yes(came && hpet(0x20) & 1 == 0)
    }),
];
