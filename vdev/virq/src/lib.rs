//! A guest's interrupt lines, and how they reach its interrupt controllers: what the mainboard's wires are to a PC, laid as
//! Xen lays them.
//!
//! - An ISA interrupt goes to the 8259s and to the pin of the I/O APIC with its number; interrupt 0 to pin 2.
//! - A PCI device's INTx goes to one of the pins 16 to 47 and, through one of four links with a programmable route, to an
//!   ISA interrupt.
//! - "An event channel is pending" of vCPU 0 can be a line too, see [`Callback`].
//!
//! Several sources may hold a pin up; it falls when the last one lets go. What comes out goes to a [`Bus`], the owner. The
//! owner locks the whole, as any vCPU and any device may come.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod callback;
mod msi;
mod next;
mod save;

use vioapic::{PINS, Vioapic};
use vpic::Vpic;
use x86_defs::apic::InterruptMessage;

pub use callback::Callback;
pub use msi::Msi;
pub use next::{Pending, Source};

/// Devices on the guest's PCI bus.
pub const PCI_DEVICES: u8 = 32;
/// ISA interrupts.
pub const ISA_IRQS: u8 = 16;
/// Links between PCI interrupts and ISA interrupts.
pub const LINKS: u8 = 4;
/// First pin for PCI interrupts.
const FIRST_PCI_PIN: u8 = 16;

/// What the interrupt controllers want of their owner.
pub trait Bus {
    /// Deliver a message to local APICs.
    fn send(&mut self, message: InterruptMessage);
    /// The 8259s' output rose: the vCPU that takes it is to look.
    fn pic_rose(&mut self);
    /// Pin 0 of the I/O APIC has a new entry: another vCPU may take the 8259s' output.
    fn pic_route_changed(&mut self) {}
    /// A pin or line was unmasked: timers that hold back ticks may try again.
    fn unmasked(&mut self) {}
    /// The guest ended the interrupt of a pin: for a device that was passed through.
    fn ended(&mut self, _gsi: u8) {}
    /// Whether the guest has bound this pin to an event channel, and so does not use the controllers for it. If so and the
    /// pin `rises`, the event is to be sent.
    fn is_event_channel(&mut self, _gsi: u8, _rises: bool) -> bool {
        false
    }
}

/// Which controllers a guest has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Controllers {
    /// Both kinds: an HVM guest.
    All,
    /// Neither: a PVH guest.
    None,
}

/// Lines and controllers.
#[derive(Clone, Debug)]
pub struct Virq {
    chips: Option<Chips>,
    /// A bit for each INTx that is asserted: `device * 4 + intx`.
    pci: u128,
    /// A bit for each ISA interrupt that is asserted.
    isa: u16,
    /// The ISA interrupt of each link; 0 is none.
    route: [u8; LINKS as usize],
    /// INTx that hold each link up.
    link_counts: [u8; LINKS as usize],
    /// Sources that hold each pin up.
    pin_counts: [u16; PINS as usize],
    callback: Callback,
    callback_asserted: bool,
}

#[derive(Clone, Debug)]
struct Chips {
    pic: Vpic,
    ioapic: Vioapic,
}

/// The pin of a PCI device's INTx (below [`PCI_DEVICES`] and 4).
pub const fn pci_gsi(device: u8, intx: u8) -> u8 {
    (((device << 2).wrapping_add(device >> 3).wrapping_add(intx)) & 31) + FIRST_PCI_PIN
}

/// The link of a PCI device's INTx.
pub const fn pci_link(device: u8, intx: u8) -> u8 {
    device.wrapping_add(intx) & (LINKS - 1)
}

/// The pin of an ISA interrupt.
pub const fn isa_gsi(irq: u8) -> u8 {
    if irq == 0 { 2 } else { irq }
}

impl Virq {
    /// Controllers after reset, all lines down.
    pub const fn new(controllers: Controllers) -> Virq {
        let chips = match controllers {
            Controllers::All => Some(Chips { pic: Vpic::new(), ioapic: Vioapic::new() }),
            Controllers::None => None,
        };
        Virq {
            chips,
            pci: 0,
            isa: 0,
            route: [0; LINKS as usize],
            link_counts: [0; LINKS as usize],
            pin_counts: [0; PINS as usize],
            callback: Callback::None,
            callback_asserted: false,
        }
    }

    /// Controllers after reset; lines stay as they are, since those who hold them are not reset.
    pub fn reset(&mut self) {
        let Some(chips) = &mut self.chips else { return };
        let lines = chips.ioapic.lines();
        *chips = Chips { pic: Vpic::new(), ioapic: Vioapic::new() };
        chips.ioapic.set_lines(lines);
    }

    /// The I/O APIC, if there is one, to look at.
    pub fn ioapic(&self) -> Option<&Vioapic> {
        self.chips.as_ref().map(|chips| &chips.ioapic)
    }

    /// The 8259s, if there are any, to look at.
    pub fn pic(&self) -> Option<&Vpic> {
        self.chips.as_ref().map(|chips| &chips.pic)
    }

    /// Asserts a PCI device's INTx. Nothing for a device or pin that does not exist, or that is asserted already.
    pub fn assert_pci(&mut self, device: u8, intx: u8, bus: &mut impl Bus) {
        let Some(bit) = pci_bit(device, intx) else { return };
        if self.pci & bit != 0 {
            return;
        }
        self.pci |= bit;
        self.hold(pci_gsi(device, intx), None, bus);
        let link = usize::from(pci_link(device, intx));
        self.link_counts[link] += 1;
        let irq = self.route[link];
        if self.link_counts[link] == 1 && irq != 0 {
            self.hold(irq, Some(irq), bus);
        }
    }

    /// Lets a PCI device's INTx go.
    pub fn deassert_pci(&mut self, device: u8, intx: u8, bus: &mut impl Bus) {
        let Some(bit) = pci_bit(device, intx) else { return };
        if self.pci & bit == 0 {
            return;
        }
        self.pci &= !bit;
        self.release(pci_gsi(device, intx), None, bus);
        let link = usize::from(pci_link(device, intx));
        self.link_counts[link] -= 1;
        let irq = self.route[link];
        if self.link_counts[link] == 0 && irq != 0 {
            self.release(irq, Some(irq), bus);
        }
    }

    /// Asserts an ISA interrupt (below 16).
    pub fn assert_isa(&mut self, irq: u8, bus: &mut impl Bus) {
        if irq < ISA_IRQS && self.isa >> irq & 1 == 0 {
            self.isa |= 1 << irq;
            self.hold(isa_gsi(irq), Some(irq), bus);
        }
    }

    /// Lets an ISA interrupt go.
    pub fn deassert_isa(&mut self, irq: u8, bus: &mut impl Bus) {
        if irq < ISA_IRQS && self.isa >> irq & 1 != 0 {
            self.isa &= !(1 << irq);
            self.release(isa_gsi(irq), Some(irq), bus);
        }
    }

    /// Asserts a pin of the I/O APIC alone (below 48), once more than before; each call wants one
    /// [`Virq::deassert_gsi`].
    pub fn assert_gsi(&mut self, gsi: u8, bus: &mut impl Bus) {
        self.hold(gsi, None, bus);
    }

    /// Lets a pin go that [`Virq::assert_gsi`] asserted.
    pub fn deassert_gsi(&mut self, gsi: u8, bus: &mut impl Bus) {
        self.release(gsi, None, bus);
    }

    /// An edge at a pin of the I/O APIC alone, which does not stay up.
    pub fn pulse_gsi(&mut self, gsi: u8, bus: &mut impl Bus) {
        if gsi < PINS && !bus.is_event_channel(gsi, true) {
            let message = self.chips.as_mut().and_then(|chips| chips.ioapic.pulse(gsi));
            message.into_iter().for_each(|message| bus.send(message));
        }
    }

    /// Routes a link to an ISA interrupt; 0 to none. False if there is no such link or interrupt.
    pub fn set_link_route(&mut self, link: u8, irq: u8, bus: &mut impl Bus) -> bool {
        if link >= LINKS || irq >= ISA_IRQS {
            return false;
        }
        let link = usize::from(link);
        let old = core::mem::replace(&mut self.route[link], irq);
        if old != irq && self.link_counts[link] != 0 {
            if old != 0 {
                self.release(old, Some(old), bus);
            }
            if irq != 0 {
                self.hold(irq, Some(irq), bus);
            }
        }
        true
    }

    /// One more source holds a pin up, and with it a line of the 8259s. Interrupt 0 is alone on its line, but not on its pin, which a
    /// link may be routed to as interrupt 2.
    fn hold(&mut self, gsi: u8, irq: Option<u8>, bus: &mut impl Bus) {
        let Some(count) = self.pin_counts.get_mut(usize::from(gsi)) else { return };
        *count = count.saturating_add(1);
        if *count == 1 {
            let diverted = bus.is_event_channel(gsi, true);
            self.raise(gsi, irq, diverted, bus);
        } else if irq == Some(0) {
            self.raise_pic(irq, bus);
        }
    }

    /// One source less.
    fn release(&mut self, gsi: u8, irq: Option<u8>, bus: &mut impl Bus) {
        let Some(count) = self.pin_counts.get_mut(usize::from(gsi)) else { return };
        let held = *count != 0;
        *count = count.saturating_sub(1);
        if held && *count == 0 {
            let diverted = bus.is_event_channel(irq.unwrap_or(gsi), false);
            self.lower(gsi, irq.filter(|_| !diverted));
        } else if let (Some(0), Some(chips)) = (irq, &mut self.chips) {
            chips.pic.lower(0);
        }
    }

    fn raise(&mut self, gsi: u8, irq: Option<u8>, diverted: bool, bus: &mut impl Bus) {
        let Some(chips) = &mut self.chips else { return };
        if diverted {
            chips.ioapic.set_lines(chips.ioapic.lines() | 1 << gsi);
        } else {
            chips.ioapic.raise(gsi).into_iter().for_each(|message| bus.send(message));
        }
        self.raise_pic(irq, bus);
    }

    fn raise_pic(&mut self, irq: Option<u8>, bus: &mut impl Bus) {
        let Some(chips) = &mut self.chips else { return };
        if irq.is_some_and(|irq| chips.pic.raise(irq)) {
            bus.pic_rose();
        }
    }

    fn lower(&mut self, gsi: u8, irq: Option<u8>) {
        let Some(chips) = &mut self.chips else { return };
        chips.ioapic.lower(gsi);
        irq.into_iter().for_each(|irq| chips.pic.lower(irq));
    }

    /// A local APIC ended a level-triggered interrupt.
    pub fn eoi(&mut self, vector: u8, bus: &mut impl Bus) {
        let Some(chips) = &mut self.chips else { return };
        let ended = chips.ioapic.eoi(vector);
        for gsi in (0..PINS).filter(|gsi| ended.pins >> gsi & 1 != 0) {
            bus.ended(gsi);
            if ended.again >> gsi & 1 != 0 {
                chips.ioapic.message(gsi).into_iter().for_each(|message| bus.send(message));
            }
        }
    }

    /// A guest's read of the I/O APIC's registers, `offset` from [`vioapic::ADDRESS`].
    pub fn read_ioapic(&self, offset: u32) -> u32 {
        self.ioapic().map_or(u32::MAX, |ioapic| ioapic.read(offset))
    }

    /// A guest's write to the I/O APIC's registers.
    pub fn write_ioapic(&mut self, offset: u32, value: u32, bus: &mut impl Bus) {
        let Some(chips) = &mut self.chips else { return };
        let effect = chips.ioapic.write(offset, value);
        effect.message.into_iter().for_each(|message| bus.send(message));
        if effect.pin0_changed {
            bus.pic_route_changed();
        }
        if effect.unmasked.is_some() {
            bus.unmasked();
        }
    }

    /// A guest's read of a port of the 8259s.
    pub fn read_pic(&mut self, port: u16) -> u8 {
        self.chips.as_mut().map_or(0xff, |chips| chips.pic.read(port))
    }

    /// A guest's write to a port of the 8259s.
    pub fn write_pic(&mut self, port: u16, value: u8, bus: &mut impl Bus) {
        let Some(chips) = &mut self.chips else { return };
        let effect = chips.pic.write(port, value);
        if effect.output_rose {
            bus.pic_rose();
        }
        effect.ended.into_iter().for_each(|irq| bus.ended(isa_gsi(irq)));
        if effect.unmasked != 0 {
            bus.unmasked();
        }
    }

    /// Takes the interrupt that the 8259s have, and gives its vector.
    pub fn acknowledge_pic(&mut self) -> Option<u8> {
        self.chips.as_mut()?.pic.acknowledge()
    }
}

fn pci_bit(device: u8, intx: u8) -> Option<u128> {
    (device < PCI_DEVICES && intx < 4).then(|| 1 << (device * 4 + intx))
}
