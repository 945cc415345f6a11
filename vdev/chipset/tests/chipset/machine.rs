//! A machine around the devices: a bus that notes what it is told, one CPU that takes interrupts.

use chipset::{Bus, Chipset, MissedTicks, Rules, Taken, WallTime};
use std::collections::BTreeSet;
use x86_defs::apic::InterruptMessage;

pub const IOAPIC: u64 = 0xfec0_0000;
pub const HPET: u64 = 0xfed0_0000;

/// What the devices sent: vectors that are requested at the CPU's local APIC.
#[derive(Default)]
pub struct Apic {
    pub requested: BTreeSet<u8>,
    pub rose: usize,
}

impl Bus for Apic {
    fn send(&mut self, message: InterruptMessage) {
        self.requested.insert(message.vector);
    }

    fn pic_rose(&mut self) {
        self.rose += 1;
    }
}

pub struct Machine {
    pub chips: Chipset,
    pub apic: Apic,
    pub time: u64,
    /// LVT0 lets the 8259s through.
    pub takes_pic: bool,
}

impl Machine {
    pub fn new(missed: MissedTicks) -> Machine {
        let wall = WallTime { seconds: 1_700_000_000, nanos: 0 };
        let chips = Chipset::new(0, wall, Rules { missed, align: false });
        Machine { chips, apic: Apic::default(), time: 0, takes_pic: true }
    }

    pub fn out(&mut self, port: u16, value: u8) {
        let taken = self.chips.port(port, 1, Some(value.into()), self.time, &mut self.apic);
        assert!(taken.is_some(), "port {port:#x}");
    }

    pub fn inb(&mut self, port: u16) -> Option<u32> {
        self.chips.port(port, 1, None, self.time, &mut self.apic)
    }

    pub fn write(&mut self, gpa: u64, value: u64) {
        assert!(self.chips.memory(gpa, 4, Some(value), self.time, &mut self.apic).is_some());
    }

    pub fn read(&mut self, gpa: u64, size: u8) -> Option<u64> {
        self.chips.memory(gpa, size, None, self.time, &mut self.apic)
    }

    /// A pin of the I/O APIC sends `low` (vector, mode, trigger, mask) to APIC 0.
    pub fn set_pin(&mut self, pin: u64, low: u64) {
        for (index, value) in [(0x11 + 2 * pin, 0), (0x10 + 2 * pin, low)] {
            self.write(IOAPIC, index);
            self.write(IOAPIC + 0x10, value);
        }
    }

    /// Both 8259s at these vectors, with these masks.
    pub fn set_pic(&mut self, bases: [u8; 2], masks: [u8; 2]) {
        for (port, base, wiring, mask) in [(0x20, bases[0], 4, masks[0]), (0xa0, bases[1], 2, masks[1])] {
            self.out(port, 0x11);
            [base, wiring, 1, mask].into_iter().for_each(|value| self.out(port + 1, value));
        }
    }

    /// Counter 0 in mode 2.
    pub fn set_pit(&mut self, count: u16) {
        self.out(0x43, 0x34);
        count.to_le_bytes().into_iter().for_each(|byte| self.out(0x40, byte));
    }

    /// Time passes; the devices get what they asked for, on time.
    pub fn pass(&mut self, until: u64) {
        while let Some(at) = self.chips.next_deadline(self.time).filter(|&at| at <= until) {
            self.time = self.time.max(at);
            self.chips.tick(self.time, &mut self.apic);
        }
        self.time = until;
    }

    /// The CPU has interrupts enabled for a moment: what it takes. It ends the interrupt at once.
    pub fn take(&mut self) -> Option<Taken> {
        if self.chips.awaits_delivery() {
            self.chips.renew(self.takes_pic, &mut self.apic);
        }
        let pic = if self.takes_pic { self.chips.virq_mut().acknowledge_pic() } else { None };
        let taken = pic.map(Taken::Pic).or_else(|| self.apic.requested.pop_last().map(Taken::Apic))?;
        self.chips.delivered(taken, self.time, &mut self.apic);
        match taken {
            Taken::Pic(_) => {
                self.out(0xa0, 0x20);
                self.out(0x20, 0x20);
            }
            Taken::Apic(vector) => self.chips.virq_mut().eoi(vector, &mut self.apic),
        }
        Some(taken)
    }

    /// Runs until `until`, with interrupts taken at every deadline: how often `taken` was.
    pub fn count(&mut self, until: u64, taken: Taken) -> usize {
        let mut seen = 0;
        while self.time < until {
            let next = self.chips.next_deadline(self.time).unwrap_or(until).clamp(self.time + 1, until);
            self.pass(next);
            while let Some(one) = self.take() {
                seen += usize::from(one == taken);
            }
        }
        seen
    }
}
