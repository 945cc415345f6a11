//! Naming PCI functions and finding their capabilities.

use core::fmt;

/// A PCI function: segment, bus, device and function.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Sbdf {
    /// Segment.
    pub segment: u16,
    /// Bus in bits 8 to 15, device in 3 to 7, function in 0 to 2.
    pub bdf: u16,
}

impl Sbdf {
    /// From its parts; device and function are cut to 5 and 3 bits.
    pub const fn new(segment: u16, bus: u8, device: u8, function: u8) -> Sbdf {
        Sbdf { segment, bdf: (bus as u16) << 8 | (device as u16 & 31) << 3 | (function as u16 & 7) }
    }

    /// From bus and `devfn`, as physdev.h has them.
    pub const fn from_devfn(segment: u16, bus: u8, devfn: u8) -> Sbdf {
        Sbdf { segment, bdf: (bus as u16) << 8 | devfn as u16 }
    }

    /// Bus.
    pub const fn bus(self) -> u8 {
        (self.bdf >> 8) as u8
    }

    /// Device, 0 to 31.
    pub const fn device(self) -> u8 {
        (self.bdf >> 3 & 31) as u8
    }

    /// Function, 0 to 7.
    pub const fn function(self) -> u8 {
        (self.bdf & 7) as u8
    }
}

impl fmt::Display for Sbdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{}", self.segment, self.bus(), self.device(), self.function())
    }
}

/// Access to a function's configuration space. A read of what is not there gives all ones, a write is lost.
pub trait ConfigSpace {
    /// Reads `size` (1, 2 or 4) bytes at `register`, which is a multiple of it.
    fn read(&self, function: Sbdf, register: u16, size: u8) -> u32;
    /// Writes, likewise.
    fn write(&self, function: Sbdf, register: u16, size: u8, value: u32);
}

/// Capability: MSI.
pub const CAPABILITY_MSI: u8 = 0x05;
/// Capability: MSI-X.
pub const CAPABILITY_MSIX: u8 = 0x11;

/// Register of the function's capability `id` (PCI 3.0, 6.7). Bears rings and pointers into nowhere.
pub fn find_capability(config: &(impl ConfigSpace + ?Sized), function: Sbdf, id: u8) -> Option<u16> {
    let status = config.read(function, 0x06, 2);
    if status == 0xffff || status & 0x10 == 0 {
        return None;
    }
    let mut at = config.read(function, 0x34, 1) as u16 & 0xfc;
    // 48 capabilities of four bytes fill the space.
    for _ in 0..48 {
        if at < 0x40 {
            return None;
        }
        let header = config.read(function, at, 2);
        if header as u8 == id {
            return Some(at);
        }
        at = (header >> 8) as u16 & 0xfc;
    }
    None
}
