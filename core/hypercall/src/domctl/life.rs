//! Pausing, resuming and destroying.

use super::{Done, Target, not_itself};
use crate::{Caller, refuse};
use core::sync::atomic::Ordering::SeqCst;
use domain::Arch;
use types::Errno;

/// Pauses that the toolstack may have outstanding.
const MAX_PAUSES: u32 = 255;

/// XEN_DOMCTL_pausedomain.
pub fn pause<A: Arch>(caller: &Caller<'_, A>, target: &Target<A>) -> Done {
    not_itself(caller, target, "pausedomain")?;
    let more = |count| (count < MAX_PAUSES).then_some(count + 1);
    if target.toolstack_pauses.fetch_update(SeqCst, SeqCst, more).is_err() {
        return Err(refuse!(caller, TOOBIG, "pausedomain: {} is paused {MAX_PAUSES} times", target.id));
    }
    caller.hypervisor.pause_domain(target);
    Ok(false)
}

/// XEN_DOMCTL_unpausedomain.
pub fn unpause<A: Arch>(caller: &Caller<'_, A>, target: &Target<A>) -> Done {
    let fewer = |count: u32| count.checked_sub(1);
    match target.toolstack_pauses.fetch_update(SeqCst, SeqCst, fewer) {
        Err(_) => return Err(refuse!(caller, INVAL, "unpausedomain: {} is not paused", target.id)),
        Ok(1) => target.started.store(true, SeqCst),
        Ok(_) => {}
    }
    caller.hypervisor.unpause_domain(target);
    Ok(false)
}

/// XEN_DOMCTL_resumedomain.
pub fn resume<A: Arch>(caller: &Caller<'_, A>, target: &Target<A>) -> Done {
    not_itself(caller, target, "resumedomain")?;
    caller.hypervisor.resume(target);
    Ok(false)
}

/// XEN_DOMCTL_destroydomain.
pub fn destroy<A: Arch>(caller: &Caller<'_, A>, target: &Target<A>) -> Done {
    not_itself(caller, target, "destroydomain")?;
    match caller.hypervisor.destroy(target) {
        Ok(()) => Ok(false),
        Err(Errno::AGAIN) => Err(Errno::RESTART),
        Err(_) => Err(refuse!(caller, INVAL, "destroydomain: {} cannot be destroyed", target.id)),
    }
}
