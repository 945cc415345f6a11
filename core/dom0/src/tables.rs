//! Entries of the page tables that the domain starts with.

use core::ops::Range;
use x86_defs::pte::PteFlags;

/// An entry to write. Frames are guest frames; the architecture translates them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TableEntry {
    /// Frame of the table.
    pub table: u64,
    /// Index in the table.
    pub index: usize,
    /// Level of the table: 1 (its entries map pages) to 4.
    pub level: u32,
    /// Frame that the entry points at.
    pub target: u64,
    /// The entry's other bits.
    pub flags: PteFlags,
}

/// A range of virtual addresses that maps consecutive guest frames, and the tables of its own that it takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mapping {
    /// First virtual page number.
    pub first: u64,
    /// Last virtual page number.
    pub last: u64,
    /// Frame mapped at `first`.
    pub frame: u64,
    /// First frame of the tables, level 3 first.
    pub tables: u64,
}

/// Number of `1 << shift` wide slots that the numbers from `first` to `last` touch.
fn touched(first: u64, last: u64, shift: u32) -> u64 {
    (last >> shift) - (first >> shift) + 1
}

impl Mapping {
    /// Maps the page-aligned addresses `start..end`, which are not empty. An end of 0 is the end of the address space.
    pub fn new(start: u64, end: u64, frame: u64, tables: u64) -> Mapping {
        // Bits above 48 only repeat bit 47.
        let page = |address: u64| (address & 0xffff_ffff_ffff) >> types::PAGE_SHIFT;
        Mapping { first: page(start), last: page(end.wrapping_sub(1)), frame, tables }
    }

    /// Number of tables at `level`, 1 to 3.
    fn count(&self, level: u32) -> u64 {
        touched(self.first, self.last, 9 * level)
    }

    /// Number of tables of levels 1 to 3.
    pub fn table_count(&self) -> u64 {
        (1..=3).map(|level| self.count(level)).sum()
    }

    /// First frame of the tables at `level`, 1 to 3.
    fn first_table(&self, level: u32) -> u64 {
        self.tables + (level + 1..=3).map(|above| self.count(above)).sum::<u64>()
    }

    /// Slots of the top-level table that the range takes.
    pub fn top_slots(&self) -> Range<u64> {
        self.first >> 27..(self.last >> 27) + 1
    }

    /// All entries, from the top down. `top` is the frame of the top-level table; frames in `read_only` are mapped without
    /// the right to write.
    pub fn entries(self, top: u64, read_only: Range<u64>) -> impl Iterator<Item = TableEntry> {
        let upper = PteFlags::PRESENT | PteFlags::WRITABLE | PteFlags::ACCESSED | PteFlags::USER | PteFlags::DIRTY;
        (1..=4u32).rev().flat_map(move |level| {
            let shift = 9 * (level - 1);
            let (first, last) = (self.first >> shift, self.last >> shift);
            let (first_table, first_target) = match level {
                4 => (top, self.first_table(3)),
                1 => (self.first_table(1), self.frame),
                _ => (self.first_table(level), self.first_table(level - 1)),
            };
            let read_only = read_only.clone();
            (first..=last).map(move |slot| {
                let target = first_target + (slot - first);
                let mut flags = upper;
                if level == 1 {
                    flags.remove(PteFlags::DIRTY);
                    flags.set(PteFlags::WRITABLE, !read_only.contains(&target));
                }
                let table = if level == 4 { first_table } else { first_table + ((slot >> 9) - (first >> 9)) };
                TableEntry { table, index: (slot & 511) as usize, level, target, flags }
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    /// Translates a page as a CPU would.
    fn walk(tables: &HashMap<(u64, usize), TableEntry>, top: u64, page: u64) -> Option<TableEntry> {
        let mut table = top;
        for level in (1..=4u32).rev() {
            let entry = tables.get(&(table, (page >> (9 * (level - 1)) & 511) as usize))?;
            assert_eq!(entry.level, level);
            if level == 1 {
                return Some(*entry);
            }
            table = entry.target;
        }
        None
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_walk_finds_every_page_and_no_other(
            start in (0u64..1 << 36, 0u32..3).prop_map(|(page, near)| match near {
                0 => page,
                1 => (page | ((1 << 18) - 1)) - 3,
                _ => (page | ((1 << 27) - 1)) - 3,
            }),
            count in 1u64..2000,
        ) {
            let start = start.min((1 << 36) - count);
            let mapping = Mapping::new(start << 12, (start + count) << 12, 5000, 100);
            let mut tables = HashMap::new();
            let mut used = std::collections::BTreeSet::new();
            for entry in mapping.entries(99, 5003..5005) {
                prop_assert!(tables.insert((entry.table, entry.index), entry).is_none());
                used.insert(entry.table);
            }
            for page in start..start + count {
                let entry = walk(&tables, 99, page).unwrap();
                prop_assert_eq!(entry.target, 5000 + page - start);
                prop_assert_eq!(entry.flags.contains(PteFlags::WRITABLE), !(5003..5005).contains(&entry.target));
            }
            prop_assert!(start == 0 || walk(&tables, 99, start - 1).is_none());
            prop_assert!(walk(&tables, 99, start + count).is_none());
            // The tables are exactly the frames set aside for them.
            let expected: Vec<u64> = (99..100 + mapping.table_count()).collect();
            prop_assert_eq!(used.into_iter().collect::<Vec<_>>(), expected);
        }
    }
}
