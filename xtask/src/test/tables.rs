//! ACPI tables for the firmware of a machine that has none of its own (`-M q35,acpi=off`): a MADT, well formed or not.
//!
//! SeaBIOS takes them from fw_cfg by the same script of commands that QEMU writes for it (QEMU,
//! hw/acpi/bios-linker-loader.c): allocate a file's memory, add the address of one file to a pointer in another, put a
//! checksum in. Table layouts: ACPI 6.5, 5.2.5 (RSDP), 5.2.7 (RSDT), 5.2.12 (MADT).

/// What is wrong with the tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Nothing.
    #[cfg_attr(not(test), expect(dead_code, reason = "the tests' point of comparison"))]
    Nothing,
    /// An entry of the MADT says that it is 0 bytes long: who believes it reads it for ever.
    EmptyEntry,
    /// The MADT says that it is 2 GiB long.
    HugeTable,
}

/// Contents of the three files: `etc/acpi/rsdp`, `etc/acpi/tables`, `etc/table-loader`.
pub struct Files {
    /// Root pointer.
    pub rsdp: Vec<u8>,
    /// RSDT, then MADT.
    pub tables: Vec<u8>,
    /// Commands for the firmware.
    pub loader: Vec<u8>,
}

const RSDP: &str = "etc/acpi/rsdp";
const TABLES: &str = "etc/acpi/tables";
/// Size of a table's header.
const HEADER: usize = 36;
/// Offset of the checksum in a table's header.
const CHECKSUM: usize = 9;
const RSDT_SIZE: usize = HEADER + 4;
/// Size of one of the loader's commands.
const COMMAND: usize = 128;
/// Size of a file's name in a command.
const NAME: usize = 56;

/// The files for a machine with `cpus` CPUs.
pub fn files(cpus: u8, fault: Fault) -> Files {
    let madt = madt(cpus, fault);
    let mut tables = header(b"RSDT", RSDT_SIZE);
    tables.extend((RSDT_SIZE as u32).to_le_bytes());
    tables.extend(&madt);
    let mut rsdp = b"RSD PTR \0XENLTH\0".to_vec();
    rsdp.extend(0u32.to_le_bytes());
    let mut loader = Vec::new();
    loader.extend(allocate(RSDP, 16, 2));
    loader.extend(allocate(TABLES, 64, 1));
    loader.extend(pointer(RSDP, TABLES, 16));
    loader.extend(pointer(TABLES, TABLES, HEADER));
    loader.extend(checksum(RSDP, 8, 0, 20));
    loader.extend(checksum(TABLES, CHECKSUM, 0, RSDT_SIZE));
    loader.extend(checksum(TABLES, RSDT_SIZE + CHECKSUM, RSDT_SIZE, madt.len()));
    Files { rsdp, tables, loader }
}

fn header(signature: &[u8; 4], length: usize) -> Vec<u8> {
    let mut table = signature.to_vec();
    table.extend((length as u32).to_le_bytes());
    table.extend([1, 0]);
    table.extend(b"XENLTHTESTDATA");
    table.extend(1u32.to_le_bytes());
    table.extend(b"XENL");
    table.extend(1u32.to_le_bytes());
    table
}

fn madt(cpus: u8, fault: Fault) -> Vec<u8> {
    let mut body = 0xfee0_0000u32.to_le_bytes().to_vec();
    body.extend(1u32.to_le_bytes());
    for cpu in 0..cpus {
        body.extend([0, 8, cpu, cpu, 1, 0, 0, 0]);
    }
    body.extend([1, 12, 0, 0]);
    body.extend(0xfec0_0000u32.to_le_bytes());
    body.extend(0u32.to_le_bytes());
    if fault == Fault::EmptyEntry {
        body[9] = 0;
    }
    let length = if fault == Fault::HugeTable { 0x8000_0000 } else { HEADER + body.len() };
    let mut table = header(b"APIC", length);
    table.extend(body);
    table
}

fn command(number: u32, parts: &[&[u8]]) -> Vec<u8> {
    let mut command = number.to_le_bytes().to_vec();
    command.extend(parts.concat());
    command.resize(COMMAND, 0);
    command
}

fn name(name: &str) -> Vec<u8> {
    let mut field = name.as_bytes().to_vec();
    field.resize(NAME, 0);
    field
}

/// Zone 1 is high memory, zone 2 the segment that is searched for the root pointer.
fn allocate(file: &str, align: u32, zone: u8) -> Vec<u8> {
    command(1, &[&name(file), &align.to_le_bytes(), &[zone]])
}

fn pointer(file: &str, to: &str, offset: usize) -> Vec<u8> {
    command(2, &[&name(file), &name(to), &(offset as u32).to_le_bytes(), &[4]])
}

fn checksum(file: &str, offset: usize, start: usize, length: usize) -> Vec<u8> {
    let numbers: Vec<u8> = [offset, start, length].iter().flat_map(|n| (*n as u32).to_le_bytes()).collect();
    command(3, &[&name(file), &numbers])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_acpis() {
        let good = files(2, Fault::Nothing);
        assert_eq!(good.rsdp.len(), 20);
        assert_eq!(header(b"TEST", 0).len(), HEADER);
        assert_eq!(good.loader.len(), 7 * COMMAND);
        let length = u32::from_le_bytes(good.tables[RSDT_SIZE + 4..RSDT_SIZE + 8].try_into().unwrap());
        assert_eq!(RSDT_SIZE + length as usize, good.tables.len());
        assert_eq!(good.tables[RSDT_SIZE + HEADER + 9], 8);
    }

    #[test]
    fn faults_change_what_they_say() {
        assert_eq!(files(2, Fault::EmptyEntry).tables[RSDT_SIZE + HEADER + 9], 0);
        assert_eq!(files(2, Fault::HugeTable).tables[RSDT_SIZE + 7], 0x80);
    }
}
