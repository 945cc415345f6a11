//! Sets of vectors: four words of 64 bits.

/// Vectors below this cannot be delivered (SDM vol. 3, 11.5.2).
pub const FIRST_VECTOR: u8 = 16;

/// Index of the word that holds `vector`, and its bit there.
pub const fn place(vector: u8) -> (usize, u64) {
    ((vector >> 6) as usize, 1 << (vector & 63))
}

/// The highest vector of a set whose words `word` gives; 0 if there is none, as 0 cannot be in it.
pub fn highest(word: impl Fn(usize) -> u64) -> u8 {
    for index in (0..4).rev() {
        let bits = word(index);
        if bits != 0 {
            return (index as u8) << 6 | bits.ilog2() as u8;
        }
    }
    0
}

/// The 32-bit word `index` (0 to 7), as the registers show a set.
pub const fn half(words: u64, index: usize) -> u32 {
    (words >> ((index & 1) * 32)) as u32
}
