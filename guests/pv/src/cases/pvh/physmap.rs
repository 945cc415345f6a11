//! What is at which of the domain's frames: pages taken and given back, moved, and those of the hypervisor.

use super::{Case, code, table};
use crate::call::{op, update_va};
use crate::memory::{Guest, WRITABLE, page};
use crate::memory::{peek, poke};
use crate::pvh::{add_to_physmap, has_board};
use crate::report::{Outcome, sign, yes};
use crate::say;
use xen_abi::GuestHandle;
use xen_abi::memory::*;
use xen_abi::xen::*;

/// A page that comes and goes, another one, and one through which frames elsewhere are seen.
const PLAY: usize = 8;
const OTHER: usize = 9;
const WINDOW: usize = 10;
/// Frames that the domain begins without.
const FREE: u64 = 0x10_0000;
const FAR: u64 = 1 << 40;
/// In an index of grant-table frames: those of the status.
const STATUS: u64 = 1 << 31;

/// Runs the group.
pub fn run(guest: &Guest) {
    table(guest, "physmap", CASES);
    // As much as an HVM guest has beyond what it began with, if no page that it gave back is still mapped by its device emulator.
    let uncertain = |order: &u32| *order == 8 && has_board();
    for order in (0..=10).filter(|order| !uncertain(order)) {
        let outcome = extent(order);
        say!("physmap.extent-{order}: {outcome}");
    }
    table(guest, "physmap", LATER);
}

fn reservation(command: u32, list: &mut [u64], order: u32) -> i64 {
    let mut reservation = MemoryReservation {
        extent_start: GuestHandle::new(list.as_mut_ptr() as u64),
        nr_extents: list.len() as u64,
        extent_order: order,
        mem_flags: 0,
        domid: DOMID_SELF,
        _gap0: [0; 6],
    };
    op(HYPERVISOR_MEMORY_OP, command, &mut reservation)
}

/// Has the domain's memory appear at `frame`.
pub fn take(frame: u64) -> i64 {
    reservation(XENMEM_POPULATE_PHYSMAP, &mut [frame], 0)
}

/// Gives the memory at `frame` back.
pub fn give(frame: u64) -> i64 {
    reservation(XENMEM_DECREASE_RESERVATION, &mut [frame], 0)
}

/// Takes away what is at `frame`, whatever it is.
pub fn remove(frame: u64) -> i64 {
    let mut call = RemoveFromPhysmap { domid: DOMID_SELF, _gap0: [0; 6], gpfn: frame };
    op(HYPERVISOR_MEMORY_OP, XENMEM_REMOVE_FROM_PHYSMAP, &mut call)
}

/// One call with two frames.
fn batch(space: u32, domain: u16, indices: [u64; 2], frames: [u64; 2]) -> Outcome {
    let mut errors = [99i32; 2];
    let mut call = AddToPhysmapBatch {
        domid: DOMID_SELF,
        space: space as u16,
        size: 2,
        u: domain,
        idxs: GuestHandle::new(indices.as_ptr() as u64),
        gpfns: GuestHandle::new(frames.as_ptr() as u64),
        errs: GuestHandle::new(errors.as_mut_ptr() as u64),
    };
    let result = op(HYPERVISOR_MEMORY_OP, XENMEM_ADD_TO_PHYSMAP_BATCH, &mut call);
    let errors = core::hint::black_box(&mut errors);
    match (result, errors[0], errors[1]) {
        (0, first, 0) => code(first.into()),
        (0, 0, second) => code(second.into()),
        (0, ..) => Outcome::Text("both fail"),
        (result, ..) => code(result),
    }
}

/// Shows `frame` at WINDOW while something is done there.
fn seen<T>(guest: &Guest, frame: u64, act: impl FnOnce() -> T) -> T {
    update_va(page(WINDOW), frame << 12 | WRITABLE, UVMF_INVLPG);
    let result = act();
    update_va(page(WINDOW), guest.page_frame(WINDOW) << 12 | WRITABLE, UVMF_INVLPG);
    result
}

/// Takes 2^`order` pages at once where the domain has none, uses the last, gives them back; by what is there afterwards.
fn extent(order: u32) -> Outcome {
    let taken = reservation(XENMEM_POPULATE_PHYSMAP, &mut [FREE], order);
    if taken != 1 {
        return code(taken);
    }
    update_va(page(WINDOW), (FREE + (1 << order) - 1) << 12 | WRITABLE, UVMF_INVLPG);
    poke(WINDOW, 511, 0x77);
    let kept = peek(WINDOW, 511);
    let given = reservation(XENMEM_DECREASE_RESERVATION, &mut [FREE], order);
    if given != 1 {
        return code(given);
    }
    yes(kept == 0x77 && peek(WINDOW, 511) == !0)
}

/// How many pages the domain has.
fn current() -> i64 {
    op(HYPERVISOR_MEMORY_OP, XENMEM_CURRENT_RESERVATION, &mut MemoryDomain { domid: DOMID_SELF })
}

/// By how much something lessens the number of pages.
fn lost(act: impl FnOnce()) -> Outcome {
    let before = current();
    act();
    code(before - current())
}

const CASES: &[Case] = &[
    ("give-back", |g| code(give(g.page_frame(PLAY)))),
    ("read-nothing", |_| Outcome::Hex(peek(PLAY, 0))),
    ("write-nothing", |_| {
        poke(PLAY, 0, 1);
        Outcome::Hex(peek(PLAY, 0))
    }),
    ("give-back-nothing", |g| code(give(g.page_frame(PLAY)))),
    ("take", |g| code(take(g.page_frame(PLAY)))),
    ("taken-keeps", |_| {
        poke(PLAY, 5, 0x1234);
        Outcome::Hex(peek(PLAY, 5))
    }),
    ("take-where-memory-is", |g| code(take(g.page_frame(PLAY)))),
    ("remove", |g| code(remove(g.page_frame(PLAY)))),
    ("remove-nothing", |g| code(remove(g.page_frame(PLAY)))),
    ("read-removed", |_| Outcome::Hex(peek(PLAY, 5))),
    ("take-again", |g| code(take(g.page_frame(PLAY)))),
    ("remove-far", |_| code(remove(FAR))),
    ("take-far", |_| code(take(FAR))),
    ("take-last", |_| code(take(!0))),
    ("give-back-far", |_| code(give(FAR))),
    ("give-back-last", |_| code(give(!0))),
    ("move", |g| {
        poke(OTHER, 3, 0x4242);
        code(add_to_physmap(XENMAPSPACE_GMFN, g.page_frame(OTHER), FREE))
    }),
    ("moved-is-gone", |_| Outcome::Hex(peek(OTHER, 3))),
    ("moved-is-there", |g| seen(g, FREE, || Outcome::Hex(peek(WINDOW, 3)))),
    ("move-onto-memory", |g| code(add_to_physmap(XENMAPSPACE_GMFN, FREE, g.page_frame(OTHER)))),
    ("moved-back", |_| Outcome::Hex(peek(OTHER, 3))),
    ("move-nothing", |_| code(add_to_physmap(XENMAPSPACE_GMFN, FREE, FREE + 1))),
    ("move-onto-itself", |g| code(add_to_physmap(XENMAPSPACE_GMFN, g.page_frame(OTHER), g.page_frame(OTHER)))),
    ("moved-onto-itself", |_| Outcome::Hex(peek(OTHER, 3))),
    ("moved-onto-is-lost", |g| lost(|| _ = add_to_physmap(XENMAPSPACE_GMFN, g.page_frame(PLAY), g.page_frame(OTHER)))),
    ("replaced", |g| code(take(g.page_frame(PLAY)))),
    ("move-range", |g| {
        let mut call = AddToPhysmap {
            domid: DOMID_SELF,
            size: 2,
            space: XENMAPSPACE_GMFN_RANGE,
            idx: g.page_frame(PLAY),
            gpfn: FREE,
        };
        sign(op(HYPERVISOR_MEMORY_OP, XENMEM_ADD_TO_PHYSMAP, &mut call))
    }),
    ("move-range-back", |g| {
        let first = add_to_physmap(XENMAPSPACE_GMFN, FREE, g.page_frame(PLAY));
        let second = add_to_physmap(XENMAPSPACE_GMFN, FREE + 1, g.page_frame(OTHER));
        code(if first != 0 { first } else { second })
    }),
    ("move-shared-page", |g| code(add_to_physmap(XENMAPSPACE_GMFN, g.page_frame(0), FREE))),
    ("shared-page-elsewhere", |_| code(add_to_physmap(XENMAPSPACE_SHARED_INFO, 0, FREE))),
    ("shared-page-again", |g| code(add_to_physmap(XENMAPSPACE_SHARED_INFO, 0, g.page_frame(0)))),
    ("shared-page-is-once", |g| seen(g, FREE, || Outcome::Hex(peek(WINDOW, 511)))),
    ("shared-page-1", |_| code(add_to_physmap(XENMAPSPACE_SHARED_INFO, 1, FREE))),
    ("shared-page-far", |_| code(add_to_physmap(XENMAPSPACE_SHARED_INFO, 0, FAR))),
    ("shared-page-after-that", |g| code(add_to_physmap(XENMAPSPACE_SHARED_INFO, 0, g.page_frame(0)))),
    ("give-back-shared-page", |g| code(give(g.page_frame(0)))),
    ("shared-page-at-last", |g| code(add_to_physmap(XENMAPSPACE_SHARED_INFO, 0, g.page_frame(0)))),
    ("grants", |_| code(add_to_physmap(XENMAPSPACE_GRANT_TABLE, 0, FREE))),
    ("grants-seen", |g| {
        seen(g, FREE, || {
            poke(WINDOW, 20, 0x5_0000);
            Outcome::Hex(peek(WINDOW, 20))
        })
    }),
    ("grants-elsewhere", |_| code(add_to_physmap(XENMAPSPACE_GRANT_TABLE, 0, FREE + 1))),
    ("grants-moved", |g| seen(g, FREE, || Outcome::Hex(peek(WINDOW, 20)))),
    ("grants-are-there", |g| seen(g, FREE + 1, || Outcome::Hex(peek(WINDOW, 20)))),
    ("grants-last", |_| code(add_to_physmap(XENMAPSPACE_GRANT_TABLE, 63, FREE))),
    ("grants-beyond", |_| code(add_to_physmap(XENMAPSPACE_GRANT_TABLE, 64, FREE))),
    ("grants-max", |_| code(add_to_physmap(XENMAPSPACE_GRANT_TABLE, 0x7fff_ffff, FREE))),
    ("grant-status-of-version-1", |_| code(add_to_physmap(XENMAPSPACE_GRANT_TABLE, STATUS, FREE))),
    ("grant-status-beyond", |_| code(add_to_physmap(XENMAPSPACE_GRANT_TABLE, STATUS | 64, FREE))),
    ("remove-grants", |_| code(remove(FREE + 1))),
    ("removed-grants", |g| seen(g, FREE + 1, || Outcome::Hex(peek(WINDOW, 20)))),
    ("give-back-grants", |_| {
        let added = add_to_physmap(XENMAPSPACE_GRANT_TABLE, 0, FREE);
        code(if added != 0 { added } else { give(FREE) })
    }),
    ("foreign-of-domain-0", |_| batch(XENMAPSPACE_GMFN_FOREIGN, 0, [1, 2], [FREE, FREE + 1])),
    ("foreign-of-self", |_| batch(XENMAPSPACE_GMFN_FOREIGN, DOMID_SELF, [1, 2], [FREE, FREE + 1])),
    ("foreign-of-none", |_| batch(XENMAPSPACE_GMFN_FOREIGN, 0x7000, [1, 2], [FREE, FREE + 1])),
    ("foreign-alone", |_| code(add_to_physmap(XENMAPSPACE_GMFN_FOREIGN, 1, FREE))),
    ("batch-of-moves", |g| batch(XENMAPSPACE_GMFN, 0, [g.page_frame(PLAY), g.page_frame(OTHER)], [FREE + 8, FREE + 9])),
    ("batch-back", |g| batch(XENMAPSPACE_GMFN, 0, [FREE + 8, FREE + 9], [g.page_frame(PLAY), g.page_frame(OTHER)])),
    ("batch-half-bad", |g| batch(XENMAPSPACE_GMFN, 0, [g.page_frame(PLAY), FREE + 20], [FREE + 8, FREE + 9])),
    ("batch-half-back", |g| code(add_to_physmap(XENMAPSPACE_GMFN, FREE + 8, g.page_frame(PLAY)))),
    ("device-memory", |_| batch(XENMAPSPACE_DEV_MMIO, 0, [0xfed00, 0xfed01], [0xfed00, 0xfed01])),
    ("space-6", |_| code(add_to_physmap(6, 0, FREE))),
    ("highest-frame-is-known", |_| {
        let highest = op(HYPERVISOR_MEMORY_OP, XENMEM_MAXIMUM_GPFN, &mut MemoryDomain { domid: DOMID_SELF });
        yes(highest as u64 >= FREE)
    }),
];

/// What comes after the extents, which want the domain's memory to be as it was.
const LATER: &[Case] = &[
    ("increase", |_| sign(reservation(XENMEM_INCREASE_RESERVATION, &mut [FREE], 0))),
    ("exchange", |g| {
        let (mut given, mut taken) = ([g.page_frame(PLAY)], [FREE]);
        let of = |list: &mut [u64; 1]| MemoryReservation {
            extent_start: GuestHandle::new(list.as_mut_ptr() as u64),
            nr_extents: 1,
            extent_order: 0,
            mem_flags: 0,
            domid: DOMID_SELF,
            _gap0: [0; 6],
        };
        let mut call = MemoryExchange { r#in: of(&mut given), out: of(&mut taken), nr_exchanged: 0 };
        code(op(HYPERVISOR_MEMORY_OP, XENMEM_EXCHANGE, &mut call))
    }),
    ("pages-more-than-allowed", |_| {
        let taken = (0..0x4000).take_while(|at| take(FREE + 0x1000 + at) == 1).count();
        let given = (0..taken as u64).take_while(|at| give(FREE + 0x1000 + at) == 1).count();
        yes(taken < 0x4000 && taken == given)
    }),
    ("all-of-it-is-there", |g| {
        let lost = |number| {
            seen(g, number, || {
                peek(WINDOW, 0) == !0 && {
                    poke(WINDOW, 0, 0);
                    let lost = peek(WINDOW, 0) == !0;
                    poke(WINDOW, 0, !0);
                    lost
                }
            })
        };
        // The frames below 1 MiB are as a PC has them.
        code((256..g.pages()).filter(|number| lost(*number)).count() as i64)
    }),
];
