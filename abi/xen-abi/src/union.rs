//! C unions as plain words.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A C union of `N` words of type `W`: the word gives the alignment, the array the size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Union<W, const N: usize>(pub [W; N]);

impl<W: FromBytes + IntoBytes + Immutable, const N: usize> Union<W, N> {
    /// Reads the union as its variant `T`. A `T` larger than the union does not compile.
    pub fn read<T: FromBytes>(&self) -> T {
        const { assert!(core::mem::size_of::<T>() <= core::mem::size_of::<[W; N]>()) };
        match T::read_from_prefix(self.0.as_bytes()) {
            Ok((value, _)) => value,
            Err(_) => T::new_zeroed(),
        }
    }

    /// Makes the union its variant `value`; the bytes beyond the variant stay as they are. A `T` larger than the union
    /// does not compile.
    pub fn write<T: IntoBytes + Immutable>(&mut self, value: &T) {
        const { assert!(core::mem::size_of::<T>() <= core::mem::size_of::<[W; N]>()) };
        for (to, from) in self.0.as_mut_bytes().iter_mut().zip(value.as_bytes()) {
            *to = *from;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_share_the_bytes() {
        let mut union = Union([0_u64, u64::MAX]);
        union.write(&[1_u32, 2]);
        assert_eq!(union.0, [0x2_0000_0001, u64::MAX]);
        assert_eq!(union.read::<u16>(), 1);
        assert_eq!(union.read::<[u32; 3]>(), [1, 2, u32::MAX]);
    }
}
