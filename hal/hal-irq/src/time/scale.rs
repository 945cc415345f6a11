//! Turning counts into nanoseconds by multiplication, as guests do (`vcpu_time_info`, public/xen.h).

/// Nanoseconds in a second.
pub const SECOND: u64 = 1_000_000_000;

/// Factor from ticks to nanoseconds: shift left by `shift` (right if negative), multiply by `mul`, drop 32 bits. These are
/// `tsc_shift` and `tsc_to_system_mul` of `vcpu_time_info`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scale {
    /// Multiplier, a fraction of 2^32.
    pub mul: u32,
    /// Shift before multiplication.
    pub shift: i8,
}

impl Scale {
    /// For a counter of that frequency, in Hz. 0 is taken for 1.
    pub fn from_hz(hz: u64) -> Scale {
        let mut ticks = u128::from(hz.max(1));
        let mut shift = 0i8;
        // Bring the frequency into 1 to 2 GHz, so that the multiplier has its highest bit set: full precision.
        while ticks > 2 * u128::from(SECOND) {
            ticks >>= 1;
            shift -= 1;
        }
        // What the right shifts cut off is put back by dividing by the exact frequency below.
        let exact = u128::from(hz.max(1));
        let mut scaled = exact;
        while ticks <= u128::from(SECOND) {
            ticks <<= 1;
            scaled <<= 1;
            shift += 1;
        }
        let numerator = u128::from(SECOND) << 32;
        let mul = if shift < 0 { (numerator << -shift) / exact } else { numerator / scaled };
        Scale { mul: u32::try_from(mul).unwrap_or(u32::MAX), shift }
    }

    /// Nanoseconds in `ticks`, wrapping at 2^64.
    pub fn nanoseconds(self, ticks: u64) -> u64 {
        let shifted = if self.shift < 0 { u128::from(ticks >> -self.shift) } else { u128::from(ticks) << self.shift };
        // 64 + 31 bits by 32 bits: no overflow, and guests compute the same as long as their shift does not.
        ((shifted * u128::from(self.mul)) >> 32) as u64
    }

    /// Ticks in so many nanoseconds, rounded up: waiting that long is long enough. Saturates.
    pub fn ticks(self, nanoseconds: u64) -> u64 {
        let shifted = (u128::from(nanoseconds) << 32).div_ceil(u128::from(self.mul.max(1)));
        let ticks = if self.shift < 0 { shifted << -self.shift } else { shifted.div_ceil(1 << self.shift) };
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }
}

/// `a * b / c`, saturating; 0 if `c` is 0.
pub fn mul_div(a: u64, b: u64, c: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product.checked_div(c.into()).map_or(0, |quotient| u64::try_from(quotient).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_scales() {
        assert_eq!(Scale::from_hz(SECOND * 2), Scale { mul: 0x8000_0000, shift: 0 });
        assert_eq!(Scale::from_hz(SECOND).nanoseconds(1 << 40), 1 << 40);
        assert_eq!(Scale::from_hz(0).nanoseconds(1), SECOND);
    }

    proptest! {
        #[test]
        fn a_scale_is_good_to_a_billionth(hz in 1000u64..20_000_000_000, seconds in 1u64..100_000) {
            let scale = Scale::from_hz(hz);
            prop_assert!(scale.mul >= 1 << 31);
            let ns = i128::from(scale.nanoseconds(hz * seconds));
            let exact = i128::from(seconds) * i128::from(SECOND);
            prop_assert!((ns - exact).abs() <= exact / 1_000_000_000 + 2, "{} {}", ns, exact);
        }

        #[test]
        fn ticks_are_enough_and_few(hz in 1_000_000u64..10_000_000_000, ns in 0u64..1 << 50) {
            let scale = Scale::from_hz(hz);
            let ticks = scale.ticks(ns);
            let back = scale.nanoseconds(ticks);
            let one = scale.nanoseconds(1) + 8;
            prop_assert!(back + 1 >= ns && back <= ns + one, "{} {} {}", ns, ticks, back);
        }
    }
}
