//! Memory maps: the machine's, and the one that the toolstack gave a domain.

use crate::{Caller, refuse};
use alloc::vec::Vec;
use domain::Arch;
use types::{Errno, Result};
use xen_abi::GuestHandle;
use xen_abi::memory::*;
use zerocopy::IntoBytes;

/// Most entries of a domain's map.
const MAX_ENTRIES: u32 = 1024;
/// Size of an entry, in bytes.
const ENTRY: u64 = size_of::<E820Entry>() as u64;

/// machine_memory_map, for the control domain.
pub fn machine<A: Arch>(caller: &Caller<'_, A>, at: u64) -> Result<()> {
    caller.require_privilege()?;
    let at = GuestHandle::<MemoryMap>::new(at);
    let mut call = caller.read(at)?;
    let (mut count, mut result) = (0, Ok(()));
    caller.machine().machine_memory_map(&mut |entry| {
        if result.is_err() {
            return;
        }
        result = if count >= call.nr_entries {
            Err(Errno::INVAL)
        } else {
            let address = call.buffer.address().wrapping_add(u64::from(count) * ENTRY);
            caller.machine().copy_out(address, entry.as_bytes())
        };
        count += 1;
    });
    result?;
    call.nr_entries = count;
    caller.write(at, &call)
}

/// memory_map: what the toolstack gave the caller; `ENOSYS` if it gave none.
pub fn own<A: Arch>(caller: &Caller<'_, A>, at: u64) -> Result<()> {
    // A copy, so that no lock is held while the guest's memory is written.
    let mut entries = Vec::new();
    {
        let map = caller.domain.memory_map.lock();
        entries.try_reserve_exact(map.len()).map_err(|_| Errno::NOMEM)?;
        entries.extend_from_slice(&map);
    }
    if entries.is_empty() {
        return Err(Errno::NOSYS);
    }
    let at = GuestHandle::<MemoryMap>::new(at);
    let mut call = caller.read(at)?;
    entries.truncate(call.nr_entries as usize);
    call.nr_entries = entries.len() as u32;
    caller.machine().copy_out(call.buffer.address(), entries.as_slice().as_bytes())?;
    caller.write(at, &call)
}

/// set_memory_map: what a domain will see.
pub fn set<A: Arch>(caller: &Caller<'_, A>, at: u64) -> Result<()> {
    let call = caller.read(GuestHandle::<ForeignMemoryMap>::new(at))?;
    let count = call.map.nr_entries;
    if count > MAX_ENTRIES {
        return Err(refuse!(caller, INVAL, "set_memory_map: {count} entries"));
    }
    let domain = caller.controlled_domain(call.domid)?;
    let mut entries: Vec<[u8; ENTRY as usize]> = Vec::new();
    entries.try_reserve_exact(count as usize).map_err(|_| Errno::NOMEM)?;
    entries.resize(count as usize, [0; ENTRY as usize]);
    if count != 0 {
        caller.machine().copy_in(call.map.buffer.address(), entries.as_mut_slice().as_mut_bytes())?;
    }
    *domain.memory_map.lock() = entries;
    Ok(())
}

/// reserved_device_memory_map: without an IOMMU there are no such ranges.
pub fn reserved_for_devices<A: Arch>(caller: &Caller<'_, A>, at: u64) -> Result<()> {
    let at = GuestHandle::<ReservedDeviceMemoryMap>::new(at);
    let mut call = caller.read(at)?;
    if call.flags & !XENMEM_RDM_ALL != 0 {
        return Err(Errno::INVAL);
    }
    if !caller.machine().is_guest_range(call.buffer.address(), 0) {
        return Err(Errno::FAULT);
    }
    call.nr_entries = 0;
    caller.write(at, &call)
}
