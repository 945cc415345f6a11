//! Finding tables: root pointer, root table, headers (ACPI 6.5, 5.2.5 to 5.2.8).

use super::bytes::Bytes;
use super::{AcpiError, Fadt, Hpet, Madt, McfgEntry, Signature, Slit, Srat};
use alloc::vec;
use alloc::vec::Vec;

/// Reading physical memory, as firmware left it.
pub trait PhysicalMemory {
    /// Copies from the physical address `address`; false if any byte cannot be read.
    fn read(&self, address: u64, to: &mut [u8]) -> bool;
}

/// Length of every table's header.
const HEADER: usize = 36;
/// No table that we read is longer: a bound for damaged length fields.
const LONGEST: u32 = 1 << 20;
/// No more tables than this are listed.
const MOST: usize = 256;

/// A table that the root table lists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TableEntry {
    /// Its name.
    pub signature: Signature,
    /// Physical address.
    pub address: u64,
    /// Length, in bytes, header included.
    pub length: u32,
}

/// The list of tables.
#[derive(Clone, Debug)]
pub struct Tables {
    /// Physical address of the root pointer; 0 if only a copy of it is known.
    pub rsdp: u64,
    /// ACPI revision that the root pointer claims: 0 is 1.0, 2 is 2.0 or later.
    pub revision: u8,
    /// The tables, in firmware's order.
    pub entries: Vec<TableEntry>,
}

impl Tables {
    /// Finds the list. `rsdp` is where the boot loader or UEFI says that the root pointer is; without it the BIOS areas
    /// are searched.
    ///
    /// # Errors
    /// No root pointer, or a root table that is damaged or unreadable.
    pub fn discover(memory: &impl PhysicalMemory, rsdp: Option<u64>) -> Result<Tables, AcpiError> {
        let rsdp = match rsdp {
            Some(address) => address,
            None => search(memory).ok_or(AcpiError::NoRoot)?,
        };
        let mut pointer = [0; 36];
        // The second part is there from revision 2 on only, and may be beyond what can be read.
        if !memory.read(rsdp, &mut pointer) && !memory.read(rsdp, &mut pointer[..20]) {
            return Err(AcpiError::Unreadable(rsdp));
        }
        let mut tables = Tables::from_root_pointer(memory, &pointer)?;
        tables.rsdp = rsdp;
        Ok(tables)
    }

    /// Finds the list by a copy of the root pointer, 20 or 36 bytes, as multiboot passes it. [`Tables::rsdp`] is then 0.
    ///
    /// # Errors
    /// A root pointer or root table that is damaged or unreadable.
    pub fn from_root_pointer(memory: &impl PhysicalMemory, pointer: &[u8]) -> Result<Tables, AcpiError> {
        let (root, width, revision) = read_root_pointer(pointer)?;
        let name = if width == 8 { *b"XSDT" } else { *b"RSDT" };
        let table = read_table(memory, root, Some(name))?;
        let entries = table[HEADER..]
            .chunks_exact(width)
            .take(MOST)
            .filter_map(|entry| {
                let address = if width == 8 { entry.u64(0)? } else { entry.u32(0)?.into() };
                let mut header = [0; 8];
                (address != 0 && memory.read(address, &mut header)).then_some(TableEntry {
                    signature: *header.first_chunk()?,
                    address,
                    length: header.u32(4)?,
                })
            })
            .collect();
        Ok(Tables { rsdp: 0, revision, entries })
    }

    /// Whether a table of that name is listed, such as `DMAR` or `IVRS` (an IOMMU).
    pub fn has(&self, signature: Signature) -> bool {
        self.entries.iter().any(|entry| entry.signature == signature)
    }

    /// The bytes of the first table of that name, checksum verified.
    ///
    /// # Errors
    /// Missing, damaged or unreadable.
    pub fn read(&self, memory: &impl PhysicalMemory, signature: Signature) -> Result<Vec<u8>, AcpiError> {
        let entry = self.entries.iter().find(|entry| entry.signature == signature);
        read_table(memory, entry.ok_or(AcpiError::Missing(signature))?.address, Some(signature))
    }

    /// The interrupt controllers and CPUs.
    ///
    /// # Errors
    /// As [`Tables::read`].
    pub fn madt(&self, memory: &impl PhysicalMemory) -> Result<Madt, AcpiError> {
        self.read(memory, *b"APIC").map(|table| Madt::parse(&table))
    }

    /// Fixed hardware: power management and reset.
    ///
    /// # Errors
    /// As [`Tables::read`].
    pub fn fadt(&self, memory: &impl PhysicalMemory) -> Result<Fadt, AcpiError> {
        self.read(memory, *b"FACP").map(|table| Fadt::parse(&table))
    }

    /// The HPET.
    ///
    /// # Errors
    /// As [`Tables::read`].
    pub fn hpet(&self, memory: &impl PhysicalMemory) -> Result<Hpet, AcpiError> {
        let table = self.read(memory, *b"HPET")?;
        super::parse_hpet(&table).ok_or(AcpiError::Missing(*b"HPET"))
    }

    /// Where PCI configuration space is memory-mapped.
    ///
    /// # Errors
    /// As [`Tables::read`].
    pub fn mcfg(&self, memory: &impl PhysicalMemory) -> Result<Vec<McfgEntry>, AcpiError> {
        self.read(memory, *b"MCFG").map(|table| super::parse_mcfg(&table))
    }

    /// Which CPUs and memory are near to each other.
    ///
    /// # Errors
    /// As [`Tables::read`], and as [`Srat::parse`].
    pub fn srat(&self, memory: &impl PhysicalMemory) -> Result<Srat, AcpiError> {
        Srat::parse(&self.read(memory, *b"SRAT")?)
    }

    /// How far they are from each other.
    ///
    /// # Errors
    /// As [`Tables::read`], and as [`Slit::parse`].
    pub fn slit(&self, memory: &impl PhysicalMemory) -> Result<Slit, AcpiError> {
        Slit::parse(&self.read(memory, *b"SLIT")?)
    }
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

/// Searches the first KiB of the EBDA and the BIOS area (ACPI 6.5, 5.2.5.1).
fn search(memory: &impl PhysicalMemory) -> Option<u64> {
    let mut segment = [0; 2];
    let ebda = if memory.read(0x40e, &mut segment) { u64::from(u16::from_le_bytes(segment)) << 4 } else { 0 };
    let areas = [(ebda, 0x400), (0xe_0000, 0x2_0000)];
    areas.into_iter().filter(|(start, _)| (0x400..0x10_0000).contains(start)).find_map(|(start, length)| {
        let mut area = vec![0; length];
        memory.read(start, &mut area).then_some(())?;
        (0..length - 20)
            .step_by(16)
            .find(|at| area[*at..].starts_with(b"RSD PTR ") && sum(&area[*at..at + 20]) == 0)
            .map(|at| start + at as u64)
    })
}

/// Address of the root table, width of its entries in bytes, revision.
fn read_root_pointer(pointer: &[u8]) -> Result<(u64, usize, u8), AcpiError> {
    let old = pointer.get(..20).filter(|old| old.starts_with(b"RSD PTR ")).ok_or(AcpiError::NoRoot)?;
    verify(old, 8, *b"RSDP", 0)?;
    let revision = old[15];
    if revision >= 2 {
        let whole = pointer.get(..36).ok_or(AcpiError::NoRoot)?;
        verify(whole, 32, *b"RSDP", 0)?;
        let xsdt = whole.u64(24).unwrap_or(0);
        if xsdt != 0 {
            return Ok((xsdt, 8, revision));
        }
    }
    Ok((old.u32(16).unwrap_or(0).into(), 4, revision))
}

fn verify(bytes: &[u8], at: usize, table: Signature, address: u64) -> Result<(), AcpiError> {
    let actual = bytes[at];
    let expected = actual.wrapping_sub(sum(bytes));
    if expected == actual { Ok(()) } else { Err(AcpiError::Checksum { table, address, expected, actual }) }
}

fn read_table(memory: &impl PhysicalMemory, address: u64, name: Option<Signature>) -> Result<Vec<u8>, AcpiError> {
    let mut header = [0; HEADER];
    if !memory.read(address, &mut header) {
        return Err(AcpiError::Unreadable(address));
    }
    let table = *header.first_chunk().unwrap_or(&[0; 4]);
    if let Some(name) = name.filter(|name| *name != table) {
        return Err(AcpiError::Missing(name));
    }
    let length = header.u32(4).unwrap_or(0);
    if (length as usize) < HEADER || length > LONGEST {
        return Err(AcpiError::Length { table, address, length });
    }
    let mut bytes = vec![0; length as usize];
    if !memory.read(address, &mut bytes) {
        return Err(AcpiError::Unreadable(address));
    }
    verify(&bytes, 9, table, address)?;
    Ok(bytes)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Memory that begins at physical address 0xe0000.
    struct Bios(Vec<u8>);

    impl PhysicalMemory for Bios {
        fn read(&self, address: u64, to: &mut [u8]) -> bool {
            let from = address.checked_sub(0xe_0000).and_then(|at| self.0.get(at as usize..)?.get(..to.len()));
            from.inspect(|from| to.copy_from_slice(from)).is_some()
        }
    }

    /// A table with a right header.
    pub fn table(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER];
        bytes[..4].copy_from_slice(name);
        bytes.extend_from_slice(body);
        let length = bytes.len() as u32;
        bytes[4..8].copy_from_slice(&length.to_le_bytes());
        bytes[9] = 0u8.wrapping_sub(sum(&bytes));
        bytes
    }

    fn machine(xsdt: bool, tables: &[Vec<u8>]) -> Bios {
        let mut bios = vec![0; 0x2_0000];
        let mut at = 0x1000;
        let mut list = Vec::new();
        for table in tables {
            bios[at..at + table.len()].copy_from_slice(table);
            let address = 0xe_0000 + at as u64;
            list.extend_from_slice(&address.to_le_bytes()[..if xsdt { 8 } else { 4 }]);
            at += table.len().next_multiple_of(16);
        }
        let root = table(if xsdt { b"XSDT" } else { b"RSDT" }, &list);
        bios[at..at + root.len()].copy_from_slice(&root);
        let mut pointer = [0; 36];
        pointer[..8].copy_from_slice(b"RSD PTR ");
        pointer[15] = if xsdt { 2 } else { 0 };
        let root = 0xe_0000 + at as u64;
        pointer[if xsdt { 24..32 } else { 16..24 }].copy_from_slice(&root.to_le_bytes());
        pointer[8] = 0u8.wrapping_sub(sum(&pointer[..20]));
        pointer[32] = 0u8.wrapping_sub(sum(&pointer));
        bios[0x40..0x64].copy_from_slice(&pointer);
        Bios(bios)
    }

    #[test]
    fn finds_tables_by_either_root() {
        for xsdt in [false, true] {
            let bios = machine(xsdt, &[table(b"FACP", &[7; 100]), table(b"DMAR", &[])]);
            let tables = Tables::discover(&bios, None).unwrap();
            assert_eq!(tables.rsdp, 0xe_0040);
            assert_eq!(tables.entries.len(), 2);
            assert!(tables.has(*b"DMAR") && !tables.has(*b"IVRS"));
            assert_eq!(tables.read(&bios, *b"FACP").unwrap()[HEADER..], [7; 100]);
            assert_eq!(tables.read(&bios, *b"HPET"), Err(AcpiError::Missing(*b"HPET")));
        }
    }

    #[test]
    fn a_damaged_table_is_named() {
        let mut bios = machine(true, &[table(b"FACP", &[7; 100])]);
        let right = bios.0[0x1009];
        bios.0[0x1030] += 1;
        let tables = Tables::discover(&bios, Some(0xe_0040)).unwrap();
        let error = tables.fadt(&bios).unwrap_err();
        let expected = right.wrapping_sub(1);
        assert_eq!(error, AcpiError::Checksum { table: *b"FACP", address: 0xe_1000, expected, actual: right });
        assert!(error.to_string().contains("table FACP at 0xe1000"));
        bios.0[0x1004] = 3;
        bios.0[0x1005] = 0;
        assert!(matches!(tables.fadt(&bios), Err(AcpiError::Length { length: 3, .. })));
        bios.0[0x41] = 0;
        assert_eq!(Tables::discover(&bios, None).unwrap_err(), AcpiError::NoRoot);
    }

    proptest! {
        #[test]
        fn random_damage_never_panics(at in 0usize..0x1400, value: u8, body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let names = [b"FACP", b"APIC", b"HPET", b"MCFG", b"SRAT", b"SLIT"];
            let mut bios = machine(true, &names.map(|name| table(name, &body)));
            bios.0[at] = value;
            if let Ok(tables) = Tables::discover(&bios, None) {
                let _ = (tables.madt(&bios), tables.fadt(&bios), tables.hpet(&bios));
                let _ = (tables.mcfg(&bios), tables.srat(&bios), tables.slit(&bios));
            }
        }
    }
}
