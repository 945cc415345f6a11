//! What UEFI leaves behind for who comes after its boot services: the tables that its system table names (UEFI 2.10, 4.3
//! and 4.6).

use super::multiboot::Memory;

/// "IBI SYST", with which a system table begins.
const SIGNATURE: u64 = 0x5453_5953_2049_4249;
/// Byte offsets in the system table: how many tables there are, and where the list of them is.
const COUNT: u64 = 104;
const LIST: u64 = 112;
/// Bytes of an entry of the list: a GUID and an address.
const ENTRY: u64 = 24;
/// More tables than any firmware has.
const MOST: u64 = 256;

/// 8868e871-e4f1-11d3-bc22-0080c73c8881: ACPI 2.0 and later. As a number, its first byte the lowest.
const ACPI_2: u128 = u128::from_le_bytes(*b"\x71\xe8\x68\x88\xf1\xe4\xd3\x11\xbc\x22\x00\x80\xc7\x3c\x88\x81");
/// eb9d2d30-2d88-11d3-9a16-0090273fc14d: ACPI 1.0.
const ACPI_1: u128 = u128::from_le_bytes(*b"\x30\x2d\x9d\xeb\x88\x2d\xd3\x11\x9a\x16\x00\x90\x27\x3f\xc1\x4d");

/// Physical address of the ACPI root pointer, given that of the system table; `None` where it names none or is out of reach.
pub fn find_rsdp(memory: &impl Memory, system_table: u64) -> Option<u64> {
    if read(memory, system_table)? != SIGNATURE {
        return None;
    }
    let count = read(memory, system_table.checked_add(COUNT)?)?.min(MOST);
    let list = read(memory, system_table.checked_add(LIST)?)?;
    let find = |guid: u128| {
        (0..count).find_map(|index| {
            let entry = list.checked_add(index * ENTRY)?;
            let [low, high, address] = [0, 8, 16].map(|offset| read(memory, entry.checked_add(offset)?));
            (u128::from(low?) | u128::from(high?) << 64 == guid).then_some(address?)
        })
    };
    find(ACPI_2).or_else(|| find(ACPI_1))
}

fn read(memory: &impl Memory, address: u64) -> Option<u64> {
    let mut bytes = [0; 8];
    memory.read(address, &mut bytes).then(|| u64::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fake(Vec<u64>);

    impl Memory for Fake {
        fn read(&self, address: u64, to: &mut [u8]) -> bool {
            let bytes: Vec<u8> = self.0.iter().flat_map(|word| word.to_le_bytes()).collect();
            let found = usize::try_from(address).ok().and_then(|at| bytes.get(at..at.checked_add(to.len())?));
            found.map(|found| to.copy_from_slice(found)).is_some()
        }
    }

    fn firmware(tables: &[(u128, u64)]) -> Fake {
        let mut words = vec![0; 16];
        (words[0], words[13], words[14]) = (SIGNATURE, tables.len() as u64, 128);
        for (guid, address) in tables {
            words.extend([*guid as u64, (*guid >> 64) as u64, *address]);
        }
        Fake(words)
    }

    #[test]
    fn the_newer_table_wins() {
        let both = firmware(&[(7, 1), (ACPI_1, 2), (ACPI_2, 3)]);
        assert_eq!(find_rsdp(&both, 0), Some(3));
        assert_eq!(find_rsdp(&firmware(&[(7, 1), (ACPI_1, 2)]), 0), Some(2));
        assert_eq!(find_rsdp(&firmware(&[(7, 1)]), 0), None);
    }

    #[test]
    fn nonsense_is_not_followed() {
        let mut other = firmware(&[(ACPI_2, 3)]);
        assert_eq!(find_rsdp(&other, 8), None, "no signature there");
        assert_eq!(find_rsdp(&other, u64::MAX), None);
        other.0[14] = u64::MAX - 8;
        assert_eq!(find_rsdp(&other, 0), None, "the list is out of reach");
        other.0[13] = u64::MAX;
        assert_eq!(find_rsdp(&other, 0), None);
    }
}
