//! The I/O APIC of an HVM guest (datasheet 82093AA), as Xen has it: version 0x11, thus no EOI register, 48 pins, 4-bit id,
//! 256 bytes of registers at 0xfec00000.
//!
//! [`Vioapic::raise`] and [`Vioapic::lower`] are the pins, [`Vioapic::eoi`] takes the end of level interrupts from local
//! APICs. What is to be sent comes back as [`InterruptMessage`]s.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

use types::{Errno, Result};
use x86_defs::apic::{
    DeliveryMode, IOAPIC_ENTRY, IOAPIC_ID, IOAPIC_SELECT, IOAPIC_VERSION, IOAPIC_WINDOW, InterruptMessage,
    RedirectionEntry, Trigger,
};
use xen_abi::hvm_save::interrupts::{HwVioapic, VIOAPIC_NUM_PINS};

/// Guest-physical address of the registers.
pub const ADDRESS: u64 = 0xfec0_0000;
/// Length of the registers, in bytes.
pub const LENGTH: u64 = 0x100;
/// Pins.
pub const PINS: u8 = VIOAPIC_NUM_PINS as u8;

const VERSION: u32 = 0x11;
/// Register 2, the arbitration id (82093AA, 3.2.3): it follows the id.
const ARBITRATION: u8 = 2;

/// The bits of a pin's low half that a guest sets: vector, delivery mode, destination mode, polarity, trigger, mask.
const LOW_BITS: u64 = 0xff | 7 << 8 | 1 << 11 | 1 << 13 | 1 << 15 | RedirectionEntry::MASKED;

/// What a write does beyond the register.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[must_use]
pub struct Effect {
    /// To be delivered.
    pub message: Option<InterruptMessage>,
    /// Pin 0 changed: ask [`Vioapic::extint_destination`] again.
    pub pin0_changed: bool,
    /// The pin that was unmasked.
    pub unmasked: Option<u8>,
}

/// The pins at which an end of interrupt arrived, a bit each.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[must_use]
pub struct Ended {
    /// All of them.
    pub pins: u64,
    /// Those that are still asserted: [`Vioapic::message`] of each is to be delivered again.
    pub again: u64,
}

/// The I/O APIC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vioapic {
    /// Entries without their two read-only bits.
    entries: [RedirectionEntry; VIOAPIC_NUM_PINS],
    /// Pins whose level interrupt was sent and has not ended.
    remote_irr: u64,
    /// Pins that are high.
    lines: u64,
    select: u8,
    id: u8,
}

impl Default for Vioapic {
    fn default() -> Vioapic {
        Vioapic::new()
    }
}

impl Vioapic {
    /// The I/O APIC after reset: all pins masked, all low.
    pub const fn new() -> Vioapic {
        let entries = [RedirectionEntry::none(); VIOAPIC_NUM_PINS];
        Vioapic { entries, remote_irr: 0, lines: 0, select: 0, id: 0 }
    }

    /// Reads at `offset` from [`ADDRESS`].
    pub fn read(&self, offset: u32) -> u32 {
        match offset & 0xff {
            IOAPIC_SELECT => u32::from(self.select),
            IOAPIC_WINDOW => self.read_selected(),
            _ => 0,
        }
    }

    fn read_selected(&self) -> u32 {
        match self.select {
            IOAPIC_ID | ARBITRATION => u32::from(self.id) << 24,
            IOAPIC_VERSION => VERSION | (u32::from(PINS) - 1) << 16,
            select => match selected_pin(select) {
                Some(pin) => (self.entry(pin).0 >> (u32::from(select & 1) * 32)) as u32,
                None => 0,
            },
        }
    }

    /// Writes at `offset` from [`ADDRESS`].
    pub fn write(&mut self, offset: u32, value: u32) -> Effect {
        match offset & 0xff {
            IOAPIC_SELECT => self.select = value as u8,
            IOAPIC_WINDOW => return self.write_selected(value),
            _ => {}
        }
        Effect::default()
    }

    fn write_selected(&mut self, value: u32) -> Effect {
        if self.select == IOAPIC_ID {
            self.id = (value >> 24 & 15) as u8;
        }
        match selected_pin(self.select) {
            Some(pin) => self.write_entry(pin, self.select & 1 != 0, value),
            None => Effect::default(),
        }
    }

    fn write_entry(&mut self, pin: u8, high: bool, value: u32) -> Effect {
        let entry = &mut self.entries[usize::from(pin)];
        let was_masked = entry.is_masked();
        entry.0 = match high {
            true => entry.0 & u64::from(u32::MAX) | u64::from(value) << 32,
            false => entry.0 >> 32 << 32 | u64::from(value) & LOW_BITS,
        };
        let unmasked = was_masked && !entry.is_masked();
        if entry.trigger() == Trigger::Edge {
            self.remote_irr &= !(1 << pin);
        }
        Effect {
            message: if self.waits(pin) { self.send_level(pin) } else { None },
            pin0_changed: pin == 0,
            unmasked: unmasked.then_some(pin),
        }
    }

    /// A pin goes high. What is to be delivered for it.
    pub fn raise(&mut self, pin: u8) -> Option<InterruptMessage> {
        if pin >= PINS {
            return None;
        }
        self.lines |= 1 << pin;
        self.pulse(pin)
    }

    /// A signal at a pin that does not keep it high: an edge as from a timer. A level-triggered pin sends it once.
    pub fn pulse(&mut self, pin: u8) -> Option<InterruptMessage> {
        if pin >= PINS || self.entries[usize::from(pin)].is_masked() {
            return None;
        }
        match self.entries[usize::from(pin)].trigger() {
            Trigger::Edge => self.message(pin),
            Trigger::Level if self.remote_irr >> pin & 1 == 0 => self.send_level(pin),
            Trigger::Level => None,
        }
    }

    /// A pin goes low.
    pub fn lower(&mut self, pin: u8) {
        if pin < PINS {
            self.lines &= !(1 << pin);
        }
    }

    /// A local APIC ended the level interrupt `vector`. All pins with this vector take it for theirs.
    pub fn eoi(&mut self, vector: u8) -> Ended {
        let mut ended = Ended::default();
        let mut left = self.remote_irr;
        while left != 0 {
            let pin = left.trailing_zeros() as u8;
            left &= left - 1;
            if self.entries[usize::from(pin)].vector() == vector {
                let bit = 1 << pin;
                ended.pins |= bit;
                self.remote_irr &= !bit;
                if self.waits(pin) {
                    self.remote_irr |= bit;
                    ended.again |= bit;
                }
            }
        }
        ended
    }

    /// What a pin sends. Nothing for the delivery modes that, as on Xen, no pin has: SMI, INIT and ExtINT.
    pub fn message(&self, pin: u8) -> Option<InterruptMessage> {
        let message = self.entries.get(usize::from(pin))?.message()?;
        let sent = matches!(message.mode, DeliveryMode::Fixed | DeliveryMode::LowestPriority | DeliveryMode::Nmi);
        sent.then_some(message)
    }

    /// Whether a level-triggered pin is high, unmasked and not sent.
    fn waits(&self, pin: u8) -> bool {
        let entry = self.entries[usize::from(pin)];
        let high = self.lines & !self.remote_irr & 1 << pin != 0;
        high && entry.trigger() == Trigger::Level && !entry.is_masked()
    }

    fn send_level(&mut self, pin: u8) -> Option<InterruptMessage> {
        self.remote_irr |= 1 << pin;
        self.message(pin)
    }

    /// The entry of a pin (below [`PINS`]) as the guest reads it; a higher pin's is [`RedirectionEntry::none`].
    pub fn entry(&self, pin: u8) -> RedirectionEntry {
        match self.entries.get(usize::from(pin)) {
            Some(entry) if self.remote_irr >> pin & 1 != 0 => RedirectionEntry(entry.0 | RedirectionEntry::REMOTE_IRR),
            Some(entry) => *entry,
            None => RedirectionEntry::none(),
        }
    }

    /// Pins that are high, a bit each.
    pub const fn lines(&self) -> u64 {
        self.lines
    }

    /// The APIC id to which pin 0 passes the 8259s' output on, if it does.
    pub fn extint_destination(&self) -> Option<u8> {
        let entry = self.entries[0];
        let external = entry.delivery() == DeliveryMode::ExtInt as u8 && !entry.is_masked();
        external.then_some(entry.destination())
    }

    /// Xen's record.
    pub fn save(&self) -> HwVioapic {
        let mut redirtbl = [0; VIOAPIC_NUM_PINS];
        for (pin, bits) in (0..).zip(&mut redirtbl) {
            *bits = self.entry(pin).0;
        }
        HwVioapic { base_address: ADDRESS, ioregsel: self.select.into(), id: self.id.into(), redirtbl }
    }

    /// Takes over Xen's record. Which pins are high is not part of it: `lines` says. Nothing is sent.
    ///
    /// # Errors
    /// `EINVAL` if the registers are at another address.
    pub fn load(&mut self, record: &HwVioapic, lines: u64) -> Result<()> {
        if record.base_address != ADDRESS {
            return Err(Errno::INVAL);
        }
        self.select = record.ioregsel as u8;
        self.id = record.id as u8 & 15;
        self.remote_irr = 0;
        self.set_lines(lines);
        for (pin, &bits) in record.redirtbl.iter().enumerate() {
            let entry = RedirectionEntry(bits & (LOW_BITS | 0xffff_ffff << 32));
            self.entries[pin] = entry;
            if bits & RedirectionEntry::REMOTE_IRR != 0 && entry.trigger() == Trigger::Level {
                self.remote_irr |= 1 << pin;
            }
        }
        Ok(())
    }

    /// Sets which pins are high, and sends nothing: for a load.
    pub const fn set_lines(&mut self, lines: u64) {
        self.lines = lines & ((1 << PINS) - 1);
    }
}

/// The pin whose entry a value of the select register names.
fn selected_pin(select: u8) -> Option<u8> {
    let pin = select.checked_sub(IOAPIC_ENTRY)? >> 1;
    (pin < PINS).then_some(pin)
}
