//! grant_table_op (grant_table.h).

mod cache;
mod copy;
mod map;
mod place;
mod table;
mod transfer;
mod unmap;

use crate::{Args, Caller, Outcome};
use domain::{Arch, Domain};
use gnttab::{GrantTable, Status, Tables};
use types::{DomId, Errno, Gfn, Mfn, Result};
use xen_abi::GuestHandle;
use xen_abi::grant_table::*;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Bits of the first argument that are the operation; the others are the hypervisor's own, and clear but for one operation.
const COMMAND_MASK: u32 = 0xfff;

/// What translated domains may ask for; the others would take frames from the midst of a second-stage table, or answer with machine
/// frames.
const FOR_TRANSLATED: [u32; 8] = [
    GNTTABOP_QUERY_SIZE,
    GNTTABOP_SETUP_TABLE,
    GNTTABOP_SET_VERSION,
    GNTTABOP_GET_VERSION,
    GNTTABOP_COPY,
    GNTTABOP_MAP_GRANT_REF,
    GNTTABOP_UNMAP_GRANT_REF,
    GNTTABOP_SWAP_GRANT_REF,
];

/// How far a batch came, and whether something stopped it.
type Batch = (u64, Result<()>);

/// HYPERVISOR_grant_table_op: operation, address of the first structure, number of structures.
pub fn grant_table_op<A: Arch>(caller: &Caller<'_, A>, args: Args) -> Outcome {
    let (op, at, count) = (args[0] as u32, args[1], args[2] as u32);
    if caller.domain.is_translated() && !FOR_TRANSLATED.contains(&op) {
        return Errno::NOSYS.into();
    }
    let is_flush = op & COMMAND_MASK == GNTTABOP_CACHE_FLUSH;
    if count > i32::MAX as u32 || op & !COMMAND_MASK != 0 && !is_flush {
        return Errno::INVAL.into();
    }
    let count = u64::from(count);
    match op {
        _ if is_flush => cache::flush(caller, args),
        GNTTABOP_MAP_GRANT_REF => {
            let batch = each(caller, at, count, |call| map::map(caller, call));
            continued::<MapGrantRef>(args, batch)
        }
        GNTTABOP_UNMAP_GRANT_REF => continued::<UnmapGrantRef>(args, unmap::unmap(caller, at, count)),
        GNTTABOP_UNMAP_AND_REPLACE => continued::<UnmapAndReplace>(args, unmap::unmap_and_replace(caller, at, count)),
        GNTTABOP_COPY => {
            let batch = each(caller, at, count, |call: &mut Copy| call.status = number(copy::copy(caller, call)));
            continued::<Copy>(args, batch)
        }
        GNTTABOP_TRANSFER => {
            let batch =
                each(caller, at, count, |call: &mut Transfer| call.status = number(transfer::transfer(caller, call)));
            continued::<Transfer>(args, batch)
        }
        GNTTABOP_SWAP_GRANT_REF => {
            let batch = each(caller, at, count, |call| table::swap(caller, call));
            continued::<SwapGrantRef>(args, batch)
        }
        GNTTABOP_SETUP_TABLE | GNTTABOP_QUERY_SIZE | GNTTABOP_GET_STATUS_FRAMES if count != 1 => Errno::INVAL.into(),
        GNTTABOP_SETUP_TABLE => table::setup(caller, GuestHandle::new(at)).into(),
        GNTTABOP_QUERY_SIZE => one(caller, at, |call| table::query_size(caller, call)).into(),
        GNTTABOP_GET_STATUS_FRAMES => table::status_frames(caller, GuestHandle::new(at)).into(),
        GNTTABOP_SET_VERSION => table::set_version(caller, GuestHandle::new(at)).into(),
        GNTTABOP_GET_VERSION => table::get_version(caller, GuestHandle::new(at)).into(),
        _ => Errno::NOSYS.into(),
    }
}

/// The outcome of a batch: done, or to be gone on with after what has been done.
fn continued<T>(args: Args, (done, result): Batch) -> Outcome {
    let count = u64::from(args[2] as u32);
    if result.is_err() || done >= count {
        return result.into();
    }
    let mut rest = args;
    rest[1] = GuestHandle::<T>::new(args[1]).offset(done).address();
    rest[2] = count - done;
    Outcome::Again(rest)
}

/// Carries out one structure.
fn one<A: Arch, T: FromBytes + IntoBytes + Immutable>(
    caller: &Caller<'_, A>,
    at: u64,
    action: impl FnOnce(&mut T),
) -> Result<()> {
    let at = GuestHandle::<T>::new(at);
    let mut call = T::new_zeroed();
    caller.read_into(at, &mut call)?;
    action(&mut call);
    caller.write(at, &call)
}

/// Carries out structure after structure, until something more urgent waits.
fn each<A: Arch, T: FromBytes + IntoBytes + Immutable>(
    caller: &Caller<'_, A>,
    at: u64,
    count: u64,
    mut action: impl FnMut(&mut T),
) -> Batch {
    let at = GuestHandle::<T>::new(at);
    for done in 0..count {
        if done != 0 && caller.machine().should_yield() {
            return (done, Ok(()));
        }
        if let Err(errno) = one(caller, at.offset(done).address(), &mut action) {
            return (done, Err(errno));
        }
    }
    (count, Ok(()))
}

/// The number for a structure's `status` field.
fn number(result: core::result::Result<(), Status>) -> i16 {
    result.map_or_else(Status::number, |()| GNTST_OKAY)
}

/// Logs why a guest's request was refused; the status for the guest.
fn explain<A: Arch>(caller: &Caller<'_, A>, call: &str, denied: ::memory::Denied, status: Status) -> Status {
    caller.explain(call, denied);
    status
}

/// The machine frame behind a frame number of `owner`, if it is the owner's.
fn resolve<A: Arch>(caller: &Caller<'_, A>, owner: &Domain<A>, gfn: Gfn) -> core::result::Result<Mfn, Status> {
    // The reference that is taken next finds out again; who is refused hears why below.
    if !owner.is_translated() && caller.hypervisor.memory.is_owner(Mfn(gfn.0), owner.id) {
        return Ok(Mfn(gfn.0));
    }
    match caller.hypervisor.hold(owner, gfn.0, false) {
        Ok(held) => Ok(held.mfn()),
        Err(denied) => Err(explain(caller, "grant", denied, Status::BadPage)),
    }
}

/// Finds other domains' tables.
struct AllTables<'a, 'b, A: Arch>(&'a Caller<'b, A>);

impl<A: Arch> Tables for AllTables<'_, '_, A> {
    fn with_table(&self, domain: DomId, action: &mut dyn FnMut(&GrantTable)) {
        if let Some(domain) = self.0.hypervisor.domains.get(domain) {
            action(&domain.gnttab);
        }
    }
}

/// Drops the references of one part of a grant mapping.
fn drop_references<A: Arch>(caller: &Caller<'_, A>, mfn: Mfn, readonly: bool) {
    if readonly {
        caller.hypervisor.memory.put_frame(mfn);
    } else {
        caller.hypervisor.memory.put_writable(mfn);
    }
}

/// A frame that the guest maps as its grant table, when the table needs one more.
fn allocate<'a, A: Arch>(caller: &'a Caller<'_, A>, domain: &'a Domain<A>) -> impl FnMut() -> Option<Mfn> + 'a {
    || caller.hypervisor.allocate_shared(&domain.memory).ok()
}
