//! The I/O APIC against a model of its pins (82093AA, 3.2).

use fuzz::Random;
use vioapic::{ADDRESS, PINS, Vioapic};
use x86_defs::apic::InterruptMessage;
use xen_abi::hvm_save::interrupts::HwVioapic;

const LEVEL: u64 = 1 << 15;
const REMOTE_IRR: u64 = 1 << 14;
const MASKED: u64 = 1 << 16;
/// Bits of an entry that a guest can set: vector, modes, polarity, trigger, mask; the destination and what is reserved before it.
const WRITABLE: u64 = 0xffff_ffff_0001_afff;
const STEPS: u64 = 400;

/// A pin, in plain.
#[derive(Clone, Copy)]
struct Pin {
    entry: u64,
    is_high: bool,
    is_sent: bool,
}

impl Pin {
    fn is(&self, bits: u64) -> bool {
        self.entry & bits != 0
    }

    /// What it sends: of the delivery modes, only fixed, lowest priority and NMI.
    fn message(&self) -> Option<(u8, u8)> {
        matches!(self.entry >> 8 & 7, 0 | 1 | 4).then_some((self.entry as u8, (self.entry >> 56) as u8))
    }

    /// A level is sent once, while it is up and nothing masks it.
    fn settle(&mut self, is_up: bool) -> Option<(u8, u8)> {
        if !is_up || self.is(MASKED) || !self.is(LEVEL) || self.is_sent {
            return None;
        }
        self.is_sent = true;
        self.message()
    }

    fn signal(&mut self) -> Option<(u8, u8)> {
        let is_edge = !self.is(LEVEL | MASKED);
        if is_edge { self.message() } else { self.settle(true) }
    }

    fn write(&mut self, is_high_half: bool, value: u32) -> Option<(u8, u8)> {
        let shift = if is_high_half { 32 } else { 0 };
        let mask = u64::from(u32::MAX) << shift & WRITABLE;
        self.entry = self.entry & !mask | u64::from(value) << shift & mask;
        self.is_sent &= self.is(LEVEL);
        self.settle(self.is_high)
    }

    fn shown(&self) -> u64 {
        self.entry | if self.is_sent { REMOTE_IRR } else { 0 }
    }
}

struct Model {
    pins: [Pin; PINS as usize],
    select: u8,
    id: u8,
}

impl Model {
    fn selected(&self) -> u32 {
        match self.select {
            0 | 2 => u32::from(self.id) << 24,
            1 => 0x2f_0011,
            at @ 0x10..=0x6f => (self.pins[usize::from(at - 0x10) / 2].shown() >> (32 * (at & 1))) as u32,
            _ => 0,
        }
    }

    fn write(&mut self, offset: u32, value: u32) -> Option<(u8, u8)> {
        match (offset & 0xff, self.select) {
            (0, _) => self.select = value as u8,
            (0x10, 0) => self.id = (value >> 24) as u8 & 15,
            (0x10, at @ 0x10..=0x6f) => return self.pins[usize::from(at - 0x10) / 2].write(at & 1 != 0, value),
            _ => {}
        }
        None
    }
}

/// What of a message the pin decides.
fn parts(message: Option<InterruptMessage>) -> Option<(u8, u8)> {
    message.map(|message| (message.vector, message.destination as u8))
}

/// Few vectors, so that they meet.
fn value(r: &mut Random) -> u32 {
    let low = 0x40 + r.below(4);
    match r.below(3) {
        0 => r.value() as u32,
        1 => (low | LEVEL | if r.one_in(4) { MASKED } else { 0 } | r.below(8) << 8) as u32,
        _ => (low | if r.one_in(2) { LEVEL } else { 0 }) as u32,
    }
}

fn program(r: &mut Random, apic: &mut Vioapic, model: &mut Model) -> u64 {
    let (offset, value) = match r.below(8) {
        0 => (r.next() as u32, value(r)),
        1..=3 => (0, if r.one_in(4) { r.next() as u32 } else { 0x10 + r.below(12) as u32 }),
        _ => (0x10, value(r)),
    };
    let (select, was_masked) = (model.select, model.pins.map(|pin| pin.is(MASKED)));
    let effect = apic.write(offset, value);
    let sent = model.write(offset, value);
    assert_eq!(parts(effect.message), sent);
    let unmasked = (0..PINS).find(|pin| was_masked[usize::from(*pin)] && !model.pins[usize::from(*pin)].is(MASKED));
    assert_eq!(effect.unmasked, unmasked);
    assert_eq!(effect.pin0_changed, offset & 0xff == 0x10 && matches!(select, 0x10 | 0x11));
    sent.is_some().into()
}

fn end(r: &mut Random, apic: &mut Vioapic, model: &mut Model) -> u64 {
    let vector = if r.one_in(8) { r.next() as u8 } else { 0x40 + r.below(4) as u8 };
    let ended = apic.eoi(vector);
    for (at, pin) in model.pins.iter_mut().enumerate() {
        let ends = pin.is_sent && pin.entry as u8 == vector;
        pin.is_sent &= !ends;
        if ends {
            pin.settle(pin.is_high);
        }
        assert_eq!((ended.pins >> at & 1 != 0, ended.again >> at & 1 != 0), (ends, ends && pin.is_sent), "pin {at}");
    }
    ended.pins.count_ones().into()
}

/// Saves and loads it, or loads a record of anything.
fn reload(r: &mut Random, apic: &mut Vioapic, model: &mut Model) {
    let mut copy = Vioapic::new();
    copy.load(&apic.save(), apic.lines()).expect("its own record");
    assert_eq!(copy, *apic);
    if !r.one_in(4) {
        return;
    }
    let base_address = if r.one_in(4) { r.next() } else { ADDRESS };
    let redirtbl: [u64; PINS as usize] = std::array::from_fn(|_| r.next());
    let (ioregsel, id, lines) = (r.next() as u32, r.next() as u32, r.next());
    let loaded = apic.load(&HwVioapic { base_address, ioregsel, id, redirtbl }, lines);
    if loaded.is_err() {
        assert_ne!(base_address, ADDRESS);
        assert_eq!(copy, *apic, "a refused record changed something");
        return;
    }
    (model.select, model.id) = (ioregsel as u8, id as u8 & 15);
    for (at, (pin, bits)) in model.pins.iter_mut().zip(redirtbl).enumerate() {
        let is_sent = bits & REMOTE_IRR != 0 && bits & LEVEL != 0;
        *pin = Pin { entry: bits & WRITABLE, is_high: lines >> at & 1 != 0, is_sent };
    }
}

fn pull(r: &mut Random, apic: &mut Vioapic, model: &mut Model) -> u64 {
    let at = if r.one_in(8) { r.next() as u8 } else { r.below(6) as u8 };
    let pin = model.pins.get_mut(usize::from(at));
    let sent = match (r.below(5), pin) {
        (0 | 1, pin) => {
            apic.lower(at);
            pin.into_iter().for_each(|pin| pin.is_high = false);
            return 0;
        }
        (2, pin) => (apic.pulse(at), pin.and_then(|pin| pin.signal())),
        (_, None) => (apic.raise(at), None),
        (_, Some(pin)) => {
            pin.is_high = true;
            (apic.raise(at), pin.signal())
        }
    };
    assert_eq!(parts(sent.0), sent.1, "pin {at}");
    sent.1.is_some().into()
}

pub fn case(r: &mut Random) -> u64 {
    let mut apic = Vioapic::new();
    let pin = Pin { entry: MASKED, is_high: false, is_sent: false };
    let mut model = Model { pins: [pin; PINS as usize], select: 0, id: 0 };
    let mut reached = 0;
    for _ in 0..STEPS {
        reached += match r.below(16) {
            0..=6 => program(r, &mut apic, &mut model),
            7..=11 => pull(r, &mut apic, &mut model),
            12..=14 => end(r, &mut apic, &mut model),
            _ => {
                reload(r, &mut apic, &mut model);
                0
            }
        };
        for (at, pin) in (0..PINS).zip(&model.pins) {
            assert_eq!((apic.entry(at).0, apic.lines() >> at & 1 != 0), (pin.shown(), pin.is_high), "pin {at}");
        }
        assert_eq!((apic.read(0), apic.read(0x10)), (model.select.into(), model.selected()));
        let first = model.pins[0];
        let external = first.entry >> 8 & 7 == 7 && !first.is(MASKED);
        assert_eq!(apic.extint_destination(), external.then_some((first.entry >> 56) as u8));
    }
    reached
}
