//! The I/O APIC: registers and triggers.

use vioapic::{ADDRESS, Effect, PINS, Vioapic};
use x86_defs::apic::{DeliveryMode, InterruptMessage, RedirectionEntry};
use xen_abi::hvm_save::interrupts::HwVioapic;

const LEVEL: u32 = 1 << 15;
const MASKED: u32 = 1 << 16;
const REMOTE_IRR: u32 = 1 << 14;

fn read(apic: &mut Vioapic, register: u8) -> u32 {
    let _ = apic.write(0, register.into());
    apic.read(0x10)
}

fn write(apic: &mut Vioapic, register: u8, value: u32) -> Effect {
    assert_eq!(apic.write(0, register.into()), Effect::default());
    apic.write(0x10, value)
}

fn low(pin: u8) -> u8 {
    0x10 + 2 * pin
}

/// Physical, fixed, to APIC 2.
fn message(vector: u8, level: bool) -> InterruptMessage {
    InterruptMessage { vector, mode: DeliveryMode::Fixed, level, logical: false, destination: 2 }
}

/// A pin with vector 0x40 and these flags, to APIC 2.
fn with_pin(pin: u8, flags: u32) -> Vioapic {
    let mut apic = Vioapic::new();
    assert_eq!(write(&mut apic, low(pin) + 1, 2 << 24).message, None);
    assert_eq!(write(&mut apic, low(pin), 0x40 | flags).unmasked, (flags & MASKED == 0).then_some(pin));
    apic
}

#[test]
fn identity() {
    let mut apic = Vioapic::new();
    assert_eq!((read(&mut apic, 0), read(&mut apic, 1), read(&mut apic, 2)), (0, 0x2f_0011, 0));
    for register in [0, 1, 2, 3, 0xf, 0x70, 0xff] {
        assert_eq!(write(&mut apic, register, u32::MAX), Effect::default());
    }
    assert_eq!((read(&mut apic, 0), read(&mut apic, 1), read(&mut apic, 2)), (15 << 24, 0x2f_0011, 15 << 24));
    assert_eq!((read(&mut apic, 3), read(&mut apic, 0x70), read(&mut apic, 0xff)), (0, 0, 0));
    assert_eq!((apic.read(0), apic.read(0x100), apic.read(0x40), apic.read(4)), (0xff, 0xff, 0, 0));
    assert_eq!(apic.write(0x40, 0x40), Effect::default(), "version 0x11 has no EOI register");
}

#[test]
fn entries() {
    let mut apic = Vioapic::new();
    for pin in 0..PINS {
        assert_eq!((read(&mut apic, low(pin)), read(&mut apic, low(pin) + 1)), (MASKED, 0), "{pin}");
    }
    let effect = write(&mut apic, low(47), u32::MAX);
    assert_eq!(effect, Effect::default(), "it stays masked");
    assert_eq!(read(&mut apic, low(47)), 0x1_afff, "delivery status and remote IRR cannot be written");
    assert_eq!(apic.entry(48), RedirectionEntry::none());
    let effect = write(&mut apic, low(0), 0x700);
    assert_eq!(effect, Effect { message: None, pin0_changed: true, unmasked: Some(0) });
    assert_eq!(apic.extint_destination(), Some(0));
    let _ = write(&mut apic, low(0), 0x1_0700);
    assert_eq!(apic.extint_destination(), None);
}

#[test]
fn edges() {
    let mut apic = with_pin(5, 0);
    assert_eq!(apic.raise(5), Some(message(0x40, false)));
    assert_eq!((apic.lines(), apic.eoi(0x40)), (1 << 5, Default::default()));
    apic.lower(5);
    assert_eq!((apic.lines(), apic.pulse(5), apic.lines()), (0, Some(message(0x40, false)), 0));
    let _ = write(&mut apic, low(5), 0x40 | MASKED);
    assert_eq!(apic.raise(5), None);
    assert_eq!(write(&mut apic, low(5), 0x40).message, None, "an edge at a masked pin is lost");
    assert_eq!((apic.raise(48), apic.pulse(255), apic.message(48)), (None, None, None));
}

#[test]
fn levels() {
    let mut apic = with_pin(20, LEVEL);
    assert_eq!(apic.raise(20), Some(message(0x40, true)));
    assert_eq!(read(&mut apic, low(20)), 0x40 | LEVEL | REMOTE_IRR);
    assert_eq!((apic.raise(20), apic.pulse(20)), (None, None), "until its end once");
    assert_eq!(apic.eoi(0x41), Default::default());
    let ended = apic.eoi(0x40);
    assert_eq!((ended.pins, ended.again), (1 << 20, 1 << 20), "the line is still high");
    assert_eq!(apic.message(20), Some(message(0x40, true)));
    apic.lower(20);
    let ended = apic.eoi(0x40);
    assert_eq!((ended.pins, ended.again), (1 << 20, 0));
    assert_eq!(read(&mut apic, low(20)), 0x40 | LEVEL);
}

#[test]
fn levels_wait_behind_a_mask() {
    let mut apic = with_pin(20, LEVEL | MASKED);
    assert_eq!(apic.raise(20), None);
    let effect = write(&mut apic, low(20), 0x40 | LEVEL);
    assert_eq!((effect.message, effect.unmasked), (Some(message(0x40, true)), Some(20)));
    let _ = write(&mut apic, low(20), 0x40 | LEVEL | MASKED);
    assert_eq!(apic.eoi(0x40).again, 0, "masked meanwhile");
    let _ = write(&mut apic, low(20), 0x40);
    assert_eq!(write(&mut apic, low(20), 0x40 | LEVEL).message, Some(message(0x40, true)), "edge cleared remote IRR");
}

#[test]
fn pins_may_share_a_vector() {
    let mut apic = with_pin(20, LEVEL);
    let _ = write(&mut apic, low(30), 0x40 | LEVEL);
    assert!(apic.raise(20).is_some() && apic.raise(30).is_some());
    apic.lower(20);
    let ended = apic.eoi(0x40);
    assert_eq!((ended.pins, ended.again), (1 << 20 | 1 << 30, 1 << 30));
}

#[test]
fn only_some_modes_are_sent() {
    for mode in 0..8 {
        let mut apic = with_pin(1, mode << 8);
        assert_eq!(apic.raise(1).is_some(), [0, 1, 4].contains(&mode), "{mode}");
    }
}

#[test]
fn records_elsewhere_are_refused() {
    let record = Vioapic::new().save();
    assert_eq!((record.base_address, record.redirtbl[7]), (ADDRESS, 1 << 16));
    assert!(Vioapic::new().load(&HwVioapic { base_address: 0xfec0_1000, ..record }, 0).is_err());
}
