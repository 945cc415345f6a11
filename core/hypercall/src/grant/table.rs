//! The granting side: size, version and frames of a table.

use super::{allocate, number};
use crate::Caller;
use alloc::sync::Arc;
use domain::{Arch, Domain};
use gnttab::{FrameKind, Status};
use memory::FrameType;
use types::{Errno, Mfn, Result};
use xen_abi::GuestHandle;
use xen_abi::grant_table::*;

/// A domain whose table the caller may look at and set up.
fn target<A: Arch>(caller: &Caller<'_, A>, raw: u16) -> core::result::Result<Arc<Domain<A>>, Status> {
    let domain = caller.any_domain(raw).map_err(|_| Status::BadDomain)?;
    caller.require_rights_over(&domain).map_err(|_| Status::PermissionDenied)?;
    Ok(domain)
}

/// GNTTABOP_setup_table. A list at addresses that no guest has is refused before anything is done.
pub fn setup<A: Arch>(caller: &Caller<'_, A>, at: GuestHandle<SetupTable>) -> Result<()> {
    let mut call = caller.read(at)?;
    if !caller.machine().is_guest_range(call.frame_list.address(), 0) {
        return Err(Errno::FAULT);
    }
    let setup = || {
        let domain = target(caller, call.dom)?;
        domain.gnttab.setup_table(caller.machine(), call.nr_frames, &mut allocate(caller, &domain))?;
        tell(caller, &domain, FrameKind::Shared, call.nr_frames, call.frame_list)
    };
    call.status = number(setup());
    caller.write(at, &call)
}

/// Writes the first frames of a table to a list.
fn tell<A: Arch>(
    caller: &Caller<'_, A>,
    domain: &Domain<A>,
    kind: FrameKind,
    count: u32,
    list: GuestHandle<u64>,
) -> core::result::Result<(), Status> {
    for index in 0..count {
        let mfn = domain.gnttab.frame(kind, index).ok_or(Status::GeneralError)?;
        // A translated domain hears where it has put the frame itself.
        let number = if domain.is_translated() { caller.machine().m2p(mfn) } else { mfn.0 };
        caller.write(list.offset(index.into()), &number).map_err(|_| Status::BadVirtualAddress)?;
    }
    Ok(())
}

pub fn query_size<A: Arch>(caller: &Caller<'_, A>, call: &mut QuerySize) {
    call.status = number(target(caller, call.dom).map(|domain| {
        (call.nr_frames, call.max_nr_frames) = domain.gnttab.size();
    }));
}

/// GNTTABOP_get_status_frames, likewise.
pub fn status_frames<A: Arch>(caller: &Caller<'_, A>, at: GuestHandle<GetStatusFrames>) -> Result<()> {
    let mut call = caller.read(at)?;
    if !caller.machine().is_guest_range(call.frame_list.address(), 0) {
        return Err(Errno::FAULT);
    }
    let list = || {
        let domain = target(caller, call.dom)?;
        domain.gnttab.check_status_frames(call.nr_frames)?;
        tell(caller, &domain, FrameKind::Status, call.nr_frames, call.frame_list)
    };
    call.status = number(list());
    caller.write(at, &call)
}

pub fn set_version<A: Arch>(caller: &Caller<'_, A>, at: GuestHandle<SetVersion>) -> Result<()> {
    let mut call = caller.read(at)?;
    let table = &caller.domain.gnttab;
    let retract = &mut |frames: &[Mfn]| retract(caller, frames);
    let result = table.set_version(caller.machine(), call.version, &mut allocate(caller, caller.domain), retract);
    call.version = table.version().into();
    caller.write(at, &call)?;
    result
}

/// Takes status frames back, if the guest maps none of them.
fn retract<A: Arch>(caller: &Caller<'_, A>, frames: &[Mfn]) -> Result<()> {
    let memory = &caller.hypervisor.memory;
    let is_mapped =
        |mfn: &Mfn| memory.frames().view(*mfn).is_none_or(|view| view.references > 1 || view.ty != FrameType::Writable);
    if frames.iter().any(is_mapped) {
        return Err(Errno::BUSY);
    }
    frames.iter().for_each(|&mfn| caller.hypervisor.free_shared(mfn));
    Ok(())
}

pub fn get_version<A: Arch>(caller: &Caller<'_, A>, at: GuestHandle<GetVersion>) -> Result<()> {
    let mut call = caller.read(at)?;
    call.version = caller.controlled_domain(call.dom)?.gnttab.version().into();
    caller.write(at, &call)
}

pub fn swap<A: Arch>(caller: &Caller<'_, A>, call: &mut SwapGrantRef) {
    call.status = number(caller.domain.gnttab.swap(caller.machine(), call.ref_a, call.ref_b));
}
