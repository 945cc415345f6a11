//! Giving pages back and taking new ones: those that are in use, that are not owned, that do not exist.

use super::{Case, table};
use crate::call::{op, update_va};
use crate::memory::poke;
use crate::memory::{Guest, WRITABLE, page};
use crate::report::{Outcome, sign};
use xen_abi::GuestHandle;
use xen_abi::memory::*;
use xen_abi::xen::*;

/// A page that is given back.
const PLAY: usize = 8;

/// Runs the group.
pub fn run(guest: &Guest) {
    table(guest, "pages", CASES);
}

fn reservation(frames: &[u64], domid: u16) -> MemoryReservation {
    MemoryReservation {
        extent_start: GuestHandle::new(frames.as_ptr() as u64),
        nr_extents: frames.len() as u64,
        extent_order: 0,
        mem_flags: 0,
        domid,
        _gap0: [0; 6],
    }
}

fn reserve(command: u32, frames: &[u64], domid: u16) -> Outcome {
    Outcome::Code(op(HYPERVISOR_MEMORY_OP, command, &mut reservation(frames, domid)))
}

fn give_back(frame: u64) -> Outcome {
    reserve(XENMEM_DECREASE_RESERVATION, &[frame], DOMID_SELF)
}

fn memory_domain(command: u32, domid: u16) -> Outcome {
    let mut argument = MemoryDomain { domid };
    sign(op(HYPERVISOR_MEMORY_OP, command, &mut argument))
}

fn add(space: u32, index: u64, page_number: u64, domid: u16) -> Outcome {
    let mut argument = AddToPhysmap { domid, size: 1, space, idx: index, gpfn: page_number };
    Outcome::Code(op(HYPERVISOR_MEMORY_OP, XENMEM_ADD_TO_PHYSMAP, &mut argument))
}

/// Exchanges one extent of `order` for one of `out_order`.
fn exchange(frame: u64, order: u32, out_order: u32, out_count: u64) -> Outcome {
    let (given, mut taken) = ([frame], [page(PLAY) >> 12 & 0x7_ffff]);
    let mut argument =
        MemoryExchange { r#in: reservation(&given, DOMID_SELF), out: reservation(&taken, DOMID_SELF), nr_exchanged: 0 };
    argument.r#in.extent_order = order;
    argument.out.extent_order = out_order;
    argument.out.nr_extents = out_count;
    let result = op(HYPERVISOR_MEMORY_OP, XENMEM_EXCHANGE, &mut argument);
    core::hint::black_box(&mut taken);
    Outcome::Code(result)
}

const CASES: &[Case] = &[
    ("maximum-ram-page", |_| sign(crate::call::call2(HYPERVISOR_MEMORY_OP, 2, 0))),
    ("current-self", |_| memory_domain(XENMEM_CURRENT_RESERVATION, DOMID_SELF)),
    ("maximum-self", |_| memory_domain(XENMEM_MAXIMUM_RESERVATION, DOMID_SELF)),
    ("room-under-the-maximum", |_| {
        let mut maximum = MemoryDomain { domid: DOMID_SELF };
        let maximum = op(HYPERVISOR_MEMORY_OP, XENMEM_MAXIMUM_RESERVATION, &mut maximum);
        let mut current = MemoryDomain { domid: DOMID_SELF };
        Outcome::Code(maximum - op(HYPERVISOR_MEMORY_OP, XENMEM_CURRENT_RESERVATION, &mut current))
    }),
    ("highest-self", |_| memory_domain(XENMEM_MAXIMUM_GPFN, DOMID_SELF)),
    ("current-domain-0", |_| memory_domain(XENMEM_CURRENT_RESERVATION, 0)),
    ("current-no-domain", |_| memory_domain(XENMEM_CURRENT_RESERVATION, 0x7000)),
    ("give-back-frame-1", |_| give_back(1)),
    ("give-back-beyond-memory", |_| give_back(1 << 28)),
    ("give-back-last", |_| give_back(!0)),
    ("give-back-table", |g| give_back(g.table(page(PLAY), 1).1)),
    ("give-back-shared-page", |g| give_back(g.start().shared_info >> 12)),
    ("give-back-of-domain-0", |_| reserve(XENMEM_DECREASE_RESERVATION, &[1], 0)),
    ("give-back-mapped-and-use", |g| {
        // The page is mapped: whoever gets it next must not be seen by way of this mapping.
        let outcome = give_back(g.page_frame(PLAY));
        poke(PLAY, 0, 1);
        outcome
    }),
    ("give-back-twice", |g| give_back(g.page_frame(PLAY))),
    ("give-back-unmapped", |g| {
        let frame = g.page_frame(PLAY + 1);
        update_va(page(PLAY + 1), 0, UVMF_INVLPG);
        give_back(frame)
    }),
    ("map-what-was-given-back", |g| {
        Outcome::Code(update_va(page(PLAY + 1), g.page_frame(PLAY + 1) << 12 | WRITABLE, UVMF_INVLPG))
    }),
    ("take-one", |_| {
        let mut frame = [page(PLAY + 1) >> 12 & 0x7_ffff];
        let outcome = reserve(XENMEM_POPULATE_PHYSMAP, &frame, DOMID_SELF);
        let frame = core::hint::black_box(&mut frame)[0];
        if outcome != Outcome::Code(1) {
            return outcome;
        }
        Outcome::Code(update_va(page(PLAY + 1), frame << 12 | WRITABLE, UVMF_INVLPG))
    }),
    ("taken-page-is-empty", |_| {
        let words = (0..512).filter(|w| crate::memory::peek(PLAY + 1, *w) != 0).count();
        Outcome::Code(words as i64)
    }),
    ("take-beyond-the-maximum", |_| {
        let frames = [0x100_0000u64; 64];
        for _ in 0..64 {
            let outcome = reserve(XENMEM_INCREASE_RESERVATION, &frames, DOMID_SELF);
            if outcome != Outcome::Code(64) {
                return Outcome::Text("refused");
            }
        }
        Outcome::Text("given")
    }),
    ("take-for-domain-0", |_| reserve(XENMEM_POPULATE_PHYSMAP, &[1], 0)),
    ("exchange-frame-1", |_| exchange(1, 0, 0, 1)),
    ("exchange-unequal", |g| exchange(g.page_frame(PLAY + 2), 0, 9, 1)),
    ("exchange-order-max", |g| exchange(g.page_frame(PLAY + 2), !0, !0, 1)),
    ("exchange-wrapping", |g| exchange(g.page_frame(PLAY + 2), 0, 63, 2)),
    ("map-grant-table", |g| add(XENMAPSPACE_GRANT_TABLE, 0, g.start().nr_pages - 1, DOMID_SELF)),
    ("map-shared-page", |g| add(XENMAPSPACE_SHARED_INFO, 0, g.start().nr_pages - 1, DOMID_SELF)),
    ("map-space-max", |_| add(!0, 0, 0, DOMID_SELF)),
    ("map-for-domain-0", |_| add(XENMAPSPACE_SHARED_INFO, 0, 0, 0)),
];
