//! The granting side: frames of the table, and the state of its entries.

use crate::entry::Entry;
use crate::status::Status;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use platform::Frames;
use platform::sync::{Mutex, MutexGuard, RwLock};
use types::{DomId, Errno, Mfn, Result};

/// Number of an entry (`grant_ref_t`), as a guest gave it.
pub type Reference = u32;

/// Entries of a frame of a version 1 table; version 2 has half as many.
const ENTRIES_V1: u32 = 512;
const ENTRIES_V2: u32 = 256;
/// Status words of a frame.
const STATUSES: u32 = 2048;

/// What a table may grow to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Frames of shared entries (`max_grant_frames`).
    pub frames: u32,
    /// Highest version that the guest may choose, 1 or 2.
    pub version: u8,
}

/// The two lists of frames that a table has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameKind {
    /// Shared entries (`XENMEM_resource_grant_table_id_shared`).
    Shared,
    /// Status words of version 2 (`XENMEM_resource_grant_table_id_status`).
    Status,
}

/// What is behind an entry in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Backing {
    /// A whole frame of the domain.
    Full,
    /// A part of one.
    Part,
    /// A grant of a third domain.
    Transitive,
}

/// Counts of the uses of an entry, 16 bits for each kind from the lowest on: device and host, each for reading and for writing.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Pins(u64);

/// The counts of uses for writing; a 1 in each count.
const WRITE_PINS: u64 = 0xffff_0000_ffff_0000;
const ONES: u64 = 0x0001_0001_0001_0001;

impl Pins {
    /// One for each kind that is set.
    pub(crate) fn new(kinds: [bool; 4]) -> Pins {
        Pins(kinds.iter().rev().fold(0, |pins, kind| pins << 16 | u64::from(*kind)))
    }

    /// All ones in the counts that `of`, of which each is 0 or 1, has.
    fn mask(of: Pins) -> u64 {
        of.0.wrapping_mul(0xffff)
    }

    /// With one more of each kind that `more` has; `None` if a count would overflow.
    pub(crate) fn with(self, more: Pins) -> Option<Pins> {
        (!has_zero(!(self.0 & Self::mask(more)))).then(|| Pins(self.0 + more.0))
    }

    /// With one less of each kind that `less` has; `None` if there is none.
    pub(crate) fn without(self, less: Pins) -> Option<Pins> {
        (!has_zero(self.0 | !Self::mask(less))).then(|| Pins(self.0 - less.0))
    }

    pub(crate) fn counts(self) -> [u16; 4] {
        [self.0 as u16, (self.0 >> 16) as u16, (self.0 >> 32) as u16, (self.0 >> 48) as u16]
    }
}

/// Whether one of four counts is 0: a count from which 1 cannot be taken without its highest bit being set by that.
fn has_zero(counts: u64) -> bool {
    counts.wrapping_sub(ONES) & !counts & (ONES << 15) != 0
}

/// An entry that is in use, or not: all pins are 0 then and the rest says nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Active {
    pub(crate) pins: Pins,
    pub(crate) mfn: Mfn,
    pub(crate) peer: DomId,
    pub(crate) range: (u16, u16),
    pub(crate) backing: Backing,
}

impl Active {
    const UNUSED: Active =
        Active { pins: Pins(0), mfn: Mfn::INVALID, peer: DomId::INVALID, range: (0, 0), backing: Backing::Full };

    pub(crate) fn is_pinned(&self) -> bool {
        self.pins != Pins(0)
    }

    pub(crate) fn is_write_pinned(&self) -> bool {
        self.pins.0 & WRITE_PINS != 0
    }
}

/// Data under the table's lock.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) version: u8,
    pub(crate) shared: Vec<Mfn>,
    pub(crate) status: Vec<Mfn>,
    /// As many for each shared frame as version 1 has entries in it.
    active: Vec<Box<[Mutex<Active>]>>,
}

/// The grant table of one domain. See the crate's documentation for its locks.
#[derive(Debug)]
pub struct GrantTable {
    pub(crate) domain: DomId,
    pub(crate) limits: Limits,
    pub(crate) inner: RwLock<Inner>,
}

impl Inner {
    /// Number of entries that exist.
    pub(crate) fn entries(&self) -> u32 {
        self.shared.len() as u32 * if self.version == 2 { ENTRIES_V2 } else { ENTRIES_V1 }
    }

    /// The state of an entry, locked.
    ///
    /// # Errors
    /// `BadReference`: there is no such entry.
    pub(crate) fn active(&self, reference: Reference) -> core::result::Result<MutexGuard<'_, Active>, Status> {
        if reference >= self.entries() {
            return Err(Status::BadReference);
        }
        let chunk = self.active.get((reference / ENTRIES_V1) as usize);
        let entry = chunk.and_then(|chunk| chunk.get((reference % ENTRIES_V1) as usize));
        entry.map(|entry| entry.lock()).ok_or(Status::BadReference)
    }

    /// The shared words of an entry.
    ///
    /// # Errors
    /// `BadReference`: there is no such entry.
    #[inline]
    pub(crate) fn entry<'a, M: Frames + ?Sized>(
        &self,
        frames: &'a M,
        reference: Reference,
    ) -> core::result::Result<Entry<'a>, Status> {
        let found = if self.version == 2 { self.find_v2(frames, reference) } else { self.find_v1(frames, reference) };
        found.ok_or(Status::BadReference)
    }

    #[inline]
    fn find_v1<'a, M: Frames + ?Sized>(&self, frames: &'a M, reference: Reference) -> Option<Entry<'a>> {
        let table = frames.table(*self.shared.get((reference / ENTRIES_V1) as usize)?)?;
        Some(Entry::V1(&table[(reference % ENTRIES_V1) as usize]))
    }

    #[inline(never)]
    fn find_v2<'a, M: Frames + ?Sized>(&self, frames: &'a M, reference: Reference) -> Option<Entry<'a>> {
        let table = frames.table(*self.shared.get((reference / ENTRIES_V2) as usize)?)?;
        let status = frames.table(*self.status.get((reference / STATUSES) as usize)?)?;
        let at = (reference % ENTRIES_V2) as usize * 2;
        Some(Entry::V2 {
            head: &table[at],
            frame: &table[at + 1],
            status: &status[(reference % STATUSES / 4) as usize],
            shift: reference % 4 * 16,
        })
    }

    /// Entries in use, from one on.
    pub(crate) fn pinned_from(&self, first: Reference) -> impl Iterator<Item = (Reference, Active)> + '_ {
        (first..self.entries()).filter_map(|reference| {
            let active = *self.active(reference).ok()?;
            active.is_pinned().then_some((reference, active))
        })
    }

    /// Adds zeroed status frames until there are enough for `shared` frames of version 2.
    pub(crate) fn grow_status<M: Frames + ?Sized>(
        &mut self,
        frames: &M,
        shared: usize,
        allocate: &mut dyn FnMut() -> Option<Mfn>,
    ) -> Result<()> {
        let wanted = (shared * ENTRIES_V2 as usize).div_ceil(STATUSES as usize);
        while self.status.len() < wanted {
            add_frame(frames, &mut self.status, allocate)?;
        }
        Ok(())
    }

    fn grow<M: Frames + ?Sized>(
        &mut self,
        frames: &M,
        count: usize,
        allocate: &mut dyn FnMut() -> Option<Mfn>,
    ) -> Result<()> {
        while self.shared.len() < count {
            let next = self.shared.len() + 1;
            if self.version == 2 {
                self.grow_status(frames, next, allocate)?;
            }
            if self.active.len() < next {
                let mut chunk = Vec::new();
                chunk.try_reserve_exact(ENTRIES_V1 as usize).map_err(|_| Errno::NOMEM)?;
                chunk.extend((0..ENTRIES_V1).map(|_| Mutex::new(Active::UNUSED)));
                self.active.try_reserve(1).map_err(|_| Errno::NOMEM)?;
                self.active.push(chunk.into_boxed_slice());
            }
            add_frame(frames, &mut self.shared, allocate)?;
        }
        Ok(())
    }
}

/// What came of a search for a grant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Search {
    /// There is one.
    Found,
    /// There is none.
    Nowhere,
    /// None so far; to be gone on with from this reference on.
    Again(Reference),
}

/// Zeroes a new frame and appends it to a list.
fn add_frame<M: Frames + ?Sized>(
    frames: &M,
    list: &mut Vec<Mfn>,
    allocate: &mut dyn FnMut() -> Option<Mfn>,
) -> Result<()> {
    list.try_reserve(1).map_err(|_| Errno::NOMEM)?;
    let mfn = allocate().ok_or(Errno::NOMEM)?;
    clear_frame(frames, mfn);
    list.push(mfn);
    Ok(())
}

pub(crate) fn clear_frame<M: Frames + ?Sized>(frames: &M, mfn: Mfn) {
    if let Some(table) = frames.table(mfn) {
        table.iter().for_each(|word| word.store(0, Ordering::Relaxed));
    }
}

impl GrantTable {
    /// A table of version 1 without frames. A domain starts with one: call [`GrantTable::grow`] with 1.
    pub fn new(domain: DomId, limits: Limits) -> GrantTable {
        let inner = Inner { version: 1, shared: Vec::new(), status: Vec::new(), active: Vec::new() };
        GrantTable { domain, limits, inner: RwLock::new(inner) }
    }

    /// The domain that grants.
    pub fn domain(&self) -> DomId {
        self.domain
    }

    /// Grows the table to at least `count` frames. `allocate` gives a frame that is assigned to the domain as one that the
    /// hypervisor shares with it (its owner may map it writable, and it is not freed while the table has it).
    ///
    /// # Errors
    /// `EINVAL`: more than the limit. `ENOMEM`; the table is then as large as it got.
    pub fn grow<M: Frames + ?Sized>(
        &self,
        frames: &M,
        count: u32,
        allocate: &mut dyn FnMut() -> Option<Mfn>,
    ) -> Result<()> {
        if count > self.limits.frames {
            return Err(Errno::INVAL);
        }
        if self.inner.read().shared.len() >= count as usize {
            return Ok(());
        }
        self.inner.write().grow(frames, count as usize, allocate)
    }

    /// Current and greatest number of frames (GNTTABOP_query_size).
    pub fn size(&self) -> (u32, u32) {
        (self.inner.read().shared.len() as u32, self.limits.frames)
    }

    /// The first step of GNTTABOP_setup_table: grows the table to `count` frames. Then write [`GrantTable::frame`] 0 to
    /// `count` less one to the guest's list.
    ///
    /// # Errors
    /// `GeneralError`: more than the limit, or no memory.
    pub fn setup_table<M: Frames + ?Sized>(
        &self,
        frames: &M,
        count: u32,
        allocate: &mut dyn FnMut() -> Option<Mfn>,
    ) -> core::result::Result<(), Status> {
        self.grow(frames, count, allocate).map_err(|_| Status::GeneralError)
    }

    /// The first step of GNTTABOP_get_status_frames, after which [`GrantTable::frame`] gives the frames.
    ///
    /// # Errors
    /// `GeneralError`: not a table of version 2, or it has fewer.
    pub fn check_status_frames(&self, count: u32) -> core::result::Result<(), Status> {
        let inner = self.inner.read();
        let there = if inner.version == 2 { inner.status.len() } else { 0 };
        if count as usize > there {
            return Err(Status::GeneralError);
        }
        Ok(())
    }

    /// A frame that the table has.
    pub fn frame(&self, kind: FrameKind, index: u32) -> Option<Mfn> {
        let inner = self.inner.read();
        let list = if kind == FrameKind::Shared { &inner.shared } else { &inner.status };
        list.get(index as usize).copied()
    }

    /// A frame of the table, which grows if it does not have it yet: XENMEM_add_to_physmap with space grant_table, and each
    /// frame of XENMEM_acquire_resource (ask for the last one first, so that it grows once).
    ///
    /// # Errors
    /// `EINVAL`: beyond the limit, or status frames of a table of version 1. `ENOMEM`.
    pub fn obtain<M: Frames + ?Sized>(
        &self,
        frames: &M,
        kind: FrameKind,
        index: u32,
        allocate: &mut dyn FnMut() -> Option<Mfn>,
    ) -> Result<Mfn> {
        if kind == FrameKind::Status && self.version() != 2 {
            return Err(Errno::INVAL);
        }
        if let Some(mfn) = self.frame(kind, index) {
            return Ok(mfn);
        }
        let step = if kind == FrameKind::Shared { 1 } else { STATUSES / ENTRIES_V2 };
        // The first shared frame whose status words are in that status frame.
        let needed = index.checked_mul(step).and_then(|first| first.checked_add(1)).ok_or(Errno::INVAL)?;
        self.grow(frames, needed, allocate)?;
        self.frame(kind, index).ok_or(Errno::INVAL)
    }

    /// Whether `peer` uses a grant of `mfn`: looks at `count` entries from `first` on.
    pub fn find_use(&self, mfn: Mfn, peer: DomId, first: Reference, count: u32) -> Search {
        let inner = self.inner.read();
        let end = first.saturating_add(count).min(inner.entries());
        let uses = |active: &Active| active.is_pinned() && active.peer == peer && active.mfn == mfn;
        if (first..end).any(|reference| inner.active(reference).is_ok_and(|active| uses(&active))) {
            return Search::Found;
        }
        if end < inner.entries() { Search::Again(end) } else { Search::Nowhere }
    }

    /// The entries in use: reference, frame, and who uses it. For dumps, and to warn of a dying domain's grants.
    pub fn for_each_active(&self, mut action: impl FnMut(Reference, Mfn, DomId)) {
        self.inner.read().pinned_from(0).for_each(|(reference, active)| action(reference, active.mfn, active.peer));
    }

    /// Takes all frames from the table, for a domain that is gone and none of whose grants is in use. No entry exists
    /// afterwards, so every later operation answers `BadReference`.
    ///
    /// # Errors
    /// `EBUSY`: a grant is in use; nothing is done. Its user releases it when it dies or unmaps; try again then.
    pub fn destroy(&self, release: &mut dyn FnMut(Mfn)) -> Result<()> {
        let mut inner = self.inner.write();
        if inner.pinned_from(0).next().is_some() {
            return Err(Errno::BUSY);
        }
        inner.shared.drain(..).for_each(&mut *release);
        inner.status.drain(..).for_each(&mut *release);
        inner.active.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_uses_are_apart() {
        let kinds = [1, 2, 4, 8].map(|kind: u8| Pins::new([0, 1, 2, 3].map(|bit| kind >> bit & 1 != 0)));
        for (index, kind) in kinds.into_iter().enumerate() {
            let full = Pins(0xffff << (16 * index));
            assert_eq!((Pins(0).without(kind), full.with(kind)), (None, None));
            let mut counts = [0; 4];
            counts[index] = 1;
            assert_eq!(Pins(0).with(kind).unwrap().counts(), counts);
            for other in kinds {
                assert_eq!(full.with(other).is_some(), other != kind);
                assert_eq!(full.without(other).is_some(), other == kind);
            }
        }
        let both = Pins::new([true, false, false, true]);
        let uses = (0..0xffff).try_fold(Pins(0), |uses, _| uses.with(both)).unwrap();
        assert_eq!((uses.counts(), uses.with(both)), ([0xffff, 0, 0, 0xffff], None));
        assert_eq!((0..0xffff).try_fold(uses, |uses, _| uses.without(both)), Some(Pins(0)));
    }
}
