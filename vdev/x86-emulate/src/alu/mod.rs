//! What the integer unit computes: results and status flags of operands of 1, 2, 4 and 8 bytes.
//!
//! Operands have no bits beyond their size. Flags that the manuals leave undefined get some value.

mod bits;
mod multiply;
mod shift;

pub use bits::{BitChange, byte_swap, crc32c};
pub use multiply::{Product, Quotient};
pub use shift::Shift;

use crate::decode::mask;
use x86_defs::control::RFlags;

/// All six status flags.
const STATUS: RFlags =
    RFlags::CF.union(RFlags::PF).union(RFlags::AF).union(RFlags::ZF).union(RFlags::SF).union(RFlags::OF);

/// A result, and RFLAGS after it.
pub type Answer = (u64, u64);

/// The unit before an instruction.
#[derive(Clone, Copy, Debug)]
pub struct Alu {
    /// Bytes of the operands: 1, 2, 4 or 8.
    pub size: u8,
    /// RFLAGS.
    pub flags: u64,
}

impl Alu {
    /// Bits of the operands.
    fn bits(self) -> u32 {
        u32::from(self.size) * 8
    }

    fn is_negative(self, value: u64) -> bool {
        value >> (self.bits() - 1) & 1 != 0
    }

    fn carry(self) -> u64 {
        self.flags & RFlags::CF.bits()
    }

    /// ADD.
    pub fn add(self, left: u64, right: u64) -> Answer {
        self.sum(left, right, 0)
    }

    /// ADC.
    pub fn add_with_carry(self, left: u64, right: u64) -> Answer {
        self.sum(left, right, self.carry())
    }

    /// SUB, CMP.
    pub fn subtract(self, left: u64, right: u64) -> Answer {
        self.difference(left, right, 0)
    }

    /// SBB.
    pub fn subtract_with_borrow(self, left: u64, right: u64) -> Answer {
        self.difference(left, right, self.carry())
    }

    /// NEG.
    pub fn negate(self, value: u64) -> Answer {
        self.subtract(0, value)
    }

    /// INC, which leaves the carry alone.
    pub fn increment(self, value: u64) -> Answer {
        self.keep_carry(self.add(value, 1))
    }

    /// DEC, which leaves the carry alone.
    pub fn decrement(self, value: u64) -> Answer {
        self.keep_carry(self.subtract(value, 1))
    }

    /// AND, OR, XOR, TEST: flags of their result.
    pub fn logic(self, result: u64) -> Answer {
        (result, self.status(result, 0, 0))
    }

    fn sum(self, left: u64, right: u64, carry: u64) -> Answer {
        let sum = left.wrapping_add(right).wrapping_add(carry) & mask(self.size);
        let carries = left & right | (left | right) & !sum;
        let overflow = (left ^ sum) & (right ^ sum);
        (sum, self.status(sum, carries, overflow))
    }

    fn difference(self, left: u64, right: u64, borrow: u64) -> Answer {
        let difference = left.wrapping_sub(right).wrapping_sub(borrow) & mask(self.size);
        let borrows = !left & right | (!left | right) & difference;
        let overflow = (left ^ right) & (left ^ difference);
        (difference, self.status(difference, borrows, overflow))
    }

    fn keep_carry(self, (value, flags): Answer) -> Answer {
        let carry = RFlags::CF.bits();
        (value, flags & !carry | self.carry())
    }

    /// Status flags of a result (SDM vol. 1, 3.4.3.1). `carries` has the carry out of each bit, `overflow` its sign's bit.
    fn status(self, result: u64, carries: u64, overflow: u64) -> u64 {
        let mut flags = RFlags::empty();
        flags.set(RFlags::CF, self.is_negative(carries));
        flags.set(RFlags::PF, (result as u8).count_ones() % 2 == 0);
        flags.set(RFlags::AF, carries >> 3 & 1 != 0);
        flags.set(RFlags::ZF, result == 0);
        flags.set(RFlags::SF, self.is_negative(result));
        flags.set(RFlags::OF, self.is_negative(overflow));
        self.flags & !STATUS.bits() | flags.bits()
    }

    /// RFLAGS with some flags given a value.
    fn with(self, changes: &[(RFlags, bool)]) -> u64 {
        let mut flags = RFlags::from_bits_retain(self.flags);
        for (flag, is_set) in changes {
            flags.set(*flag, *is_set);
        }
        flags.bits()
    }
}

/// A value of `size` bytes as a signed number.
pub const fn sign_extend(value: u64, size: u8) -> i64 {
    let unused = 64 - 8 * size as u32;
    (value << unused) as i64 >> unused
}
