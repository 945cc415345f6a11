//! Device registers in memory, and firmware tables.

use crate::{boot, paging};
use alloc::vec::Vec;
use types::{Errno, PAGE_SIZE, Result};
use x86_defs::pte::PteFlags;

/// A device's registers, mapped for the hypervisor. Accesses outside the region panic: offsets come from our own drivers.
#[derive(Clone, Copy, Debug)]
pub struct IoRegion {
    address: usize,
    length: usize,
}

macro_rules! access {
    ($read:ident, $write:ident, $type:ty) => {
        #[doc = concat!("Reads a `", stringify!($type), "` at byte `offset`, which must be a multiple of its size.")]
        #[inline]
        pub fn $read(&self, offset: usize) -> $type {
            let address = self.check(offset, size_of::<$type>());
            // SAFETY: checked to lie in the region, which is mapped for good and holds no Rust object.
            unsafe { core::ptr::with_exposed_provenance::<$type>(address).read_volatile() }
        }

        #[doc = concat!("Writes a `", stringify!($type), "` at byte `offset`, which must be a multiple of its size.")]
        #[inline]
        pub fn $write(&self, offset: usize, value: $type) {
            let address = self.check(offset, size_of::<$type>());
            // SAFETY: as for reading; the range is no RAM that Rust or a guest uses.
            unsafe { core::ptr::with_exposed_provenance_mut::<$type>(address).write_volatile(value) };
        }
    };
}

impl IoRegion {
    /// Length in bytes.
    pub fn length(&self) -> usize {
        self.length
    }

    fn check(&self, offset: usize, size: usize) -> usize {
        assert!(offset % size == 0 && offset < self.length && self.length - offset >= size, "offset outside a region");
        self.address + offset
    }

    access!(read8, write8, u8);
    access!(read16, write16, u16);
    access!(read32, write32, u32);
    access!(read64, write64, u64);
}

/// First and last frame of a byte range; `EINVAL` if it is empty or beyond what the direct map can hold.
fn pages(physical: u64, length: usize) -> Result<(u64, u64)> {
    let end = physical.checked_add(length as u64).ok_or(Errno::INVAL)?;
    if length == 0 || end > 1 << 52 {
        return Err(Errno::INVAL);
    }
    Ok((physical & !(PAGE_SIZE as u64 - 1), end.next_multiple_of(PAGE_SIZE as u64)))
}

/// Maps `length` bytes of device memory at `physical` for good, uncached unless `uncached` is false (then write-back).
/// `EPERM` if the range holds RAM that the memory map calls usable; `ENOMEM` if addresses or tables run out.
pub fn map_io(physical: u64, length: usize, uncached: bool) -> Result<IoRegion> {
    let (start, end) = pages(physical, length)?;
    if boot::has_ram(start, end) {
        return Err(Errno::PERM);
    }
    let cache = if uncached { paging::UNCACHED } else { PteFlags::empty() };
    let address = paging::map_device(start, end - start, paging::DATA | cache)?;
    Ok(IoRegion { address: (address + (physical - start)) as usize, length })
}

/// Copies `length` bytes of a firmware table at `physical`. `EPERM` if the range holds usable RAM above the first MiB (such
/// frames may belong to a guest), `ENOMEM`.
pub fn read_firmware(physical: u64, length: usize) -> Result<Vec<u8>> {
    let (start, end) = pages(physical, length)?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(length).map_err(|_| Errno::NOMEM)?;
    let region = if end <= 1 << 20 {
        IoRegion { address: paging::direct::<u8>(physical).addr(), length }
    } else {
        if boot::has_ram(start, end) {
            return Err(Errno::PERM);
        }
        let address = paging::map_device(start, end - start, paging::CONSTANT)?;
        IoRegion { address: (address + (physical - start)) as usize, length }
    };
    bytes.extend((0..length).map(|offset| region.read8(offset)));
    Ok(bytes)
}
