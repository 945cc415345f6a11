//! Products and quotients.

use super::{Alu, sign_extend};
use crate::decode::mask;
use x86_defs::control::RFlags;

/// A product of two operands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Product {
    /// Its lower half.
    pub low: u64,
    /// Its upper half.
    pub high: u64,
    /// RFLAGS: carry and overflow say that the lower half is not all of it.
    pub flags: u64,
}

/// A quotient and what remains.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quotient {
    /// The quotient.
    pub quotient: u64,
    /// The remainder.
    pub remainder: u64,
}

impl Alu {
    /// MUL.
    pub fn multiply(self, left: u64, right: u64) -> Product {
        let product = u128::from(left) * u128::from(right);
        self.product(product, product >> self.bits() != 0)
    }

    /// IMUL.
    pub fn multiply_signed(self, left: u64, right: u64) -> Product {
        let product = i128::from(sign_extend(left, self.size)) * i128::from(sign_extend(right, self.size));
        let low = product as u64 & mask(self.size);
        self.product(product as u128, i128::from(sign_extend(low, self.size)) != product)
    }

    fn product(self, product: u128, is_long: bool) -> Product {
        Product {
            low: product as u64 & mask(self.size),
            high: (product >> self.bits()) as u64 & mask(self.size),
            flags: self.with(&[(RFlags::CF, is_long), (RFlags::OF, is_long)]),
        }
    }

    /// DIV; `None` for a divide error.
    pub fn divide(self, high: u64, low: u64, divisor: u64) -> Option<Quotient> {
        let dividend = u128::from(high) << self.bits() | u128::from(low);
        let quotient = dividend.checked_div(divisor.into())?;
        let remainder = dividend % u128::from(divisor);
        (quotient <= mask(self.size).into())
            .then_some(Quotient { quotient: quotient as u64, remainder: remainder as u64 })
    }

    /// IDIV; `None` for a divide error.
    pub fn divide_signed(self, high: u64, low: u64, divisor: u64) -> Option<Quotient> {
        let dividend = i128::from(sign_extend(high, self.size)) << self.bits() | i128::from(low);
        let divisor = i128::from(sign_extend(divisor, self.size));
        let (quotient, remainder) = (dividend.checked_div(divisor)?, dividend.checked_rem(divisor)?);
        let shortened = quotient as u64 & mask(self.size);
        (i128::from(sign_extend(shortened, self.size)) == quotient)
            .then_some(Quotient { quotient: shortened, remainder: remainder as u64 & mask(self.size) })
    }
}
