//! Grants: to oneself, which has to work, and references, frames, domains and handles that are not there.

use super::{Case, table};
use crate::call::update_va;
use crate::grants::*;
use crate::memory::{Guest, WRITABLE, page};
use crate::memory::{peek, poke};
use crate::report::Outcome;
use xen_abi::grant_table::*;
use xen_abi::xen::*;

/// Runs the group.
pub fn run(guest: &Guest) {
    table(guest, "grants", CASES);
}

/// Grants a frame to this domain and maps it; `Err` has what went wrong.
pub fn with_grant(guest: &Guest, flags: u16, frame: u64, how: u32, case: fn(u32) -> Outcome) -> Outcome {
    grant(REFERENCE, flags, crate::shared::own_domain(), frame);
    let (outcome, handle) = map(crate::shared::own_domain(), REFERENCE, how, page(TAKEN));
    let outcome = if outcome == Outcome::Text("okay") {
        let outcome = case(handle);
        unmap(handle, page(TAKEN));
        outcome
    } else {
        outcome
    };
    grant(REFERENCE, 0, 0, 0);
    restore(guest);
    outcome
}

/// Maps the two pages again as they were.
pub fn restore(guest: &Guest) {
    for index in [GIVEN, TAKEN] {
        let entry = guest.page_frame(index) << 12 | WRITABLE;
        let result = update_va(page(index), entry, UVMF_INVLPG);
        assert!(result == 0, "cannot map the page again: {result}");
    }
}

/// Changes the version of the table's entries.
pub fn version(version: u32) -> Outcome {
    let mut set = SetVersion { version };
    let result = grant_op(GNTTABOP_SET_VERSION, &mut set);
    if result == 0 { Outcome::Hex(u64::from(set.version)) } else { Outcome::Code(result) }
}

fn get_version(dom: u16) -> Outcome {
    let mut get = GetVersion { dom, pad: 0, version: 99 };
    let result = grant_op(GNTTABOP_GET_VERSION, &mut get);
    if result == 0 { Outcome::Hex(u64::from(get.version)) } else { Outcome::Code(result) }
}

fn swap(ref_a: u32, ref_b: u32) -> Outcome {
    let mut swap = SwapGrantRef { ref_a, ref_b, status: 99, _gap0: [0; 2] };
    let result = grant_op(GNTTABOP_SWAP_GRANT_REF, &mut swap);
    status(result, swap.status)
}

const CASES: &[Case] = &[
    ("setup", |g| open_table(g)),
    ("setup-too-many", |_| setup(DOMID_SELF, 65, 0x7000_0000_0000)),
    ("setup-max", |_| setup(DOMID_SELF, !0, 0x7000_0000_0000)),
    ("setup-wild", |_| setup(DOMID_SELF, 1, 0xffff_8300_0000_0000)),
    ("setup-domain-0", |_| setup(0, 1, page(GIVEN))),
    ("setup-no-domain", |_| setup(0x7000, 1, page(GIVEN))),
    ("query-domain-0", |_| {
        let mut query = QuerySize { dom: 0, _gap0: [0; 2], nr_frames: 0, max_nr_frames: 0, status: 99, _gap1: [0; 2] };
        let result = grant_op(GNTTABOP_QUERY_SIZE, &mut query);
        status(result, query.status)
    }),
    ("map-own", |g| {
        poke(GIVEN, 3, 0x1234);
        with_grant(g, GTF_PERMIT_ACCESS, g.page_frame(GIVEN), WRITE, |_| Outcome::Hex(peek(TAKEN, 3)))
    }),
    ("write-own", |g| {
        with_grant(g, GTF_PERMIT_ACCESS, g.page_frame(GIVEN), WRITE, |_| {
            poke(TAKEN, 4, 0x4321);
            Outcome::Hex(peek(GIVEN, 4))
        })
    }),
    ("write-read-only", |g| {
        with_grant(
            g,
            GTF_PERMIT_ACCESS,
            g.page_frame(GIVEN),
            READ,
            |_| crate::attempt!("mov [rdi], rdi"; in("rdi") page(TAKEN)),
        )
    }),
    ("map-read-only-grant-writable", |g| {
        with_grant(g, GTF_PERMIT_ACCESS | GTF_READONLY, g.page_frame(GIVEN), WRITE, |_| Outcome::Text("mapped"))
    }),
    ("map-table-writable", |g| {
        with_grant(g, GTF_PERMIT_ACCESS, g.table(page(TABLE), 1).1, WRITE, |_| Outcome::Text("mapped"))
    }),
    ("map-table-read-only", |g| {
        with_grant(g, GTF_PERMIT_ACCESS, g.table(page(TABLE), 1).1, READ, |_| Outcome::Text("mapped"))
    }),
    ("map-frame-1", |g| with_grant(g, GTF_PERMIT_ACCESS, 1, WRITE, |_| Outcome::Text("mapped"))),
    ("map-frame-beyond", |g| with_grant(g, GTF_PERMIT_ACCESS, 1 << 28, WRITE, |_| Outcome::Text("mapped"))),
    ("map-transfer-grant", |g| {
        with_grant(g, GTF_ACCEPT_TRANSFER, g.page_frame(GIVEN), WRITE, |_| Outcome::Text("mapped"))
    }),
    ("map-without-flags", |g| with_grant(g, GTF_PERMIT_ACCESS, g.page_frame(GIVEN), 0, |_| Outcome::Text("mapped"))),
    ("map-invalid-entry", |g| {
        let outcome = map(crate::shared::own_domain(), REFERENCE, WRITE, page(TAKEN)).0;
        restore(g);
        outcome
    }),
    ("map-for-another", |_| {
        grant(REFERENCE, GTF_PERMIT_ACCESS, 0, 1);
        map(crate::shared::own_domain(), REFERENCE, WRITE, page(TAKEN)).0
    }),
    ("map-reference-beyond", |_| map(crate::shared::own_domain(), 1 << 20, WRITE, page(TAKEN)).0),
    ("map-reference-max", |_| map(crate::shared::own_domain(), !0, WRITE, page(TAKEN)).0),
    ("map-of-domain-0", |_| map(0, REFERENCE, WRITE, page(TAKEN)).0),
    ("map-of-no-domain", |_| map(0x7000, REFERENCE, WRITE, page(TAKEN)).0),
    ("map-of-hypervisor", |_| map(DOMID_XEN, REFERENCE, WRITE, page(TAKEN)).0),
    ("map-of-self", |_| map(DOMID_SELF, REFERENCE, WRITE, page(TAKEN)).0),
    ("map-at-hypervisor", |g| map_at(g, 0xffff_82d0_8020_0000, WRITE)),
    ("map-at-non-canonical", |g| map_at(g, 1 << 63, WRITE)),
    ("map-without-table", |g| map_at(g, 0xffff_ff00_0000_0000, WRITE)),
    ("map-into-data-entry", |g| map_at(g, g.page_frame(GIVEN) << 12, WRITE | GNTMAP_CONTAINS_PTE)),
    ("map-into-entry-of-nobody", |g| map_at(g, 0x1000, WRITE | GNTMAP_CONTAINS_PTE)),
    ("map-into-unaligned-entry", |g| {
        let at = g.entry(page(TAKEN), 1) + 4;
        map_at(g, at, WRITE | GNTMAP_CONTAINS_PTE)
    }),
    ("unmap-bad-handle", |_| unmap(77, page(TAKEN))),
    ("unmap-max-handle", |_| unmap(!0, page(TAKEN))),
    ("unmap-elsewhere", |g| {
        with_grant(g, GTF_PERMIT_ACCESS, g.page_frame(GIVEN), WRITE, |handle| unmap(handle, page(GIVEN)))
    }),
    ("unmap-twice", |g| {
        with_grant(g, GTF_PERMIT_ACCESS, g.page_frame(GIVEN), WRITE, |handle| {
            unmap(handle, page(TAKEN));
            unmap(handle, page(TAKEN))
        })
    }),
    ("copy-own", |g| {
        poke(GIVEN, 0, 0x77);
        let outcome =
            copy(copy_end(g.page_frame(GIVEN), DOMID_SELF, 0), copy_end(g.page_frame(TAKEN), DOMID_SELF, 8), 8, 0);
        if outcome == Outcome::Text("okay") { Outcome::Hex(peek(TAKEN, 1)) } else { outcome }
    }),
    ("copy-off-the-page", |g| {
        copy(copy_end(g.page_frame(GIVEN), DOMID_SELF, 4090), copy_end(g.page_frame(TAKEN), DOMID_SELF, 0), 8, 0)
    }),
    ("copy-onto-table", |g| {
        copy(copy_end(g.page_frame(GIVEN), DOMID_SELF, 0), copy_end(g.table(page(TABLE), 1).1, DOMID_SELF, 0), 8, 0)
    }),
    ("copy-from-frame-1", |g| copy(copy_end(1, DOMID_SELF, 0), copy_end(g.page_frame(TAKEN), DOMID_SELF, 0), 8, 0)),
    ("copy-to-domain-0", |g| copy(copy_end(g.page_frame(GIVEN), DOMID_SELF, 0), copy_end(1, 0, 0), 8, 0)),
    ("copy-reference-beyond", |g| {
        copy(
            copy_end(1 << 20, crate::shared::own_domain(), 0),
            copy_end(g.page_frame(TAKEN), DOMID_SELF, 0),
            8,
            GNTCOPY_SOURCE_GREF,
        )
    }),
    ("swap-reserved", |_| swap(0, REFERENCE)),
    ("swap-beyond", |_| swap(REFERENCE, 1 << 20)),
    ("swap-same", |_| swap(REFERENCE, REFERENCE)),
    ("version-domain-0", |_| get_version(0)),
    ("version-self", |_| get_version(DOMID_SELF)),
    ("version-3", |_| version(3)),
    ("version-0", |_| version(0)),
    ("version-2", |_| version(2)),
    ("version-1-again", |_| version(1)),
    ("transfer-frame-1", |_| transfer(1, 0)),
    ("transfer-own", |g| transfer(g.page_frame(27), crate::shared::own_domain())),
];

/// Grants a page and maps it at an address, or at the entry of that machine address.
fn map_at(guest: &Guest, address: u64, flags: u32) -> Outcome {
    grant(REFERENCE, GTF_PERMIT_ACCESS, crate::shared::own_domain(), guest.page_frame(GIVEN));
    let (outcome, handle) = map(crate::shared::own_domain(), REFERENCE, flags, address);
    if outcome == Outcome::Text("okay") {
        unmap(handle, address);
    }
    grant(REFERENCE, 0, 0, 0);
    outcome
}

fn transfer(mfn: u64, domid: u16) -> Outcome {
    let mut transfer = Transfer { mfn, domid, _gap0: [0; 2], r#ref: REFERENCE, status: 99, _gap1: [0; 6] };
    let result = grant_op(GNTTABOP_TRANSFER, &mut transfer);
    status(result, transfer.status)
}
