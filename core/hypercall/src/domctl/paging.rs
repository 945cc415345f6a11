//! The frames that a translated domain's second-stage table may take.

use super::{Done, Target, not_itself};
use crate::{Caller, refuse};
use domain::{Arch, GuestMap};
use types::{Errno, PAGE_SHIFT, PAGE_SIZE, Progress, Result};
use xen_abi::domctl::*;

/// Binary logarithm of the pages of a MiB.
const MIB_SHIFT: u32 = 20 - PAGE_SHIFT;

/// The domain's table.
fn table<'a, A: Arch>(caller: &Caller<'_, A>, target: &'a Target<A>) -> Result<&'a GuestMap<A>> {
    target.p2m().ok_or_else(|| refuse!(caller, OPNOTSUPP, "paging memory of {}, which is PV", target.id))
}

fn resize<A: Arch>(caller: &Caller<'_, A>, target: &Target<A>, p2m: &GuestMap<A>, pages: u64) -> Result<()> {
    match p2m.resize_pool(pages, caller.machine()) {
        Ok(Progress::Done(())) => Ok(()),
        Ok(Progress::Again(_)) => Err(Errno::RESTART),
        Err(_) => Err(refuse!(caller, NOMEM, "paging memory of {}: no {pages} frames", target.id)),
    }
}

/// XEN_DOMCTL_get_paging_mempool_size, in bytes.
pub fn pool_size<A: Arch>(caller: &Caller<'_, A>, target: &Target<A>, op: &mut PagingMempool) -> Done {
    op.size = table(caller, target)?.pool_pages().0 << PAGE_SHIFT;
    Ok(true)
}

/// XEN_DOMCTL_set_paging_mempool_size, likewise.
pub fn set_pool_size<A: Arch>(caller: &Caller<'_, A>, target: &Target<A>, op: &mut PagingMempool) -> Done {
    let p2m = table(caller, target)?;
    if op.size % PAGE_SIZE as u64 != 0 {
        return Err(refuse!(caller, INVAL, "paging memory of {}: {:#x} bytes are no whole pages", target.id, op.size));
    }
    resize(caller, target, p2m, op.size >> PAGE_SHIFT)?;
    Ok(false)
}

/// XEN_DOMCTL_shadow_op: the pool in MiB, by its older name. Of the dirty-page logging there is none.
pub fn shadow_op<A: Arch>(caller: &Caller<'_, A>, target: &Target<A>, op: &mut ShadowOp) -> Done {
    let Some(p2m) = target.p2m() else {
        return Err(refuse!(caller, OPNOTSUPP, "shadow_op {} on {}, which is PV", op.op, target.id));
    };
    not_itself(caller, target, "shadow_op")?;
    match op.op {
        XEN_DOMCTL_SHADOW_OP_SET_ALLOCATION => resize(caller, target, p2m, u64::from(op.mb) << MIB_SHIFT)?,
        XEN_DOMCTL_SHADOW_OP_GET_ALLOCATION => {}
        XEN_DOMCTL_SHADOW_OP_OFF => return Ok(false),
        other => return Err(refuse!(caller, OPNOTSUPP, "shadow_op {other} on {}", target.id)),
    }
    op.mb = p2m.pool_pages().0.div_ceil(1 << MIB_SHIFT) as u32;
    Ok(true)
}
