//! PCI functions that dom0 has announced, and the messages they send.

use super::controller::{Hardware, Place, has_memory_on};
use super::lines::{Lines, Namer};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use hal::{IoRegion, map_io};
use hal_irq::pci::{self, Msi, Msix, Sbdf};
use platform::sync::{Mutex, RwLock};
use types::{CpuId, Errno, Mfn, PAGE_SHIFT, Result};

/// A range of frames, first and behind the last.
type Frames = (u64, u64);

/// A table of messages.
#[derive(Clone, Copy, Debug)]
struct Table {
    address: u64,
    region: IoRegion,
    /// Frames that dom0 must not write: the table and the pending bits.
    frames: [Frames; 2],
}

/// A function.
#[derive(Debug, Default)]
struct Device {
    /// Announced, and not removed since.
    present: bool,
    /// Mappings last for good, so a table that was mapped once is kept.
    table: Option<Table>,
    /// Lines of its messages, and the table entry of each.
    lines: Vec<(u32, Option<u16>)>,
    /// Its table is kept ready for a domain that drives it (PHYSDEVOP_prepare_msix).
    prepared: bool,
}

/// What is asked for by PHYSDEVOP_map_pirq.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// The function.
    pub function: Sbdf,
    /// MSI-X: the entry, and where dom0 has found the base address register of the table.
    pub msix: Option<(u16, u64)>,
    /// MSI: number of messages.
    pub count: u32,
}

/// The functions that are known.
#[derive(Default)]
pub struct Devices {
    known: Mutex<BTreeMap<Sbdf, Device>>,
    read_only: RwLock<Vec<Frames>>,
}

impl Devices {
    /// Notes a function (PHYSDEVOP_pci_device_add).
    pub fn add(&self, function: Sbdf) {
        self.known.lock().entry(function).or_default().present = true;
    }

    /// Whether a function is noted.
    pub fn is_present(&self, function: Sbdf) -> bool {
        self.known.lock().get(&function).is_some_and(|device| device.present)
    }

    /// Forgets a function and its lines (PHYSDEVOP_pci_device_remove).
    ///
    /// # Errors
    /// `ENODEV` if it is not known.
    pub fn remove(&self, lines: &Lines<Hardware>, function: Sbdf) -> Result<()> {
        let mut known = self.known.lock();
        let device = known.get_mut(&function).filter(|device| device.present).ok_or(Errno::NODEV)?;
        device.present = false;
        device.prepared = false;
        for (number, _) in core::mem::take(&mut device.lines) {
            lines.drop_messages(number);
        }
        drop(known);
        self.update_read_only();
        Ok(())
    }

    /// Whether dom0 may only read a frame: it holds messages that the hypervisor has written.
    pub fn is_read_only(&self, mfn: Mfn) -> bool {
        self.read_only.read().iter().any(|(first, end)| (*first..*end).contains(&mfn.0))
    }

    fn update_read_only(&self) {
        let known = self.known.lock();
        let tables =
            known.values().filter(|device| device.prepared || device.lines.iter().any(|line| line.1.is_some()));
        let frames = tables.filter_map(|device| device.table).flat_map(|table| table.frames).collect();
        *self.read_only.write() = frames;
    }

    /// Makes a function send messages to a domain; the domain's number for the first.
    ///
    /// # Errors
    /// `ENODEV`: the function is not known or cannot. `EINVAL`: not so many, or no such entry. `EEXIST`: they are mapped.
    /// `ENXIO`: its memory is off. `ENOSPC`, `ENOMEM`.
    pub fn map(&self, lines: &Lines<Hardware>, namer: Namer, cpu: CpuId, wanted: Wanted) -> Result<u32> {
        let mut known = self.known.lock();
        let device = known.get_mut(&wanted.function).filter(|device| device.present).ok_or(Errno::NODEV)?;
        device.lines.try_reserve(wanted.count as usize).map_err(|_| Errno::NOMEM)?;
        let first = match wanted.msix {
            Some((entry, base)) => device.map_msix(lines, namer, cpu, (wanted.function, entry, base))?,
            None => device.map_msi(lines, namer, cpu, wanted)?,
        };
        drop(known);
        if wanted.msix.is_some() {
            self.update_read_only();
        }
        Ok(first)
    }

    /// Forgets lines that are in use no more, after a domain's number was taken away.
    pub fn collect(&self, lines: &Lines<Hardware>) {
        let mut known = self.known.lock();
        for device in known.values_mut() {
            device.lines.retain(|(number, _)| lines.summary(*number).is_some());
        }
        drop(known);
        self.update_read_only();
    }

    /// Programs a function's messages anew, after it has lost its state.
    ///
    /// # Errors
    /// `ENODEV` if it is not known.
    pub fn restore(&self, lines: &Lines<Hardware>, function: Sbdf) -> Result<()> {
        let known = self.known.lock();
        let device = known.get(&function).filter(|device| device.present).ok_or(Errno::NODEV)?;
        device.lines.iter().for_each(|(number, _)| lines.restore(*number));
        Ok(())
    }

    /// Protects a function's table before another domain is given the function, or ends that.
    ///
    /// # Errors
    /// `ENODEV`: not known, or without a table. `EBUSY`: entries are in use. `ENXIO`, `ENOMEM`.
    pub fn prepare(&self, function: Sbdf, on: bool) -> Result<()> {
        let mut known = self.known.lock();
        let device = known.get_mut(&function).filter(|device| device.present).ok_or(Errno::NODEV)?;
        let msix = Msix::find(pci::config(), function).ok_or(Errno::NODEV)?;
        if device.lines.iter().any(|line| line.1.is_some()) || device.prepared == on {
            return Err(Errno::BUSY);
        }
        if on {
            device.use_table(function, &msix, 0)?;
        }
        device.prepared = on;
        drop(known);
        self.update_read_only();
        Ok(())
    }
}

impl Device {
    fn map_msi(&mut self, lines: &Lines<Hardware>, namer: Namer, cpu: CpuId, wanted: Wanted) -> Result<u32> {
        let msi = Msi::find(pci::config(), wanted.function).ok_or(Errno::NODEV)?;
        // Vectors in a row are only to be had by powers of two.
        let count = wanted.count.next_power_of_two();
        if count > u32::from(msi.max_messages()) {
            return Err(Errno::INVAL);
        }
        if !self.lines.is_empty() {
            return Err(Errno::EXIST);
        }
        let place = |index| Place::Msi { msi, index: index as u8, count: count as u8 };
        let (first, name) = lines.add_messages(namer, cpu, count, place)?;
        self.lines.extend((first..first + count).map(|number| (number, None)));
        Ok(name)
    }

    fn map_msix(
        &mut self,
        lines: &Lines<Hardware>,
        namer: Namer,
        cpu: CpuId,
        (function, entry, base): (Sbdf, u16, u64),
    ) -> Result<u32> {
        let msix = Msix::find(pci::config(), function).ok_or(Errno::NODEV)?;
        if entry >= msix.entries {
            return Err(Errno::INVAL);
        }
        if self.lines.iter().any(|line| line.1.is_none() || line.1 == Some(entry)) {
            return Err(Errno::EXIST);
        }
        let region = self.use_table(function, &msix, base)?.region;
        let place = |_| Place::Msix { function, table: region, index: entry };
        let (number, name) = lines.add_messages(namer, cpu, 1, place)?;
        self.lines.push((number, Some(entry)));
        Ok(name)
    }

    /// Maps the function's table, unless it is where it was. A virtual function's registers hold no base; then `base` counts.
    fn use_table(&mut self, function: Sbdf, msix: &Msix, base: u64) -> Result<Table> {
        if !has_memory_on(function) {
            return Err(Errno::NXIO);
        }
        let own = msix.table_address(pci::config());
        let given = || base.checked_add(msix.table.1.into()).filter(|_| base != 0);
        let address = own.or_else(given).ok_or(Errno::NXIO)?;
        if let Some(table) = self.table.filter(|table| table.address == address && !self.lines.is_empty()) {
            return Ok(table);
        }
        let region =
            match self.table.filter(|table| table.address == address && table.region.length() == msix.table_size()) {
                Some(table) => table.region,
                None => map_io(address, msix.table_size(), true)?,
            };
        let pending_base = pci::base_address(pci::config(), function, msix.pending.0);
        let pending = pending_base.and_then(|base| base.checked_add(msix.pending.1.into())).unwrap_or(address);
        let frames = |start: u64, length: u64| (start >> PAGE_SHIFT, ((start + length - 1) >> PAGE_SHIFT) + 1);
        let bits = u64::from(msix.entries).div_ceil(64) * 8;
        let table =
            Table { address, region, frames: [frames(address, msix.table_size() as u64), frames(pending, bits)] };
        self.table = Some(table);
        Ok(table)
    }
}
