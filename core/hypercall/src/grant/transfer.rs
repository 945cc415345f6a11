//! Giving a frame away for good.

use super::explain;
use crate::Caller;
use alloc::sync::Arc;
use domain::{Arch, Domain};
use gnttab::Status;
use types::{DomId, Mfn};
use xen_abi::grant_table::Transfer;

/// GNTTABOP_transfer. From the moment that the caller has lost the frame it is freed if anything fails.
pub fn transfer<A: Arch>(caller: &Caller<'_, A>, call: &Transfer) -> Result<(), Status> {
    let memory = &caller.hypervisor.memory;
    let mfn = Mfn(call.mfn);
    memory
        .steal(&caller.domain.memory, mfn)
        .map_err(|denied| explain(caller, "grant transfer", denied, Status::BadPage))?;
    let given = match caller.hypervisor.domains.get(DomId(call.domid)) {
        Some(taker) => give(caller, &taker, call.r#ref, mfn),
        None => Err(Status::BadDomain),
    };
    given.inspect_err(|_| memory.free_anonymous(mfn, 0))
}

/// Gives a frame that is nobody's to a domain that waits for one.
fn give<A: Arch>(caller: &Caller<'_, A>, taker: &Arc<Domain<A>>, reference: u32, mfn: Mfn) -> Result<(), Status> {
    taker.gnttab.prepare_transfer(caller.machine(), reference, caller.domain.id)?;
    caller
        .hypervisor
        .memory
        .assign(&taker.memory, mfn, 0)
        .map_err(|denied| explain(caller, "grant transfer", denied, Status::GeneralError))?;
    if let Some(gfn) = taker.gnttab.complete_transfer(caller.machine(), reference, mfn) {
        caller.machine().set_m2p(mfn, gfn);
    }
    Ok(())
}
