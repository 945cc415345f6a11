//! Grants in a translated guest: they are mapped at frames, not at addresses, and the table of grants is such a frame itself.

use super::physmap::{give, remove, take};
use super::{Case, address, code, table};
use crate::attempt;
use crate::cases::grants::*;
use crate::grants::*;
use crate::memory::{Guest, page};
use crate::memory::{peek, poke};
use crate::pvh::add_to_physmap;
use crate::report::Outcome;
use crate::shared::own_domain;
use xen_abi::grant_table::*;
use xen_abi::memory::*;
use xen_abi::xen::*;

const OKAY: Outcome = Outcome::Text("okay");
/// Where status words of grants are.
const STATUS_PAGE: usize = 40;
const STATUS: u64 = 1 << 31;

/// Runs the group.
pub fn run(guest: &Guest) {
    table(guest, "grants", CASES);
    table(guest, "grants", SECOND);
}

/// Has memory be at a page where there is none, with its number in it.
fn refill(guest: &Guest, index: usize) {
    if peek(index, 1) == !0 {
        take(guest.page_frame(index));
        poke(index, 1, index as u64);
    }
}

/// Grants GIVEN to this domain and maps it at TAKEN, which is without memory meanwhile. On Xen a page of the domain's own is gone from
/// where it was while it is mapped elsewhere.
fn mapped(guest: &Guest, entry: u16, how: u32, case: impl FnOnce(u32) -> Outcome) -> Outcome {
    give(guest.page_frame(TAKEN));
    let outcome = onto(guest, entry, guest.page_frame(GIVEN), how, case);
    remove(guest.page_frame(TAKEN));
    refill(guest, TAKEN);
    outcome
}

/// The same with any frame, onto whatever is at TAKEN.
fn onto(guest: &Guest, entry: u16, frame: u64, how: u32, case: impl FnOnce(u32) -> Outcome) -> Outcome {
    grant(REFERENCE, entry, own_domain(), frame);
    let (outcome, handle) = map(own_domain(), REFERENCE, how, address(guest, TAKEN));
    let outcome = if outcome == OKAY {
        let outcome = case(handle);
        unmap(handle, address(guest, TAKEN));
        outcome
    } else {
        outcome
    };
    grant(REFERENCE, 0, 0, 0);
    refill(guest, GIVEN);
    outcome
}

/// Maps GIVEN at some physical address, and unmaps it.
fn map_at(guest: &Guest, at: u64, flags: u32) -> Outcome {
    grant(REFERENCE, GTF_PERMIT_ACCESS, own_domain(), guest.page_frame(GIVEN));
    let (outcome, handle) = map(own_domain(), REFERENCE, flags, at);
    if outcome == OKAY {
        unmap(handle, at);
    }
    grant(REFERENCE, 0, 0, 0);
    refill(guest, GIVEN);
    outcome
}

/// Copies a word of GIVEN to TAKEN, by reference where the flag is set.
fn copy_word(guest: &Guest, entry: u16, flags: u16) -> Outcome {
    poke(GIVEN, 2, 0xabcd);
    poke(TAKEN, 6, 0);
    grant(REFERENCE, entry, own_domain(), guest.page_frame(GIVEN));
    grant(REFERENCE + 1, entry, own_domain(), guest.page_frame(TAKEN));
    let end = |flag: u16, index, reference: u32, offset| match flags & flag {
        0 => copy_end(guest.page_frame(index), DOMID_SELF, offset),
        _ => copy_end(reference.into(), own_domain(), offset),
    };
    let source = end(GNTCOPY_SOURCE_GREF, GIVEN, REFERENCE, 16);
    let outcome = copy(source, end(GNTCOPY_DEST_GREF, TAKEN, REFERENCE + 1, 48), 8, flags);
    grant(REFERENCE, 0, 0, 0);
    grant(REFERENCE + 1, 0, 0, 0);
    if outcome == OKAY { Outcome::Hex(peek(TAKEN, 6)) } else { outcome }
}

fn flags(reference: u32) -> Outcome {
    Outcome::Hex(peek(TABLE, reference.into()) & 0xffff)
}

fn transfer(guest: &Guest, mfn: u64, domid: u16) -> Outcome {
    let mut call = Transfer { mfn, domid, _gap0: [0; 2], r#ref: REFERENCE, status: 99, _gap1: [0; 6] };
    let result = grant_op(GNTTABOP_TRANSFER, &mut call);
    refill(guest, 27);
    status(result, call.status)
}

const CASES: &[Case] = &[
    ("table", |g| open_table(g)),
    ("map", |g| {
        poke(GIVEN, 3, 0x1234);
        mapped(g, GTF_PERMIT_ACCESS, WRITE, |_| Outcome::Hex(peek(TAKEN, 3)))
    }),
    ("write", |g| {
        mapped(g, GTF_PERMIT_ACCESS, WRITE, |_| {
            poke(TAKEN, 4, 0x4321);
            Outcome::Hex(peek(GIVEN, 4))
        })
    }),
    ("unmapped-is-nothing", |g| {
        give(g.page_frame(TAKEN));
        let outcome = onto(g, GTF_PERMIT_ACCESS, g.page_frame(GIVEN), WRITE, |_| OKAY);
        let left = peek(TAKEN, 3);
        take(g.page_frame(TAKEN));
        if outcome == OKAY { Outcome::Hex(left) } else { outcome }
    }),
    ("read-of-read-only", |g| {
        poke(GIVEN, 3, 0x77);
        mapped(g, GTF_PERMIT_ACCESS, READ, |_| Outcome::Hex(peek(TAKEN, 3)))
    }),
    ("write-to-read-only", |g| {
        mapped(g, GTF_PERMIT_ACCESS, READ, |_| attempt!("mov [rdi], rdi"; in("rdi") page(TAKEN)))
    }),
    ("read-only-is-not-written", |g| {
        poke(GIVEN, 0, 7);
        mapped(g, GTF_PERMIT_ACCESS, READ, |_| {
            attempt!("mov [rdi], rdi"; in("rdi") page(TAKEN));
            Outcome::Hex(peek(TAKEN, 0))
        })
    }),
    ("flags-while-mapped", |g| mapped(g, GTF_PERMIT_ACCESS, WRITE, |_| flags(REFERENCE))),
    ("flags-while-mapped-read-only", |g| mapped(g, GTF_PERMIT_ACCESS, READ, |_| flags(REFERENCE))),
    ("map-read-only-grant-writable", |g| mapped(g, GTF_PERMIT_ACCESS | GTF_READONLY, WRITE, |_| OKAY)),
    ("map-over-memory", |g| {
        poke(GIVEN, 3, 0x55);
        onto(g, GTF_PERMIT_ACCESS, g.page_frame(GIVEN), WRITE, |_| Outcome::Hex(peek(TAKEN, 3)))
    }),
    ("memory-below-is-gone", |_| Outcome::Hex(peek(TAKEN, 3))),
    ("memory-again", |g| code(take(g.page_frame(TAKEN)))),
    ("map-itself", |g| {
        grant(REFERENCE, GTF_PERMIT_ACCESS, own_domain(), g.page_frame(27));
        let (outcome, handle) = map(own_domain(), REFERENCE, WRITE, address(g, 27));
        unmap(handle, address(g, 27));
        grant(REFERENCE, 0, 0, 0);
        refill(g, 27);
        outcome
    }),
    ("map-twice-at-one-place", |g| {
        mapped(g, GTF_PERMIT_ACCESS, WRITE, |_| {
            let (outcome, handle) = map(own_domain(), REFERENCE, WRITE, address(g, TAKEN));
            let second = unmap(handle, address(g, TAKEN));
            if outcome == OKAY { second } else { outcome }
        })
    }),
    ("unmap-elsewhere", |g| mapped(g, GTF_PERMIT_ACCESS, WRITE, |handle| unmap(handle, address(g, GIVEN)))),
    ("unmap-twice", |g| {
        mapped(g, GTF_PERMIT_ACCESS, WRITE, |handle| {
            unmap(handle, address(g, TAKEN));
            unmap(handle, address(g, TAKEN))
        })
    }),
    ("give-back-mapped", |g| mapped(g, GTF_PERMIT_ACCESS, WRITE, |_| code(give(g.page_frame(TAKEN))))),
    ("remove-mapped", |g| mapped(g, GTF_PERMIT_ACCESS, WRITE, |_| code(remove(g.page_frame(TAKEN))))),
    ("unmap-removed", |g| {
        mapped(g, GTF_PERMIT_ACCESS, WRITE, |handle| {
            remove(g.page_frame(TAKEN));
            unmap(handle, address(g, TAKEN))
        })
    }),
    ("take-over-mapped", |g| mapped(g, GTF_PERMIT_ACCESS, WRITE, |_| code(take(g.page_frame(TAKEN))))),
    ("move-mapped", |g| {
        mapped(g, GTF_PERMIT_ACCESS, WRITE, |_| code(add_to_physmap(XENMAPSPACE_GMFN, g.page_frame(TAKEN), 0x10_0000)))
    }),
    ("give-back-granted", |g| {
        poke(GIVEN, 3, 0x66);
        mapped(g, GTF_PERMIT_ACCESS, WRITE, |_| {
            let given = give(g.page_frame(GIVEN));
            if given == 1 { Outcome::Hex(peek(TAKEN, 3)) } else { code(given) }
        })
    }),
    ("map-of-nothing", |g| onto(g, GTF_PERMIT_ACCESS, 0x10_0000, WRITE, |_| OKAY)),
    ("map-of-far-frame", |g| onto(g, GTF_PERMIT_ACCESS, 1 << 28, WRITE, |_| OKAY)),
    ("map-of-shared-page", |g| onto(g, GTF_PERMIT_ACCESS, g.page_frame(0), READ, |_| OKAY)),
    ("map-of-table", |g| onto(g, GTF_PERMIT_ACCESS, g.page_frame(TABLE), READ, |_| OKAY)),
    ("memory-at-last", |g| {
        remove(g.page_frame(TAKEN));
        code(take(g.page_frame(TAKEN)))
    }),
    ("map-transfer-grant", |g| mapped(g, GTF_ACCEPT_TRANSFER, WRITE, |_| OKAY)),
    ("map-without-flags", |g| mapped(g, GTF_PERMIT_ACCESS, 0, |_| OKAY)),
    ("map-for-devices", |g| mapped(g, GTF_PERMIT_ACCESS, GNTMAP_DEVICE_MAP, |_| OKAY)),
    ("map-into-entry", |g| map_at(g, g.entry(page(TAKEN), 1), WRITE | GNTMAP_CONTAINS_PTE)),
    ("map-unaligned", |g| {
        give(g.page_frame(TAKEN));
        let outcome = map_at(g, address(g, TAKEN) + 8, WRITE);
        take(g.page_frame(TAKEN));
        outcome
    }),
    ("map-far", |g| map_at(g, 1 << 52, WRITE)),
    ("map-beyond-memory", |g| map_at(g, 0x1_0000_0000, WRITE)),
    ("map-last", |g| map_at(g, !0xfff, WRITE)),
    ("map-virtual-address", |g| map_at(g, page(TAKEN), WRITE)),
    ("map-at-local-apic", |g| map_at(g, 0xfee0_0000, WRITE)),
    ("copy", |g| copy_word(g, GTF_PERMIT_ACCESS, 0)),
    ("copy-from-reference", |g| copy_word(g, GTF_PERMIT_ACCESS, GNTCOPY_SOURCE_GREF)),
    ("copy-to-reference", |g| copy_word(g, GTF_PERMIT_ACCESS, GNTCOPY_DEST_GREF)),
    ("copy-between-references", |g| copy_word(g, GTF_PERMIT_ACCESS, GNTCOPY_SOURCE_GREF | GNTCOPY_DEST_GREF)),
    ("copy-to-read-only-reference", |g| copy_word(g, GTF_PERMIT_ACCESS | GTF_READONLY, GNTCOPY_DEST_GREF)),
    ("copy-from-nothing", |g| {
        copy(copy_end(0x10_0000, DOMID_SELF, 0), copy_end(g.page_frame(TAKEN), DOMID_SELF, 0), 8, 0)
    }),
    ("copy-to-nothing", |g| {
        copy(copy_end(g.page_frame(GIVEN), DOMID_SELF, 0), copy_end(0x10_0000, DOMID_SELF, 0), 8, 0)
    }),
    ("copy-from-local-apic", |g| {
        copy(copy_end(0xfee00, DOMID_SELF, 0), copy_end(g.page_frame(TAKEN), DOMID_SELF, 0), 8, 0)
    }),
    ("copy-to-shared-page", |g| {
        copy(copy_end(g.page_frame(GIVEN), DOMID_SELF, 0), copy_end(g.page_frame(0), DOMID_SELF, 4000), 8, 0)
    }),
    ("copy-onto-mapped", |g| {
        poke(GIVEN, 0, 0x99);
        let outcome = mapped(g, GTF_PERMIT_ACCESS, WRITE, |_| {
            copy(copy_end(g.page_frame(GIVEN), DOMID_SELF, 0), copy_end(g.page_frame(TAKEN), DOMID_SELF, 8), 8, 0)
        });
        if outcome == OKAY { Outcome::Hex(peek(GIVEN, 1)) } else { outcome }
    }),
    ("transfer-nothing", |g| transfer(g, 0x10_0000, 0)),
    ("transfer-to-self", |g| transfer(g, g.page_frame(27), own_domain())),
    ("transfer-to-domain-0", |g| transfer(g, g.page_frame(27), 0)),
    ("transfer-to-none", |g| transfer(g, g.page_frame(27), 0x7000)),
    ("replace", |g| {
        mapped(g, GTF_PERMIT_ACCESS, WRITE, |handle| {
            let at = address(g, TAKEN);
            let mut call = UnmapAndReplace { host_addr: at, new_addr: page(GIVEN), handle, status: 99, _gap0: [0; 2] };
            status(grant_op(GNTTABOP_UNMAP_AND_REPLACE, &mut call), call.status)
        })
    }),
];

/// The second version of the table.
const SECOND: &[Case] = &[
    ("version-2", |_| version(2)),
    ("status-frame", |g| code(add_to_physmap(XENMAPSPACE_GRANT_TABLE, STATUS, g.page_frame(STATUS_PAGE)))),
    ("status-while-mapped", |g| {
        // An entry is two words long: flags and domain, frame.
        poke(TABLE, 2 * u64::from(REFERENCE) + 1, g.page_frame(GIVEN));
        poke(TABLE, 2 * u64::from(REFERENCE), u64::from(GTF_PERMIT_ACCESS) | u64::from(own_domain()) << 16);
        give(g.page_frame(TAKEN));
        let (outcome, handle) = map(own_domain(), REFERENCE, WRITE, address(g, TAKEN));
        let state = peek(STATUS_PAGE, u64::from(REFERENCE) / 4) >> (16 * (REFERENCE % 4)) & 0xffff;
        let unmapped = unmap(handle, address(g, TAKEN));
        let after = peek(STATUS_PAGE, u64::from(REFERENCE) / 4) >> (16 * (REFERENCE % 4)) & 0xffff;
        take(g.page_frame(TAKEN));
        refill(g, GIVEN);
        poke(TABLE, 2 * u64::from(REFERENCE), 0);
        if (outcome, unmapped) == (OKAY, OKAY) { Outcome::Hex(state << 16 | after) } else { outcome }
    }),
    ("version-1-with-status-seen", |_| version(1)),
    ("status-frame-is-gone", |_| Outcome::Hex(peek(STATUS_PAGE, 511))),
    ("version-3", |_| version(3)),
    ("copy-of-version-1", |g| copy_word(g, GTF_PERMIT_ACCESS, GNTCOPY_SOURCE_GREF)),
];
