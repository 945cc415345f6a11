//! Two domains and grants between them. `give` grants pages to the domain whose number follows its own; `take`, in that domain,
//! uses them, and goes on when the first domain has been destroyed under it.

use super::grants::*;
use super::{Case, table};
use crate::call::{poll, update_va};
use crate::grants::*;
use crate::memory::{Guest, WRITABLE, page};
use crate::memory::{peek, poke};
use crate::report::{Outcome, sign, yes};
use crate::say;
use crate::shared::event_op;
use crate::shared::own_domain;
use xen_abi::event_channel::*;
use xen_abi::grant_table::*;
use xen_abi::xen::*;

/// Pages that are granted: for writing, for reading only, and to nobody.
const SHARED: usize = 40;
const SHOWN: usize = 41;
const KEPT: usize = 42;
/// Where `take` maps the first.
const HERE: usize = 44;
/// A page that `take` gives away.
const GIFT: usize = 45;
/// References of them, and of room for a page that is given.
const FOR_WRITING: u32 = 8;
const FOR_READING: u32 = 9;
const FOR_ANOTHER: u32 = 10;
const ROOM: u32 = 11;
/// Words of the first page: what `give` is ready with, its port, and that `take` is done.
const READY: u64 = 0;
const PORT: u64 = 1;
const DONE: u64 = 2;
const MAGIC: u64 = 0x600d;
/// Between two looks, in nanoseconds.
const A_WHILE: u64 = 50_000_000;
const OKAY: Outcome = Outcome::Text("okay");

fn wait() {
    poll(&[], crate::shared::now() + A_WHILE);
}

/// The domain that grants.
pub fn give(guest: &Guest) {
    let peer = own_domain() + 1;
    assert!(open_table(guest) == Outcome::Code(0));
    let mut alloc = AllocUnbound { dom: DOMID_SELF, remote_dom: peer, port: 0 };
    assert_eq!(event_op(EVTCHNOP_ALLOC_UNBOUND, &mut alloc), 0);
    poke(SHARED, PORT, alloc.port.into());
    poke(SHOWN, 5, 0xbeef);
    grant(FOR_READING, GTF_PERMIT_ACCESS | GTF_READONLY, peer, guest.page_frame(SHOWN));
    grant(FOR_ANOTHER, GTF_PERMIT_ACCESS, 0, guest.page_frame(KEPT));
    grant(ROOM, GTF_ACCEPT_TRANSFER, peer, 0x1234);
    poke(SHARED, READY, MAGIC);
    grant(FOR_WRITING, GTF_PERMIT_ACCESS, peer, guest.page_frame(SHARED));
    while peek(SHARED, DONE) != MAGIC {
        wait();
    }
    say!("pair.give.word-written-by-mapping: {}", Outcome::Hex(peek(SHARED, 10)));
    say!("pair.give.word-written-by-copy: {}", Outcome::Hex(peek(SHARED, 11)));
    say!("pair.give.page-for-reading-changed: {}", yes(peek(SHOWN, 5) != 0xbeef));
    let entry = peek(TABLE, ROOM.into());
    say!("pair.give.flags-of-a-transfer: {}", Outcome::Hex(entry & 0xffff));
    let mapped = update_va(page(KEPT), entry >> 32 << 12 | WRITABLE, UVMF_INVLPG);
    say!("pair.give.map-of-what-was-transferred: {}", Outcome::Code(mapped));
    if mapped == 0 {
        say!("pair.give.word-of-what-was-transferred: {}", Outcome::Hex(peek(KEPT, 0)));
    }
    say!("pair.give: waits");
    loop {
        wait();
    }
}

/// The domain that uses the grants.
pub fn take(guest: &Guest) {
    let owner = own_domain() - 1;
    let mut handle = None;
    while handle.is_none() {
        let (outcome, mapped) = map(owner, FOR_WRITING, WRITE, page(HERE));
        handle = (outcome == OKAY).then_some(mapped);
        wait();
    }
    let handle = handle.unwrap_or(!0);
    let port = peek(HERE, PORT) as u32;
    table(guest, "pair.take", CASES);
    let mut bind = BindInterdomain { remote_dom: owner, _gap0: [0; 2], remote_port: port, local_port: 0 };
    let bound = event_op(EVTCHNOP_BIND_INTERDOMAIN, &mut bind);
    say!("pair.take.bind: {}", Outcome::Code(bound));
    poke(HERE, DONE, MAGIC);
    say!("pair.take: waits");
    let mut status =
        Status { dom: DOMID_SELF, _gap0: [0; 2], port: bind.local_port, status: 0, vcpu: 0, u: xen_abi::Union([0; 2]) };
    while event_op(EVTCHNOP_STATUS, &mut status) == 0 && status.status == EVTCHNSTAT_INTERDOMAIN {
        wait();
    }
    // The domain's memory is taken back after its ports.
    (0..40).for_each(|_| wait());
    table(guest, "pair.take.after-its-end", AFTER);
    say!("pair.take.after-its-end.unmap: {}", unmap(handle, page(HERE)));
    say!("pair.take.after-its-end.unmap-again: {}", unmap(handle, page(HERE)));
}

fn owner() -> u16 {
    own_domain() - 1
}

/// Copies word 7 of TAKEN to a word of a granted page.
fn copy_to(guest: &Guest, reference: u32, word: u16) -> Outcome {
    poke(TAKEN, 7, 0xc0de);
    let from = copy_end(guest.page_frame(TAKEN), DOMID_SELF, 56);
    copy(from, copy_end(reference.into(), owner(), 8 * word), 8, GNTCOPY_DEST_GREF)
}

/// Copies a word of a granted page.
fn copy_from(guest: &Guest, reference: u32, word: u16) -> Outcome {
    let to = copy_end(guest.page_frame(TAKEN), DOMID_SELF, 0);
    match copy(copy_end(reference.into(), owner(), 8 * word), to, 8, GNTCOPY_SOURCE_GREF) {
        OKAY => Outcome::Hex(peek(TAKEN, 0)),
        other => other,
    }
}

/// Maps a grant, and unmaps it again.
fn mapped(guest: &Guest, reference: u32, how: u32) -> Outcome {
    let (outcome, handle) = map(owner(), reference, how, page(TAKEN));
    let outcome = if outcome == OKAY { unmap(handle, page(TAKEN)) } else { outcome };
    restore(guest);
    outcome
}

const CASES: &[Case] = &[
    ("read", |_| Outcome::Hex(peek(HERE, READY))),
    ("write", |_| {
        poke(HERE, 10, 0x5eed);
        Outcome::Hex(peek(HERE, 10))
    }),
    ("map-for-reading", |g| mapped(g, FOR_READING, READ)),
    ("map-for-writing", |g| mapped(g, FOR_READING, WRITE)),
    ("map-again", |g| mapped(g, FOR_WRITING, WRITE)),
    ("map-of-another's", |g| mapped(g, FOR_ANOTHER, WRITE)),
    ("map-of-none", |g| mapped(g, 100, WRITE)),
    ("map-of-transfer", |g| mapped(g, ROOM, WRITE)),
    ("copy-from", |g| copy_from(g, FOR_READING, 5)),
    ("copy-to", |g| copy_to(g, FOR_WRITING, 11)),
    ("copy-to-read-only", |g| copy_to(g, FOR_READING, 5)),
    ("copy-from-another's", |g| copy_from(g, FOR_ANOTHER, 0)),
    ("transfer-mapped", |g| transfer(g)),
    ("transfer", |g| {
        poke(GIFT, 0, 0x61f7);
        update_va(page(GIFT), 0, UVMF_INVLPG);
        transfer(g)
    }),
    ("transfer-again", |g| transfer(g)),
    ("map-what-was-transferred", |g| {
        Outcome::Code(update_va(page(GIFT), g.page_frame(GIFT) << 12 | WRITABLE, UVMF_INVLPG))
    }),
];

fn transfer(guest: &Guest) -> Outcome {
    let mut call =
        Transfer { mfn: guest.page_frame(GIFT), domid: owner(), _gap0: [0; 2], r#ref: ROOM, status: 99, _gap1: [0; 6] };
    let result = grant_op(GNTTABOP_TRANSFER, &mut call);
    status(result, call.status)
}

const AFTER: &[Case] = &[
    ("read", |_| Outcome::Hex(peek(HERE, 10))),
    ("write", |_| {
        poke(HERE, 12, 0xdead);
        Outcome::Hex(peek(HERE, 12))
    }),
    ("another-mapping-by-page-table", |g| {
        let entry = g.entry_value(page(HERE), 1);
        sign(update_va(page(TAKEN), entry, UVMF_INVLPG))
    }),
    ("new-pages-are-others", |_| yes(peek(HERE, 10) == 0x5eed)),
];
