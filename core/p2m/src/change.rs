//! Changing entries where they are.

use crate::Host;
use crate::entry::{Access, Flush, Type};
use crate::format::{Decoded, Format, Leaf};
use crate::release::Retired;
use crate::table::{Inner, P2m, Place, order_of};
use core::sync::atomic::Ordering;
use platform::{Preempt, Table};
use types::{Errno, Gfn, Progress, Result};

impl<H: Host, F: Format> P2m<H, F> {
    /// Makes one guest frame of type `from` one of type `to`, its machine frame staying (`p2m_change_type_one`). `EBUSY` if
    /// it is something else, `EINVAL` unless [`Type::is_own_frame`] holds of both types, `ENOMEM`.
    pub fn change_type(&self, gfn: Gfn, from: Type, to: Type) -> Result<Flush> {
        if !from.is_own_frame() || !to.is_own_frame() {
            return Err(Errno::INVAL);
        }
        let mut inner = self.change()?;
        let place = self.find(gfn).ok_or(Errno::BUSY)?;
        match F::decode(place.value, place.level) {
            Decoded::Leaf(leaf) if leaf.ty == from => {}
            _ => return Err(Errno::BUSY),
        }
        let word = self.word_at(&mut inner, gfn, 1)?;
        let place = Place { word, value: word.load(Ordering::Relaxed), level: 1 };
        Ok(Self::rewrite(&mut inner, &place, |leaf| Leaf { ty: to, ..leaf }))
    }

    /// Makes every guest frame from `first` to before `end` that is of type `from` one of type `to`: log-dirty mode and
    /// its end, the end of an ioreq server's claim (`p2m_change_type_range`). [`P2m::flush`] is due afterwards. `EINVAL` as
    /// above, `ENOMEM` where a large page lies half in the range. `Again`: call again with the cursor as `first`.
    pub fn change_type_range(
        &self,
        first: Gfn,
        end: Gfn,
        from: Type,
        to: Type,
        preempt: &dyn Preempt,
    ) -> Result<Progress<(), Gfn>> {
        if !from.is_own_frame() || !to.is_own_frame() {
            return Err(Errno::INVAL);
        }
        self.rewrite_range(first, end, preempt, |leaf| (leaf.ty == from).then_some(Leaf { ty: to, ..leaf }))
    }

    /// Sets what the guest may do with every frame from `first` to before `end` at which there is something
    /// (`XENMEM_access_op_set_access`). Else as [`P2m::change_type_range`].
    pub fn set_access_range(
        &self,
        first: Gfn,
        end: Gfn,
        access: Access,
        preempt: &dyn Preempt,
    ) -> Result<Progress<(), Gfn>> {
        self.rewrite_range(first, end, preempt, |leaf| {
            (leaf.ty.has_frame() && leaf.access != access).then_some(Leaf { access, ..leaf })
        })
    }

    /// Makes what the guest may do with one frame `to` where it is `from`. `ENOMEM` where a large page cannot be split.
    pub fn change_access(&self, gfn: Gfn, from: Access, to: Access) -> Result<Flush> {
        let mut inner = self.change()?;
        let is_meant = |place: &Place<'_>| match F::decode(place.value, place.level) {
            Decoded::Leaf(leaf) => leaf.ty.has_frame() && leaf.access == from,
            _ => false,
        };
        if !self.find(gfn).is_some_and(|place| is_meant(&place)) {
            return Ok(Flush::Unneeded);
        }
        let word = self.word_at(&mut inner, gfn, 1)?;
        let place = Place { word, value: word.load(Ordering::Relaxed), level: 1 };
        Ok(Self::rewrite(&mut inner, &place, |leaf| Leaf { access: to, ..leaf }))
    }

    fn rewrite_range(
        &self,
        first: Gfn,
        end: Gfn,
        preempt: &dyn Preempt,
        change: impl Fn(Leaf) -> Option<Leaf>,
    ) -> Result<Progress<(), Gfn>> {
        let mut inner = self.change()?;
        let end = end.0.min(self.max_mapped_gfn().0 + 1);
        let mut gfn = first;
        while gfn.0 < end {
            let Some(place) = self.find(gfn) else { break };
            let order = order_of(place.level);
            let next = ((gfn.0 >> order) + 1) << order;
            if let Decoded::Leaf(old) = F::decode(place.value, place.level) {
                if let Some(new) = change(old) {
                    if gfn.0 & ((1 << order) - 1) != 0 || next > end {
                        self.word_at(&mut inner, gfn, place.level - 1)?;
                        continue;
                    }
                    let _later = Self::rewrite(&mut inner, &place, |_| new);
                }
            }
            gfn = Gfn(next);
            if gfn.0 < end && preempt.should_yield() {
                return Ok(Progress::Again(gfn));
            }
        }
        Ok(Progress::Done(()))
    }

    /// Changes type or access of the page that a word says.
    fn rewrite(inner: &mut Inner, place: &Place<'_>, change: impl Fn(Leaf) -> Leaf) -> Flush {
        let Decoded::Leaf(old) = F::decode(place.value, place.level) else { return Flush::Unneeded };
        let new = change(old);
        let word = F::leaf(new, place.level);
        // The CPU may have set bits since; nobody needs them.
        let was = place.word.swap(word, Ordering::AcqRel);
        inner.retype(old.ty, new.ty, order_of(place.level));
        Self::note_stale(inner, was, word)
    }

    /// Makes the table for 2^`order` (9 or 18) guest frames around `gfn` one page, if its entries amount to that. False if
    /// they do not, or there is no such table. `EINVAL` for another order.
    pub fn coalesce(&self, gfn: Gfn, order: u8) -> Result<bool> {
        let level = order / 9 + 1;
        if order % 9 != 0 || !(2..=F::LEAF_LEVELS).contains(&level) {
            return Err(Errno::INVAL);
        }
        let mut inner = self.change()?;
        let Some(place) = self.find_down_to(gfn, level) else { return Ok(false) };
        let Decoded::Table(table) = F::decode(place.value, place.level) else { return Ok(false) };
        let Some(page) = self.host.table(table).and_then(|words| as_one_page::<F>(words, level - 1)) else {
            return Ok(false);
        };
        self.make_room(&mut inner);
        let word = F::leaf(page, level);
        place.word.store(word, Ordering::Release);
        self.generation.raise();
        let _later = Self::note_stale(&mut inner, place.value, word);
        self.retire(&mut inner, Retired::Bare { table });
        Ok(true)
    }
}

/// The page that a full table of `level` amounts to.
fn as_one_page<F: Format>(words: &Table, level: u8) -> Option<Leaf> {
    let leaf = |word: u64| match F::decode(word, level) {
        Decoded::Leaf(leaf) if !leaf.ty.is_hole() => Some(leaf),
        _ => None,
    };
    let first = leaf(words[0].load(Ordering::Relaxed))?;
    let step = 1u64 << order_of(level);
    let alone = !first.ty.has_frame();
    if !alone && first.mfn.0 & (512 * step - 1) != 0 {
        return None;
    }
    let whole = words.iter().enumerate().all(|(index, word)| {
        leaf(word.load(Ordering::Relaxed)).is_some_and(|leaf| {
            let follows = alone || leaf.mfn == first.mfn.offset(index as u64 * step);
            leaf.ty == first.ty && leaf.access == first.access && follows
        })
    });
    whole.then_some(first)
}
