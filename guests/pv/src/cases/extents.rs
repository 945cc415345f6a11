//! Memory of every order: taken, looked at, given back; exchanged; and where the tables of frames are.

use super::{Case, table};
use crate::call::{op, update_va};
use crate::memory::{Guest, WRITABLE, page};
use crate::memory::{peek, poke};
use crate::report::{Outcome, sign, yes};
use crate::say;
use xen_abi::GuestHandle;
use xen_abi::memory::*;
use xen_abi::xen::*;

/// A page that is given back for another.
const PLAY: usize = 8;
/// A number of a page that the domain does not have.
const NOWHERE: u64 = 0x10_0000;

/// Runs the group.
pub fn run(guest: &Guest) {
    for order in 0..=10 {
        let outcome = take_and_give_back(order);
        say!("extents.order-{order}: {outcome}");
    }
    table(guest, "extents", CASES);
}

fn reservation(list: &mut [u64], order: u32) -> MemoryReservation {
    MemoryReservation {
        extent_start: GuestHandle::new(list.as_mut_ptr() as u64),
        nr_extents: list.len() as u64,
        extent_order: order,
        mem_flags: 0,
        domid: DOMID_SELF,
        _gap0: [0; 6],
    }
}

/// One extent; `aligned` where its first frame is a multiple of its size, and it could be given back whole.
fn take_and_give_back(order: u32) -> Outcome {
    let mut list = [NOWHERE];
    let taken = op(HYPERVISOR_MEMORY_OP, XENMEM_POPULATE_PHYSMAP, &mut reservation(&mut list, order));
    if taken != 1 {
        return Outcome::Code(taken);
    }
    let frame = core::hint::black_box(&mut list)[0];
    let given = op(HYPERVISOR_MEMORY_OP, XENMEM_DECREASE_RESERVATION, &mut reservation(&mut list, order));
    if given != 1 {
        return Outcome::Code(given);
    }
    Outcome::Text(if frame.trailing_zeros() >= order { "aligned" } else { "not aligned" })
}

fn increase(count: usize, order: u32) -> i64 {
    let mut list = [0; 16];
    let taken = op(HYPERVISOR_MEMORY_OP, XENMEM_INCREASE_RESERVATION, &mut reservation(&mut list[..count], order));
    let taken_count = taken.clamp(0, 16) as usize;
    op(HYPERVISOR_MEMORY_OP, XENMEM_DECREASE_RESERVATION, &mut reservation(&mut list[..taken_count], order));
    taken
}

/// Gives the page's frame for another one; `map` says whether the page is mapped meanwhile.
fn exchange(guest: &Guest, map: bool, order: u32) -> Outcome {
    let old = guest.page_frame(PLAY);
    poke(PLAY, 0, 0x99);
    if !map {
        update_va(page(PLAY), 0, UVMF_INVLPG);
    }
    let (mut given, mut taken) = ([old], [NOWHERE]);
    let mut call =
        MemoryExchange { r#in: reservation(&mut given, order), out: reservation(&mut taken, order), nr_exchanged: 0 };
    let result = op(HYPERVISOR_MEMORY_OP, XENMEM_EXCHANGE, &mut call);
    let taken = core::hint::black_box(&mut taken)[0];
    let frame = if result == 0 { taken } else { old };
    let mapped = update_va(page(PLAY), frame << 12 | WRITABLE, UVMF_INVLPG);
    if (result, mapped) != (0, 0) {
        return Outcome::Code(if result != 0 { result } else { mapped });
    }
    Outcome::Text(if call.nr_exchanged == 1 && taken != old { "another" } else { "the same" })
}

fn mapping() -> MachphysMapping {
    let mut mapping = MachphysMapping { v_start: 0, v_end: 0, max_mfn: 0 };
    let result = op(HYPERVISOR_MEMORY_OP, XENMEM_MACHPHYS_MAPPING, &mut mapping);
    assert!(result == 0, "no table of frames: {result}");
    mapping
}

const CASES: &[Case] = &[
    ("increase-16", |_| Outcome::Code(increase(16, 0))),
    ("increase-order-4", |_| Outcome::Code(increase(2, 4))),
    ("exchange-mapped", |g| exchange(g, true, 0)),
    ("exchange-order-1", |g| exchange(g, false, 1)),
    ("exchange", |g| exchange(g, false, 0)),
    ("exchanged-page-can-be-used", |_| {
        poke(PLAY, 1, 0x66);
        Outcome::Hex(peek(PLAY, 1))
    }),
    ("machine-to-physical-start", |_| Outcome::Hex(mapping().v_start)),
    ("machine-to-physical-end", |_| Outcome::Hex(mapping().v_end)),
    ("machine-to-physical-frames", |_| sign(mapping().max_mfn as i64)),
    ("own-frame-is-within", |g| yes(g.page_frame(PLAY + 1) <= mapping().max_mfn)),
];
