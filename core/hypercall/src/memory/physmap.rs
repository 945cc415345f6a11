//! A translated domain's physical map: what it asks to have there beside its own memory.

use super::placement::{displaced, give_back};
use super::{MAX_EXTENTS, again};
use crate::{Args, Caller, Outcome};
use alloc::sync::Arc;
use domain::{Arch, Domain, GuestMap};
use gnttab::FrameKind;
use memory::FrameRef;
use p2m::Type;
use types::{Errno, Gfn, Result};
use xen_abi::GuestHandle;
use xen_abi::memory::*;

/// The domain, which has to have a physical map; the caller has to have rights over it.
fn translated<A: Arch>(caller: &Caller<'_, A>, raw: u16) -> Result<Arc<Domain<A>>> {
    let domain = caller.any_domain(raw)?;
    if !domain.is_translated() {
        return Err(Errno::ACCES);
    }
    caller.require_rights_over(&domain)?;
    Ok(domain)
}

/// Something that is to have a place, and what space it is from.
#[derive(Clone, Copy)]
struct Wish {
    space: u32,
    index: u64,
    gfn: u64,
}

/// XENMEM_add_to_physmap.
pub fn add<A: Arch>(caller: &Caller<'_, A>, args: Args, before: u64) -> Outcome {
    let call = match caller.read(GuestHandle::<AddToPhysmap>::new(args[1])) {
        Ok(call) => call,
        Err(errno) => return errno.into(),
    };
    match call.space {
        // It would need a second domain's number.
        XENMAPSPACE_GMFN_FOREIGN => return Errno::NOSYS.into(),
        XENMAPSPACE_DEV_MMIO => return Errno::ACCES.into(),
        _ => {}
    }
    let domain = match translated(caller, call.domid) {
        Ok(domain) => domain,
        Err(errno) => return errno.into(),
    };
    let wish = Wish { space: call.space, index: call.idx, gfn: call.gpfn };
    if call.space != XENMAPSPACE_GMFN_RANGE {
        return flushed(caller, &domain, add_one(caller, &domain, wish)).into();
    }
    if before > call.size.into() {
        return Errno::ILSEQ.into();
    }
    for done in before..call.size.into() {
        if done != before && caller.machine().should_yield() {
            let _rest = domain.p2m().map(|p2m| p2m.flush(caller.machine()));
            return again(args, XENMEM_ADD_TO_PHYSMAP, done);
        }
        let one =
            Wish { space: XENMAPSPACE_GMFN, index: wish.index.wrapping_add(done), gfn: wish.gfn.wrapping_add(done) };
        if let Err(errno) = add_one(caller, &domain, one) {
            return flushed(caller, &domain, Err(errno)).into();
        }
    }
    flushed(caller, &domain, Ok(())).into()
}

/// XENMEM_add_to_physmap_batch: an error number for each.
pub fn add_batch<A: Arch>(caller: &Caller<'_, A>, args: Args, before: u64) -> Outcome {
    let started = start_batch(caller, args[1]);
    let (call, domain, foreign) = match started {
        Ok(started) => started,
        Err(errno) => return errno.into(),
    };
    if before > call.size.into() {
        return Errno::ILSEQ.into();
    }
    for done in before..call.size.into() {
        if done != before && caller.machine().should_yield() {
            let _rest = domain.p2m().map(|p2m| p2m.flush(caller.machine()));
            return again(args, XENMEM_ADD_TO_PHYSMAP_BATCH, done);
        }
        let one = || -> Result<()> {
            let (index, gfn) = (caller.read(call.idxs.offset(done))?, caller.read(call.gpfns.offset(done))?);
            let wish = Wish { space: call.space.into(), index, gfn };
            let result = match &foreign {
                Some(foreign) => {
                    foreign.as_ref().map_err(|errno| *errno).and_then(|from| add_foreign(caller, &domain, from, wish))
                }
                None => add_one(caller, &domain, wish),
            };
            caller.write(call.errs.offset(done), &(result.map_or_else(Errno::as_return, |()| 0) as i32))
        };
        if let Err(errno) = one() {
            return flushed(caller, &domain, Err(errno)).into();
        }
    }
    flushed(caller, &domain, Ok(())).into()
}

/// What is asked, for whom, and whose frames they are if those of another domain.
type Batch<A> = (AddToPhysmapBatch, Arc<Domain<A>>, Option<Result<Arc<Domain<A>>>>);

fn start_batch<A: Arch>(caller: &Caller<'_, A>, at: u64) -> Result<Batch<A>> {
    const { assert!(u16::MAX as u64 <= MAX_EXTENTS) };
    let call = caller.read(GuestHandle::<AddToPhysmapBatch>::new(at))?;
    match call.space.into() {
        XENMAPSPACE_GMFN_RANGE => return Err(Errno::OPNOTSUPP),
        // Registers of devices are the hardware domain's, which has no physical map.
        XENMAPSPACE_DEV_MMIO => return Err(Errno::ACCES),
        _ => {}
    }
    let domain = translated(caller, call.domid)?;
    let is_foreign = u32::from(call.space) == XENMAPSPACE_GMFN_FOREIGN;
    let foreign = is_foreign.then(|| caller.controlled_domain(call.u));
    Ok((call, domain, foreign))
}

/// Has CPUs forget what has gone from the map.
fn flushed<A: Arch>(caller: &Caller<'_, A>, domain: &Domain<A>, result: Result<()>) -> Result<()> {
    if let Some(p2m) = domain.p2m() {
        // What it does not come to is released by whatever flushes next.
        let _rest = p2m.flush(caller.machine());
    }
    result
}

/// The frame that is wished for.
fn find<'a, A: Arch>(caller: &Caller<'a, A>, domain: &Domain<A>, wish: Wish) -> Result<FrameRef<'a, A>> {
    let mfn = match wish.space {
        XENMAPSPACE_SHARED_INFO if wish.index == 0 => domain.shared_info,
        XENMAPSPACE_GRANT_TABLE => {
            let status = wish.index & u64::from(XENMAPIDX_GRANT_TABLE_STATUS) != 0;
            let kind = if status { FrameKind::Status } else { FrameKind::Shared };
            let index =
                u32::try_from(wish.index & !u64::from(XENMAPIDX_GRANT_TABLE_STATUS)).map_err(|_| Errno::INVAL)?;
            let allocate = &mut || caller.hypervisor.allocate_shared(&domain.memory).ok();
            domain.gnttab.obtain(caller.machine(), kind, index, allocate)?
        }
        XENMAPSPACE_GMFN => {
            let held = caller.hypervisor.hold(domain, wish.index, false);
            return held.map_err(|denied| {
                caller.explain("add_to_physmap", denied);
                Errno::ACCES
            });
        }
        _ => return Err(Errno::INVAL),
    };
    caller.hypervisor.memory.frame_ref(mfn, domain.id).map_err(|denied| caller.explain("add_to_physmap", denied))
}

/// Gives one frame its place, and takes the one away that it had. What was at the place before goes: the domain's own memory
/// for good.
fn add_one<A: Arch>(caller: &Caller<'_, A>, domain: &Domain<A>, wish: Wish) -> Result<()> {
    let p2m = domain.p2m().ok_or(Errno::ACCES)?;
    let frame = find(caller, domain, wish)?;
    let mfn = frame.mfn();
    clear_place(caller, domain, p2m, wish.gfn, mfn)?;
    let old = Gfn(caller.machine().m2p(mfn));
    // The machine-to-physical table is a hint: who may write to it can make it say anything.
    let is_there = old != Gfn::INVALID && p2m.get(old).mfn == mfn;
    if wish.space == XENMAPSPACE_GMFN && old != Gfn(wish.index) {
        return Err(Errno::XDEV);
    }
    if is_there && old != Gfn(wish.gfn) {
        let _later = p2m.clear(old, 0)?;
    }
    let _later = p2m.set(Gfn(wish.gfn), mfn, 0, Type::RamRw, p2m.default_access())?;
    Ok(())
}

/// Gives a frame another place (XEN_DMOP_relocate_memory). A flush is due afterwards.
pub(crate) fn relocate<A: Arch>(caller: &Caller<'_, A>, domain: &Domain<A>, from: u64, to: u64) -> Result<()> {
    add_one(caller, domain, Wish { space: XENMAPSPACE_GMFN, index: from, gfn: to })
}

/// Takes away what is at a place where `mfn` is to be.
fn clear_place<A: Arch>(
    caller: &Caller<'_, A>,
    domain: &Domain<A>,
    p2m: &GuestMap<A>,
    gfn: u64,
    mfn: types::Mfn,
) -> Result<()> {
    match p2m.get(Gfn(gfn)) {
        entry if entry.ty == Type::MmioDirect => Err(Errno::PERM),
        entry if entry.ty.is_own_frame() && entry.mfn != mfn => give_back(caller, domain, gfn, 0),
        _ => Ok(()),
    }
}

/// Maps a frame of another domain (XENMAPSPACE_gmfn_foreign).
fn add_foreign<A: Arch>(caller: &Caller<'_, A>, domain: &Domain<A>, foreign: &Domain<A>, wish: Wish) -> Result<()> {
    let p2m = domain.p2m().ok_or(Errno::ACCES)?;
    if foreign.id == domain.id {
        return Err(Errno::INVAL);
    }
    let held = caller.hypervisor.hold(foreign, wish.index, true);
    let frame = held.map_err(|denied| caller.explain("add_to_physmap", denied))?;
    clear_place(caller, domain, p2m, wish.gfn, frame.mfn())?;
    let _later = p2m.set(Gfn(wish.gfn), frame.mfn(), 0, Type::MapForeign, p2m.default_access())?;
    Ok(())
}

/// XENMEM_remove_from_physmap: what is there has no place any more; memory of the domain's own stays its own.
pub fn remove<A: Arch>(caller: &Caller<'_, A>, at: u64) -> Result<()> {
    let call = caller.read(GuestHandle::<RemoveFromPhysmap>::new(at))?;
    let domain = translated(caller, call.domid)?;
    let p2m = domain.p2m().ok_or(Errno::ACCES)?;
    let gfn = Gfn(call.gpfn);
    if domain.frame(call.gpfn, caller.machine()).is_none() {
        return Err(Errno::NOENT);
    }
    if p2m.get(gfn).ty == Type::MmioDirect {
        return Err(Errno::PERM);
    }
    let before = p2m.clear(gfn, 0)?.before;
    displaced(caller.machine(), before);
    flushed(caller, &domain, Ok(()))
}

/// XENMEM_set_pod_target, XENMEM_get_pod_target.
pub fn on_demand<A: Arch>(caller: &Caller<'_, A>, args: Args, op: u32) -> Outcome {
    let at = GuestHandle::<PodTarget>::new(args[1]);
    let answer = || -> Result<Option<()>> {
        let mut call = caller.read(at)?;
        let domain = caller.any_domain(call.domid)?;
        let p2m = domain.p2m().ok_or(Errno::INVAL)?;
        caller.require_privilege()?;
        if op == XENMEM_SET_POD_TARGET {
            if call.target_pages > domain.memory.max_pages() {
                return Err(Errno::INVAL);
            }
            if let types::Progress::Again(_) = p2m.set_demand_target(call.target_pages, caller.machine())? {
                return Ok(None);
            }
        }
        (call.pod_entries, call.pod_cache_pages) = p2m.demand_pages();
        call.tot_pages = domain.memory.total_pages();
        caller.write(at, &call).map(Some)
    };
    match answer() {
        Ok(Some(())) => Outcome::Done(0),
        Ok(None) => Outcome::Again(args),
        Err(errno) => errno.into(),
    }
}
