//! I/O APICs (82093AA; ICH9 datasheet for the EOI register).

use crate::acpi::IoApicEntry;
use crate::registers::Registers;
use x86_defs::apic::{
    IOAPIC_ENTRY, IOAPIC_EOI, IOAPIC_ID, IOAPIC_SELECT, IOAPIC_VERSION, IOAPIC_WINDOW, Polarity, RedirectionEntry,
    Trigger,
};

/// One I/O APIC. Its index register makes every access two steps, so an owner keeps it under a lock.
pub struct IoApic<R> {
    registers: R,
    entry: IoApicEntry,
    version: u8,
    pins: u32,
}

impl<R: Registers> IoApic<R> {
    /// Takes an I/O APIC over and masks all its pins. `None` if nothing answers there.
    pub fn new(entry: IoApicEntry, registers: R) -> Option<IoApic<R>> {
        let mut apic = IoApic { registers, entry, version: 0, pins: 0 };
        let version = apic.read(IOAPIC_VERSION);
        if version == u32::MAX {
            return None;
        }
        apic.version = version as u8;
        apic.pins = (version >> 16 & 0xff) + 1;
        for pin in 0..apic.pins {
            // Firmware's SMI pins stay as they are (delivery mode 2); firmware alone knows what they do.
            if apic.entry(pin).delivery() != 2 {
                apic.set_entry(pin, RedirectionEntry::none());
            }
        }
        Some(apic)
    }

    /// What firmware says of it.
    pub fn description(&self) -> IoApicEntry {
        self.entry
    }

    /// Number of pins.
    pub fn pins(&self) -> u32 {
        self.pins
    }

    /// The pin with this global number, if it is here.
    pub fn pin(&self, gsi: u32) -> Option<u32> {
        gsi.checked_sub(self.entry.gsi_base).filter(|pin| *pin < self.pins)
    }

    /// Reads a register by index, as `PHYSDEVOP_apic_read` does.
    pub fn read(&self, index: u8) -> u32 {
        self.registers.write32(IOAPIC_SELECT as usize, index.into());
        self.registers.read32(IOAPIC_WINDOW as usize)
    }

    fn write(&self, index: u8, value: u32) {
        self.registers.write32(IOAPIC_SELECT as usize, index.into());
        self.registers.write32(IOAPIC_WINDOW as usize, value);
    }

    /// The id in its register.
    pub fn id(&self) -> u8 {
        (self.read(IOAPIC_ID) >> 24) as u8
    }

    /// A pin's entry.
    pub fn entry(&self, pin: u32) -> RedirectionEntry {
        let index = IOAPIC_ENTRY + 2 * pin as u8;
        RedirectionEntry(u64::from(self.read(index)) | u64::from(self.read(index + 1)) << 32)
    }

    /// Sets a pin's entry. It is masked while its halves disagree.
    pub fn set_entry(&self, pin: u32, entry: RedirectionEntry) {
        let index = IOAPIC_ENTRY + 2 * pin as u8;
        self.write(index, RedirectionEntry::none().0 as u32);
        self.write(index + 1, (entry.0 >> 32) as u32);
        self.write(index, entry.0 as u32);
    }

    /// Masks or unmasks a pin.
    pub fn set_mask(&self, pin: u32, masked: bool) {
        let index = IOAPIC_ENTRY + 2 * pin as u8;
        let entry = RedirectionEntry(self.read(index).into()).with_mask(masked);
        self.write(index, entry.0 as u32);
    }

    /// Ends a level interrupt at the pin without the local APIC's broadcast: by the EOI register, or on old versions by
    /// switching the pin to edge and back, which clears its remote IRR.
    pub fn end(&self, pin: u32) {
        let entry = self.entry(pin);
        if self.version >= 0x20 {
            self.registers.write32(IOAPIC_EOI as usize, entry.vector().into());
        } else if entry.trigger() == Trigger::Level {
            let index = IOAPIC_ENTRY + 2 * pin as u8;
            self.write(index, (entry.0 as u32 | RedirectionEntry::MASKED as u32) & !(1 << 15));
            self.write(index, entry.0 as u32);
        }
    }

    /// Points a pin at `vector` on the CPU with that APIC id.
    pub fn route(&self, pin: u32, vector: u8, apic_id: u8, trigger: Trigger, polarity: Polarity, masked: bool) {
        self.set_entry(pin, RedirectionEntry::new(vector, apic_id, trigger, polarity, masked));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    /// 24 pins behind an index register: index, registers, and each write to one of them.
    type State = (u32, [u32; 64], Vec<(u32, u32)>);
    struct Chip(RefCell<State>);

    impl Chip {
        fn new() -> Chip {
            let mut registers = [0; 64];
            registers[0] = 2 << 24;
            registers[1] = 23 << 16 | 0x11;
            registers[0x10 + 2 * 5] = 0x0200;
            Chip(RefCell::new((0, registers, Vec::new())))
        }
    }

    impl Registers for Chip {
        fn read32(&self, offset: usize) -> u32 {
            let chip = self.0.borrow();
            if offset == 0x10 { chip.1[chip.0 as usize] } else { u32::MAX }
        }

        fn write32(&self, offset: usize, value: u32) {
            let chip = &mut *self.0.borrow_mut();
            match offset {
                0 => chip.0 = value,
                0x10 => {
                    chip.1[chip.0 as usize] = value;
                    chip.2.push((chip.0, value));
                }
                _ => (),
            }
        }
    }

    fn apic() -> IoApic<Chip> {
        IoApic::new(IoApicEntry { id: 2, address: 0, gsi_base: 24 }, Chip::new()).unwrap()
    }

    #[test]
    fn starts_masked_but_for_smi() {
        let apic = apic();
        assert_eq!((apic.pins(), apic.id()), (24, 2));
        assert!(apic.entry(4).is_masked() && !apic.entry(5).is_masked());
        assert_eq!((apic.pin(23), apic.pin(24), apic.pin(47), apic.pin(48)), (None, Some(0), Some(23), None));
    }

    #[test]
    fn a_changing_entry_is_masked_until_whole() {
        let apic = apic();
        apic.registers.0.borrow_mut().2.clear();
        apic.route(3, 0x51, 1, Trigger::Level, Polarity::ActiveLow, false);
        let writes = apic.registers.0.borrow().2.clone();
        assert_eq!(writes, [(0x16, 0x1_0000), (0x17, 0x0100_0000), (0x16, 0xa051)]);
        apic.set_mask(3, true);
        assert!(apic.entry(3).is_masked());
        apic.registers.0.borrow_mut().2.clear();
        apic.end(3);
        let writes = apic.registers.0.borrow().2.clone();
        assert_eq!(writes, [(0x16, 0x1_2051), (0x16, 0x1_a051)]);
    }
}
