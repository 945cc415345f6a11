//! Copying between grants and the caller's own frames.

use super::{AllTables, explain, resolve};
use crate::Caller;
use alloc::sync::Arc;
use domain::{Arch, Domain};
use gnttab::{CopyGrant, Status};
use memory::Denied;
use types::{DomId, Gfn, Mfn, PAGE_SIZE};
use xen_abi::grant_table::*;

/// One end of a copy: a frame with a reference, and behind it perhaps a pinned grant.
struct End<'a, 'b, A: Arch> {
    caller: &'a Caller<'b, A>,
    mfn: Mfn,
    readonly: bool,
    grant: Option<(Arc<Domain<A>>, CopyGrant)>,
}

impl<A: Arch> Drop for End<'_, '_, A> {
    fn drop(&mut self) {
        super::drop_references(self.caller, self.mfn, self.readonly);
        if let Some((granter, grant)) = &self.grant {
            granter.gnttab.release_copy(self.caller.machine(), *grant, &AllTables(self.caller));
            self.caller.hypervisor.reap(granter);
        }
    }
}

/// GNTTABOP_copy.
pub fn copy<A: Arch>(caller: &Caller<'_, A>, call: &Copy) -> Result<(), Status> {
    if call.len == 0 {
        return Ok(());
    }
    let by_reference = |flag| call.flags & flag != 0;
    let from = granter_of(caller, &call.source, by_reference(GNTCOPY_SOURCE_GREF))?;
    let to = granter_of(caller, &call.dest, by_reference(GNTCOPY_DEST_GREF))?;
    let source = end(caller, from, &call.source, true)?;
    let target = end(caller, to, &call.dest, false)?;
    for end in [&call.source, &call.dest] {
        if usize::from(end.offset) + usize::from(call.len) > PAGE_SIZE {
            return Err(Status::BadCopyArgument);
        }
    }
    for (end, place) in [(&source, &call.source), (&target, &call.dest)] {
        if end.grant.as_ref().is_some_and(|(_, grant)| !grant.allows(place.offset, call.len)) {
            return Err(Status::GeneralError);
        }
    }
    let (from, to) = ((source.mfn, call.source.offset.into()), (target.mfn, call.dest.offset.into()));
    if caller.machine().copy_part(from, to, call.len.into()) { Ok(()) } else { Err(Status::BadPage) }
}

/// The domain whose grant an end is; none for a frame of the caller's.
fn granter_of<A: Arch>(
    caller: &Caller<'_, A>,
    place: &CopyPtr,
    by_reference: bool,
) -> Result<Option<Arc<Domain<A>>>, Status> {
    match DomId(place.domid) {
        DomId::SELF if !by_reference => Ok(None),
        DomId::SELF => Ok(Some(caller.domain.clone())),
        _ if !by_reference => Err(Status::PermissionDenied),
        id => caller.hypervisor.domains.get(id).map(Some).ok_or(Status::BadDomain),
    }
}

fn end<'a, 'b, A: Arch>(
    caller: &'a Caller<'b, A>,
    granter: Option<Arc<Domain<A>>>,
    place: &CopyPtr,
    readonly: bool,
) -> Result<End<'a, 'b, A>, Status> {
    let Some(domain) = granter else {
        let held =
            caller.hypervisor.hold(caller.domain, place.u, !readonly).map_err(|denied| refused(caller, denied))?;
        return Ok(End { caller, mfn: held.keep(), readonly, grant: None });
    };
    let find = |owner: DomId, gfn: Gfn, _: bool| {
        if owner == domain.id {
            return resolve(caller, &domain, gfn);
        }
        let owner = caller.hypervisor.domains.get(owner).ok_or(Status::BadDomain)?;
        resolve(caller, &owner, gfn)
    };
    let (machine, me) = (caller.machine(), caller.domain.id);
    let others = AllTables(caller);
    let grant = domain.gnttab.acquire_for_copy(machine, place.u as u32, me, readonly, &find, &others)?;
    if let Err(status) = take(caller, grant.mfn, grant.owner, readonly) {
        domain.gnttab.release_copy(machine, grant, &others);
        return Err(status);
    }
    Ok(End { caller, mfn: grant.mfn, readonly, grant: Some((domain, grant)) })
}

/// Takes a reference of a frame, and a writable use where the copy goes.
fn take<A: Arch>(caller: &Caller<'_, A>, mfn: Mfn, owner: DomId, readonly: bool) -> Result<(), Status> {
    let memory = &caller.hypervisor.memory;
    let taken = if readonly { memory.get_frame(mfn, owner) } else { memory.get_writable(mfn, owner) };
    taken.map_err(|denied| refused(caller, denied))
}

fn refused<A: Arch>(caller: &Caller<'_, A>, denied: Denied) -> Status {
    let status = if denied.is_other_use() { Status::GeneralError } else { Status::BadPage };
    explain(caller, "grant copy", denied, status)
}
