//! Configuration access: ports 0xcf8 and 0xcfc under a lock (PCI 3.0, 3.2.2.3.2), memory where it is announced.

use super::address::{ConfigSpace, Sbdf};
use crate::acpi::McfgEntry;
use alloc::vec::Vec;
use hal::io::{IoRegion, map_io};
use hal::ports;
use platform::sync::{Mutex, RwLock};
use types::{Errno, Result};

const ADDRESS: u16 = 0xcf8;
const DATA: u16 = 0xcfc;
const BUS_SIZE: usize = 1 << 20;

/// The machine's configuration space.
pub struct Pci {
    /// Held between selecting a register and accessing it.
    ports: Mutex<()>,
    windows: RwLock<Vec<(McfgEntry, Vec<Option<IoRegion>>)>>,
}

static CONFIG: Pci = Pci { ports: Mutex::new(()), windows: RwLock::new(Vec::new()) };

/// The machine's configuration space.
pub fn config() -> &'static Pci {
    &CONFIG
}

impl Pci {
    /// Announces that configuration space is memory-mapped there: an entry of MCFG that firmware has reserved, as dom0
    /// reports by `PHYSDEVOP_pci_mmcfg_reserved`. Buses are mapped as they are first used. `EEXIST` if it is known.
    pub fn announce(&self, entry: McfgEntry) -> Result<()> {
        let mut windows = self.windows.write();
        if windows.iter().any(|(known, _)| known.segment == entry.segment && known.address == entry.address) {
            return Err(Errno::EXIST);
        }
        let buses = usize::from(entry.last_bus.checked_sub(entry.first_bus).ok_or(Errno::INVAL)?) + 1;
        let mut regions = Vec::new();
        regions.try_reserve_exact(buses).map_err(|_| Errno::NOMEM)?;
        regions.resize_with(buses, || None);
        windows.try_reserve(1).map_err(|_| Errno::NOMEM)?;
        windows.push((entry, regions));
        Ok(())
    }

    /// Withdraws an entry; `ENOENT` if it is not known.
    pub fn withdraw(&self, segment: u16, address: u64) -> Result<()> {
        let mut windows = self.windows.write();
        let at = windows.iter().position(|(known, _)| known.segment == segment && known.address == address);
        windows.remove(at.ok_or(Errno::NOENT)?);
        Ok(())
    }

    /// Whether a register is reachable at all.
    pub fn reaches(&self, function: Sbdf, register: u16) -> bool {
        by_ports(function, register) || self.window(function).is_some()
    }

    /// The function and register that are mapped at a physical address, in an announced entry.
    pub fn locate(&self, address: u64) -> Option<(Sbdf, u16)> {
        self.windows.read().iter().find_map(|(entry, _)| {
            let offset = address.checked_sub(entry.address)?;
            let bus = u8::try_from(offset >> 20).ok()?;
            let function = Sbdf { segment: entry.segment, bdf: (offset >> 12) as u16 };
            (entry.first_bus..=entry.last_bus).contains(&bus).then_some((function, (offset & 0xfff) as u16))
        })
    }

    fn window(&self, function: Sbdf) -> Option<IoRegion> {
        let covers = |entry: &McfgEntry| {
            entry.segment == function.segment && (entry.first_bus..=entry.last_bus).contains(&function.bus())
        };
        if let Some((entry, regions)) = self.windows.read().iter().find(|(entry, _)| covers(entry)) {
            let region = regions[usize::from(function.bus() - entry.first_bus)];
            if region.is_some() {
                return region;
            }
        }
        let mut windows = self.windows.write();
        let (entry, regions) = windows.iter_mut().find(|(entry, _)| covers(entry))?;
        let region = &mut regions[usize::from(function.bus() - entry.first_bus)];
        if region.is_none() {
            *region = map_io(entry.address.checked_add(u64::from(function.bus()) << 20)?, BUS_SIZE, true).ok();
        }
        *region
    }

    fn select(&self, function: Sbdf, register: u16) {
        ports::write32(ADDRESS, 1 << 31 | u32::from(function.bdf) << 8 | u32::from(register & 0xfc));
    }
}

fn by_ports(function: Sbdf, register: u16) -> bool {
    function.segment == 0 && register < 0x100
}

/// Byte offset within a bus's window.
fn offset(function: Sbdf, register: u16) -> usize {
    usize::from(function.bdf & 0xff) << 12 | usize::from(register)
}

fn is_valid(register: u16, size: u8) -> bool {
    matches!(size, 1 | 2 | 4) && register < 0x1000 && register % u16::from(size) == 0
}

fn ones(size: u8) -> u32 {
    u32::MAX >> (32 - 8 * u32::from(size.clamp(1, 4)))
}

impl ConfigSpace for Pci {
    fn read(&self, function: Sbdf, register: u16, size: u8) -> u32 {
        if !is_valid(register, size) {
            return ones(size);
        }
        if by_ports(function, register) {
            let _guard = self.ports.lock();
            self.select(function, register);
            let port = DATA + (register & 3);
            return match size {
                1 => ports::read8(port).into(),
                2 => ports::read16(port).into(),
                _ => ports::read32(port),
            };
        }
        let Some(window) = self.window(function) else {
            return ones(size);
        };
        match size {
            1 => window.read8(offset(function, register)).into(),
            2 => window.read16(offset(function, register)).into(),
            _ => window.read32(offset(function, register)),
        }
    }

    fn write(&self, function: Sbdf, register: u16, size: u8, value: u32) {
        if !is_valid(register, size) {
            return;
        }
        if by_ports(function, register) {
            let _guard = self.ports.lock();
            self.select(function, register);
            let port = DATA + (register & 3);
            match size {
                1 => ports::write8(port, value as u8),
                2 => ports::write16(port, value as u16),
                _ => ports::write32(port, value),
            }
            return;
        }
        let Some(window) = self.window(function) else { return };
        match size {
            1 => window.write8(offset(function, register), value as u8),
            2 => window.write16(offset(function, register), value as u16),
            _ => window.write32(offset(function, register), value),
        }
    }
}
