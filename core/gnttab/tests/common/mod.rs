//! What the tests share.
#![allow(dead_code)]

use gnttab::{Access, GrantTable, Limits, Status, Tables};
use platform::Frames;
use platform::fakes::FakeMachine;
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use types::{DomId, Gfn, Mfn};

pub const PERMIT: u16 = 1;
pub const ACCEPT: u16 = 2;
pub const TRANSITIVE: u16 = 3;
pub const READONLY: u16 = 4;
pub const READING: u16 = 8;
pub const WRITING: u16 = 16;
pub const SUB_PAGE: u16 = 0x100;

pub const GRANTER: DomId = DomId(1);
pub const MAPPER: DomId = DomId(2);
pub const OTHER: DomId = DomId(3);

pub const READ: Access = Access { host: true, device: false, readonly: true };
pub const WRITE: Access = Access { host: true, device: false, readonly: false };
pub const DEVICE: Access = Access { host: false, device: true, readonly: false };

/// Gives out frames from a number on, and none beyond a limit.
pub struct Pool {
    next: Cell<u64>,
    end: u64,
}

impl Pool {
    pub fn new(first: u64, count: u64) -> Pool {
        Pool { next: Cell::new(first), end: first + count }
    }

    pub fn take(&self) -> Option<Mfn> {
        let next = self.next.get();
        self.next.set(next + 1);
        (next < self.end).then_some(Mfn(next))
    }
}

/// A table of a version with one frame, whose shared frame is `first`.
pub fn table(machine: &FakeMachine, domain: DomId, version: u32, first: u64) -> GrantTable {
    let table = GrantTable::new(domain, Limits { frames: 4, version: 2 });
    let pool = Pool::new(first, 2);
    table.grow(machine, 1, &mut || pool.take()).unwrap();
    table.set_version(machine, version, &mut || pool.take(), &mut |_| Ok(())).unwrap();
    table
}

/// The guest's writing of an entry, in either version.
pub fn grant(machine: &FakeMachine, table: &GrantTable, reference: u32, flags: u16, peer: DomId, frame: u64) {
    grant_part(machine, table, reference, (flags, peer, frame), 0);
}

/// As [`grant`], with bits 32 to 63 of the first word of a version 2 entry.
pub fn grant_part(
    machine: &FakeMachine,
    table: &GrantTable,
    reference: u32,
    (flags, peer, frame): (u16, DomId, u64),
    high: u64,
) {
    let head = u64::from(flags) | u64::from(peer.0) << 16;
    let words = shared(machine, table);
    if table.version() == 1 {
        words[reference as usize].store(head | frame << 32, Ordering::SeqCst);
    } else {
        words[reference as usize * 2 + 1].store(frame, Ordering::SeqCst);
        words[reference as usize * 2].store(head | high << 32, Ordering::SeqCst);
    }
}

pub fn shared<'a>(machine: &'a FakeMachine, table: &GrantTable) -> &'a [AtomicU64; 512] {
    machine.table(table.frame(gnttab::FrameKind::Shared, 0).unwrap()).unwrap()
}

/// The marks that the guest sees on an entry.
pub fn marks(machine: &FakeMachine, table: &GrantTable, reference: u32) -> u16 {
    let word = if table.version() == 1 {
        shared(machine, table)[reference as usize].load(Ordering::SeqCst)
    } else {
        let status = machine.table(table.frame(gnttab::FrameKind::Status, 0).unwrap()).unwrap();
        status[reference as usize / 4].load(Ordering::SeqCst) >> (reference % 4 * 16)
    };
    word as u16 & (READING | WRITING)
}

/// Frame numbers below 1000 are frames; others are none.
pub fn resolve(gfn: Gfn, _readonly: bool) -> Result<Mfn, Status> {
    if gfn.0 < 1000 { Ok(Mfn(gfn.0)) } else { Err(Status::BadPage) }
}

pub fn resolve_of(_domain: DomId, gfn: Gfn, readonly: bool) -> Result<Mfn, Status> {
    resolve(gfn, readonly)
}

/// The tables of some domains, and what happens just before one is visited.
#[derive(Default)]
pub struct World<'a> {
    pub tables: Vec<&'a GrantTable>,
    pub before: Option<&'a dyn Fn()>,
}

impl Tables for World<'_> {
    fn with_table(&self, domain: DomId, action: &mut dyn FnMut(&GrantTable)) {
        if let Some(before) = self.before {
            before();
        }
        if let Some(table) = self.tables.iter().find(|table| table.domain() == domain) {
            action(table);
        }
    }
}
