//! acquire_resource: frames of a domain's grant table, for the toolstack to map.

use super::{MAX_EXTENTS, again};
use crate::{Args, Caller, Outcome, refuse};
use alloc::sync::Arc;
use core::mem::offset_of;
use domain::{Arch, Domain};
use gnttab::FrameKind;
use types::{Errno, Result};
use xen_abi::GuestHandle;
use xen_abi::memory::*;

/// Entries of a status frame for each shared frame: a status frame serves so many shared frames.
const SHARED_PER_STATUS: u32 = 8;

/// XENMEM_acquire_resource; with a null list only the size of the resource is told.
pub fn acquire<A: Arch>(caller: &Caller<'_, A>, args: &Args, before: u64) -> Outcome {
    let at = GuestHandle::<MemAcquireResource>::new(args[1]);
    let call = match caller.read(at) {
        Ok(call) => call,
        Err(errno) => return errno.into(),
    };
    let (domain, kind, size) = match find(caller, &call) {
        Ok(found) => found,
        Err(errno) => return errno.into(),
    };
    if call.frame_list.is_null() {
        let field = at.address().wrapping_add(offset_of!(MemAcquireResource, nr_frames) as u64);
        let told = if call.nr_frames == 0 { caller.write(GuestHandle::new(field), &size) } else { Err(Errno::INVAL) };
        return told.into();
    }
    if u64::from(call.nr_frames) > MAX_EXTENTS || before > call.nr_frames.into() {
        return Errno::INVAL.into();
    }
    let mut done = before as u32;
    while done < call.nr_frames {
        if u64::from(done) != before && done % 32 == 0 && caller.machine().should_yield() {
            return again(args, XENMEM_ACQUIRE_RESOURCE, done.into());
        }
        if let Err(errno) = hand_out(caller, &domain, kind, &call, done) {
            return errno.into();
        }
        done += 1;
    }
    Outcome::Done(0)
}

/// The domain, which of its lists of frames, and how long that may become.
fn find<A: Arch>(caller: &Caller<'_, A>, call: &MemAcquireResource) -> Result<(Arc<Domain<A>>, FrameKind, u32)> {
    let end = call.frame.checked_add(call.nr_frames.into()).ok_or(Errno::INVAL)?;
    if call.pad != 0 || end > u32::MAX.into() {
        return Err(Errno::INVAL);
    }
    let domain = caller.other_domain(call.domid)?;
    caller.require_privilege()?;
    let limit = domain.creation.max_grant_frames;
    let (kind, size) = match (u32::from(call.r#type), call.id) {
        (XENMEM_RESOURCE_GRANT_TABLE, XENMEM_RESOURCE_GRANT_TABLE_ID_SHARED) => (FrameKind::Shared, limit),
        (XENMEM_RESOURCE_GRANT_TABLE, XENMEM_RESOURCE_GRANT_TABLE_ID_STATUS)
            if domain.creation.max_grant_version >= 2 =>
        {
            (FrameKind::Status, limit.div_ceil(SHARED_PER_STATUS))
        }
        (kind, id) => {
            return Err(refuse!(caller, INVAL, "acquire_resource: {} has no resource {kind}/{id}", domain.id));
        }
    };
    if size == 0 {
        return Err(Errno::INVAL);
    }
    Ok((domain, kind, size))
}

fn hand_out<A: Arch>(
    caller: &Caller<'_, A>,
    domain: &Domain<A>,
    kind: FrameKind,
    call: &MemAcquireResource,
    index: u32,
) -> Result<()> {
    let allocate = &mut || caller.hypervisor.allocate_shared(&domain.memory).ok();
    let obtain = |frame: u32, allocate: &mut dyn FnMut() -> Option<types::Mfn>| {
        domain.gnttab.obtain(caller.machine(), kind, frame, allocate)
    };
    if index == 0 {
        // The last one first, so that the table grows at once or not at all.
        obtain(call.frame as u32 + (call.nr_frames - 1), allocate)?;
    }
    let mfn = obtain(call.frame as u32 + index, allocate)?;
    caller.write(call.frame_list.offset(index.into()), &mfn.0)
}
