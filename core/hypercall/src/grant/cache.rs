//! Writing a grant back from the caches.

use crate::{Args, Caller, Outcome};
use domain::Arch;
use gnttab::Search;
use types::{Errno, Mfn, PAGE_SIZE, Progress, Result};
use xen_abi::GuestHandle;
use xen_abi::grant_table::*;

/// First bit of the operation's argument that is free for the reference with which a search goes on.
const CURSOR_SHIFT: u32 = 12;
/// Entries of a grant table that are looked at in one go.
const SEARCHED_AT_ONCE: u32 = 4096;

/// GNTTABOP_cache_flush; the argument's upper bits are the reference with which the search for the first structure's frame
/// goes on.
pub fn flush<A: Arch>(caller: &Caller<'_, A>, args: Args) -> Outcome {
    let (at, count) = (GuestHandle::<CacheFlush>::new(args[1]), u64::from(args[2] as u32));
    if !caller.machine().is_guest_range(args[1], count.saturating_mul(size_of::<CacheFlush>() as u64)) {
        return Errno::FAULT.into();
    }
    let mut cursor = args[0] as u32 >> CURSOR_SHIFT;
    let mut done = 0;
    while done < count {
        match caller.read(at.offset(done)).and_then(|call| flush_one(caller, &call, cursor)) {
            Ok(Progress::Done(())) => {
                cursor = 0;
                done += 1;
            }
            Ok(Progress::Again(reference)) => cursor = reference,
            Err(errno) => return errno.into(),
        }
        if done < count && caller.machine().should_yield() {
            let op = GNTTABOP_CACHE_FLUSH | cursor << CURSOR_SHIFT;
            return Outcome::Again([op.into(), at.offset(done).address(), count - done, args[3], args[4], args[5]]);
        }
    }
    Outcome::Done(0)
}

/// One structure: checks it, finds out whether the frame is the caller's or one that it has mapped, and flushes.
fn flush_one<A: Arch>(caller: &Caller<'_, A>, call: &CacheFlush, cursor: u32) -> Result<Progress<(), u32>> {
    let (offset, length) = (usize::from(call.offset), usize::from(call.length));
    // Frames named by grant reference (GNTTAB_CACHE_SOURCE_GREF) are defined and not there, on Xen neither.
    let known = call.op & !(GNTTAB_CACHE_INVAL | GNTTAB_CACHE_CLEAN) == 0;
    if offset >= PAGE_SIZE || offset + length > PAGE_SIZE || !known {
        return Err(Errno::INVAL);
    }
    if length == 0 || call.op == 0 {
        return if cursor == 0 { Ok(Progress::Done(())) } else { Err(Errno::ILSEQ) };
    }
    let mfn = Mfn::containing(call.a);
    let memory = &caller.hypervisor.memory;
    let view = memory.frames().view(mfn).ok_or(Errno::INVAL)?;
    let owner = caller.hypervisor.domains.get(view.owner).ok_or(Errno::PERM)?;
    let _frame = memory.frame_ref(mfn, owner.id).map_err(|_| Errno::PERM)?;
    if owner.id != caller.domain.id {
        match owner.gnttab.find_use(mfn, caller.domain.id, cursor, SEARCHED_AT_ONCE) {
            Search::Found => {}
            Search::Nowhere => return Err(Errno::INVAL),
            Search::Again(reference) => return Ok(Progress::Again(reference)),
        }
    }
    // To drop what is in the caches without writing it would show what the frame held before.
    if call.op & GNTTAB_CACHE_CLEAN == 0 {
        return Err(Errno::OPNOTSUPP);
    }
    caller.machine().flush_cache(mfn, offset..offset + length);
    Ok(Progress::Done(()))
}
