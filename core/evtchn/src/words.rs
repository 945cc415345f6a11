//! Bits and halves of the words that a guest shares with us. On x86 a locked access to a 64-bit word is coherent with the
//! guest's locked accesses to a part of it, so every field is reached through the word that holds it.

use core::sync::atomic::{AtomicU64, Ordering};
use platform::Table;

/// A bit of a frame, counted from the frame's first bit. Bits beyond the frame wrap, so no index can panic.
fn locate(table: &Table, bit: usize) -> (&AtomicU64, u64) {
    (&table[(bit / 64) % table.len()], 1 << (bit % 64))
}

/// Sets a bit; returns whether it was set before.
pub(crate) fn test_and_set(table: &Table, bit: usize) -> bool {
    let (word, mask) = locate(table, bit);
    word.fetch_or(mask, Ordering::SeqCst) & mask != 0
}

/// Clears a bit; returns whether it was set before.
pub(crate) fn test_and_clear(table: &Table, bit: usize) -> bool {
    let (word, mask) = locate(table, bit);
    word.fetch_and(!mask, Ordering::SeqCst) & mask != 0
}

/// Reads a bit.
pub(crate) fn test(table: &Table, bit: usize) -> bool {
    let (word, mask) = locate(table, bit);
    word.load(Ordering::SeqCst) & mask != 0
}

/// A 32-bit field of a frame.
#[derive(Clone, Copy)]
pub(crate) struct Half<'a> {
    word: &'a AtomicU64,
    shift: u32,
}

impl<'a> Half<'a> {
    /// The field at byte `offset`, a multiple of 4.
    pub(crate) fn new(table: &'a Table, offset: usize) -> Half<'a> {
        Half { word: &table[(offset / 8) % table.len()], shift: if offset % 8 == 0 { 0 } else { 32 } }
    }

    fn part(self, word: u64) -> u32 {
        (word >> self.shift) as u32
    }

    pub(crate) fn load(self) -> u32 {
        self.part(self.word.load(Ordering::SeqCst))
    }

    /// Stores a value into a field that only we write. One locked XOR leaves the other half as it is and never has to be
    /// repeated, whatever the guest does to the word meanwhile.
    pub(crate) fn store(self, value: u32) {
        let change = self.load() ^ value;
        self.word.fetch_xor(u64::from(change) << self.shift, Ordering::SeqCst);
    }

    /// Sets bit `bit`; returns whether it was set before.
    pub(crate) fn test_and_set(self, bit: u32) -> bool {
        let mask = 1 << (bit % 32 + self.shift);
        self.word.fetch_or(mask, Ordering::SeqCst) & mask != 0
    }

    /// Clears bit `bit`; returns whether it was set before.
    pub(crate) fn test_and_clear(self, bit: u32) -> bool {
        let mask = 1 << (bit % 32 + self.shift);
        self.word.fetch_and(!mask, Ordering::SeqCst) & mask != 0
    }

    pub(crate) fn test(self, bit: u32) -> bool {
        self.load() & 1 << (bit % 32) != 0
    }

    /// Replaces `old` by `new`. The error is what was found instead, or `old` itself where only the neighbouring half
    /// changed meanwhile.
    pub(crate) fn compare_exchange(self, old: u32, new: u32) -> Result<(), u32> {
        let seen = self.word.load(Ordering::SeqCst);
        if self.part(seen) != old {
            return Err(self.part(seen));
        }
        let wanted = seen ^ u64::from(old ^ new) << self.shift;
        match self.word.compare_exchange(seen, wanted, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => Ok(()),
            Err(found) => Err(self.part(found)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_do_not_disturb_each_other() {
        let table: Table = [const { AtomicU64::new(0) }; 512];
        let (low, high) = (Half::new(&table, 8), Half::new(&table, 12));
        low.store(0x1234_5678);
        high.store(0x9abc_def0);
        assert_eq!(table[1].load(Ordering::Relaxed), 0x9abc_def0_1234_5678);
        assert!(!high.test_and_set(0));
        assert!(high.test_and_set(0));
        assert!(high.test_and_clear(31));
        assert_eq!((low.load(), high.load()), (0x1234_5678, 0x1abc_def1));
        assert_eq!(low.compare_exchange(1, 2), Err(0x1234_5678));
        assert_eq!(low.compare_exchange(0x1234_5678, 2), Ok(()));
        assert_eq!((low.load(), high.load()), (2, 0x1abc_def1));
    }

    #[test]
    fn bits_have_the_places_of_a_little_endian_array() {
        let table: Table = [const { AtomicU64::new(0) }; 512];
        assert!(!test_and_set(&table, 2048 * 8 + 70));
        assert_eq!(table[257].load(Ordering::Relaxed), 1 << 6);
        assert!(test(&table, 2048 * 8 + 70));
        assert!(test_and_clear(&table, 2048 * 8 + 70));
        assert!(!test_and_clear(&table, 2048 * 8 + 70));
    }
}
