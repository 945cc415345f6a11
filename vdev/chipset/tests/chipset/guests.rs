//! The devices together, as firmware and kernels use them.

use crate::machine::{HPET, IOAPIC, Machine};
use chipset::{MissedTicks, Taken};
use xen_abi::hvm_save::clocks::{HVM_SAVE_CODE_HPET, HVM_SAVE_CODE_PIT};
use xen_abi::hvm_save::interrupts::{HVM_SAVE_CODE_IOAPIC, HVM_SAVE_CODE_PIC};

const SECOND: u64 = 1_000_000_000;
const MASKED: u64 = 1 << 16;
const MODES: [MissedTicks; 4] = [MissedTicks::Delay, MissedTicks::NoDelay, MissedTicks::Drop, MissedTicks::One];

/// Firmware: interrupt 0 at vector 8, the longest count.
fn firmware(missed: MissedTicks) -> Machine {
    let mut m = Machine::new(missed);
    m.set_pic([0x08, 0x70], [0xfb, 0xff]);
    m.set_pit(0);
    m.out(0x21, 0xfa);
    m
}

#[test]
fn firmware_counts_18_ticks_a_second() {
    for missed in MODES {
        // 65536 / 1.193182 MHz is 54.925 ms.
        assert_eq!(firmware(missed).count(10 * SECOND, Taken::Pic(8)), 182, "{missed:?}");
    }
}

/// Linux before its APICs are set up: 250 Hz through LVT0.
#[test]
fn kernel_counts_250_ticks_a_second() {
    for missed in MODES {
        let mut m = firmware(missed);
        m.count(SECOND, Taken::Pic(8));
        m.set_pic([0x30, 0x38], [0xfa, 0xff]);
        m.set_pit(4773);
        let start = m.time;
        // 4773 / 1.193182 MHz is 4.000228 ms.
        assert_eq!(m.count(start + 4 * SECOND, Taken::Pic(0x30)), 999, "{missed:?}");
        assert_eq!(m.apic.rose, 182 / 10 + 999, "{missed:?}: the output rises once a tick");
    }
}

#[test]
fn ticks_come_through_the_ioapic() {
    let mut m = Machine::new(MissedTicks::NoDelay);
    m.set_pic([0x30, 0x38], [0xff, 0xff]);
    m.set_pin(2, 0x41);
    m.set_pit(11932);
    assert_eq!(m.count(SECOND, Taken::Apic(0x41)), 99);
    // And by both ways at once, as on Xen: the guest has the 8259s masked for that reason.
    m.out(0x21, 0xfe);
    let start = m.time;
    assert!(m.count(start + SECOND, Taken::Pic(0x30)) >= 99);
}

/// The CPU has interrupts off for 3.5 periods.
#[test]
fn late_ticks_follow_the_domains_mode() {
    for (missed, expected) in MODES.into_iter().zip([4, 4, 1, 1]) {
        let mut m = firmware(missed);
        m.set_pit(1193);
        m.pass(4_500_000);
        let mut seen = 0;
        while m.take().is_some() {
            seen += 1;
        }
        assert_eq!(seen, expected, "{missed:?}");
        let start = m.time;
        assert_eq!(m.count(start + SECOND, Taken::Pic(8)), 1000, "{missed:?}");
    }
}

#[test]
fn tick_at_a_masked_pin_comes_when_it_is_unmasked() {
    let mut m = Machine::new(MissedTicks::NoDelay);
    m.takes_pic = false;
    m.set_pic([0x30, 0x38], [0xff, 0xff]);
    m.set_pin(2, 0x41 | MASKED);
    m.set_pit(11932);
    m.pass(SECOND);
    assert_eq!((m.take(), m.chips.awaits_delivery(), m.chips.next_deadline(m.time)), (None, false, None));
    m.set_pin(2, 0x41);
    assert!(m.chips.awaits_delivery() && m.apic.requested.contains(&0x41));
    assert_eq!(m.take(), Some(Taken::Apic(0x41)));
}

/// A local APIC that was off has lost the message.
#[test]
fn lost_edge_is_repeated() {
    let mut m = Machine::new(MissedTicks::One);
    m.takes_pic = false;
    m.set_pin(2, 0x41);
    m.set_pit(11932);
    m.pass(SECOND / 50);
    m.apic.requested.clear();
    assert_eq!(m.take(), Some(Taken::Apic(0x41)));
    assert_eq!(m.take(), None);
    // The 8259s are set up anew, and have lost the request.
    m.takes_pic = true;
    m.set_pin(2, MASKED);
    m.set_pic([8, 0x70], [0xfe, 0xff]);
    m.pass(SECOND / 20);
    m.set_pic([0x20, 0x70], [0xfe, 0xff]);
    assert_eq!(m.take(), Some(Taken::Pic(0x20)));
}

/// Firmware that wakes the machine finds all as after power-on, but for a line that a device holds up, and the clock.
#[test]
fn reset_leaves_lines_and_the_clock() {
    const LEVEL: u64 = 1 << 15;
    let mut m = firmware(MissedTicks::NoDelay);
    let year = |m: &mut Machine| {
        m.out(0x70, 9);
        m.inb(0x71)
    };
    let before = year(&mut m);
    // Device 3's first line is pin 28.
    m.set_pin(28, 0x40 | LEVEL);
    let (chips, apic) = (&mut m.chips, &mut m.apic);
    chips.virq_mut().assert_pci(3, 0, apic);
    chips.reset(m.time, apic);
    m.apic.requested.clear();
    assert_eq!(m.chips.next_deadline(m.time), None);
    assert_eq!(m.count(SECOND, Taken::Pic(8)), 0);
    assert_eq!(m.take(), None, "all pins are masked");
    m.set_pin(28, 0x41 | LEVEL);
    assert_eq!(m.take(), Some(Taken::Apic(0x41)));
    assert_eq!(year(&mut m), before);
}

#[test]
fn other_interrupt_is_no_tick() {
    let mut m = firmware(MissedTicks::NoDelay);
    m.out(0x21, 0xf8);
    m.pass(SECOND / 10);
    let (chips, apic) = (&mut m.chips, &mut m.apic);
    chips.delivered(Taken::Pic(9), m.time, apic);
    chips.delivered(Taken::Apic(8), m.time, apic);
    assert!(chips.awaits_delivery());
    chips.delivered(Taken::Pic(8), m.time, apic);
    assert!(chips.next_deadline(m.time).is_some());
}

fn rtc(m: &mut Machine, index: u8, value: u8) {
    m.out(0x70, index);
    m.out(0x71, value);
}

#[test]
fn periodic_real_time_clock() {
    let mut m = Machine::new(MissedTicks::NoDelay);
    m.set_pic([0x30, 0x38], [0xfb, 0xfe]);
    rtc(&mut m, 0xb, 0x42);
    // 1024 Hz: the guest reads register C in each interrupt.
    assert_eq!(m.count(SECOND, Taken::Pic(0x38)), 1023);
    m.out(0x70, 0xc);
    assert_eq!(m.inb(0x71).map(|flags| flags & 0xc0), Some(0xc0));
}

#[test]
fn hpet_takes_over_the_timers_line() {
    let mut m = firmware(MissedTicks::NoDelay);
    assert_eq!((m.read(HPET, 4), m.read(HPET, 8)), (Some(0xffff_ffff), Some(u64::MAX)), "there is none");
    m.chips.enable_hpet(true);
    assert_eq!(m.read(HPET, 4), Some(0x8086_a201));
    // Timer 0 periodic, 32 bits, 1 ms, legacy route.
    for (register, value) in [(0x100, 0x14c), (0x108, 62_500), (0x108, 62_500), (0x10, 3)] {
        m.write(HPET + register, value);
    }
    let start = m.time;
    assert_eq!(m.count(start + SECOND + 10, Taken::Pic(8)), 1000, "and the interval timer none");
}

#[test]
fn whose_an_access_is() {
    let mut m = Machine::new(MissedTicks::NoDelay);
    let ones = |size: u8| u32::MAX >> (32 - 8 * size);
    let mut port = |port, size| m.chips.port(port, size, None, 0, &mut m.apic);
    for (first, last) in [(0x20, 0x21), (0xa0, 0xa1), (0x40, 0x43), (0x61, 0x61), (0x4d0, 0x4d0)] {
        assert!(port(first, 1).is_some() && port(last, 1).is_some() && port(first - 1, 1).is_none());
        assert_eq!(port(last, 4), None, "{last:#x}: not all of it is there");
    }
    assert_eq!((port(0x20, 2), port(0x40, 2), port(0x40, 4)), (Some(ones(2)), Some(ones(2)), Some(ones(4))));
    assert_eq!((port(0x4d0, 2), port(0xffff, 4), port(0xffff, 1)), (None, None, None));
    assert_eq!((port(0x1f48, 4), port(0x1f48, 2), port(0xb008, 4)), (Some(0), Some(ones(2)), None));
    // Bytes of the clock's memory are the device emulator's.
    assert!(m.chips.port(0x70, 1, Some(0x8d), 0, &mut m.apic).is_some() && m.inb(0x71).is_some());
    assert!(m.chips.port(0x70, 1, Some(0x0e), 0, &mut m.apic).is_none() && m.inb(0x71).is_none());
    assert_eq!(m.chips.set_acpi_location(1), Ok(()));
    assert_eq!((m.inb(0x1f48), m.inb(0xb008)), (None, Some(0xff)));
    assert_eq!((m.read(IOAPIC - 1, 1), m.read(IOAPIC + 0x100, 4), m.read(HPET + 0x400, 4)), (None, None, None));
    m.write(IOAPIC, 1);
    assert_eq!((m.read(IOAPIC + 0x10, 4), m.read(IOAPIC + 0x10, 1)), (Some(0x2f_0011), Some(0x11)));
}

#[test]
fn guest_that_sets_its_clock_moves_the_offset() {
    let mut m = Machine::new(MissedTicks::NoDelay);
    // 22:13:20, in BCD; the guest makes it 22:13:30.
    rtc(&mut m, 0, 0x30);
    assert_eq!((m.chips.take_time_offset(), m.chips.take_time_offset()), (10, 0));
}

#[test]
fn buttons_hold_the_line_of_acpi() {
    let mut m = Machine::new(MissedTicks::NoDelay);
    m.set_pic([0x30, 0x38], [0xfb, 0xfd]);
    m.out(0x1f43, 3);
    m.chips.sleep_button(m.time, &mut m.apic);
    assert_eq!(m.inb(0x1f41), Some(2));
    assert_eq!(m.take(), Some(Taken::Pic(0x39)));
    m.out(0x1f41, 3);
    assert_eq!(m.take(), None);
    m.chips.power_button(m.time, &mut m.apic);
    assert_eq!((m.inb(0x1f41), m.take()), (Some(1), Some(Taken::Pic(0x39))));
}

#[test]
fn restored_machine_goes_on() {
    let mut m = firmware(MissedTicks::NoDelay);
    m.chips.enable_hpet(true);
    m.set_pin(20, 0x66);
    m.chips.virq_mut().assert_pci(3, 1, &mut m.apic);
    m.pass(SECOND / 3);
    let mut records = Vec::new();
    m.chips
        .save(m.time, |code, instance, bytes| {
            records.push((code, instance, bytes.to_vec()));
            Ok(())
        })
        .unwrap();
    let codes: Vec<(u16, u16)> = records.iter().map(|(code, instance, _)| (*code, *instance)).collect();
    assert_eq!(codes, [(3, 0), (3, 1), (4, 0), (7, 0), (8, 0), (9, 0), (10, 0), (11, 0), (12, 0), (13, 0)]);
    let mut other = Machine::new(MissedTicks::NoDelay);
    for (code, instance, bytes) in &records {
        other.chips.load(*code, *instance, bytes, 0, &mut other.apic).unwrap();
    }
    assert_eq!(other.count(10 * SECOND, Taken::Pic(8)), 182);
    assert_eq!(
        other.chips.virq().ioapic().map(|ioapic| ioapic.entry(20)),
        m.chips.virq().ioapic().map(|i| i.entry(20))
    );
    assert_eq!(other.chips.virq().save_pci(), m.chips.virq().save_pci());
}

#[test]
fn records_that_are_none() {
    let mut m = Machine::new(MissedTicks::NoDelay);
    let mut load =
        |code, instance, length| m.chips.load(code, instance, &[0u8; 4000][..length], 0, &mut m.apic).is_ok();
    assert!(load(HVM_SAVE_CODE_PIC, 1, 8) && !load(HVM_SAVE_CODE_PIC, 2, 8) && !load(HVM_SAVE_CODE_PIC, 0, 9));
    assert!(!load(HVM_SAVE_CODE_IOAPIC, 0, 8), "its address is another");
    assert!(load(HVM_SAVE_CODE_HPET, 0, 10) && !load(HVM_SAVE_CODE_HPET, 1, 10) && !load(HVM_SAVE_CODE_HPET, 0, 4000));
    assert!(!load(HVM_SAVE_CODE_PIT, 0, 0), "its gates are low");
    assert!(!load(2, 0, 8) && !load(99, 0, 8));
}

#[test]
fn counters_are_read_without_a_trace() {
    let mut m = firmware(MissedTicks::NoDelay);
    for port in [0x40, 0x41, 0x42, 0x43, 0x61, 0x21, 0xa1, 0x71] {
        m.time += 12_345;
        assert_eq!(m.chips.clone().read_quietly(port, 2, m.time), None);
        let (mut other, rose) = (m.chips.clone(), m.apic.rose);
        let (deadline, awaits) = (m.chips.next_deadline(m.time), m.chips.awaits_delivery());
        let quiet = other.read_quietly(port, 1, m.time);
        assert!(quiet.is_some(), "{port:#x}");
        assert_eq!(m.inb(port), quiet, "{port:#x}");
        assert_eq!((m.chips.next_deadline(m.time), m.chips.awaits_delivery(), m.apic.rose), (deadline, awaits, rose));
        assert_eq!((other.next_deadline(m.time), other.awaits_delivery()), (deadline, awaits));
    }
    assert!([0x3f, 0x44, 0x20, 0x70].into_iter().all(|port| m.chips.read_quietly(port, 1, m.time).is_none()));
    m.out(0x70, 0xc);
    assert_eq!(m.chips.read_quietly(0x71, 1, m.time), None, "reading the flags clears them");
    m.out(0x20, 0xc);
    assert_eq!(m.chips.read_quietly(0x21, 1, m.time), None, "a poll takes an interrupt");
}
