//! Xen's records of lines and controllers.

use types::{Errno, Result};
use xen_abi::hvm_save::interrupts::{HwIsaIrqs, HwPciIrqs, HwPciLink, HwVioapic, HwVpic};

use crate::{Callback, ISA_IRQS, PCI_DEVICES, Virq, isa_gsi, pci_bit, pci_gsi, pci_link};

impl Virq {
    /// The PCI lines. The one that signals event channels is not among them: it is found anew after a load.
    pub fn save_pci(&self) -> HwPciIrqs {
        let own = match self.callback {
            Callback::PciIntx { device, intx } if self.callback_asserted => pci_bit(device, intx).unwrap_or(0),
            _ => 0,
        };
        let lines = self.pci & !own;
        HwPciIrqs { pad: [lines as u64, (lines >> 64) as u64] }
    }

    /// The ISA lines.
    pub fn save_isa(&self) -> HwIsaIrqs {
        HwIsaIrqs { pad: [self.isa.into()] }
    }

    /// The routes of the links.
    pub fn save_links(&self) -> HwPciLink {
        HwPciLink { route: self.route, pad0: [0; 4] }
    }

    /// The I/O APIC, if there is one.
    pub fn save_ioapic(&self) -> Option<HwVioapic> {
        self.ioapic().map(|ioapic| ioapic.save())
    }

    /// Both 8259s, if there are any: instances 0 and 1.
    pub fn save_pic(&self) -> Option<[HwVpic; 2]> {
        self.pic().map(|pic| pic.save())
    }

    /// Takes over the PCI lines.
    pub fn load_pci(&mut self, record: &HwPciIrqs) {
        self.pci = u128::from(record.pad[0]) | u128::from(record.pad[1]) << 64;
        self.recount();
    }

    /// Takes over the ISA lines.
    pub fn load_isa(&mut self, record: &HwIsaIrqs) {
        self.isa = record.pad[0] as u16;
        self.recount();
    }

    /// Takes over the routes.
    ///
    /// # Errors
    /// `EINVAL` for a route to an interrupt above 15.
    pub fn load_links(&mut self, record: &HwPciLink) -> Result<()> {
        if record.route.iter().any(|&irq| irq >= ISA_IRQS) {
            return Err(Errno::INVAL);
        }
        self.route = record.route;
        self.recount();
        Ok(())
    }

    /// Takes over the I/O APIC.
    ///
    /// # Errors
    /// `ENODEV` if there is none, `EINVAL` if it is at another address.
    pub fn load_ioapic(&mut self, record: &HwVioapic) -> Result<()> {
        let chips = self.chips.as_mut().ok_or(Errno::NODEV)?;
        let lines = chips.ioapic.lines();
        chips.ioapic.load(record, lines)
    }

    /// Takes over one 8259.
    ///
    /// # Errors
    /// `ENODEV` if there is none, `EINVAL` for an instance above 1.
    pub fn load_pic(&mut self, instance: u16, record: &HwVpic) -> Result<()> {
        self.chips.as_mut().ok_or(Errno::NODEV)?.pic.load(instance, record)
    }

    /// Counts from the lines what holds links and pins up. Only lines are in the records, and those of the callback are not.
    fn recount(&mut self) {
        self.callback_asserted = false;
        self.link_counts = [0; 4];
        self.pin_counts = [0; 48];
        let mut hold = |gsi: u8| self.pin_counts[usize::from(gsi)] += 1;
        for (device, intx) in (0..PCI_DEVICES).flat_map(|device| (0..4).map(move |intx| (device, intx))) {
            if self.pci & pci_bit(device, intx).unwrap_or(0) != 0 {
                hold(pci_gsi(device, intx));
                self.link_counts[usize::from(pci_link(device, intx))] += 1;
            }
        }
        (0..ISA_IRQS).filter(|irq| self.isa >> irq & 1 != 0).for_each(|irq| hold(isa_gsi(irq)));
        let links = self.route.iter().zip(&self.link_counts);
        links.filter(|&(&irq, &count)| irq != 0 && count != 0).for_each(|(&irq, _)| hold(irq));
        if let Some(chips) = &mut self.chips {
            let up = self.pin_counts.iter().enumerate().filter(|(_, count)| **count != 0);
            chips.ioapic.set_lines(up.fold(0, |lines, (gsi, _)| lines | 1 << gsi));
        }
    }
}
