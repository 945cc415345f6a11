//! What can be wrong with firmware's tables.

use super::Signature;
use core::fmt;

/// Why the tables, or one of them, cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AcpiError {
    /// No root pointer where firmware may leave it.
    NoRoot,
    /// No such table.
    Missing(Signature),
    /// The bytes of the table do not sum to zero.
    Checksum {
        /// Which table.
        table: Signature,
        /// Physical address of the table.
        address: u64,
        /// The checksum byte that would make the sum zero.
        expected: u8,
        /// The checksum byte that is there.
        actual: u8,
    },
    /// The length field is impossible.
    Length {
        /// Which table.
        table: Signature,
        /// Physical address of the table.
        address: u64,
        /// The length that it claims, in bytes.
        length: u32,
    },
    /// What the table says cannot be.
    Corrupt {
        /// Which table.
        table: Signature,
        /// What is wrong in it.
        what: &'static str,
    },
    /// Physical memory at the address cannot be read.
    Unreadable(u64),
}

struct Name(Signature);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{}", byte.escape_ascii()))
    }
}

impl fmt::Display for AcpiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            AcpiError::NoRoot => f.write_str(
                "ACPI: no root pointer (RSDP) found. Have the boot loader pass it, or turn ACPI on in firmware setup.",
            ),
            AcpiError::Missing(table) => {
                write!(
                    f,
                    "ACPI: no table {}. Turn the device on in firmware setup, or update the firmware.",
                    Name(table)
                )
            }
            AcpiError::Checksum { table, address, expected, actual } => write!(
                f,
                "ACPI: table {} at {address:#x} has checksum {actual:#04x}, should have {expected:#04x}. Update the firmware, or \
                 remove whatever overrides the table.",
                Name(table)
            ),
            AcpiError::Length { table, address, length } => {
                write!(
                    f,
                    "ACPI: table {} at {address:#x} is corrupt: it claims {length} bytes. Update the firmware.",
                    Name(table)
                )
            }
            AcpiError::Corrupt { table, what } => {
                write!(f, "ACPI: table {} is corrupt: {what}. It is ignored; update the firmware.", Name(table))
            }
            AcpiError::Unreadable(address) => {
                write!(
                    f,
                    "ACPI: physical memory at {address:#x} cannot be read. Check the memory map that the boot loader gave."
                )
            }
        }
    }
}
