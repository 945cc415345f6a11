//! PCI configuration space, and message-signalled interrupts that are programmed for dom0.

mod access;
mod address;
mod msi;
mod msix;
#[cfg(test)]
mod tests;

pub use access::{Pci, config};
pub use address::{CAPABILITY_MSI, CAPABILITY_MSIX, ConfigSpace, Sbdf, find_capability};
pub use msi::Msi;
pub use msix::{ENTRY_SIZE, Msix, base_address, set_mask, write_entry};
