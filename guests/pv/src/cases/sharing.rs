//! Grants as they have to work: copies by reference, many at once, replacing, both versions of the table, its growth.

use super::grants::*;
use super::{Case, table};
use crate::attempt;
use crate::call::{call3, update_va};
use crate::grants::*;
use crate::memory::{Guest, READ_ONLY, WRITABLE, page, write};
use crate::memory::{peek, poke};
use crate::report::Outcome;
use crate::shared::own_domain;
use xen_abi::GuestHandle;
use xen_abi::grant_table::*;
use xen_abi::xen::*;

/// Grants of one page that are mapped at once, and where.
const MANY: usize = 8;
const PLACES: usize = 28;
/// A page whose mapping goes elsewhere.
const REPLACED: usize = 40;
const OKAY: Outcome = Outcome::Text("okay");

/// Runs the group.
pub fn run(guest: &Guest) {
    table(guest, "sharing", CASES);
}

/// Copies a word of GIVEN to TAKEN, or to GIVEN back, each end by reference where its flag is set; then the word.
fn copy_word(guest: &Guest, entry: u16, flags: u16) -> Outcome {
    poke(GIVEN, 2, 0xabcd);
    poke(TAKEN, 6, 0);
    let source = if flags & GNTCOPY_SOURCE_GREF != 0 { (GIVEN, REFERENCE) } else { (GIVEN, 0) };
    let dest = if flags & GNTCOPY_DEST_GREF != 0 { (TAKEN, REFERENCE + 1) } else { (TAKEN, 0) };
    grant(REFERENCE, entry, own_domain(), guest.page_frame(GIVEN));
    grant(REFERENCE + 1, entry, own_domain(), guest.page_frame(TAKEN));
    let end = |(index, reference): (usize, u32), offset| match reference {
        0 => copy_end(guest.page_frame(index), DOMID_SELF, offset),
        reference => copy_end(reference.into(), own_domain(), offset),
    };
    let outcome = copy(end(source, 16), end(dest, 48), 8, flags);
    grant(REFERENCE, 0, 0, 0);
    grant(REFERENCE + 1, 0, 0, 0);
    if outcome == OKAY { Outcome::Hex(peek(TAKEN, 6)) } else { outcome }
}

/// The flags of a grant's entry.
fn flags(reference: u32) -> Outcome {
    Outcome::Hex(peek(TABLE, reference.into()) & 0xffff)
}

/// Maps one grant at many places by one call; how many of them are there.
fn map_many(guest: &Guest, count: usize, last_reference: u32) -> Outcome {
    grant(REFERENCE, GTF_PERMIT_ACCESS, own_domain(), guest.page_frame(GIVEN));
    poke(GIVEN, 0, 0x5a);
    let dom = own_domain();
    let mut maps = [const { unmapped() }; MANY];
    for (index, map) in maps.iter_mut().enumerate() {
        let reference = if index + 1 == count { last_reference } else { REFERENCE };
        *map = MapGrantRef { host_addr: page(PLACES + index), dom, r#ref: reference, ..unmapped() };
    }
    let result = many(GNTTABOP_MAP_GRANT_REF, &mut maps[..count]);
    let seen =
        maps[..count].iter().zip(PLACES..).filter(|(map, at)| map.status == GNTST_OKAY && peek(*at, 0) == 0x5a).count();
    let mut unmaps =
        [const { UnmapGrantRef { host_addr: 0, dev_bus_addr: 0, handle: 0, status: 99, _gap0: [0; 2] } }; MANY];
    let mut left = 0;
    for map in maps[..count].iter().filter(|map| map.status == GNTST_OKAY) {
        unmaps[left].host_addr = map.host_addr;
        unmaps[left].handle = map.handle;
        left += 1;
    }
    let unmapped = many(GNTTABOP_UNMAP_GRANT_REF, &mut unmaps[..left]);
    let gone = unmaps[..left].iter().filter(|unmap| unmap.status == GNTST_OKAY).count();
    let pins = flags(REFERENCE);
    grant(REFERENCE, 0, 0, 0);
    for index in PLACES..PLACES + MANY {
        assert_eq!(update_va(page(index), guest.page_frame(index) << 12 | WRITABLE, UVMF_INVLPG), 0);
    }
    if (result, unmapped) != (0, 0) || pins != Outcome::Hex(1) {
        return Outcome::Text("unequal");
    }
    Outcome::Hex((seen << 8 | gone) as u64)
}

const fn unmapped() -> MapGrantRef {
    MapGrantRef { host_addr: 0, flags: WRITE, r#ref: 0, dom: 0, status: 99, handle: !0, dev_bus_addr: 0 }
}

fn many<T>(command: u32, list: &mut [T]) -> i64 {
    call3(HYPERVISOR_GRANT_TABLE_OP, command.into(), list.as_mut_ptr() as u64, list.len() as u64)
}

/// Unmaps a grant at TAKEN by moving another page's mapping there.
fn replace(guest: &Guest, new_addr: u64, after: fn() -> Outcome) -> Outcome {
    grant(REFERENCE, GTF_PERMIT_ACCESS, own_domain(), guest.page_frame(GIVEN));
    poke(REPLACED, 0, 0x77);
    let (mapped, handle) = map(own_domain(), REFERENCE, WRITE, page(TAKEN));
    let mut call = UnmapAndReplace { host_addr: page(TAKEN), new_addr, handle, status: 99, _gap0: [0; 2] };
    let result = grant_op(GNTTABOP_UNMAP_AND_REPLACE, &mut call);
    let outcome = match status(result, call.status) {
        OKAY => after(),
        other => {
            unmap(handle, page(TAKEN));
            other
        }
    };
    grant(REFERENCE, 0, 0, 0);
    restore(guest);
    assert_eq!(update_va(page(REPLACED), guest.page_frame(REPLACED) << 12 | WRITABLE, UVMF_INVLPG), 0);
    if mapped == OKAY { outcome } else { mapped }
}

/// Writes an entry of version 2: its first word and its frame.
fn grant_v2(reference: u32, head: u64, frame: u64) {
    let at = page(TABLE) + 16 * u64::from(reference);
    // SAFETY: within the page of grants.
    unsafe {
        write(at + 8, frame);
        write(at, head);
    }
}

fn head(flags: u16, rest: u32) -> u64 {
    u64::from(flags) | u64::from(own_domain()) << 16 | u64::from(rest) << 32
}

/// Copies from an entry of version 2 to TAKEN.
fn copy_v2(guest: &Guest, head: u64, frame: u64, offset: u16, length: u16) -> Outcome {
    grant_v2(REFERENCE, head, frame);
    poke(GIVEN, 8, 0x1357);
    poke(TAKEN, 0, 0);
    let source = copy_end(REFERENCE.into(), own_domain(), offset);
    let outcome = copy(source, copy_end(guest.page_frame(TAKEN), DOMID_SELF, 0), length, GNTCOPY_SOURCE_GREF);
    grant_v2(REFERENCE, 0, 0);
    if outcome == OKAY { Outcome::Hex(peek(TAKEN, 0)) } else { outcome }
}

fn status_frames(count: u32) -> Outcome {
    let mut list = [0u64; 1];
    let frame_list = GuestHandle::new((&raw mut list) as u64);
    let mut call = GetStatusFrames { nr_frames: count, dom: DOMID_SELF, status: 99, frame_list };
    let result = grant_op(GNTTABOP_GET_STATUS_FRAMES, &mut call);
    let list = core::hint::black_box(&mut list);
    match status(result, call.status) {
        OKAY if count == 1 => Outcome::Code(update_va(page(REPLACED), list[0] << 12 | READ_ONLY, UVMF_INVLPG)),
        other => other,
    }
}

fn size() -> Outcome {
    let mut query =
        QuerySize { dom: DOMID_SELF, _gap0: [0; 2], nr_frames: 0, max_nr_frames: 0, status: 99, _gap1: [0; 2] };
    match status(grant_op(GNTTABOP_QUERY_SIZE, &mut query), query.status) {
        OKAY => Outcome::Hex(u64::from(query.nr_frames) << 16 | u64::from(query.max_nr_frames)),
        other => other,
    }
}

fn grow(count: u32) -> Outcome {
    let mut frames = [0u64; 64];
    let outcome = setup(DOMID_SELF, count, (&raw mut frames) as u64);
    let frames = core::hint::black_box(&mut frames);
    match outcome {
        OKAY => Outcome::Code(frames.iter().filter(|frame| **frame != 0).count() as i64),
        other => other,
    }
}

const CASES: &[Case] = &[
    ("setup", |g| open_table(g)),
    ("size", |_| size()),
    ("copy-from-reference", |g| copy_word(g, GTF_PERMIT_ACCESS, GNTCOPY_SOURCE_GREF)),
    ("copy-to-reference", |g| copy_word(g, GTF_PERMIT_ACCESS, GNTCOPY_DEST_GREF)),
    ("copy-between-references", |g| copy_word(g, GTF_PERMIT_ACCESS, GNTCOPY_SOURCE_GREF | GNTCOPY_DEST_GREF)),
    ("copy-from-read-only-reference", |g| copy_word(g, GTF_PERMIT_ACCESS | GTF_READONLY, GNTCOPY_SOURCE_GREF)),
    ("copy-to-read-only-reference", |g| copy_word(g, GTF_PERMIT_ACCESS | GTF_READONLY, GNTCOPY_DEST_GREF)),
    ("copy-from-transfer-reference", |g| copy_word(g, GTF_ACCEPT_TRANSFER, GNTCOPY_SOURCE_GREF)),
    ("flags-while-mapped", |g| with_grant(g, GTF_PERMIT_ACCESS, g.page_frame(GIVEN), WRITE, |_| flags(REFERENCE))),
    ("flags-while-mapped-read-only", |g| {
        with_grant(g, GTF_PERMIT_ACCESS, g.page_frame(GIVEN), READ, |_| flags(REFERENCE))
    }),
    ("map-8", |g| map_many(g, 8, REFERENCE)),
    ("map-7-and-a-bad-one", |g| map_many(g, 8, 1 << 20)),
    ("map-for-devices", |g| {
        grant(REFERENCE, GTF_PERMIT_ACCESS, own_domain(), g.page_frame(GIVEN));
        let mut map = MapGrantRef { flags: GNTMAP_DEVICE_MAP, r#ref: REFERENCE, dom: own_domain(), ..unmapped() };
        let result = grant_op(GNTTABOP_MAP_GRANT_REF, &mut map);
        let at = map.dev_bus_addr;
        let mut unmap = UnmapGrantRef { host_addr: 0, dev_bus_addr: at, handle: map.handle, status: 99, _gap0: [0; 2] };
        let unmapped = grant_op(GNTTABOP_UNMAP_GRANT_REF, &mut unmap);
        grant(REFERENCE, 0, 0, 0);
        match (status(result, map.status), status(unmapped, unmap.status)) {
            (OKAY, OKAY) => crate::report::yes(at == g.page_frame(GIVEN) << 12),
            (OKAY, other) | (other, _) => other,
        }
    }),
    ("replace", |g| replace(g, page(REPLACED), || Outcome::Hex(peek(TAKEN, 0)))),
    ("replace-clears-the-other", |g| {
        replace(g, page(REPLACED), || attempt!("mov rax, [rdi]"; in("rdi") page(REPLACED), out("rax") _))
    }),
    ("replace-by-nothing", |g| replace(g, 0, || attempt!("mov rax, [rdi]"; in("rdi") page(TAKEN), out("rax") _))),
    ("replace-from-hypervisor", |g| replace(g, 0xffff_82d0_8020_0000, || OKAY)),
    ("swap-while-mapped", |g| {
        with_grant(g, GTF_PERMIT_ACCESS, g.page_frame(GIVEN), WRITE, |_| {
            let mut swap = SwapGrantRef { ref_a: REFERENCE, ref_b: REFERENCE + 1, status: 99, _gap0: [0; 2] };
            let result = grant_op(GNTTABOP_SWAP_GRANT_REF, &mut swap);
            status(result, swap.status)
        })
    }),
    ("swap", |g| {
        grant(REFERENCE, GTF_PERMIT_ACCESS, 5, g.page_frame(GIVEN));
        grant(REFERENCE + 1, 0, 0, 0);
        let mut swap = SwapGrantRef { ref_a: REFERENCE, ref_b: REFERENCE + 1, status: 99, _gap0: [0; 2] };
        let result = grant_op(GNTTABOP_SWAP_GRANT_REF, &mut swap);
        let moved = Outcome::Hex(peek(TABLE, REFERENCE.into()) | peek(TABLE, u64::from(REFERENCE) + 1) & 0xffff_ffff);
        grant(REFERENCE + 1, 0, 0, 0);
        if status(result, swap.status) == OKAY { moved } else { status(result, swap.status) }
    }),
    ("version-while-mapped", |g| with_grant(g, GTF_PERMIT_ACCESS, g.page_frame(GIVEN), WRITE, |_| version(2))),
    ("status-frames-of-version-1", |_| status_frames(1)),
    ("version-2", |_| version(2)),
    ("status-frames", |_| status_frames(1)),
    ("status-frames-too-many", |_| status_frames(1000)),
    ("copy-of-version-2", |g| copy_v2(g, head(GTF_PERMIT_ACCESS, 0), g.page_frame(GIVEN), 64, 8)),
    ("copy-of-part", |g| copy_v2(g, head(GTF_PERMIT_ACCESS | GTF_SUB_PAGE, 16 << 16 | 64), g.page_frame(GIVEN), 64, 8)),
    ("copy-before-part", |g| {
        copy_v2(g, head(GTF_PERMIT_ACCESS | GTF_SUB_PAGE, 16 << 16 | 64), g.page_frame(GIVEN), 60, 8)
    }),
    ("copy-beyond-part", |g| {
        copy_v2(g, head(GTF_PERMIT_ACCESS | GTF_SUB_PAGE, 16 << 16 | 64), g.page_frame(GIVEN), 64, 17)
    }),
    ("map-of-part", |g| {
        grant_v2(REFERENCE, head(GTF_PERMIT_ACCESS | GTF_SUB_PAGE, 16 << 16 | 64), g.page_frame(GIVEN));
        let outcome = map(own_domain(), REFERENCE, WRITE, page(TAKEN)).0;
        grant_v2(REFERENCE, 0, 0);
        restore(g);
        outcome
    }),
    ("transitive-to-none", |g| copy_v2(g, head(GTF_TRANSITIVE, 0x7000), 8, 64, 8)),
    ("flags-and-status-while-mapped", |g| {
        grant_v2(REFERENCE, head(GTF_PERMIT_ACCESS, 0), g.page_frame(GIVEN));
        let (outcome, handle) = map(own_domain(), REFERENCE, WRITE, page(TAKEN));
        let state = peek(REPLACED, u64::from(REFERENCE) / 4) >> (16 * (REFERENCE % 4)) & 0xffff;
        let flags = peek(TABLE, 2 * u64::from(REFERENCE)) & 0xffff;
        unmap(handle, page(TAKEN));
        grant_v2(REFERENCE, 0, 0);
        restore(g);
        if outcome == OKAY { Outcome::Hex(state << 16 | flags) } else { outcome }
    }),
    ("version-1-with-status-mapped", |_| version(1)),
    ("version-1", |g| {
        assert_eq!(update_va(page(REPLACED), g.page_frame(REPLACED) << 12 | WRITABLE, UVMF_INVLPG), 0);
        version(1)
    }),
    ("copy-of-version-1-again", |g| copy_word(g, GTF_PERMIT_ACCESS, GNTCOPY_SOURCE_GREF)),
    ("grow-to-2", |_| grow(2)),
    ("grow-to-1", |_| grow(1)),
    ("grow-to-64", |_| grow(64)),
    ("grow-to-65", |_| grow(65)),
    ("size-at-most", |_| size()),
    ("copy-after-growth", |g| copy_word(g, GTF_PERMIT_ACCESS, GNTCOPY_SOURCE_GREF)),
    ("last-reference", |_| map(own_domain(), 64 * 512 - 1, WRITE, page(TAKEN)).0),
    ("beyond-last-reference", |_| map(own_domain(), 64 * 512, WRITE, page(TAKEN)).0),
];
