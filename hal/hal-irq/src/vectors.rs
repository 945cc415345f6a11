//! Interrupt vectors: which number means what, and which device has which.
//!
//! A vector's class (its upper four bits) is its priority in the local APIC (SDM vol. 3, 11.8.3).

use alloc::vec::Vec;
use types::CpuId;

/// First vector that devices may have.
pub const FIRST_DEVICE: u8 = 0x20;
/// Last vector that devices may have.
pub const LAST_DEVICE: u8 = 0xdf;
/// Where the masked 8259s would deliver, so that a spurious interrupt of theirs is told apart.
pub const LEGACY: u8 = 0xe0;
/// Every CPU stops for good (panic).
pub const HALT: u8 = 0xfa;
/// Translations are to be dropped.
pub const FLUSH: u8 = 0xfb;
/// Leave the guest or the idle sleep.
pub const KICK: u8 = 0xfc;
/// Local one-shot timer.
pub const TIMER: u8 = 0xfd;
/// Local APIC error.
pub const ERROR: u8 = 0xfe;
/// Spurious interrupt of the local APIC.
pub const SPURIOUS: u8 = 0xff;

/// Software interrupts that PV guests use; a device never gets these (Linux's `int $0x80`, Xen's `int $0x82`).
const SOFTWARE: [u8; 2] = [0x80, 0x82];

/// Whether devices may have this vector.
pub const fn is_device(vector: u8) -> bool {
    vector >= FIRST_DEVICE && vector <= LAST_DEVICE && vector != SOFTWARE[0] && vector != SOFTWARE[1]
}

/// Which vectors are in use, per CPU.
#[derive(Debug)]
pub struct VectorAllocator {
    used: Vec<[u64; 4]>,
}

impl VectorAllocator {
    /// An allocator for `cpus` CPUs with all device vectors free.
    pub fn new(cpus: usize) -> VectorAllocator {
        let mut unusable = [0u64; 4];
        for vector in 0..=255u8 {
            if !is_device(vector) {
                unusable[usize::from(vector / 64)] |= 1 << (vector % 64);
            }
        }
        VectorAllocator { used: alloc::vec![unusable; cpus] }
    }

    /// Whether the vector is free on that CPU.
    pub fn is_free(&self, cpu: CpuId, vector: u8) -> bool {
        self.used.get(cpu.index()).is_some_and(|used| used[usize::from(vector / 64)] >> (vector % 64) & 1 == 0)
    }

    /// How many device vectors the CPU has free.
    pub fn free_count(&self, cpu: CpuId) -> u32 {
        self.used.get(cpu.index()).map_or(0, |used| used.iter().map(|word| word.count_zeros()).sum())
    }

    /// A vector on whichever of `cpus` has most left. High priority takes from the top, normal from the bottom; within
    /// that, vectors are spread over classes, as a local APIC of old holds only two interrupts per class.
    pub fn allocate(&mut self, cpus: impl Iterator<Item = CpuId>, high_priority: bool) -> Option<(CpuId, u8)> {
        let cpu = cpus.max_by_key(|cpu| (self.free_count(*cpu), core::cmp::Reverse(*cpu)))?;
        let vector = spread(high_priority).find(|vector| self.is_free(cpu, *vector))?;
        self.take(cpu, vector);
        Some((cpu, vector))
    }

    /// `count` vectors in a row (1, 2, 4 .. 32), the first divisible by `count`, as multi-message MSI needs
    /// (PCI 3.0, 6.8.1.6). `None` also for other counts.
    pub fn allocate_block(&mut self, cpu: CpuId, count: u8) -> Option<u8> {
        if !count.is_power_of_two() || count > 32 {
            return None;
        }
        let first = (FIRST_DEVICE..=LAST_DEVICE)
            .step_by(usize::from(count))
            .find(|first| (*first..=first + (count - 1)).all(|vector| self.is_free(cpu, vector)))?;
        (first..=first + (count - 1)).for_each(|vector| self.take(cpu, vector));
        Some(first)
    }

    /// Gives a vector back. Others than devices' stay in use.
    pub fn free(&mut self, cpu: CpuId, vector: u8) {
        if let Some(used) = self.used.get_mut(cpu.index()).filter(|_| is_device(vector)) {
            used[usize::from(vector / 64)] &= !(1 << (vector % 64));
        }
    }

    fn take(&mut self, cpu: CpuId, vector: u8) {
        self.used[cpu.index()][usize::from(vector / 64)] |= 1 << (vector % 64);
    }
}

/// Device vectors in the order in which they are given out: one of each class, then the next of each class.
fn spread(high_priority: bool) -> impl Iterator<Item = u8> {
    (0..16u8).flat_map(move |low| {
        (2..14u8).map(move |class| if high_priority { (15 - class) << 4 | low } else { class << 4 | low })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn all(count: u32) -> impl Iterator<Item = CpuId> {
        (0..count).map(CpuId)
    }

    #[test]
    fn gives_each_device_vector_once() {
        let mut allocator = VectorAllocator::new(2);
        let mut seen = BTreeSet::new();
        while let Some((cpu, vector)) = allocator.allocate(all(2), false) {
            assert!(is_device(vector) && vector != 0x80 && vector != 0x82);
            assert!(seen.insert((cpu, vector)));
        }
        assert_eq!(seen.len(), 2 * 190);
    }

    #[test]
    fn balances_cpus_and_classes() {
        let mut allocator = VectorAllocator::new(2);
        let (first, one) = allocator.allocate(all(2), false).unwrap();
        let (second, _) = allocator.allocate(all(2), false).unwrap();
        assert_ne!(first, second);
        let (_, two) = allocator.allocate(std::iter::once(first), false).unwrap();
        assert_ne!(one >> 4, two >> 4);
        assert_eq!(allocator.allocate(all(1), true).unwrap().1 >> 4, 0xd);
        assert_eq!(allocator.allocate(std::iter::empty(), false), None);
        assert_eq!(allocator.allocate(std::iter::once(CpuId(9)), false), None);
    }

    proptest! {
        #[test]
        fn blocks_are_aligned_and_disjoint(counts in proptest::collection::vec(0u8..=64, 1..30)) {
            let mut allocator = VectorAllocator::new(1);
            let mut seen = BTreeSet::new();
            for count in counts {
                if let Some(first) = allocator.allocate_block(CpuId(0), count) {
                    prop_assert_eq!(first % count, 0);
                    for vector in first..first + count {
                        prop_assert!(is_device(vector) && seen.insert(vector));
                    }
                }
            }
            prop_assert_eq!(allocator.free_count(CpuId(0)), 190 - seen.len() as u32);
            seen.iter().for_each(|vector| allocator.free(CpuId(0), *vector));
            allocator.free(CpuId(0), 0xfd);
            prop_assert_eq!(allocator.free_count(CpuId(0)), 190);
        }
    }
}
