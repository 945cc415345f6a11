//! The interrupt controllers of the real machine.

use super::line::Controller;
use hal::IoRegion;
use hal_irq::pci::{self, ConfigSpace, Msi, Sbdf};
use hal_irq::{cpus, lapic, pins};
use types::{CpuId, Errno, Result};
use x86_defs::apic::{MsiMessage, Polarity, Trigger};

/// Where a device keeps a message.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// In configuration space (PCI 3.0, 6.8.1).
    Msi {
        /// The capability.
        msi: Msi,
        /// Which of its messages.
        index: u8,
        /// How many it sends.
        count: u8,
    },
    /// In a table of its own (PCI 3.0, 6.8.2).
    Msix {
        /// The function, which does not answer while its memory is off.
        function: Sbdf,
        /// The table.
        table: IoRegion,
        /// Entry of the table.
        index: u16,
    },
}

/// Bit of the command register that turns a function's memory on (PCI 3.0, 6.2.2).
const COMMAND_MEMORY: u32 = 2;

/// Whether a function's memory answers.
pub fn has_memory_on(function: Sbdf) -> bool {
    let command = pci::config().read(function, 4, 2);
    command != 0xffff && command & COMMAND_MEMORY != 0
}

/// I/O APICs, local APICs, and devices that send messages.
pub struct Hardware;

impl Controller for Hardware {
    type Message = Place;

    fn has_pin(&self, gsi: u32) -> bool {
        pins::exists(gsi)
    }

    fn default_mode(&self, gsi: u32) -> (Trigger, Polarity) {
        pins::default_mode(gsi)
    }

    fn route(&self, gsi: u32, (cpu, vector): (CpuId, u8), mode: (Trigger, Polarity), masked: bool) -> Result<()> {
        pins::route(gsi, vector, cpu, mode.0, mode.1, masked)
    }

    fn mask_pin(&self, gsi: u32, masked: bool) {
        // The pin existed when its line was made.
        let _ = pins::set_mask(gsi, masked);
    }

    fn end_pin(&self, gsi: u32) {
        // As above.
        let _ = pins::end(gsi);
    }

    fn program(&self, place: &Place, (cpu, vector): (CpuId, u8), masked: bool) -> Result<()> {
        let apic_id = cpus::apic_id(cpu).ok_or(Errno::NODEV)?;
        let apic_id = u8::try_from(apic_id).map_err(|_| Errno::RANGE)?;
        let message = MsiMessage::fixed(vector, apic_id);
        match *place {
            Place::Msi { msi, index, count } => {
                if index == 0 && !msi.program(pci::config(), message, count) {
                    return Err(Errno::IO);
                }
                self.mask_message(place, masked);
                Ok(())
            }
            Place::Msix { function, table, index } => {
                if !has_memory_on(function) {
                    return Err(Errno::NXIO);
                }
                pci::write_entry(&table, index, message, masked);
                Ok(())
            }
        }
    }

    fn mask_message(&self, place: &Place, masked: bool) {
        match *place {
            Place::Msi { msi, index, .. } => {
                // A function that cannot mask is silenced by dom0, which turns MSI off.
                let _ = msi.set_mask(pci::config(), index, masked);
            }
            Place::Msix { function, table, index } => {
                if has_memory_on(function) {
                    pci::set_mask(&table, index, masked);
                }
            }
        }
    }

    fn end(&self) {
        lapic::eoi();
    }
}
