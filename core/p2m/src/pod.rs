//! Memory that is populated on demand: guests that are started with less memory than they are told of (Xen's p2m-pod).
//!
//! A guest's frames are marked first; what it may have lies in a cache, and goes to the frame that is touched. The guest's
//! balloon driver gives frames back until no mark is left. When the cache is empty before that, frames that hold zeroes
//! become marks again.

use crate::entry::{Access, Entry, Type};
use crate::format::Format;
use crate::table::{Inner, Never, P2m};
use crate::{Demand, Host};
use core::sync::atomic::Ordering;
use platform::{Frames, Preempt};
use types::{Errno, Gfn, Mfn, Progress, Result};

/// Base-2 logarithm of the frames of a large page of the cache.
pub(crate) const LARGE: u8 = 9;
/// Frames of a large page.
pub(crate) const LARGE_PAGES: u64 = 1 << LARGE;
/// How many of the last populated places are remembered.
const RECENT: usize = 128;

/// Frames linked through their first words. Nobody else refers to them.
#[derive(Default)]
struct Chain {
    head: Option<Mfn>,
    count: u64,
}

impl Chain {
    fn push(&mut self, frames: &dyn Frames, mfn: Mfn) {
        let Some(table) = frames.table(mfn) else { return };
        table[0].store(self.head.map_or(0, |next| next.0 + 1), Ordering::Relaxed);
        self.head = Some(mfn);
        self.count += 1;
    }

    fn pop(&mut self, frames: &dyn Frames) -> Option<Mfn> {
        let mfn = self.head?;
        let link = frames.table(mfn).map_or(0, |table| table[0].swap(0, Ordering::Relaxed));
        self.head = link.checked_sub(1).map(Mfn);
        self.count = if self.head.is_some() { self.count - 1 } else { 0 };
        Some(mfn)
    }
}

/// Frames of the domain's own that are mapped nowhere, all zero.
#[derive(Default)]
pub(crate) struct Cache {
    large: Chain,
    small: Chain,
}

impl Cache {
    /// Frames in it.
    pub fn count(&self) -> u64 {
        self.large.count * LARGE_PAGES + self.small.count
    }

    /// Clears frames and puts them in.
    pub fn add(&mut self, frames: &dyn Frames, mfn: Mfn, order: u8) {
        for index in 0..1 << order {
            frames.zero(mfn.offset(index));
        }
        self.add_clear(frames, mfn, order);
    }

    fn add_clear(&mut self, frames: &dyn Frames, mfn: Mfn, order: u8) {
        if order >= LARGE {
            (0..1 << (order - LARGE)).for_each(|n: u64| self.large.push(frames, mfn.offset(n * LARGE_PAGES)));
        } else {
            (0..1 << order).for_each(|n| self.small.push(frames, mfn.offset(n)));
        }
    }

    /// Takes a page out; breaks a large one for a small one.
    fn take(&mut self, frames: &dyn Frames, order: u8) -> Option<Mfn> {
        if order == LARGE {
            return self.large.pop(frames);
        }
        if self.small.count == 0 {
            let large = self.large.pop(frames)?;
            (0..LARGE_PAGES).rev().for_each(|n| self.small.push(frames, large.offset(n)));
        }
        self.small.pop(frames)
    }
}

/// A place that was populated.
#[derive(Clone, Copy)]
pub(crate) struct Populated {
    pub gfn: Gfn,
    pub order: u8,
}

/// What a domain has to be populated on demand.
pub(crate) struct Pod {
    /// Guest frames that are marked.
    pub entries: u64,
    pub cache: Cache,
    /// Where the next sweep for zeroes begins, downwards; `None` for the top.
    pub sweep_from: Option<u64>,
    /// The sweep under way began at the top, and has found nothing.
    pub sweep_whole: bool,
    pub recent: [Option<Populated>; RECENT],
    pub next_recent: usize,
}

impl Pod {
    pub fn new() -> Pod {
        Pod {
            entries: 0,
            cache: Cache::default(),
            sweep_from: None,
            sweep_whole: false,
            recent: [None; RECENT],
            next_recent: 0,
        }
    }

    /// Lets go of the cache: its frames are the domain's, which gives them back at its end.
    pub fn forget(&mut self) {
        *self = Pod::new();
    }

    fn record(&mut self, place: Populated) {
        self.recent[self.next_recent] = Some(place);
        self.next_recent = (self.next_recent + 1) % RECENT;
    }
}

impl<H: Host + Demand, F: Format> P2m<H, F> {
    /// Guest frames that are marked, and frames in the cache (`XENMEM_get_pod_target`).
    pub fn demand_pages(&self) -> (u64, u64) {
        let inner = self.lock();
        (inner.pod.entries, inner.pod.cache.count())
    }

    /// Marks 2^`order` guest frames (`XENMEMF_populate_on_demand`). `EBUSY` if one of them has a frame; else as
    /// [`P2m::set`].
    pub fn mark_on_demand(&self, gfn: Gfn, order: u8) -> Result<()> {
        let mut inner = self.change()?;
        let end = gfn.0.checked_add(1 << order.min(63)).ok_or(Errno::INVAL)?;
        let mut next = gfn;
        while next.0 < end && Self::exists(next) {
            let entry = self.entry(next);
            if entry.ty.has_frame() {
                return Err(Errno::BUSY);
            }
            next = entry.end(next);
        }
        self.mark(&mut inner, gfn, order)
    }

    pub(crate) fn mark(&self, inner: &mut Inner, gfn: Gfn, order: u8) -> Result<()> {
        self.set_locked(inner, gfn, Mfn::INVALID, order, Type::PopulateOnDemand, Access::Rwx).map(|_| ())
    }

    /// Makes the domain's memory `target` frames (`XENMEM_set_pod_target`): fills the cache as far as there are marks to
    /// serve. Never empties it: a balloon driver that has not come so far yet would be left with nothing. `ENOMEM`: it
    /// was filled in part. `Again`: repeat.
    pub fn set_demand_target(&self, target: u64, preempt: &dyn Preempt) -> Result<Progress<()>> {
        let mut inner = self.change()?;
        let total = self.host.total_pages();
        let populated = total.saturating_sub(inner.pod.cache.count());
        // With nothing marked there is nothing to serve, but while the guest is built nothing is marked yet.
        if populated > 0 && inner.pod.entries == 0 || target < total {
            return Ok(Progress::Done(()));
        }
        let mut goal = target - populated;
        if populated > 0 {
            goal = goal.min(inner.pod.entries);
        }
        let goal = goal.max(inner.pod.cache.count());
        self.fill_cache(&mut inner, goal, preempt)
    }

    fn fill_cache(&self, inner: &mut Inner, goal: u64, preempt: &dyn Preempt) -> Result<Progress<()>> {
        while inner.pod.cache.count() < goal {
            let large = goal - inner.pod.cache.count() >= LARGE_PAGES;
            let found = if large { self.host.allocate_ram(LARGE).map(|mfn| (mfn, LARGE)) } else { None };
            let found = found.or_else(|| self.host.allocate_ram(0).map(|mfn| (mfn, 0)));
            let (mfn, order) = found.ok_or(Errno::NOMEM)?;
            inner.pod.cache.add(&self.host, mfn, order);
            if inner.pod.cache.count() < goal && preempt.should_yield() {
                return Ok(Progress::Again(0));
            }
        }
        Ok(Progress::Done(()))
    }

    /// Gives frames of the cache back that no mark is left for.
    fn trim_cache(&self, inner: &mut Inner) {
        while inner.pod.cache.count() > inner.pod.entries {
            let order = if inner.pod.cache.count() - inner.pod.entries >= LARGE_PAGES { LARGE } else { 0 };
            let large =
                if order == LARGE { inner.pod.cache.take(&self.host, LARGE).map(|mfn| (mfn, LARGE)) } else { None };
            let found = large.or_else(|| inner.pod.cache.take(&self.host, 0).map(|mfn| (mfn, 0)));
            match found {
                Some((mfn, order)) => self.host.free_ram(mfn, order),
                None => return,
            }
        }
    }

    /// Populates a guest frame that was touched, or that the hypervisor wants to use; what is there then. Of another type,
    /// it stays as it is. `EAGAIN`: the search for memory was cut off; the guest may run into it again. `ENOMEM`: the guest
    /// has touched more than it may have, and is to be crashed for that.
    pub fn populate(&self, gfn: Gfn, preempt: &dyn Preempt) -> Result<Entry> {
        let mut inner = self.change()?;
        // Each round but the last makes the entry smaller.
        loop {
            let entry = self.entry(gfn);
            if entry.ty != Type::PopulateOnDemand {
                return Ok(entry);
            }
            let first = Gfn(gfn.0 >> entry.order << entry.order);
            if entry.order > LARGE {
                self.word_at(&mut inner, gfn, 2)?;
                continue;
            }
            if inner.pod.entries > inner.pod.cache.count() {
                self.reclaim_recent(&mut inner);
            }
            if inner.pod.cache.count() == 0 {
                self.sweep(&mut inner, preempt)?;
            }
            match inner.pod.cache.take(&self.host, entry.order) {
                Some(mfn) => self.place(&mut inner, first, mfn, entry.order)?,
                None if entry.order == 0 => return Err(Errno::NOMEM),
                None if inner.pod.cache.count() == 0 => return Err(Errno::NOMEM),
                None => {
                    self.word_at(&mut inner, gfn, 1)?;
                }
            }
        }
    }

    fn place(&self, inner: &mut Inner, gfn: Gfn, mfn: Mfn, order: u8) -> Result<()> {
        match self.set_locked(inner, gfn, mfn, order, Type::RamRw, self.default_access()) {
            // What was there was no page, so no CPU has it.
            Ok(_) => inner.pod.record(Populated { gfn, order }),
            Err(error) => {
                inner.pod.cache.add_clear(&self.host, mfn, order);
                return Err(error);
            }
        }
        Ok(())
    }

    /// The guest gives 2^`order` frames back (`XENMEM_decrease_reservation`): marks among them go, and frames that the cache
    /// lacks move there. True: nothing is left for the caller to do; else it goes on with the frames that are still there.
    /// `EINVAL` as of [`P2m::set`].
    pub fn decrease_on_demand(&self, gfn: Gfn, order: u8) -> Result<bool> {
        let mut inner = self.change()?;
        if inner.pod.entries == 0 {
            return Ok(false);
        }
        let end = gfn.0.checked_add(1 << order.min(63)).ok_or(Errno::INVAL)?;
        let (marked, ram) = self.count(gfn, end);
        let lacking = |inner: &Inner| inner.pod.entries > inner.pod.cache.count();
        if marked == 0 && !lacking(&inner) {
            return Ok(false);
        }
        let small = order < LARGE && ram == 1 << order;
        if small && lacking(&inner) {
            // Drivers give single frames back, of large pages that hold nothing.
            self.reclaim_large(&mut inner, Gfn(gfn.0 & !(LARGE_PAGES - 1)));
        }
        let mut left = false;
        let mut next = gfn;
        while next.0 < end && Self::exists(next) {
            let entry = self.entry(next);
            let order = page_order(next, entry.order.min(order));
            match entry.ty {
                Type::PopulateOnDemand => {
                    let _none = self.set_locked(&mut inner, next, Mfn::INVALID, order, Type::Invalid, Access::Rwx)?;
                }
                ty if ty.is_ram() && lacking(&inner) => self.steal(&mut inner, next, entry.mfn, order)?,
                _ => left = true,
            }
            next = Gfn(next.0 + (1 << order));
        }
        self.trim_cache(&mut inner);
        Ok(!left)
    }

    /// Marked guest frames of a range, and RAM.
    fn count(&self, first: Gfn, end: u64) -> (u64, u64) {
        let (mut marked, mut ram) = (0, 0);
        let mut next = first;
        while next.0 < end && Self::exists(next) {
            let entry = self.entry(next);
            let past = entry.end(next).0.min(end);
            match entry.ty {
                Type::PopulateOnDemand => marked += past - next.0,
                ty if ty.is_ram() => ram += past - next.0,
                _ => {}
            }
            next = Gfn(past);
        }
        (marked, ram)
    }

    /// Puts frames into the cache that were the guest's and to which nobody refers.
    pub(crate) fn recycle(&self, inner: &mut Inner, mfn: Mfn, order: u8) {
        self.host.unplaced(mfn, order);
        inner.pod.cache.add(&self.host, mfn, order);
    }

    /// Takes RAM away from the guest, for the cache where nobody else refers to it.
    fn steal(&self, inner: &mut Inner, gfn: Gfn, mfn: Mfn, order: u8) -> Result<()> {
        let _flushed_next = self.set_locked(inner, gfn, Mfn::INVALID, order, Type::Invalid, Access::Rwx)?;
        let _all = self.settle(inner, &Never);
        let idle = (0..1 << order).all(|n| self.host.references(mfn.offset(n)) == Some(0));
        if idle {
            self.recycle(inner, mfn, order);
        } else {
            self.host.free_ram(mfn, order);
        }
        Ok(())
    }
}

/// The order of the largest page that may begin at `gfn` and is no larger than `order`.
fn page_order(gfn: Gfn, order: u8) -> u8 {
    let fits = |candidate: &u8| *candidate <= order && gfn.0 & ((1 << *candidate) - 1) == 0;
    crate::ORDERS.into_iter().rev().find(|candidate| fits(candidate)).unwrap_or(0)
}
