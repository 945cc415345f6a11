//! MADT: CPUs and interrupt controllers (ACPI 6.5, 5.2.12).

use super::bytes::{Bytes, structures};
use alloc::vec::Vec;
use x86_defs::apic::{Polarity, Trigger};

/// A CPU's local APIC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LocalApic {
    /// ACPI's number of the CPU (`_UID`).
    pub acpi_id: u32,
    /// APIC id.
    pub apic_id: u32,
    /// Usable now.
    pub enabled: bool,
    /// Could be made usable later (hotplug).
    pub online_capable: bool,
    /// Listed as an x2APIC.
    pub x2apic: bool,
}

/// An I/O APIC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IoApicEntry {
    /// Its id.
    pub id: u8,
    /// Physical address of its page.
    pub address: u64,
    /// Global number of its first pin.
    pub gsi_base: u32,
}

/// An ISA interrupt that is wired otherwise than one to one, edge, high.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Override {
    /// ISA interrupt.
    pub irq: u8,
    /// Global number of the pin that it arrives at.
    pub gsi: u32,
    /// Its trigger mode; `None` as the bus has it (edge).
    pub trigger: Option<Trigger>,
    /// Its polarity; `None` as the bus has it (high).
    pub polarity: Option<Polarity>,
}

/// A pin of an I/O APIC that is wired to an NMI source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NmiSource {
    /// Global number of the pin.
    pub gsi: u32,
    /// Trigger mode, as in [`Override`].
    pub trigger: Option<Trigger>,
    /// Polarity, as in [`Override`].
    pub polarity: Option<Polarity>,
}

/// A local pin that is wired to NMI.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LocalNmi {
    /// ACPI's number of the CPU; `None` for all CPUs.
    pub acpi_id: Option<u32>,
    /// 0 for LINT0, 1 for LINT1.
    pub lint: u8,
    /// Whether the pin is active low.
    pub polarity: Option<Polarity>,
}

/// The MADT.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Madt {
    /// Physical address of the local APICs.
    pub lapic_address: u64,
    /// The machine also has 8259s.
    pub has_8259: bool,
    /// CPUs, in firmware's order; each APIC id once.
    pub cpus: Vec<LocalApic>,
    /// I/O APICs.
    pub io_apics: Vec<IoApicEntry>,
    /// Overrides of ISA interrupts.
    pub overrides: Vec<Override>,
    /// NMI sources at I/O APICs.
    pub nmi_sources: Vec<NmiSource>,
    /// NMI sources at local pins.
    pub local_nmis: Vec<LocalNmi>,
}

/// MPS INTI flags (ACPI 6.5, table 5.26).
fn inti(flags: u16) -> (Option<Trigger>, Option<Polarity>) {
    let polarity = match flags & 3 {
        1 => Some(Polarity::ActiveHigh),
        3 => Some(Polarity::ActiveLow),
        _ => None,
    };
    let trigger = match flags >> 2 & 3 {
        1 => Some(Trigger::Edge),
        3 => Some(Trigger::Level),
        _ => None,
    };
    (trigger, polarity)
}

impl Madt {
    /// Reads a whole table, header included. What is cut off or unknown is left out.
    pub fn parse(table: &[u8]) -> Madt {
        let mut madt = Madt {
            lapic_address: table.u32(36).unwrap_or(0).into(),
            has_8259: table.u32(40).unwrap_or(0) & 1 != 0,
            ..Madt::default()
        };
        for (kind, entry) in structures(table, 44) {
            // An entry that is too short for its type is skipped.
            let _ = madt.add(kind, entry);
        }
        madt
    }

    fn add(&mut self, kind: u8, entry: &[u8]) -> Option<()> {
        match kind {
            0 => self.add_cpu(entry.u8(2)?.into(), entry.u8(3)?.into(), entry.u32(4)?, false),
            1 => self.io_apics.push(IoApicEntry {
                id: entry.u8(2)?,
                address: entry.u32(4)?.into(),
                gsi_base: entry.u32(8)?,
            }),
            2 => {
                let (trigger, polarity) = inti(entry.u16(8)?);
                self.overrides.push(Override { irq: entry.u8(3)?, gsi: entry.u32(4)?, trigger, polarity });
            }
            3 => {
                let (trigger, polarity) = inti(entry.u16(2)?);
                self.nmi_sources.push(NmiSource { gsi: entry.u32(4)?, trigger, polarity });
            }
            4 => {
                let acpi_id = entry.u8(2).filter(|id| *id != 0xff).map(u32::from);
                let (_, polarity) = inti(entry.u16(3)?);
                self.local_nmis.push(LocalNmi { acpi_id, lint: entry.u8(5)?, polarity });
            }
            5 => self.lapic_address = entry.u64(4)?,
            9 => self.add_cpu(entry.u32(12)?, entry.u32(4)?, entry.u32(8)?, true),
            10 => {
                let (_, polarity) = inti(entry.u16(2)?);
                let acpi_id = entry.u32(4).filter(|id| *id != u32::MAX);
                self.local_nmis.push(LocalNmi { acpi_id, lint: entry.u8(8)?, polarity });
            }
            _ => (),
        }
        Some(())
    }

    fn add_cpu(&mut self, acpi_id: u32, apic_id: u32, flags: u32, x2apic: bool) {
        // Firmware lists CPUs with small ids in both forms at times, and unused slots with id 255.
        let unused = !x2apic && apic_id == 0xff || apic_id == u32::MAX;
        if unused || self.cpus.iter().any(|cpu| cpu.apic_id == apic_id) {
            return;
        }
        let (enabled, online_capable) = (flags & 1 != 0, flags & 2 != 0);
        self.cpus.push(LocalApic { acpi_id, apic_id, enabled, online_capable, x2apic });
    }

    /// Where an ISA interrupt arrives: global pin number, trigger, polarity.
    pub fn isa_irq(&self, irq: u8) -> (u32, Trigger, Polarity) {
        let found = self.overrides.iter().find(|entry| entry.irq == irq);
        found.map_or((irq.into(), Trigger::Edge, Polarity::ActiveHigh), |entry| {
            let (trigger, polarity) = (entry.trigger, entry.polarity);
            (entry.gsi, trigger.unwrap_or(Trigger::Edge), polarity.unwrap_or(Polarity::ActiveHigh))
        })
    }

    /// Trigger and polarity that a pin has unless dom0 says otherwise: by override, ISA's, or PCI's from pin 16 on.
    pub fn default_mode(&self, gsi: u32) -> (Trigger, Polarity) {
        match self.overrides.iter().find(|entry| entry.gsi == gsi) {
            Some(entry) => {
                let (_, trigger, polarity) = self.isa_irq(entry.irq);
                (trigger, polarity)
            }
            None if gsi < 16 => (Trigger::Edge, Polarity::ActiveHigh),
            None => (Trigger::Level, Polarity::ActiveLow),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acpi::tables::tests::table;

    #[test]
    fn reads_what_a_pc_has() {
        let mut body = vec![0, 0, 0xe0, 0xfe, 1, 0, 0, 0];
        body.extend([0, 8, 0, 0, 1, 0, 0, 0]);
        body.extend([0, 8, 1, 1, 2, 0, 0, 0]);
        body.extend([0, 8, 2, 0xff, 0, 0, 0, 0]);
        body.extend([9, 16, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0]);
        body.extend([9, 16, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]);
        body.extend([1, 12, 2, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0]);
        body.extend([2, 10, 0, 0, 2, 0, 0, 0, 0, 0]);
        body.extend([2, 10, 0, 9, 9, 0, 0, 0, 0xd, 0]);
        body.extend([4, 6, 0xff, 0, 0, 1]);
        body.extend([3, 8, 0xf, 0, 23, 0, 0, 0]);
        body.extend([1, 3, 0]);
        let madt = Madt::parse(&table(b"APIC", &body));
        assert_eq!(madt.lapic_address, 0xfee0_0000);
        assert!(madt.has_8259);
        let ids: Vec<_> = madt.cpus.iter().map(|cpu| (cpu.apic_id, cpu.enabled, cpu.x2apic)).collect();
        assert_eq!(ids, [(0, true, false), (1, false, false), (0x100, true, true)]);
        assert_eq!(madt.io_apics, [IoApicEntry { id: 2, address: 0xfec0_0000, gsi_base: 0 }]);
        assert_eq!(madt.isa_irq(0), (2, Trigger::Edge, Polarity::ActiveHigh));
        assert_eq!(madt.isa_irq(9), (9, Trigger::Level, Polarity::ActiveHigh));
        assert_eq!(madt.isa_irq(4), (4, Trigger::Edge, Polarity::ActiveHigh));
        assert_eq!(madt.default_mode(9), (Trigger::Level, Polarity::ActiveHigh));
        assert_eq!(madt.default_mode(16), (Trigger::Level, Polarity::ActiveLow));
        assert_eq!(madt.local_nmis, [LocalNmi { acpi_id: None, lint: 1, polarity: None }]);
        let low = (Some(Trigger::Level), Some(Polarity::ActiveLow));
        assert_eq!(madt.nmi_sources, [NmiSource { gsi: 23, trigger: low.0, polarity: low.1 }]);
    }
}
