//! Putting entries into the table.

use crate::entry::{Access, Entry, Flush, Type};
use crate::format::{Decoded, Format, Leaf};
use crate::release::Retired;
use crate::table::{Inner, P2m, order_of, slot};
use crate::{Host, ORDERS};
use core::sync::atomic::{AtomicU64, Ordering};
use types::{Errno, Gfn, Mfn, Result};

/// What [`P2m::set`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "a flush may be due"]
pub struct Set {
    /// What was at the guest frames before, as an entry of their order; `None` if they differed.
    pub before: Option<Entry>,
    /// Whether CPUs may still have it.
    pub flush: Flush,
}

/// Guest frames of the kinds that are counted.
#[derive(Clone, Copy, Default)]
struct Tally {
    on_demand: u64,
    claimed: u64,
}

impl Tally {
    fn of(ty: Type, order: u8) -> Tally {
        let pages = 1 << order;
        Tally {
            on_demand: if ty == Type::PopulateOnDemand { pages } else { 0 },
            claimed: if ty == Type::IoreqServer { pages } else { 0 },
        }
    }

    fn add(&mut self, other: Tally) {
        self.on_demand += other.on_demand;
        self.claimed += other.claimed;
    }
}

impl Inner {
    /// Notes that pages of 2^`order` frames became what they are or ceased to be so.
    pub fn retype(&mut self, from: Type, to: Type, order: u8) {
        self.recount(Tally::of(from, order), Tally::of(to, order));
    }

    fn recount(&mut self, gone: Tally, come: Tally) {
        self.pod.entries = (self.pod.entries + come.on_demand).saturating_sub(gone.on_demand);
        self.claimed = (self.claimed + come.claimed).saturating_sub(gone.claimed);
    }
}

impl<H: Host, F: Format> P2m<H, F> {
    /// Puts an entry at 2^`order` guest frames: at the machine frames from `mfn` on if the type has a frame; else `mfn` is not
    /// looked at. Takes the references of the new entry, and retires what was there.
    ///
    /// `EINVAL` for an order that is no page's ([`ORDERS`]), frames that are not aligned to it or do not exist, or a table
    /// that is being taken down; `ENOMEM` if the pool is empty; else as [`crate::Keeper::take`]. Then nothing has changed.
    pub fn set(&self, gfn: Gfn, mfn: Mfn, order: u8, ty: Type, access: Access) -> Result<Set> {
        let mut inner = self.change()?;
        self.set_locked(&mut inner, gfn, mfn, order, ty, access)
    }

    /// Empties 2^`order` guest frames. Errors as of [`P2m::set`].
    pub fn clear(&self, gfn: Gfn, order: u8) -> Result<Set> {
        self.set(gfn, Mfn::INVALID, order, Type::Invalid, Access::Rwx)
    }

    pub(crate) fn set_locked(
        &self,
        inner: &mut Inner,
        gfn: Gfn,
        mfn: Mfn,
        order: u8,
        ty: Type,
        access: Access,
    ) -> Result<Set> {
        let mask = (1u64 << order.min(63)) - 1;
        let level = order / 9 + 1;
        let aligned = gfn.0 & mask == 0 && (!ty.has_frame() || mfn.0 & mask == 0);
        let exists = Self::exists(gfn) && (!ty.has_frame() || mfn.0 | mask <= x86_defs::pte::Pte::HIGHEST_FRAME);
        if !ORDERS.contains(&order) || level > F::LEAF_LEVELS || !aligned || !exists {
            return Err(Errno::INVAL);
        }
        self.make_room(inner);
        if ty.has_frame() {
            self.host.take(gfn, mfn, order, ty)?;
        }
        let word = if ty.is_hole() { 0 } else { F::leaf(Leaf { mfn, ty, access }, level) };
        let put = self.put_word(inner, gfn, level, word);
        match put {
            Ok(_) if !ty.is_hole() => {
                inner.recount(Tally::default(), Tally::of(ty, order));
                self.note_mapped(gfn.0 | mask);
            }
            Err(_) if ty.has_frame() => self.host.put(mfn, order, ty),
            _ => {}
        }
        put
    }

    /// Writes a word at `level`, and retires what was there.
    fn put_word(&self, inner: &mut Inner, gfn: Gfn, level: u8, new: u64) -> Result<Set> {
        let nothing = Set { before: Some(Entry::hole(order_of(level))), flush: Flush::Unneeded };
        if new == 0 {
            // Emptying what is empty needs no tables.
            match self.find_down_to(gfn, level) {
                Some(place) if !matches!(F::decode(place.value, place.level), Decoded::Hole) => {}
                _ => return Ok(nothing),
            }
        }
        let word = self.word_at(inner, gfn, level)?;
        let old = word.swap(new, Ordering::AcqRel);
        let gone = self.tally(inner, old, level);
        inner.recount(gone, Tally::default());
        let flush = Self::note_stale(inner, old, new);
        let before = match F::decode(old, level) {
            Decoded::Hole => nothing.before,
            Decoded::Leaf(leaf) => {
                if leaf.ty.has_frame() {
                    self.retire(inner, Retired::Page { mfn: leaf.mfn, order: order_of(level), ty: leaf.ty });
                }
                Some(Self::entry_at(gfn, old, level))
            }
            Decoded::Table(table) => {
                self.generation.raise();
                self.retire(inner, Retired::Tree { table, level: level - 1 });
                None
            }
        };
        Ok(Set { before, flush })
    }

    /// Notes what CPUs may have of a word that was replaced.
    pub(crate) fn note_stale(inner: &mut Inner, old: u64, new: u64) -> Flush {
        if !F::outdates(old, new) {
            return Flush::Unneeded;
        }
        inner.stale = true;
        Flush::Needed
    }

    /// Counted pages in what a word at `level` leads to.
    fn tally(&self, inner: &Inner, word: u64, level: u8) -> Tally {
        match F::decode(word, level) {
            Decoded::Hole => Tally::default(),
            Decoded::Leaf(leaf) => Tally::of(leaf.ty, order_of(level)),
            Decoded::Table(_) if inner.pod.entries == 0 && inner.claimed == 0 => Tally::default(),
            Decoded::Table(table) => {
                let mut sum = Tally::default();
                for word in self.host.table(table).into_iter().flatten() {
                    sum.add(self.tally(inner, word.load(Ordering::Relaxed), level - 1));
                }
                sum
            }
        }
    }

    /// The word at `level` for a guest frame; makes the tables above it, and splits larger pages. `ENOMEM`.
    pub(crate) fn word_at(&self, inner: &mut Inner, gfn: Gfn, level: u8) -> Result<&AtomicU64> {
        let mut table = self.root().ok_or(Errno::INVAL)?;
        for at in (level + 1..=F::LEVELS).rev() {
            let word = &self.host.table(table).ok_or(Errno::INVAL)?[slot(gfn, at)];
            table = match F::decode(word.load(Ordering::Relaxed), at) {
                Decoded::Table(next) => next,
                Decoded::Hole => self.grow(inner, word, at, None)?,
                Decoded::Leaf(leaf) => self.grow(inner, word, at, Some(leaf))?,
            };
        }
        Ok(&self.host.table(table).ok_or(Errno::INVAL)?[slot(gfn, level)])
    }

    /// Replaces a word at `level` by a table that says the same.
    fn grow(&self, inner: &mut Inner, word: &AtomicU64, level: u8, page: Option<Leaf>) -> Result<Mfn> {
        let table = inner.pool.take(&self.host)?;
        let words = self.host.table(table).ok_or(Errno::NOMEM)?;
        if let Some(page) = page {
            let step = 1 << order_of(level - 1);
            for (index, word) in words.iter().enumerate() {
                let part = Leaf { mfn: page.mfn.offset(index as u64 * step), ..page };
                word.store(F::leaf(part, level - 1), Ordering::Relaxed);
            }
        }
        // Readers that see the table see what is in it. CPUs may keep the large page: it says the same.
        word.store(F::table(table), Ordering::Release);
        Ok(table)
    }
}
