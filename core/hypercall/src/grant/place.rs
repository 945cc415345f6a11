//! Mappings of grants in the second-stage table of a translated domain, which names their places by guest-physical address.

use crate::memory::placement::displaced;
use domain::{Arch, GuestMap};
use gnttab::Status;
use p2m::Type;
use types::{Gfn, Mfn, PAGE_SHIFT};
use xen_abi::grant_table::*;

/// Puts a granted frame, to which the caller holds a reference, at an address. The entry takes its own.
pub fn map<A: Arch>(machine: &A, p2m: &GuestMap<A>, address: u64, mfn: Mfn, flags: u32) -> Result<(), Status> {
    let ty = match flags {
        GNTMAP_HOST_MAP => Type::GrantMapRw,
        _ if flags == GNTMAP_HOST_MAP | GNTMAP_READONLY => Type::GrantMapRo,
        // There is no entry that could have more.
        _ => return Err(Status::GeneralError),
    };
    let set =
        p2m.set(Gfn(address >> PAGE_SHIFT), mfn, 0, ty, p2m.default_access()).map_err(|_| Status::GeneralError)?;
    displaced(machine, set.before);
    Ok(())
}

/// Takes it away, if it is there. `P2m::flush` is due.
pub fn unmap<A: Arch>(p2m: &GuestMap<A>, address: u64, mfn: Mfn) -> Result<(), Status> {
    let gfn = Gfn(address >> PAGE_SHIFT);
    let entry = p2m.get(gfn);
    if entry.mfn != mfn || !matches!(entry.ty, Type::GrantMapRw | Type::GrantMapRo) {
        return Err(Status::GeneralError);
    }
    match p2m.clear(gfn, 0) {
        Ok(_later) => Ok(()),
        Err(_) => Err(Status::GeneralError),
    }
}
