//! Finding frames that hold zeroes, and making them marks again.

use crate::entry::{Access, Type};
use crate::format::Format;
use crate::pod::{LARGE, LARGE_PAGES};
use crate::table::{Inner, Never, P2m};
use crate::{Demand, Host};
use core::sync::atomic::Ordering;
use platform::Preempt;
use types::{Errno, Gfn, Mfn, Result};

/// Entries that a sweep looks at whatever it finds.
const SWEEP: u64 = 1024;
/// Guest frames that are looked at with one flush.
const STRIDE: usize = 16;
/// Words that are looked at before a frame is unmapped.
const GLANCE: usize = 16;

/// A small page under suspicion.
#[derive(Clone, Copy)]
struct Suspect {
    gfn: Gfn,
    mfn: Mfn,
    ty: Type,
}

impl<H: Host + Demand, F: Format> P2m<H, F> {
    /// Whether the first `words` words of a frame are 0.
    fn is_zero(&self, mfn: Mfn, words: usize) -> bool {
        self.host.table(mfn).is_some_and(|table| table.iter().take(words).all(|word| word.load(Ordering::Acquire) == 0))
    }

    /// Looks at the places that were populated last: guests that clear all their memory at start touch them only once. One
    /// at least, and more as long as the cache is empty.
    pub(crate) fn reclaim_recent(&self, inner: &mut Inner) {
        let count = inner.pod.recent.len();
        for step in 0..count {
            let at = (inner.pod.next_recent + step) % count;
            if let Some(place) = inner.pod.recent[at].take() {
                let whole = place.order == LARGE && self.reclaim_large(inner, place.gfn);
                if !whole {
                    for n in 0..1 << place.order {
                        self.reclaim_small(inner, &[Gfn(place.gfn.0 + n)]);
                    }
                }
            }
            if inner.pod.cache.count() > 0 {
                return;
            }
        }
    }

    /// Looks at all memory, downwards, from where the last sweep ended, until it has found something. `EAGAIN`: cut off
    /// before that; `ENOMEM`: there is nothing to find.
    pub(crate) fn sweep(&self, inner: &mut Inner, preempt: &dyn Preempt) -> Result<()> {
        loop {
            inner.pod.sweep_whole |= inner.pod.sweep_from.is_none();
            let start = inner.pod.sweep_from.unwrap_or(self.max_mapped_gfn().0);
            inner.pod.sweep_from = self.sweep_down(inner, start, preempt);
            if inner.pod.cache.count() > 0 {
                inner.pod.sweep_whole = false;
                return Ok(());
            }
            if inner.pod.sweep_from.is_some() {
                return Err(Errno::AGAIN);
            }
            if core::mem::take(&mut inner.pod.sweep_whole) {
                return Err(Errno::NOMEM);
            }
        }
    }

    /// Sweeps from a guest frame downwards; where to go on, if it has not come to the lowest.
    fn sweep_down(&self, inner: &mut Inner, start: u64, preempt: &dyn Preempt) -> Option<u64> {
        let mut group = [Gfn(0); STRIDE];
        let mut grouped = 0;
        let mut looked = 0;
        let mut gfn = start;
        let next = loop {
            let entry = self.entry(Gfn(gfn));
            let mut first = gfn >> entry.order << entry.order;
            if entry.ty.is_ram() {
                group[grouped] = Gfn(gfn);
                grouped += 1;
                first = gfn;
            }
            if grouped == STRIDE {
                self.reclaim_small(inner, &group);
                grouped = 0;
            }
            looked += 1;
            let Some(below) = first.checked_sub(1) else { break None };
            gfn = below;
            if looked > SWEEP && (inner.pod.cache.count() > 0 || preempt.should_yield()) {
                break Some(gfn);
            }
        };
        self.reclaim_small(inner, &group[..grouped]);
        next
    }

    /// Makes the 2 MiB at `gfn` a mark if they are one page's worth of zeroes to which nobody else refers.
    pub(crate) fn reclaim_large(&self, inner: &mut Inner, gfn: Gfn) -> bool {
        let Some((mfn, ty)) = self.one_run(gfn) else { return false };
        let all = |test: &dyn Fn(Mfn) -> bool| (0..LARGE_PAGES).all(|n| test(mfn.offset(n)));
        // The entries' own references stand.
        if !all(&|mfn| self.host.references(mfn) == Some(1) && self.is_zero(mfn, GLANCE)) {
            return false;
        }
        if self.mark(inner, gfn, LARGE).is_err() {
            return false;
        }
        let _all = self.settle(inner, &Never);
        // Nobody can write any more, unless somebody took a reference in between.
        if all(&|mfn| self.host.references(mfn) == Some(0) && self.is_zero(mfn, 512)) {
            self.recycle(inner, mfn, LARGE);
            return true;
        }
        self.put_back(inner, gfn, mfn, LARGE, ty);
        false
    }

    /// First frame and type of 2 MiB of guest memory that could be one page.
    fn one_run(&self, gfn: Gfn) -> Option<(Mfn, Type)> {
        let first = self.entry(gfn);
        if !first.ty.is_ram() || gfn.0 & (LARGE_PAGES - 1) != 0 || first.mfn.0 & (LARGE_PAGES - 1) != 0 {
            return None;
        }
        let mut next = gfn;
        while next.0 < gfn.0 + LARGE_PAGES {
            let entry = self.entry(next);
            if entry.ty != first.ty || entry.mfn != first.mfn.offset(next.0 - gfn.0) {
                return None;
            }
            next = entry.end(next);
        }
        Some((first.mfn, first.ty))
    }

    /// Makes those guest frames marks that hold zeroes and to which nobody else refers; [`STRIDE`] at most.
    fn reclaim_small(&self, inner: &mut Inner, gfns: &[Gfn]) {
        let mut suspects = [None; STRIDE];
        for (suspect, &gfn) in suspects.iter_mut().zip(gfns) {
            let entry = self.entry(gfn);
            let likely = entry.ty.is_ram()
                && self.host.references(entry.mfn) == Some(1)
                && self.is_zero(entry.mfn, GLANCE)
                && self.mark(inner, gfn, 0).is_ok();
            *suspect = likely.then_some(Suspect { gfn, mfn: entry.mfn, ty: entry.ty });
        }
        if suspects.iter().all(Option::is_none) {
            return;
        }
        let _all = self.settle(inner, &Never);
        for Suspect { gfn, mfn, ty } in suspects.into_iter().flatten() {
            if self.host.references(mfn) == Some(0) && self.is_zero(mfn, 512) {
                self.recycle(inner, mfn, 0);
            } else {
                self.put_back(inner, gfn, mfn, 0, ty);
            }
        }
    }

    /// Undoes a mark. Who has seen it meanwhile waits for the lock to populate it, and then finds the frame.
    fn put_back(&self, inner: &mut Inner, gfn: Gfn, mfn: Mfn, order: u8, ty: Type) {
        if self.set_locked(inner, gfn, mfn, order, ty, self.default_access()).is_err() {
            // The frame is no longer the domain's: the guest has given it back meanwhile.
            let _hole = self.set_locked(inner, gfn, Mfn::INVALID, order, Type::Invalid, Access::Rwx);
        }
    }
}
