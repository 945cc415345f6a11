//! Which free frames may have contents of former owners, to be found without a look at every frame.

use alloc::vec;
use alloc::vec::Vec;

/// A chunk is 2^6 frames.
pub(crate) const CHUNK_ORDER: u8 = 6;

/// A set of chunks, as two levels of bits: a word of the upper one stands for 4096 chunks, that is 1 GiB.
pub(crate) struct DirtyChunks {
    chunks: Vec<u64>,
    words: Vec<u64>,
}

impl DirtyChunks {
    pub const fn new() -> DirtyChunks {
        DirtyChunks { chunks: Vec::new(), words: Vec::new() }
    }

    /// An empty set for so many frames.
    pub fn for_frames(frames: u64) -> DirtyChunks {
        let words = frames.div_ceil(64 << CHUNK_ORDER) as usize;
        DirtyChunks { chunks: vec![0; words], words: vec![0; words.div_ceil(64)] }
    }

    /// Puts the chunk of a frame in.
    pub fn insert(&mut self, mfn: u32) {
        let chunk = (mfn >> CHUNK_ORDER) as usize;
        let word = &mut self.chunks[chunk / 64];
        if *word == 0 {
            self.words[chunk / 4096] |= 1 << (chunk / 64 % 64);
        }
        *word |= 1 << (chunk % 64);
    }

    /// Takes some chunk out; its first frame.
    pub fn take(&mut self) -> Option<u32> {
        let (upper, bits) = self.words.iter().enumerate().find(|(_, bits)| **bits != 0)?;
        let word = upper * 64 + bits.trailing_zeros() as usize;
        let bit = self.chunks[word].trailing_zeros();
        self.chunks[word] &= self.chunks[word] - 1;
        if self.chunks[word] == 0 {
            self.words[upper] &= !(1 << (word % 64));
        }
        Some((word as u32 * 64 + bit) << CHUNK_ORDER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_is_a_set_of_chunks(frames in prop::collection::vec(0u32..3_000_000, 0..200)) {
            let mut dirty = DirtyChunks::for_frames(3_000_000);
            for &mfn in &frames {
                dirty.insert(mfn);
            }
            let expected: BTreeSet<u32> = frames.iter().map(|mfn| mfn & !63).collect();
            let found: Vec<u32> = std::iter::from_fn(|| dirty.take()).collect();
            prop_assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
        }
    }
}
