//! What was taken out of the table, and waits for CPUs to forget it.

use crate::Host;
use crate::entry::Type;
use crate::format::{Decoded, Format};
use crate::table::{Inner, Never, P2m, order_of};
use core::sync::atomic::Ordering;
use platform::Preempt;
use types::{Mfn, Progress};

/// Something that no longer is in the tree.
pub(crate) enum Retired {
    /// A page, which holds references.
    Page { mfn: Mfn, order: u8, ty: Type },
    /// A table of `level`, whose entries hold references.
    Tree { table: Mfn, level: u8 },
    /// A table whose entries' references are another entry's now.
    Bare { table: Mfn },
}

impl<H: Host, F: Format> P2m<H, F> {
    /// Has every CPU drop translations that no longer hold, if there may be any, and releases what was retired. That first
    /// part is done in the first call. `Again`: more is to be released, by any later call.
    pub fn flush(&self, preempt: &dyn Preempt) -> Progress<()> {
        self.settle(&mut self.lock(), preempt)
    }

    /// Takes everything out, and the root: the end of the table, to be called until it is done, when none of the domain's
    /// vCPUs will run again. The pool is then to be given back by [`P2m::resize_pool`]. Memory that waits to be populated
    /// is the domain's own and goes with it (`Memory::relinquish`).
    pub fn teardown(&self, preempt: &dyn Preempt) -> Progress<()> {
        let mut inner = self.lock();
        inner.closed = true;
        inner.pod.forget();
        inner.claimed = 0;
        if self.root().is_some() {
            self.make_room(&mut inner);
            if let Some(table) = self.take_root() {
                self.generation.raise();
                inner.stale = true;
                self.retire(&mut inner, Retired::Tree { table, level: F::LEVELS });
            }
        }
        self.settle(&mut inner, preempt)
    }

    /// Notes what was taken out. There is room: [`P2m::make_room`] goes before each change.
    pub(crate) fn retire(&self, inner: &mut Inner, item: Retired) {
        if inner.retired.try_push(item).is_err() {
            // Cannot happen. Lost frames do less harm than frames with two owners.
            log::error!("p2m of {}: no room to retire an entry; its frames are given up", self.domain);
        }
    }

    /// Sees to it that one more item can be retired.
    pub(crate) fn make_room(&self, inner: &mut Inner) {
        if inner.retired.is_full() {
            self.flush_stale(inner);
            self.release_last(inner, &Never);
            // As one flush has served all of them, small ones go at once.
            while let Some(Retired::Page { order: 0, .. } | Retired::Bare { .. }) = inner.retired.last() {
                self.release_last(inner, &Never);
            }
        }
    }

    pub(crate) fn settle(&self, inner: &mut Inner, preempt: &dyn Preempt) -> Progress<()> {
        self.flush_stale(inner);
        while !inner.retired.is_empty() {
            self.release_last(inner, preempt);
            if !inner.retired.is_empty() && preempt.should_yield() {
                return Progress::Again(0);
            }
        }
        Progress::Done(())
    }

    fn flush_stale(&self, inner: &mut Inner) {
        if inner.stale {
            self.host.flush_domain(self.domain);
            inner.stale = false;
        }
    }

    /// Releases the last item, which was flushed. A tree may stay in part.
    fn release_last(&self, inner: &mut Inner, preempt: &dyn Preempt) {
        match inner.retired.pop() {
            Some(Retired::Page { mfn, order, ty }) => self.host.put(mfn, order, ty),
            Some(Retired::Bare { table }) => inner.pool.give(&self.host, table),
            Some(Retired::Tree { table, level }) => {
                let is_done = self.release_tree(inner, table, level, preempt);
                if !is_done {
                    self.retire(inner, Retired::Tree { table, level });
                }
            }
            None => {}
        }
    }

    /// Drops what the entries of a table hold, and gives the table back. False if cut off: entries that are done are empty.
    fn release_tree(&self, inner: &mut Inner, table: Mfn, level: u8, preempt: &dyn Preempt) -> bool {
        let Some(words) = self.host.table(table) else { return true };
        for word in words {
            let large = match F::decode(word.load(Ordering::Relaxed), level) {
                Decoded::Hole => continue,
                Decoded::Leaf(leaf) => {
                    if leaf.ty.has_frame() {
                        self.host.put(leaf.mfn, order_of(level), leaf.ty);
                    }
                    level > 1
                }
                Decoded::Table(below) => {
                    if !self.release_tree(inner, below, level - 1, preempt) {
                        return false;
                    }
                    true
                }
            };
            word.store(0, Ordering::Relaxed);
            if large && preempt.should_yield() {
                return false;
            }
        }
        inner.pool.give(&self.host, table);
        true
    }
}
