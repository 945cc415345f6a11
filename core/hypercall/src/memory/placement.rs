//! Frames of a translated domain: where they are in its physical memory, and how they come and go.

use crate::Caller;
use domain::{Arch, Domain, GuestMap};
use p2m::{Entry, ORDERS, Type};
use types::{Errno, Gfn, Mfn, Result};

/// The pieces of 2^`order` frames from `gfn` on that can be pages each, at frames from `mfn` on: first frame number, its
/// distance from `gfn`, and order.
fn pieces(gfn: u64, mfn: u64, order: u8) -> impl Iterator<Item = (Gfn, u64, u8)> {
    let count = 1u64 << order;
    let mut done = 0;
    core::iter::from_fn(move || {
        if done == count {
            return None;
        }
        let at = gfn.checked_add(done)?;
        let fits = |order: &u8| (at | (mfn + done)) & ((1 << order) - 1) == 0 && count - done >= 1 << order;
        let order = ORDERS.into_iter().rev().find(fits).unwrap_or(0);
        let piece = (Gfn(at), done, order);
        done += 1 << order;
        Some(piece)
    })
}

/// What was at frame numbers of a domain has no place there any more: its own frames are its own still.
pub(crate) fn displaced<A: Arch>(machine: &A, before: Option<Entry>) {
    if let Some(entry) = before.filter(|entry| entry.ty.is_own_frame()) {
        (0..1u64 << entry.order).for_each(|index| machine.set_m2p(entry.mfn.offset(index), Gfn::INVALID));
    }
}

/// Puts 2^`order` frames of a domain's own at its numbers from `gfn` on (`guest_physmap_add_page`).
///
/// # Errors
/// `EINVAL` where there are no such numbers, `ENOMEM`; then some may be there.
pub fn place<A: Arch>(machine: &A, p2m: &GuestMap<A>, gfn: u64, mfn: Mfn, order: u8) -> Result<()> {
    let last = gfn.checked_add((1 << order) - 1);
    last.ok_or(Errno::INVAL)?;
    for (gfn, index, order) in pieces(gfn, mfn.0, order) {
        let mfn = mfn.offset(index);
        let before = p2m.set(gfn, mfn, order, Type::RamRw, p2m.default_access())?.before;
        displaced(machine, before.filter(|entry| entry.mfn != mfn));
    }
    Ok(())
}

/// Marks 2^`order` numbers from `gfn` on, to be populated when they are touched.
///
/// # Errors
/// As of `P2m::mark_on_demand`.
pub fn mark_on_demand<A: Arch>(p2m: &GuestMap<A>, gfn: u64, order: u8) -> Result<()> {
    gfn.checked_add((1 << order) - 1).ok_or(Errno::INVAL)?;
    pieces(gfn, 0, order).try_for_each(|(gfn, _, order)| p2m.mark_on_demand(gfn, order))
}

/// Takes 2^`order` frames from `gfn` on back from a domain. `P2m::flush` is due, and they are not free before.
///
/// # Errors
/// `EINVAL` where nothing is, `EPERM` for a device's frame, `ENXIO` for another domain's.
pub fn give_back<A: Arch>(caller: &Caller<'_, A>, domain: &Domain<A>, gfn: u64, order: u8) -> Result<()> {
    let p2m = domain.p2m().ok_or(Errno::INVAL)?;
    let end = gfn.checked_add(1 << order).ok_or(Errno::INVAL)?;
    if p2m.decrease_on_demand(Gfn(gfn), order)? {
        return Ok(());
    }
    let (mut next, mut found) = (gfn, false);
    while next < end {
        let entry = p2m.get(Gfn(next));
        let fits = |order: &u8| *order <= entry.order && next & ((1 << order) - 1) == 0 && end - next >= 1 << order;
        let order = ORDERS.into_iter().rev().find(fits).unwrap_or(0);
        // Holes are what was to be populated on demand.
        if !entry.ty.is_hole() {
            give_page_back(caller, domain, p2m, Gfn(next), order)?;
            found = true;
        }
        next += 1 << order;
    }
    if found { Ok(()) } else { Err(Errno::INVAL) }
}

fn give_page_back<A: Arch>(
    caller: &Caller<'_, A>,
    domain: &Domain<A>,
    p2m: &GuestMap<A>,
    gfn: Gfn,
    order: u8,
) -> Result<()> {
    match p2m.get(gfn).ty {
        Type::MmioDirect => return Err(Errno::PERM),
        ty if !ty.is_own_frame() => return Err(Errno::NXIO),
        _ => {}
    }
    let before = p2m.clear(gfn, order)?.before;
    // Others may have been quicker: what was there last counts.
    if let Some(entry) = before.filter(|entry| entry.ty.is_own_frame()) {
        for mfn in (0..1u64 << order).map(|index| entry.mfn.offset(index)) {
            if let Err(denied) = caller.hypervisor.memory.decrease(&domain.memory, mfn) {
                // One of the hypervisor's, which has only lost its place.
                caller.explain("decrease_reservation", denied);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_as_large_as_both_sides_allow() {
        let of = |gfn, mfn, order| {
            pieces(gfn, mfn, order).map(|(gfn, at, order)| (gfn.0, at, order)).collect::<alloc::vec::Vec<_>>()
        };
        assert_eq!(of(5, 9, 0), [(5, 0, 0)]);
        assert_eq!(of(512, 1024, 9), [(512, 0, 9)]);
        assert_eq!(of(512, 1024, 10), [(512, 0, 9), (1024, 512, 9)]);
        assert_eq!(of(8, 16, 1), [(8, 0, 0), (9, 1, 0)], "no page has two frames");
        assert_eq!(of(256, 512, 9).len(), 512);
        assert_eq!(of(1 << 18, 1 << 19, 18), [(1 << 18, 0, 18)]);
    }
}
