//! Physical memory, for reading firmware's tables.

use crate::acpi::PhysicalMemory;

/// Physical memory through `hal`, which refuses what may belong to a guest.
#[derive(Clone, Copy, Debug, Default)]
pub struct Firmware;

impl PhysicalMemory for Firmware {
    fn read(&self, address: u64, to: &mut [u8]) -> bool {
        match hal::io::read_firmware(address, to.len()) {
            Ok(bytes) => {
                to.copy_from_slice(&bytes);
                true
            }
            Err(_) => false,
        }
    }
}
