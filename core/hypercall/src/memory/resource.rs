//! acquire_resource: frames of a domain's grant table and of its device emulators' pages, for whoever maps them.

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

/// Frames of an emulator's server: of the ring, and of requests.
const SERVER_FRAMES: u32 = 2;

/// What frames can be had of.
#[derive(Clone, Copy)]
enum Resource {
    GrantTable(FrameKind),
    Server(u16),
}

/// XENMEM_acquire_resource; with a null list only the size of the resource is told.
pub fn acquire<A: Arch>(caller: &Caller<'_, A>, args: Args, before: u64) -> Outcome {
    if caller.domain.is_translated() {
        // It would name frames of its own memory for them, where nobody would account for what is mapped; on Xen neither.
        return Errno::ACCES.into();
    }
    let at = GuestHandle::<MemAcquireResource>::new(args[1]);
    let call = match caller.read(at) {
        Ok(call) => call,
        Err(errno) => return errno.into(),
    };
    let (domain, resource, size) = match find(caller, &call) {
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
        if let Err(errno) = hand_out(caller, &domain, resource, &call, done) {
            return errno.into();
        }
        done += 1;
    }
    Outcome::Done(0)
}

/// The domain, which of its lists of frames, and how long that may become.
fn find<A: Arch>(caller: &Caller<'_, A>, call: &MemAcquireResource) -> Result<(Arc<Domain<A>>, Resource, u32)> {
    let end = call.frame.checked_add(call.nr_frames.into()).ok_or(Errno::INVAL)?;
    if call.pad != 0 || end > u32::MAX.into() {
        return Err(Errno::INVAL);
    }
    let domain = caller.other_domain(call.domid)?;
    caller.require_privilege()?;
    let limit = domain.creation.max_grant_frames;
    let (kind, size) = match (u32::from(call.r#type), call.id) {
        (XENMEM_RESOURCE_GRANT_TABLE, XENMEM_RESOURCE_GRANT_TABLE_ID_SHARED) => {
            (Resource::GrantTable(FrameKind::Shared), limit)
        }
        (XENMEM_RESOURCE_GRANT_TABLE, XENMEM_RESOURCE_GRANT_TABLE_ID_STATUS)
            if domain.creation.max_grant_version >= 2 =>
        {
            (Resource::GrantTable(FrameKind::Status), limit.div_ceil(SHARED_PER_STATUS))
        }
        (XENMEM_RESOURCE_IOREQ_SERVER, id) if domain.is_translated() => {
            (Resource::Server(u16::try_from(id).map_err(|_| Errno::INVAL)?), SERVER_FRAMES)
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
    domain: &Arc<Domain<A>>,
    resource: Resource,
    call: &MemAcquireResource,
    index: u32,
) -> Result<()> {
    let kind = match resource {
        Resource::GrantTable(kind) => kind,
        Resource::Server(id) => {
            let servers = caller.hypervisor.servers(domain).ok_or(Errno::INVAL)?;
            let mfn = servers.frame(id, caller.domain.id, call.frame + u64::from(index))?;
            return caller.write(call.frame_list.offset(index.into()), &mfn.0);
        }
    };
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
