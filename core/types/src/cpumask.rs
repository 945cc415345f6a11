//! Sets of physical CPUs.

use crate::CpuId;
use core::fmt;

/// A set of physical CPUs, of which there are [`CpuMask::CPUS`] at most.
#[derive(Clone, Copy, Default)]
pub struct CpuMask {
    words: [u64; CpuMask::CPUS / 64],
}

impl PartialEq for CpuMask {
    /// Word by word: the derived one calls `memcmp`, some 70 instructions of each wake.
    fn eq(&self, other: &CpuMask) -> bool {
        self.zip(other, |a, b| a ^ b).is_empty()
    }
}

impl Eq for CpuMask {}

impl CpuMask {
    /// Most CPUs that a set can hold; numbers from here on are never in it.
    pub const CPUS: usize = 256;
    /// No CPU.
    pub const EMPTY: CpuMask = CpuMask { words: [0; Self::CPUS / 64] };
    /// Every CPU, present or not.
    pub const ALL: CpuMask = CpuMask { words: [!0; Self::CPUS / 64] };

    /// The set of just `cpu`.
    pub fn single(cpu: CpuId) -> CpuMask {
        let mut mask = CpuMask::EMPTY;
        mask.insert(cpu);
        mask
    }

    /// The CPUs from 0 to `count` - 1.
    pub fn first_cpus(count: usize) -> CpuMask {
        (0..count.min(Self::CPUS)).map(|cpu| CpuId(cpu as u32)).collect()
    }

    /// Whether `cpu` is in the set.
    pub fn contains(&self, cpu: CpuId) -> bool {
        self.words.get(cpu.index() / 64).is_some_and(|word| word >> (cpu.index() % 64) & 1 != 0)
    }

    /// Adds `cpu`; a number that no set can hold changes nothing.
    pub fn insert(&mut self, cpu: CpuId) {
        if let Some(word) = self.words.get_mut(cpu.index() / 64) {
            *word |= 1 << (cpu.index() % 64);
        }
    }

    /// Takes `cpu` out.
    pub fn remove(&mut self, cpu: CpuId) {
        if let Some(word) = self.words.get_mut(cpu.index() / 64) {
            *word &= !(1 << (cpu.index() % 64));
        }
    }

    /// CPUs in both sets.
    pub fn and(&self, other: &CpuMask) -> CpuMask {
        self.zip(other, |a, b| a & b)
    }

    /// CPUs in either set.
    pub fn or(&self, other: &CpuMask) -> CpuMask {
        self.zip(other, |a, b| a | b)
    }

    /// CPUs in this set and not in the other.
    pub fn without(&self, other: &CpuMask) -> CpuMask {
        self.zip(other, |a, b| a & !b)
    }

    fn zip(&self, other: &CpuMask, f: impl Fn(u64, u64) -> u64) -> CpuMask {
        CpuMask { words: core::array::from_fn(|index| f(self.words[index], other.words[index])) }
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|&word| word == 0)
    }

    /// Number of CPUs in the set.
    pub fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The lowest CPU of the set.
    pub fn first(&self) -> Option<CpuId> {
        self.iter().next()
    }

    /// The CPUs of the set, in order.
    pub fn iter(&self) -> impl Iterator<Item = CpuId> + use<> {
        self.words.into_iter().enumerate().flat_map(|(index, word)| {
            let mut rest = word;
            core::iter::from_fn(move || {
                let bit = rest.trailing_zeros();
                rest &= rest.wrapping_sub(1);
                (bit < 64).then_some(CpuId(index as u32 * 64 + bit))
            })
        })
    }

    /// The set as the interface's bitmaps have it (`xenctl_bitmap`): CPU `n` is bit `n % 8` of byte `n / 8`.
    pub fn to_bytes(&self) -> [u8; CpuMask::CPUS / 8] {
        let mut bytes = [0; CpuMask::CPUS / 8];
        for (to, word) in bytes.chunks_exact_mut(8).zip(self.words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// The set from such a bitmap; bits beyond [`CpuMask::CPUS`] are ignored, missing ones are clear.
    pub fn from_bytes(bytes: &[u8]) -> CpuMask {
        let mut all = [0; CpuMask::CPUS / 8];
        for (to, &from) in all.iter_mut().zip(bytes) {
            *to = from;
        }
        CpuMask {
            words: core::array::from_fn(|index| {
                let mut word = [0; 8];
                word.copy_from_slice(&all[index * 8..index * 8 + 8]);
                u64::from_le_bytes(word)
            }),
        }
    }
}

impl FromIterator<CpuId> for CpuMask {
    fn from_iter<I: IntoIterator<Item = CpuId>>(cpus: I) -> CpuMask {
        let mut mask = CpuMask::EMPTY;
        cpus.into_iter().for_each(|cpu| mask.insert(cpu));
        mask
    }
}

impl fmt::Debug for CpuMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(|cpu| cpu.0)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_survive_every_form() {
        let cpus = [0, 1, 63, 64, 130, 255];
        let mask: CpuMask = cpus.into_iter().map(CpuId).collect();
        assert_eq!(mask.iter().map(|cpu| cpu.0).collect::<Vec<_>>(), cpus);
        assert_eq!((mask.count(), mask.first()), (6, Some(CpuId(0))));
        assert_eq!(CpuMask::from_bytes(&mask.to_bytes()), mask);
        assert_eq!(mask.to_bytes()[..9], [3, 0, 0, 0, 0, 0, 0, 0x80, 1]);
        assert_eq!(CpuMask::from_bytes(&[2]), CpuMask::single(CpuId(1)));
        assert_eq!(CpuMask::first_cpus(300), CpuMask::ALL);
        let mut out = mask;
        out.insert(CpuId(256));
        out.remove(CpuId(999));
        assert_eq!(out, mask);
        assert!(!mask.contains(CpuId(256)));
        out.remove(CpuId(64));
        assert_eq!(mask.without(&out), CpuMask::single(CpuId(64)));
        assert_eq!(out.or(&CpuMask::single(CpuId(64))), mask);
        assert!(out.and(&CpuMask::single(CpuId(64))).is_empty());
    }
}
