//! HPET and MCFG.

use super::bytes::Bytes;
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
}
