//! Mapping others' grants.

use super::{drop_references, explain, number, place, resolve};
use crate::Caller;
use domain::{Arch, Domain};
use gnttab::{Access, Granted, Handle, Mapping, Status};
use memory::{Context, GrantTarget};
use types::{DomId, Mfn};
use x86_defs::pte::{Pte, PteFlags};
use xen_abi::grant_table::*;

/// First bit of a grant entry's cache attributes (`_GTF_PWT`), and of a mapping's bits for the guest's own use.
const CACHE_SHIFT: u16 = 5;
const GUEST_BITS_SHIFT: u32 = 16;
/// First bit of a page-table entry that software may use.
const AVAILABLE_SHIFT: u32 = 9;

/// GNTTABOP_map_grant_ref.
pub fn map<A: Arch>(caller: &Caller<'_, A>, call: &mut MapGrantRef) {
    match try_map(caller, call) {
        Ok((handle, mfn)) => {
            call.handle = handle;
            call.dev_bus_addr = mfn.address();
            call.status = GNTST_OKAY;
        }
        Err(status) => {
            log::debug!("{}: map of grant {} of {}: {status}", caller.domain.id, call.r#ref, DomId(call.dom));
            call.status = number(Err(status));
        }
    }
}

fn try_map<A: Arch>(caller: &Caller<'_, A>, call: &MapGrantRef) -> Result<(Handle, Mfn), Status> {
    let flag = |flag| call.flags & flag != 0;
    let access =
        Access { host: flag(GNTMAP_HOST_MAP), device: flag(GNTMAP_DEVICE_MAP), readonly: flag(GNTMAP_READONLY) };
    if !access.is_any() {
        return Err(Status::BadReference);
    }
    let granter = caller.hypervisor.domains.get(DomId(call.dom)).ok_or(Status::BadDomain)?;
    let handle = caller.domain.maptrack.reserve()?;
    let mfn = pin_and_map(caller, &granter, call, access).inspect_err(|_| caller.domain.maptrack.cancel(handle))?;
    let by_entry = flag(GNTMAP_CONTAINS_PTE);
    caller
        .domain
        .maptrack
        .commit(handle, Mapping { granter: granter.id, reference: call.r#ref, mfn, access, by_entry });
    Ok((handle, mfn))
}

fn pin_and_map<A: Arch>(
    caller: &Caller<'_, A>,
    granter: &Domain<A>,
    call: &MapGrantRef,
    access: Access,
) -> Result<Mfn, Status> {
    let table = &granter.gnttab;
    let granted =
        table.map(caller.machine(), call.r#ref, caller.domain.id, access, |gfn, _| resolve(caller, granter, gfn))?;
    match take_and_map(caller, granter, call, access, granted) {
        Ok(()) => Ok(granted.mfn),
        Err(status) => {
            if let Err(status) = table.unmap(caller.machine(), call.r#ref, access) {
                log::error!("{}: grant {} was not pinned: {status}", granter.id, call.r#ref);
            }
            Err(status)
        }
    }
}

/// Takes a reference of the frame for each part of the mapping, and writes the page-table entry, or that of the second stage.
fn take_and_map<A: Arch>(
    caller: &Caller<'_, A>,
    granter: &Domain<A>,
    call: &MapGrantRef,
    access: Access,
    granted: Granted,
) -> Result<(), Status> {
    let take = || take(caller, granter.id, granted.mfn, access.readonly);
    if access.device {
        take()?;
    }
    let undo_device = |_: &Status| {
        if access.device {
            drop_references(caller, granted.mfn, access.readonly);
        }
    };
    if let (true, Some(p2m)) = (access.host, caller.domain.p2m()) {
        take().inspect_err(undo_device)?;
        // The entry has a reference of its own.
        let placed = place::map(caller.machine(), p2m, call.host_addr, granted.mfn, call.flags);
        drop_references(caller, granted.mfn, access.readonly);
        placed.inspect_err(undo_device)?;
    } else if access.host {
        take().inspect_err(undo_device)?;
        write_entry(caller, granter.id, call, granted)
            .inspect_err(|_| drop_references(caller, granted.mfn, access.readonly))
            .inspect_err(undo_device)?;
    }
    Ok(())
}

#[inline(always)]
fn take<A: Arch>(caller: &Caller<'_, A>, granter: DomId, mfn: Mfn, readonly: bool) -> Result<(), Status> {
    let memory = &caller.hypervisor.memory;
    let taken = if readonly { memory.get_frame(mfn, granter) } else { memory.get_writable(mfn, granter) };
    taken.map_err(|denied| explain(caller, "map_grant_ref", denied, Status::GeneralError))
}

fn write_entry<A: Arch>(
    caller: &Caller<'_, A>,
    granter: DomId,
    call: &MapGrantRef,
    granted: Granted,
) -> Result<(), Status> {
    let target = target(caller, call.host_addr, call.flags & GNTMAP_CONTAINS_PTE != 0)?;
    let tables = &caller.domain.memory;
    let context = Context { caller: caller.domain.id, tables, frames: granter, preempt: caller.machine() };
    caller
        .hypervisor
        .memory
        .map_grant(&context, target, entry(call.flags, granted))
        .map_err(|denied| explain(caller, "map_grant_ref", denied, Status::GeneralError))
}

/// The place that a guest gives as an address of its own, or as the machine address of a page-table entry.
pub fn target<A: Arch>(caller: &Caller<'_, A>, address: u64, by_entry: bool) -> Result<GrantTarget, Status> {
    if by_entry {
        return Ok(GrantTarget::Entry(address));
    }
    let root = caller.machine().current_root().ok_or(Status::GeneralError)?;
    Ok(GrantTarget::Address { root, address })
}

/// The page-table entry for a mapping: rights and the guest's own bits as the call wants them, cache attributes as the grant.
fn entry(flags: u32, granted: Granted) -> Pte {
    let mut bits = PteFlags::PRESENT | PteFlags::ACCESSED | PteFlags::DIRTY | PteFlags::USER;
    if flags & GNTMAP_READONLY == 0 {
        bits |= PteFlags::WRITABLE;
    }
    let cache = granted.cache >> CACHE_SHIFT;
    for (bit, attribute) in
        [PteFlags::WRITE_THROUGH, PteFlags::CACHE_DISABLE, PteFlags::LARGE_OR_PAT].iter().enumerate()
    {
        if cache >> bit & 1 != 0 {
            bits |= *attribute;
        }
    }
    let own = u64::from(flags >> GUEST_BITS_SHIFT) << AVAILABLE_SHIFT;
    bits |= PteFlags::from_bits_retain(own) & PteFlags::AVAILABLE;
    Pte::new(granted.mfn.0, bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_the_rights_and_attributes_that_were_asked_for() {
        let granted = Granted { mfn: Mfn(0x123), cache: GTF_PWT | GTF_PAT };
        let writable = entry(GNTMAP_HOST_MAP | 5 << 16, granted);
        assert_eq!(writable.0, 0x12_3000 | 1 | 2 | 4 | 8 | 0x20 | 0x40 | 0x80 | 5 << 9);
        let readonly = entry(GNTMAP_HOST_MAP | GNTMAP_READONLY, Granted { cache: GTF_PCD, ..granted });
        assert_eq!(readonly.0, 0x12_3000 | 1 | 4 | 0x10 | 0x20 | 0x40);
        assert_eq!(
            entry(0xfff8_0000, Granted { cache: 0, ..granted }).0 >> 9 & 7,
            0,
            "only three bits are the guest's"
        );
    }
}
