//! The frames of one domain.

use crate::frame::{FrameInfo, FrameTable, FrameType, NONE};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use platform::sync::Mutex;
use types::DomId;

/// Frames linked through [`FrameInfo::next`] and [`FrameInfo::prev`].
pub(crate) struct List {
    pub first: u32,
    last: u32,
}

impl List {
    const fn new() -> List {
        List { first: NONE, last: NONE }
    }

    pub fn append(&mut self, table: &FrameTable, mfn: u32) {
        let frame = table.at(mfn);
        frame.next.store(NONE, Ordering::Relaxed);
        frame.prev.store(self.last, Ordering::Relaxed);
        if self.last == NONE {
            self.first = mfn;
        } else {
            table.at(self.last).next.store(mfn, Ordering::Relaxed);
        }
        self.last = mfn;
    }

    pub fn remove(&mut self, table: &FrameTable, mfn: u32) {
        let frame = table.at(mfn);
        let (prev, next) = (frame.prev.load(Ordering::Relaxed), frame.next.load(Ordering::Relaxed));
        if prev == NONE {
            self.first = next;
        } else {
            table.at(prev).next.store(next, Ordering::Relaxed);
        }
        if next == NONE {
            self.last = prev;
        } else {
            table.at(next).prev.store(prev, Ordering::Relaxed);
        }
    }
}

/// A domain's frames, guarded by the domain's page lock.
pub(crate) struct Lists {
    /// Frames given to the domain.
    pub frames: List,
    /// Frames whose own reference was dropped when the domain ended, and to which others still refer.
    pub relinquished: List,
}

impl Lists {
    pub fn remove(&mut self, table: &FrameTable, mfn: u32) {
        let frame = table.at(mfn);
        if frame.has_flag(FrameInfo::RELINQUISHED) {
            frame.set_flag(FrameInfo::RELINQUISHED, false);
            self.relinquished.remove(table, mfn);
        } else {
            self.frames.remove(table, mfn);
        }
    }
}

/// The account of one domain's memory. Lives until its last frame is free, which may be after the domain's end.
pub struct DomainMemory {
    id: DomId,
    pub(crate) lists: Mutex<Lists>,
    /// Head of the queue of tables that wait for demotion, linked through [`FrameInfo::work`].
    pub(crate) demotions: Mutex<u32>,
    /// Tables that are in that queue or taken from it and not yet done with.
    pub(crate) queued: AtomicU32,
    pub(crate) total: AtomicU64,
    pub(crate) limit: AtomicU64,
    pub(crate) shared: AtomicU64,
    /// Free frames reserved for the domain; changed under the heap lock.
    pub(crate) claim: AtomicU64,
    pub(crate) dying: AtomicBool,
    /// The page tables are a 32-bit guest's.
    pae: AtomicBool,
    /// The last flush of this domain's translations that is complete, in numbers of [`crate::Memory`]'s epoch.
    pub(crate) flushed: AtomicU32,
}

impl DomainMemory {
    pub(crate) fn new(id: DomId, limit: u64) -> DomainMemory {
        DomainMemory {
            id,
            lists: Mutex::new(Lists { frames: List::new(), relinquished: List::new() }),
            demotions: Mutex::new(NONE),
            queued: AtomicU32::new(0),
            total: AtomicU64::new(0),
            limit: AtomicU64::new(limit),
            shared: AtomicU64::new(0),
            claim: AtomicU64::new(0),
            dying: AtomicBool::new(false),
            pae: AtomicBool::new(false),
            flushed: AtomicU32::new(0),
        }
    }

    /// The domain.
    pub fn id(&self) -> DomId {
        self.id
    }

    /// Frames that the domain has, those included that only others still refer to (`tot_pages`).
    pub fn total_pages(&self) -> u64 {
        self.total.load(Ordering::Acquire)
    }

    /// Frames that the domain may have (`max_pages`).
    pub fn max_pages(&self) -> u64 {
        self.limit.load(Ordering::Acquire)
    }

    /// Sets how many frames the domain may have; what it has above that it keeps.
    pub fn set_max_pages(&self, limit: u64) {
        self.limit.store(limit, Ordering::Release);
    }

    /// Frames of the hypervisor that the domain shares (`xenheap_pages`).
    pub fn shared_pages(&self) -> u64 {
        self.shared.load(Ordering::Acquire)
    }

    /// Free frames that are reserved for the domain (`outstanding_pages`).
    pub fn claimed_pages(&self) -> u64 {
        self.claim.load(Ordering::Acquire)
    }

    /// Whether the domain is a 32-bit guest, whose page tables have three levels.
    pub fn is_pae(&self) -> bool {
        self.pae.load(Ordering::Relaxed)
    }

    /// Makes it one, or none again: only before it has a frame.
    pub fn set_pae(&self, pae: bool) {
        self.pae.store(pae, Ordering::Relaxed);
    }

    /// The type of the domain's page tables of `level`; `None` for no level.
    pub(crate) fn table_type(&self, level: u32) -> Option<FrameType> {
        if self.is_pae() { FrameType::pae_table(level) } else { FrameType::table(level) }
    }

    /// Whether the domain is being destroyed.
    pub fn is_dying(&self) -> bool {
        self.dying.load(Ordering::Acquire)
    }

    /// From now on the domain gets no frames and keeps no new pins; to be called before [`crate::Memory::relinquish`].
    pub fn set_dying(&self) {
        // Under the page lock, so that nobody is between the check and the list.
        let _lists = self.lists.lock();
        self.dying.store(true, Ordering::Release);
    }
}
