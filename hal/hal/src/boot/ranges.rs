//! Carving up the machine's memory. Pure.

use arrayvec::ArrayVec;

/// Pieces that free memory may fall into.
const PIECES: usize = 128;

/// A range of physical addresses in bytes, `end` excluded.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Range {
    /// First byte.
    pub start: u64,
    /// Behind the last byte.
    pub end: u64,
}

impl Range {
    /// Whether the range has no byte.
    pub const fn is_empty(&self) -> bool {
        self.start >= self.end
    }

    /// The same, grown to whole pages of 4 KiB.
    pub const fn outwards(self) -> Range {
        Range { start: self.start & !0xfff, end: self.end.saturating_add(0xfff) & !0xfff }
    }

    /// The same, shrunk to whole pages of 4 KiB.
    pub const fn inwards(self) -> Range {
        Range { start: self.start.saturating_add(0xfff) & !0xfff, end: self.end & !0xfff }
    }
}

/// A set of disjoint ranges of whole pages, sorted. Full sets lose pieces rather than gain wrong ones.
#[derive(Clone, Debug, Default)]
pub struct Ranges(ArrayVec<Range, PIECES>);

impl Ranges {
    /// No memory.
    pub const fn new() -> Ranges {
        Ranges(ArrayVec::new_const())
    }

    /// The ranges, sorted.
    pub fn as_slice(&self) -> &[Range] {
        &self.0
    }

    /// Whether a byte is in the set.
    pub fn contains(&self, address: u64) -> bool {
        self.0.iter().any(|range| (range.start..range.end).contains(&address))
    }

    /// Whether a byte of `range` is in the set.
    pub fn touches(&self, range: Range) -> bool {
        self.0.iter().any(|own| own.start < range.end && range.start < own.end)
    }

    /// Adds the whole pages in `range`.
    pub fn add(&mut self, range: Range) {
        let mut new = range.inwards();
        if new.is_empty() {
            return;
        }
        self.0.retain(|old| {
            let touches = old.start <= new.end && new.start <= old.end;
            if touches {
                new = Range { start: old.start.min(new.start), end: old.end.max(new.end) };
            }
            !touches
        });
        let at = self.0.partition_point(|old| old.start < new.start);
        // Full: the new memory is lost, which is safe.
        let _ = self.0.try_insert(at, new);
    }

    /// Takes away every page that `range` touches.
    pub fn remove(&mut self, range: Range) {
        let gone = range.outwards();
        if gone.is_empty() {
            return;
        }
        let old = core::mem::take(&mut self.0);
        for piece in old {
            let parts = [
                Range { start: piece.start, end: piece.end.min(gone.start) },
                Range { start: piece.start.max(gone.end), end: piece.end },
            ];
            for part in parts.into_iter().filter(|part| !part.is_empty()) {
                // Full: the piece is lost, which is safe.
                let _ = self.0.try_push(part);
            }
        }
    }

    /// Takes `length` bytes out, rounded up to pages, at a multiple of `align` (a power of two, at least 4 KiB), as high as
    /// possible but ending at or below `limit`.
    pub fn take(&mut self, length: u64, align: u64, limit: u64) -> Option<Range> {
        let length = length.checked_next_multiple_of(0x1000)?.max(0x1000);
        let found = self.0.iter().rev().find_map(|piece| {
            let start = piece.end.min(limit).checked_sub(length)? & !(align - 1);
            (start >= piece.start).then_some(Range { start, end: start + length })
        })?;
        self.remove(found);
        Some(found)
    }

    /// Bytes in the set.
    pub fn total(&self) -> u64 {
        self.0.iter().map(|range| range.end - range.start).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(start: u64, end: u64) -> Range {
        Range { start, end }
    }

    #[test]
    fn adding_merges_and_sorts() {
        let mut set = Ranges::new();
        set.add(range(0x10_0000, 0x20_0000));
        set.add(range(0x800, 0x9_fc00));
        set.add(range(0x20_0000, 0x30_0000));
        assert_eq!(set.as_slice(), &[range(0x1000, 0x9_f000), range(0x10_0000, 0x30_0000)]);
    }

    #[test]
    fn taking_is_from_the_top_and_aligned() {
        let mut set = Ranges::new();
        set.add(range(0x10_0000, 0x50_1000));
        assert_eq!(set.take(1, 0x1000, !0), Some(range(0x50_0000, 0x50_1000)));
        assert_eq!(set.take(0x20_0000, 0x20_0000, !0), Some(range(0x20_0000, 0x40_0000)));
        assert_eq!(set.take(0x20_0000, 0x20_0000, !0), None);
        assert_eq!(set.take(0x1000, 0x1000, 0x20_0000), Some(range(0x1f_f000, 0x20_0000)));
        assert_eq!(set.as_slice(), &[range(0x10_0000, 0x1f_f000), range(0x40_0000, 0x50_0000)]);
        assert_eq!(set.take(u64::MAX, 0x1000, !0), None);
    }

    proptest! {
        #[test]
        fn sets_agree_with_a_list_of_pages(steps in prop::collection::vec((any::<bool>(), 0u64..64, 0u64..16), 0..40)) {
            let mut set = Ranges::new();
            let mut pages = [false; 80];
            for (add, start, count) in steps {
                let piece = range(start << 12, (start + count) << 12);
                if add { set.add(piece) } else { set.remove(piece) }
                pages[start as usize..(start + count) as usize].fill(add);
            }
            for (index, page) in pages.iter().enumerate() {
                prop_assert_eq!(set.contains((index as u64) << 12), *page);
            }
            prop_assert!(set.as_slice().windows(2).all(|pair| pair[0].end <= pair[1].start));
            prop_assert_eq!(set.total(), (pages.iter().filter(|page| **page).count() as u64) << 12);
        }
    }
}
