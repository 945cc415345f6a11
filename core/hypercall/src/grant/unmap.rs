//! Giving mappings of others' grants up. The entries of a batch are cleared first, then translations are dropped once, and
//! only then the granter gets its frames back.

use super::map::target;
use super::{Batch, drop_references, explain, number, place};
use crate::Caller;
use arrayvec::ArrayVec;
use domain::Arch;
use gnttab::{Claim, Mapping, Status};
use types::Result;
use xen_abi::GuestHandle;
use xen_abi::grant_table::*;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Mappings that share a flush of translations (`GNTTAB_UNMAP_BATCH_SIZE`).
const BATCH: u64 = 32;

/// What is to be unmapped, from either operation.
struct Request {
    handle: u32,
    /// Place of the host mapping; 0 for none.
    host: u64,
    /// Address of the device mapping; 0 for none.
    device: u64,
    /// Where the mapping is that takes the place, for unmap_and_replace.
    replacement: Option<u64>,
}

/// GNTTABOP_unmap_grant_ref.
pub fn unmap<A: Arch>(caller: &Caller<'_, A>, at: u64, count: u64) -> Batch {
    run(caller, GuestHandle::<UnmapGrantRef>::new(at), count, |call, cleared| {
        let request =
            Request { handle: call.handle, host: call.host_addr, device: call.dev_bus_addr, replacement: None };
        call.status = number(clear(caller, &request).map(|done| cleared.push(done)));
    })
}

/// GNTTABOP_unmap_and_replace.
pub fn unmap_and_replace<A: Arch>(caller: &Caller<'_, A>, at: u64, count: u64) -> Batch {
    run(caller, GuestHandle::<UnmapAndReplace>::new(at), count, |call, cleared| {
        let replacement = Some(call.new_addr).filter(|&address| address != 0);
        let request = Request { handle: call.handle, host: call.host_addr, device: 0, replacement };
        call.status = number(clear(caller, &request).map(|done| cleared.push(done)));
    })
}

/// Mappings whose entries are gone, and whose frames are not yet their granters' again.
type Pending = ArrayVec<Claim, { BATCH as usize }>;

fn run<A: Arch, T: FromBytes + IntoBytes + Immutable>(
    caller: &Caller<'_, A>,
    at: GuestHandle<T>,
    count: u64,
    mut action: impl FnMut(&mut T, &mut Pending),
) -> Batch {
    let mut done = 0;
    while done < count {
        if done != 0 && caller.machine().should_yield() {
            break;
        }
        let end = count.min(done + BATCH);
        let mut pending = Pending::new();
        let mut result = Ok(());
        while done < end && result.is_ok() {
            result = step(caller, at.offset(done), &mut |call| action(call, &mut pending));
            done += u64::from(result.is_ok());
        }
        complete(caller, &pending);
        if result.is_err() {
            return (done, result);
        }
    }
    (done, Ok(()))
}

fn step<A: Arch, T: FromBytes + IntoBytes + Immutable>(
    caller: &Caller<'_, A>,
    at: GuestHandle<T>,
    action: &mut dyn FnMut(&mut T),
) -> Result<()> {
    let mut call = T::new_zeroed();
    caller.read_into(at, &mut call)?;
    action(&mut call);
    caller.write(at, &call)
}

/// Clears the page-table entry of a mapping.
#[inline(always)]
fn clear<A: Arch>(caller: &Caller<'_, A>, request: &Request) -> core::result::Result<Claim, Status> {
    let maptrack = &caller.domain.maptrack;
    let claim = maptrack.claim(request.handle, request.host != 0, request.device != 0)?;
    match find_and_clear(caller, request, &claim.mapping) {
        Ok(()) => Ok(claim),
        Err(status) => {
            log::debug!("{}: unmap of handle {}: {status}", caller.domain.id, request.handle);
            maptrack.restore(&claim);
            Err(status)
        }
    }
}

fn find_and_clear<A: Arch>(
    caller: &Caller<'_, A>,
    request: &Request,
    mapping: &Mapping,
) -> core::result::Result<(), Status> {
    let mfn = mapping.mfn;
    if mapping.access.device && request.device != mfn.address() {
        return Err(Status::GeneralError);
    }
    if !mapping.access.host {
        return Ok(());
    }
    if let Some(p2m) = caller.domain.p2m() {
        if request.replacement.is_some() || mapping.by_entry {
            return Err(Status::GeneralError);
        }
        return place::unmap::<A>(p2m, request.host, mfn);
    }
    let place = target(caller, request.host, mapping.by_entry)?;
    let (memory, domain, writable) = (&caller.hypervisor.memory, caller.domain.id, !mapping.access.readonly);
    let result = match request.replacement {
        None => memory.unmap_grant(domain, place, mfn, writable),
        Some(_) if mapping.by_entry => return Err(Status::GeneralError),
        Some(from) => memory.move_over_grant(domain, place, mfn, writable, target(caller, from, false)?),
    };
    result.map_err(|denied| explain(caller, "unmap_grant_ref", denied, Status::GeneralError))
}

/// Drops translations, and then the frames' references and pins.
#[inline(always)]
fn complete<A: Arch>(caller: &Caller<'_, A>, pending: &[Claim]) {
    if pending.iter().any(|claim| claim.mapping.access.host) {
        if let Some(p2m) = caller.domain.p2m() {
            // What it does not come to is released by whatever flushes next.
            let _rest = p2m.flush(caller.machine());
        } else {
            caller.hypervisor.memory.flush_domain(&caller.domain.memory);
        }
    }
    for claim in pending {
        if claim.mapping.access.is_any() {
            give_back(caller, &claim.mapping);
        }
        caller.domain.maptrack.finish(claim);
    }
}

fn give_back<A: Arch>(caller: &Caller<'_, A>, mapping: &Mapping) {
    let access = mapping.access;
    let granter = caller.hypervisor.domains.get(mapping.granter);
    if let Some(granter) = &granter {
        if let Err(status) = granter.gnttab.unmap(caller.machine(), mapping.reference, access) {
            log::error!("{}: grant {} was not pinned: {status}", granter.id, mapping.reference);
        }
    }
    // The entry of a second-stage table has dropped its own.
    for part in [access.host && !caller.domain.is_translated(), access.device] {
        if part {
            drop_references(caller, mapping.mfn, access.readonly);
        }
    }
    if let Some(granter) = granter {
        caller.hypervisor.reap(&granter);
    }
}
