//! MSI-X (PCI 3.0, 6.8.2).

use super::address::{CAPABILITY_MSIX, ConfigSpace, Sbdf, find_capability};
use crate::registers::Registers;
use x86_defs::apic::MsiMessage;

const CONTROL_ENABLE: u32 = 1 << 15;
const CONTROL_MASK_ALL: u32 = 1 << 14;
/// Length of a table entry, in bytes.
pub const ENTRY_SIZE: usize = 16;
const ENTRY_MASKED: u32 = 1;

/// A function's MSI-X capability.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Msix {
    function: Sbdf,
    at: u16,
    /// Number of table entries, 1 to 2048.
    pub entries: u16,
    /// Where the table is: base address register, 0 to 5, and byte offset.
    pub table: (u8, u32),
    /// Where the pending bits are, likewise.
    pub pending: (u8, u32),
}

impl Msix {
    /// Finds it; `None` if the function has none.
    pub fn find(config: &(impl ConfigSpace + ?Sized), function: Sbdf) -> Option<Msix> {
        let at = find_capability(config, function, CAPABILITY_MSIX)?;
        let entries = (config.read(function, at + 2, 2) as u16 & 0x7ff) + 1;
        let place = |register| {
            let value: u32 = config.read(function, register, 4);
            (value as u8 & 7, value & !7)
        };
        Some(Msix { function, at, entries, table: place(at + 4), pending: place(at + 8) })
    }

    /// Physical address of the table, from the function's base address register; `None` if that holds no memory. For a
    /// virtual function, whose registers read zero, the caller knows the base itself.
    pub fn table_address(&self, config: &(impl ConfigSpace + ?Sized)) -> Option<u64> {
        let base = base_address(config, self.function, self.table.0)?;
        base.checked_add(self.table.1.into())
    }

    /// Length of the table, in bytes.
    pub fn table_size(&self) -> usize {
        usize::from(self.entries) * ENTRY_SIZE
    }

    /// Turns MSI-X on or off, and the mask over all entries.
    pub fn enable(&self, config: &(impl ConfigSpace + ?Sized), on: bool, mask_all: bool) {
        let mut control = config.read(self.function, self.at + 2, 2) & !(CONTROL_ENABLE | CONTROL_MASK_ALL);
        if on {
            control |= CONTROL_ENABLE;
        }
        if mask_all {
            control |= CONTROL_MASK_ALL;
        }
        config.write(self.function, self.at + 2, 2, control);
    }

    /// Whether MSI-X is on, and whether all entries are masked.
    pub fn state(&self, config: &(impl ConfigSpace + ?Sized)) -> (bool, bool) {
        let control = config.read(self.function, self.at + 2, 2);
        (control & CONTROL_ENABLE != 0, control & CONTROL_MASK_ALL != 0)
    }
}

/// Physical address in a memory base address register (PCI 3.0, 6.2.5.1).
pub fn base_address(config: &(impl ConfigSpace + ?Sized), function: Sbdf, index: u8) -> Option<u64> {
    if index > 5 {
        return None;
    }
    let register = 0x10 + 4 * u16::from(index);
    let low = config.read(function, register, 4);
    let high = match low & 7 {
        0 | 2 => 0,
        4 if index < 5 => config.read(function, register + 4, 4),
        _ => return None,
    };
    let address = u64::from(high) << 32 | u64::from(low & !0xf);
    (low != u32::MAX && address != 0).then_some(address)
}

/// Writes a message into entry `index` of a table, masked in the meantime and masked or not afterwards.
pub fn write_entry(table: &impl Registers, index: u16, message: MsiMessage, masked: bool) {
    let at = usize::from(index) * ENTRY_SIZE;
    set_mask(table, index, true);
    table.write32(at, message.address as u32);
    table.write32(at + 4, (message.address >> 32) as u32);
    table.write32(at + 8, message.data);
    set_mask(table, index, masked);
}

/// Masks or unmasks entry `index`. Reads back, so that the write has arrived.
pub fn set_mask(table: &impl Registers, index: u16, masked: bool) {
    let at = usize::from(index) * ENTRY_SIZE + 12;
    let control = table.read32(at) & !ENTRY_MASKED | u32::from(masked);
    table.write32(at, control);
    table.read32(at);
}
