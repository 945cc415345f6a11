//! HPET, MCFG and SRAT.

use super::bytes::{Bytes, structures};
use alloc::vec::Vec;

/// The HPET (IA-PC HPET specification 1.0a, 3.2.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hpet {
    /// Physical address of its registers.
    pub address: u64,
    /// Its number.
    pub number: u8,
}

/// Reads the HPET's table; `None` if it is cut off or the registers are no memory.
pub fn parse_hpet(table: &[u8]) -> Option<Hpet> {
    (table.u8(40)? == 0).then_some(())?;
    let address = table.u64(44).filter(|address| *address != 0)?;
    Some(Hpet { address, number: table.u8(52)? })
}

/// Memory-mapped PCI configuration space of some buses (PCI Firmware Specification 3.3, 4.1.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct McfgEntry {
    /// Physical address that bus 0 would have.
    pub address: u64,
    /// PCI segment.
    pub segment: u16,
    /// First bus.
    pub first_bus: u8,
    /// Last bus.
    pub last_bus: u8,
}

/// Reads MCFG; entries that make no sense are left out.
pub fn parse_mcfg(table: &[u8]) -> Vec<McfgEntry> {
    let entries = table.get(44..).unwrap_or(&[]).chunks_exact(16);
    let parsed = entries.filter_map(|entry| {
        Some(McfgEntry {
            address: entry.u64(0)?,
            segment: entry.u16(8)?,
            first_bus: entry.u8(10)?,
            last_bus: entry.u8(11)?,
        })
    });
    parsed.filter(|entry| entry.address != 0 && entry.first_bus <= entry.last_bus).collect()
}

/// Which proximity domain a CPU is in (ACPI 6.5, 5.2.16).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SratCpu {
    /// APIC id.
    pub apic_id: u32,
    /// Proximity domain.
    pub domain: u32,
}

/// Which proximity domain memory is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SratMemory {
    /// Physical address.
    pub address: u64,
    /// Length, in bytes.
    pub length: u64,
    /// Proximity domain.
    pub domain: u32,
    /// May be taken out.
    pub hotplug: bool,
}

/// Reads SRAT: enabled CPUs and memory.
pub fn parse_srat(table: &[u8]) -> (Vec<SratCpu>, Vec<SratMemory>) {
    let (mut cpus, mut memory) = (Vec::new(), Vec::new());
    for (kind, entry) in structures(table, 48) {
        let cpu = match kind {
            0 => small_cpu(entry),
            2 => x2apic_cpu(entry),
            _ => None,
        };
        cpus.extend(cpu);
        if kind == 1 {
            memory.extend(memory_range(entry));
        }
    }
    (cpus, memory)
}

fn small_cpu(entry: &[u8]) -> Option<SratCpu> {
    let high: [u8; 3] = entry.array(9)?;
    let domain = u32::from_le_bytes([entry.u8(2)?, high[0], high[1], high[2]]);
    (entry.u32(4)? & 1 != 0).then_some(SratCpu { apic_id: entry.u8(3)?.into(), domain })
}

fn x2apic_cpu(entry: &[u8]) -> Option<SratCpu> {
    (entry.u32(12)? & 1 != 0).then_some(SratCpu { apic_id: entry.u32(8)?, domain: entry.u32(4)? })
}

fn memory_range(entry: &[u8]) -> Option<SratMemory> {
    let flags = entry.u32(28)?;
    let (address, length, domain) = (entry.u64(8)?, entry.u64(16)?, entry.u32(2)?);
    (flags & 1 != 0).then_some(SratMemory { address, length, domain, hotplug: flags & 2 != 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_hpet_and_mcfg() {
        let mut table = vec![0; 56];
        table[44..52].copy_from_slice(&0xfed0_0000u64.to_le_bytes());
        assert_eq!(parse_hpet(&table), Some(Hpet { address: 0xfed0_0000, number: 0 }));
        table[40] = 1;
        assert_eq!(parse_hpet(&table), None);
        let mut table = vec![0; 44];
        table.extend(0xb000_0000u64.to_le_bytes());
        table.extend([1, 0, 0, 0xff, 0, 0, 0, 0]);
        let entry = McfgEntry { address: 0xb000_0000, segment: 1, first_bus: 0, last_bus: 255 };
        assert_eq!(parse_mcfg(&table), [entry]);
        table[54] = 1;
        table[55] = 0;
        assert_eq!(parse_mcfg(&table), []);
    }

    #[test]
    fn reads_srat() {
        let mut table = vec![0; 48];
        table.extend([0, 16, 1, 5, 1, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0]);
        table.extend([2, 24, 0, 0, 3, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let mut memory = vec![0; 40];
        memory[..2].copy_from_slice(&[1, 40]);
        memory[2] = 4;
        memory[16 + 3] = 0x80;
        memory[28] = 3;
        table.extend(memory);
        let (cpus, memory) = parse_srat(&table);
        assert_eq!(cpus, [SratCpu { apic_id: 5, domain: 0x201 }, SratCpu { apic_id: 0x100, domain: 3 }]);
        assert_eq!(memory, [SratMemory { address: 0, length: 0x8000_0000, domain: 4, hotplug: true }]);
    }
}
