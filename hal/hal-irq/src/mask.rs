//! A set of CPUs.

use crate::MAX_CPUS;
use types::CpuId;

/// A set of CPUs. Numbers from [`MAX_CPUS`] on are never in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CpuMask([u64; MAX_CPUS / 64]);

impl CpuMask {
    /// No CPU.
    pub const EMPTY: CpuMask = CpuMask([0; MAX_CPUS / 64]);

    /// One CPU.
    pub fn one(cpu: CpuId) -> CpuMask {
        let mut mask = CpuMask::EMPTY;
        mask.insert(cpu);
        mask
    }

    /// CPUs 0 to `count` - 1.
    pub fn first(count: usize) -> CpuMask {
        let mut mask = CpuMask::EMPTY;
        (0..count.min(MAX_CPUS)).for_each(|cpu| mask.insert(CpuId(cpu as u32)));
        mask
    }

    /// Adds a CPU.
    pub fn insert(&mut self, cpu: CpuId) {
        if let Some(word) = self.0.get_mut(cpu.index() / 64) {
            *word |= 1 << (cpu.0 % 64);
        }
    }

    /// Takes a CPU out.
    pub fn remove(&mut self, cpu: CpuId) {
        if let Some(word) = self.0.get_mut(cpu.index() / 64) {
            *word &= !(1 << (cpu.0 % 64));
        }
    }

    /// Whether the CPU is in the set.
    pub fn contains(&self, cpu: CpuId) -> bool {
        self.0.get(cpu.index() / 64).is_some_and(|word| word >> (cpu.0 % 64) & 1 != 0)
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// How many CPUs are in the set.
    pub fn count(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The CPUs, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = CpuId> + use<> {
        let mut words = self.0;
        let mut index = 0;
        core::iter::from_fn(move || {
            while index < words.len() && words[index] == 0 {
                index += 1;
            }
            let word = words.get_mut(index)?;
            let bit = word.trailing_zeros();
            *word &= *word - 1;
            Some(CpuId(index as u32 * 64 + bit))
        })
    }
}

impl FromIterator<CpuId> for CpuMask {
    fn from_iter<I: IntoIterator<Item = CpuId>>(cpus: I) -> CpuMask {
        let mut mask = CpuMask::EMPTY;
        cpus.into_iter().for_each(|cpu| mask.insert(cpu));
        mask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iterates_over_what_was_inserted() {
        let cpus = [0, 1, 63, 64, 200, 255].map(CpuId);
        let mut mask: CpuMask = cpus.into_iter().collect();
        assert!(mask.iter().eq(cpus));
        mask.insert(CpuId(256));
        mask.remove(CpuId(64));
        assert_eq!(mask.count(), 5);
        assert!(!mask.contains(CpuId(64)) && mask.contains(CpuId(255)) && !mask.contains(CpuId(999)));
        assert_eq!(CpuMask::first(3).iter().count(), 3);
        assert!(CpuMask::EMPTY.is_empty() && !CpuMask::one(CpuId(7)).is_empty());
    }
}
