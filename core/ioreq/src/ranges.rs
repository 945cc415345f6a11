//! Sets of ranges of numbers, both ends included.

use crate::MAX_RANGES;
use alloc::vec::Vec;
use types::{Errno, Result};

/// A set of numbers as sorted ranges, between which at least one number is missing.
#[derive(Default, Debug)]
pub(crate) struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    pub const fn new() -> Ranges {
        Ranges(Vec::new())
    }

    /// Index of the first range that does not end before `number`.
    fn at(&self, number: u64) -> usize {
        self.0.partition_point(|&(_, end)| end < number)
    }

    /// Whether all numbers from `start` to `end` are in it.
    pub fn contains(&self, start: u64, end: u64) -> bool {
        self.0.get(self.at(start)).is_some_and(|&(first, last)| first <= start && end <= last)
    }

    /// Adds numbers. `EEXIST` if one of them is there, `ENOMEM` where that makes too many ranges.
    pub fn add(&mut self, start: u64, end: u64) -> Result<()> {
        let at = self.at(start);
        if self.0.get(at).is_some_and(|&(first, _)| first <= end) {
            return Err(Errno::EXIST);
        }
        let joins_left = at > 0 && self.0[at - 1].1.checked_add(1) == Some(start);
        let joins_right = self.0.get(at).is_some_and(|&(first, _)| end.checked_add(1) == Some(first));
        match (joins_left, joins_right) {
            (true, true) => {
                self.0[at - 1].1 = self.0[at].1;
                self.0.remove(at);
            }
            (true, false) => self.0[at - 1].1 = end,
            (false, true) => self.0[at].0 = start,
            (false, false) => self.insert(at, (start, end))?,
        }
        Ok(())
    }

    /// Takes numbers out. `ENOENT` unless all of them are there, `ENOMEM` where that makes too many ranges.
    pub fn remove(&mut self, start: u64, end: u64) -> Result<()> {
        if !self.contains(start, end) {
            return Err(Errno::NOENT);
        }
        let at = self.at(start);
        let (first, last) = self.0[at];
        match (first < start, end < last) {
            (false, false) => drop(self.0.remove(at)),
            (true, false) => self.0[at].1 = start - 1,
            (false, true) => self.0[at].0 = end + 1,
            (true, true) => {
                self.insert(at + 1, (end + 1, last))?;
                self.0[at].1 = start - 1;
            }
        }
        Ok(())
    }

    fn insert(&mut self, at: usize, range: (u64, u64)) -> Result<()> {
        if self.0.len() >= MAX_RANGES {
            return Err(Errno::NOMEM);
        }
        self.0.try_reserve(1).map_err(|_| Errno::NOMEM)?;
        self.0.insert(at, range);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_join_and_break() {
        let mut ranges = Ranges::new();
        ranges.add(10, 19).unwrap();
        ranges.add(30, 39).unwrap();
        assert_eq!(ranges.add(39, 50), Err(Errno::EXIST));
        assert_eq!(ranges.add(0, 10), Err(Errno::EXIST));
        assert_eq!(ranges.add(15, 16), Err(Errno::EXIST));
        assert!(!ranges.contains(15, 35));
        ranges.add(20, 29).unwrap();
        assert_eq!(ranges.0, [(10, 39)]);
        ranges.remove(15, 15).unwrap();
        assert_eq!(ranges.0, [(10, 14), (16, 39)]);
        assert_eq!(ranges.remove(14, 16), Err(Errno::NOENT));
        ranges.remove(16, 20).unwrap();
        ranges.remove(30, 39).unwrap();
        ranges.remove(10, 14).unwrap();
        assert_eq!(ranges.0, [(21, 29)]);
        ranges.add(u64::MAX, u64::MAX).unwrap();
        ranges.add(0, 0).unwrap();
        ranges.remove(u64::MAX, u64::MAX).unwrap();
        assert_eq!(ranges.0, [(0, 0), (21, 29)]);
    }

    #[test]
    fn they_are_limited() {
        let mut ranges = Ranges::new();
        (0..MAX_RANGES as u64).for_each(|n| ranges.add(n * 10, n * 10 + 5).unwrap());
        assert_eq!(ranges.add(9999, 9999), Err(Errno::NOMEM));
        assert_eq!(ranges.remove(3, 3), Err(Errno::NOMEM));
        ranges.add(6, 9).unwrap();
        ranges.remove(3, 3).unwrap();
        assert!(ranges.contains(4, 15) && !ranges.contains(3, 3));
    }

    #[test]
    fn a_set_of_numbers_behaves_alike() {
        let mut state = 7u64;
        let mut next = |limit| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % limit
        };
        let mut ranges = Ranges::new();
        let mut numbers = std::collections::BTreeSet::new();
        for _ in 0..20_000 {
            let start = next(60);
            let end = start + next(8);
            let all = (start..=end).all(|n| numbers.contains(&n));
            let any = (start..=end).any(|n| numbers.contains(&n));
            assert_eq!(ranges.contains(start, end), all);
            if next(2) == 0 {
                assert_eq!(ranges.add(start, end).is_ok(), !any);
                if !any {
                    numbers.extend(start..=end);
                }
            } else {
                assert_eq!(ranges.remove(start, end).is_ok(), all);
                if all {
                    numbers.retain(|n| !(start..=end).contains(n));
                }
            }
            assert!(ranges.0.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
        }
    }
}
