//! Frames that a domain gets and gives back.

use super::placement::{give_back, mark_on_demand, place};
use super::{MAX_EXTENTS, address_bits, again, max_order};
use crate::{Args, Caller, Outcome, refuse};
use alloc::sync::Arc;
use domain::{Arch, Domain, GuestMap};
use memory::Request;
use types::{DomId, Errno, Gfn, Mfn, Result};
use xen_abi::GuestHandle;
use xen_abi::memory::*;

/// What increase_reservation, decrease_reservation and populate_physmap have in common.
struct Change<A: Arch> {
    domain: Arc<Domain<A>>,
    list: GuestHandle<u64>,
    count: u64,
    order: u8,
    bits: u32,
    /// Memory comes when it is touched (XENMEMF_populate_on_demand).
    on_demand: bool,
}

/// increase_reservation, decrease_reservation, populate_physmap: the number of extents done, whatever stopped them.
pub fn change<A: Arch>(caller: &Caller<'_, A>, op: u32, args: Args, before: u64) -> Outcome {
    let Some(change) = accept(caller, op, args[1], before) else {
        return Outcome::Done(before as i64);
    };
    let outcome = go_on(caller, &change, op, args, before);
    if let Some(p2m) = change.domain.p2m() {
        // What was given back is free once CPUs have forgotten it. The rest is done by whatever flushes next.
        let _rest = p2m.flush(caller.machine());
    }
    outcome
}

fn go_on<A: Arch>(caller: &Caller<'_, A>, change: &Change<A>, op: u32, args: Args, before: u64) -> Outcome {
    let mut done = before;
    while done < change.count {
        if done != before && caller.machine().should_yield() {
            return again(args, op, done);
        }
        let result = match op {
            XENMEM_INCREASE_RESERVATION => increase(caller, change, done),
            XENMEM_DECREASE_RESERVATION => decrease(caller, change, done),
            _ => populate(caller, change, done),
        };
        if let Err(errno) = result {
            log::info!(
                "{}: memory_op {op} for {}: extent {done} of {}, order {}, {} address bits: {errno}",
                caller.domain.id,
                change.domain.id,
                change.count,
                change.order,
                change.bits
            );
            break;
        }
        done += 1;
    }
    Outcome::Done(done as i64)
}

/// The request, if it may be done at all.
fn accept<A: Arch>(caller: &Caller<'_, A>, op: u32, at: u64, before: u64) -> Option<Change<A>> {
    let call = caller.read(GuestHandle::<MemoryReservation>::new(at)).ok()?;
    if call.nr_extents > MAX_EXTENTS || before >= call.nr_extents || call.extent_order > max_order(caller) {
        return None;
    }
    let on_demand = op == XENMEM_POPULATE_PHYSMAP && call.mem_flags & XENMEMF_POPULATE_ON_DEMAND != 0;
    let bits = address_bits(call.mem_flags).ok()?;
    let domain = caller.controlled_domain(call.domid).ok()?;
    let (list, count, order) = (call.extent_start, call.nr_extents, call.extent_order as u8);
    Some(Change { domain, list, count, order, bits, on_demand })
}

fn allocate<A: Arch>(caller: &Caller<'_, A>, change: &Change<A>) -> Result<Mfn> {
    let request = Request { order: change.order, bits: change.bits, zero: true };
    Ok(caller.hypervisor.memory.allocate(&change.domain.memory, request)?)
}

fn increase<A: Arch>(caller: &Caller<'_, A>, change: &Change<A>, index: u64) -> Result<()> {
    let mfn = allocate(caller, change)?;
    if change.list.is_null() || change.domain.is_translated() {
        return Ok(());
    }
    caller.write(change.list.offset(index), &mfn.0)
}

fn populate<A: Arch>(caller: &Caller<'_, A>, change: &Change<A>, index: u64) -> Result<()> {
    let entry = change.list.offset(index);
    let gfn = caller.read(entry)?;
    if let Some(p2m) = change.domain.p2m() {
        return populate_translated(caller, change, p2m, gfn);
    }
    let mfn = allocate(caller, change)?;
    name_frames(caller, mfn, gfn, change.order);
    caller.write(entry, &mfn.0)
}

fn populate_translated<A: Arch>(caller: &Caller<'_, A>, change: &Change<A>, p2m: &GuestMap<A>, gfn: u64) -> Result<()> {
    if change.on_demand {
        // Nobody may leave himself to be populated.
        let other = change.domain.id != caller.domain.id;
        return if other { mark_on_demand::<A>(p2m, gfn, change.order) } else { Err(Errno::PERM) };
    }
    let mfn = allocate(caller, change)?;
    place(caller.machine(), p2m, gfn, mfn, change.order).inspect_err(|_| {
        for mfn in (0..1u64 << change.order).map(|index| mfn.offset(index)) {
            // Given to the domain just now, so it is its own.
            let _ = caller.hypervisor.memory.decrease(&change.domain.memory, mfn);
        }
    })
}

/// Enters the numbers that a guest gives to frames into the machine-to-physical table.
pub fn name_frames<A: Arch>(caller: &Caller<'_, A>, mfn: Mfn, gfn: u64, order: u8) {
    for index in 0..1u64 << order {
        caller.machine().set_m2p(mfn.offset(index), Gfn(gfn.wrapping_add(index)));
    }
}

fn decrease<A: Arch>(caller: &Caller<'_, A>, change: &Change<A>, index: u64) -> Result<()> {
    let first: u64 = caller.read(change.list.offset(index))?;
    if change.domain.is_translated() {
        return give_back(caller, &change.domain, first, change.order);
    }
    let memory = &caller.hypervisor.memory;
    for index in 0..1 << change.order {
        let frame = first.checked_add(index).ok_or(Errno::INVAL)?;
        if let Err(denied) = memory.decrease(&change.domain.memory, Mfn(frame)) {
            return Err(caller.explain("decrease_reservation", denied));
        }
    }
    Ok(())
}

/// claim_pages: reserves free frames for a domain; with 0 gives them up.
pub fn claim<A: Arch>(caller: &Caller<'_, A>, at: u64) -> Result<()> {
    let call = caller.read(GuestHandle::<MemoryReservation>::new(at))?;
    if !call.extent_start.is_null() || call.extent_order != 0 || call.mem_flags != 0 {
        return Err(Errno::INVAL);
    }
    let domain = caller.hypervisor.domains.get(DomId(call.domid)).ok_or(Errno::INVAL)?;
    caller.require_privilege()?;
    match caller.hypervisor.memory.claim(&domain.memory, call.nr_extents) {
        Ok(()) => Ok(()),
        Err(denied) if denied.errno == Errno::NOMEM => Err(refuse!(caller, NOMEM, "claim_pages: {}", denied.why)),
        Err(denied) => Err(refuse!(caller, INVAL, "claim_pages: {}", denied.why)),
    }
}

/// Whether a list of 64-bit numbers can be read and written back, of which only the first and the last are looked at.
pub fn probe_list<A: Arch>(caller: &Caller<'_, A>, list: GuestHandle<u64>, count: u64) -> Result<()> {
    let mut word = [0; 8];
    if count != 0 {
        caller.machine().copy_in(list.address(), &mut word)?;
        caller.machine().copy_in(list.offset(count - 1).address(), &mut word)?;
    }
    Ok(())
}
