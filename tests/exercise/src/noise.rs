//! Bytes that look random and can be made again from a seed, cheaply: the load is to be on the device.

/// A xorshift64* generator (Vigna 2016).
pub struct Noise(u64);

impl Noise {
    /// A generator; equal parts give equal bytes.
    pub fn new(parts: [u64; 3]) -> Noise {
        let mixed = parts.iter().fold(0x9e37_79b9_7f4a_7c15_u64, |state, part| {
            let state = (state ^ part).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            state ^ (state >> 29)
        });
        // Zero is the one state that it never leaves.
        Noise(mixed.max(1))
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `limit`, which is above 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Fills `bytes`, whose length is a multiple of 8.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for word in bytes.chunks_exact_mut(8) {
            word.copy_from_slice(&self.next().to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_of_the_seed_counts() {
        let first = |parts| Noise::new(parts).next();
        assert_eq!(first([1, 2, 3]), first([1, 2, 3]));
        for other in [[0, 2, 3], [1, 0, 3], [1, 2, 0], [2, 1, 3]] {
            assert_ne!(first([1, 2, 3]), first(other));
        }
    }
}
