//! Shifts and rotations.

use super::{Alu, Answer, sign_extend};
use crate::decode::mask;
use x86_defs::control::RFlags;

/// Which way bits go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shift {
    /// ROL.
    RotateLeft,
    /// ROR.
    RotateRight,
    /// RCL: through the carry.
    CarryLeft,
    /// RCR.
    CarryRight,
    /// SHL.
    Left,
    /// SHR.
    Right,
    /// SAR.
    ArithmeticRight,
}

impl Alu {
    /// The part of a count that counts (SDM vol. 2, SAL/SAR/SHL/SHR).
    fn count(self, count: u64) -> u32 {
        count as u32 & if self.size == 8 { 63 } else { 31 }
    }

    /// Shifts or rotates by `count`, of which 5 bits count, or 6 for operands of 8 bytes.
    pub fn shift(self, shift: Shift, value: u64, count: u64) -> Answer {
        let count = self.count(count);
        if count == 0 {
            return (value, self.flags);
        }
        match shift {
            Shift::RotateLeft => self.rotate_left(value, count),
            Shift::RotateRight => self.rotate_right(value, count),
            Shift::CarryLeft => self.rotate_left_through_carry(value, count % (self.bits() + 1)),
            // To the right by n is to the left by the rest of a turn.
            Shift::CarryRight => {
                let turn = self.bits() + 1;
                let (value, flags) = self.rotate_left_through_carry(value, (turn - count % turn) % turn);
                (value, self.overflow_right(value, flags))
            }
            Shift::Left => self.shift_left(value, count),
            Shift::Right => {
                let carry = value.checked_shr(count - 1).unwrap_or(0) & 1 != 0;
                self.shifted(value.checked_shr(count).unwrap_or(0), carry, self.is_negative(value))
            }
            Shift::ArithmeticRight => {
                let signed = sign_extend(value, self.size);
                self.shifted((signed >> count) as u64, signed >> (count - 1) & 1 != 0, false)
            }
        }
    }

    /// SHLD and SHRD: shifts `value`, and `filler`'s bits in.
    pub fn shift_double(self, is_left: bool, value: u64, filler: u64, count: u64) -> Answer {
        let count = self.count(count);
        if count == 0 {
            return (value, self.flags);
        }
        let bits = self.bits();
        let pair = |high: u64, low: u64| u128::from(high) << bits | u128::from(low);
        let (result, carry) = if is_left {
            let wide = pair(value, filler);
            // A count beyond the operand's bits is possible with 2 bytes only; its result is undefined.
            let result = if count <= bits { wide >> (bits - count) } else { wide << (count - bits) };
            (result, wide >> (2 * bits - count) & 1 != 0)
        } else {
            let wide = pair(filler, value);
            (wide >> count, wide >> (count - 1) & 1 != 0)
        };
        let result = result as u64 & mask(self.size);
        self.shifted(result, carry, self.is_negative(result) != self.is_negative(value))
    }

    fn shift_left(self, value: u64, count: u32) -> Answer {
        let wide = u128::from(value) << count;
        let carry = wide >> self.bits() & 1 != 0;
        let result = wide as u64 & mask(self.size);
        self.shifted(result, carry, self.is_negative(result) != carry)
    }

    fn shifted(self, result: u64, carry: bool, overflow: bool) -> Answer {
        let result = result & mask(self.size);
        let flags = self.status(result, 0, 0);
        (result, Alu { flags, ..self }.with(&[(RFlags::CF, carry), (RFlags::OF, overflow)]))
    }

    fn rotate_left(self, value: u64, count: u32) -> Answer {
        let bits = self.bits();
        let count = count % bits;
        let result = ((u128::from(value) << bits | u128::from(value)) >> (bits - count)) as u64 & mask(self.size);
        let carry = result & 1 != 0;
        (result, self.with(&[(RFlags::CF, carry), (RFlags::OF, self.is_negative(result) != carry)]))
    }

    fn rotate_right(self, value: u64, count: u32) -> Answer {
        let bits = self.bits();
        let (result, _) = self.rotate_left(value, bits - count % bits);
        let flags = self.with(&[(RFlags::CF, self.is_negative(result))]);
        (result, self.overflow_right(result, flags))
    }

    /// Overflow of rotations to the right: the two highest bits differ.
    fn overflow_right(self, result: u64, flags: u64) -> u64 {
        let differ = self.is_negative(result) != self.is_negative(result << 1);
        Alu { flags, ..self }.with(&[(RFlags::OF, differ)])
    }

    fn rotate_left_through_carry(self, value: u64, count: u32) -> Answer {
        let bits = self.bits();
        let ring = u128::from(self.carry()) << bits | u128::from(value);
        let turned = if count == 0 { ring } else { ring << count | ring >> (bits + 1 - count) };
        let result = turned as u64 & mask(self.size);
        let carry = turned >> bits & 1 != 0;
        (result, self.with(&[(RFlags::CF, carry), (RFlags::OF, self.is_negative(result) != carry)]))
    }
}
