//! access_op: what a translated domain may do with its pages, for whoever watches it.

use super::again;
use crate::{Args, Caller, Outcome};
use alloc::sync::Arc;
use domain::{Arch, Domain, GuestMap, Life};
use p2m::Access;
use types::{Errno, Gfn, Progress, Result};
use xen_abi::GuestHandle;
use xen_abi::memory::*;

/// Stands for no page but for what is put into the map later.
const DEFAULT: u64 = u64::MAX;

/// The domain, which somebody has to watch. Without a physical map there are no rights to pages.
fn watched<A: Arch>(caller: &Caller<'_, A>, raw: u16) -> Result<Arc<Domain<A>>> {
    let domain = caller.other_domain(raw)?;
    let translated = domain.translated.as_ref().filter(|_| domain.life() == Life::Alive).ok_or(Errno::INVAL)?;
    caller.require_privilege()?;
    let is_watched = translated.watched.is_watched();
    if is_watched { Ok(domain) } else { Err(Errno::NODEV) }
}

/// Rights by their number.
fn access<A: Arch>(p2m: &GuestMap<A>, number: u8) -> Result<Access> {
    if u32::from(number) == XENMEM_ACCESS_DEFAULT {
        return Ok(p2m.default_access());
    }
    // Among the others is one by which only the CPU's own walks of page tables may write: no such CPU is run on.
    Access::from_number(number).ok_or(Errno::INVAL)
}

/// XENMEM_access_op. `done` pages of it are done.
pub fn access_op<A: Arch>(caller: &Caller<'_, A>, args: Args, done: u64) -> Outcome {
    let at = GuestHandle::<MemAccessOp>::new(args[1]);
    let answer = || -> Result<Option<u64>> {
        let call = caller.read(at)?;
        let domain = watched(caller, call.domid)?;
        let p2m = domain.p2m().ok_or(Errno::INVAL)?;
        let result = match call.op.into() {
            XENMEM_ACCESS_OP_SET_ACCESS => set(caller, p2m, &call, done),
            XENMEM_ACCESS_OP_SET_ACCESS_MULTI => set_each(caller, p2m, &call, done),
            XENMEM_ACCESS_OP_GET_ACCESS if done == 0 => get(caller, p2m, at, call).map(|()| None),
            _ => return Err(Errno::NOSYS),
        };
        // CPUs may have rights that were taken just now. What it does not come to is released by whatever flushes next.
        let _rest = p2m.flush(caller.machine());
        result
    };
    match answer() {
        Ok(None) => Outcome::Done(0),
        Ok(Some(done)) => again(args, XENMEM_ACCESS_OP, done),
        Err(errno) => errno.into(),
    }
}

/// How many pages are done, where it was cut off.
type Done = Result<Option<u64>>;

fn set<A: Arch>(caller: &Caller<'_, A>, p2m: &GuestMap<A>, call: &MemAccessOp, done: u64) -> Done {
    let count = u64::from(call.nr);
    if call.pfn == DEFAULT {
        p2m.set_default_access(access::<A>(p2m, call.access)?);
        return Ok(None);
    }
    // Of no page the last one is the one before the first.
    let last = call.pfn.wrapping_add(count).wrapping_sub(1);
    if count < done || last < call.pfn || last > p2m.max_mapped_gfn().0 {
        return Err(Errno::INVAL);
    }
    let access = access::<A>(p2m, call.access)?;
    match p2m.set_access_range(Gfn(call.pfn + done), Gfn(call.pfn + count), access, caller.machine())? {
        Progress::Done(()) => Ok(None),
        Progress::Again(next) => Ok(Some(next.0 - call.pfn)),
    }
}

fn set_each<A: Arch>(caller: &Caller<'_, A>, p2m: &GuestMap<A>, call: &MemAccessOp, before: u64) -> Done {
    for done in before..call.nr.into() {
        if done != before && caller.machine().should_yield() {
            return Ok(Some(done));
        }
        let gfn = caller.read(call.pfn_list.offset(done))?;
        let access = access::<A>(p2m, caller.read(call.access_list.offset(done))?)?;
        let end = gfn.checked_add(1).ok_or(Errno::INVAL)?;
        let _one = p2m.set_access_range(Gfn(gfn), Gfn(end), access, caller.machine())?;
    }
    Ok(None)
}

fn get<A: Arch>(
    caller: &Caller<'_, A>,
    p2m: &GuestMap<A>,
    at: GuestHandle<MemAccessOp>,
    mut call: MemAccessOp,
) -> Result<()> {
    let access = if call.pfn == DEFAULT {
        p2m.default_access()
    } else if call.pfn > p2m.max_mapped_gfn().0 {
        return Err(Errno::INVAL);
    } else {
        let entry = p2m.get(Gfn(call.pfn));
        if !entry.ty.has_frame() {
            return Err(Errno::SRCH);
        }
        entry.access
    };
    call.access = access as u8;
    caller.write(at, &call)
}
