//! From ticks of a counter to nanoseconds and back, in the form that guests use too (xen.h, `vcpu_time_info`).

/// Ticks to nanoseconds: shift left by `shift` (right if it is negative), multiply by `mul`, divide by 2^32.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scale {
    /// `tsc_to_system_mul`; its top bit is always set.
    pub mul: u32,
    /// `tsc_shift`.
    pub shift: i8,
}

const SECOND: u64 = 1_000_000_000;

impl Scale {
    /// The scale of a counter of `hertz` ticks a second; 0 is taken as 1. Its numbers are the ones that Xen computes.
    pub const fn from_hertz(hertz: u64) -> Scale {
        let mut frequency = if hertz == 0 { 1 } else { hertz };
        let mut shift = 0;
        while frequency > 2 * SECOND {
            frequency >>= 1;
            shift -= 1;
        }
        while frequency <= SECOND {
            frequency <<= 1;
            shift += 1;
        }
        Scale { mul: ((SECOND << 32) as u128 / frequency as u128) as u32, shift }
    }

    /// The scale of a counter of `kilohertz` thousand ticks a second.
    pub const fn from_kilohertz(kilohertz: u32) -> Scale {
        Scale::from_hertz(kilohertz as u64 * 1000)
    }

    /// Nanoseconds that `ticks` take, rounded down. As in guests, bits that a left shift moves out are lost; this takes
    /// centuries of ticks.
    pub const fn to_nanoseconds(self, ticks: u64) -> u64 {
        let ticks = ticks as u128;
        let shifted = if self.shift < 0 { ticks >> -self.shift } else { ticks << self.shift };
        ((shifted * self.mul as u128) >> 32) as u64
    }

    /// The least number of ticks that takes `nanoseconds`: a deadline in ticks is never early. Saturates.
    pub const fn to_ticks(self, nanoseconds: u64) -> u64 {
        if self.mul == 0 {
            return u64::MAX;
        }
        let shifted = ((nanoseconds as u128) << 32).div_ceil(self.mul as u128);
        let ticks = if self.shift < 0 {
            shifted << -self.shift
        } else {
            // Rounding up, so that shifting back does not fall short.
            (shifted + (1 << self.shift) - 1) >> self.shift
        };
        if ticks > u64::MAX as u128 { u64::MAX } else { ticks as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_scales() {
        // 1 GHz is doubled, as the frequency has to exceed 1 GHz: then half a nanosecond a tick.
        assert_eq!(Scale::from_kilohertz(1_000_000), Scale { mul: 0x8000_0000, shift: 1 });
        assert_eq!(Scale::from_kilohertz(2_000_000), Scale { mul: 0x8000_0000, shift: 0 });
        // What Linux prints for a 2.4 GHz guest.
        assert_eq!(Scale::from_kilohertz(2_400_000), Scale { mul: 0xd555_5555, shift: -1 });
        assert_eq!(Scale::from_hertz(14_318_180).to_nanoseconds(14_318_180), 999_999_999);
        assert_eq!(Scale::from_hertz(0), Scale::from_hertz(1));
    }

    proptest! {
        #[test]
        fn matches_exact_arithmetic(hertz in 1_000_000u64..20_000_000_000, ticks in 0u64..1 << 53) {
            let scale = Scale::from_hertz(hertz);
            prop_assert!(scale.mul >= 1 << 31);
            let exact = u128::from(ticks) * u128::from(SECOND) / u128::from(hertz);
            let got = u128::from(scale.to_nanoseconds(ticks));
            // 31 bits of multiplier; a shift to the right loses up to that many ticks.
            let tolerance = exact / (1 << 29) + 16;
            prop_assert!(got <= exact + tolerance && exact <= got + tolerance, "{} {}", got, exact);
        }

        #[test]
        fn deadlines_in_ticks_are_never_early_nor_much_too_late(hertz in 1_000_000u64..20_000_000_000, time in 0u64..1 << 55) {
            let scale = Scale::from_hertz(hertz);
            let ticks = scale.to_ticks(time);
            prop_assert!(scale.to_nanoseconds(ticks) >= time);
            prop_assert!(ticks == 0 || scale.to_nanoseconds(ticks - 1) <= time);
        }

        #[test]
        fn no_value_panics(hertz: u64, value: u64) {
            let scale = Scale::from_hertz(hertz);
            scale.to_nanoseconds(value);
            scale.to_ticks(value);
        }

        #[test]
        fn time_never_goes_back(hertz in 1_000_000u64..20_000_000_000, ticks in 0u64..1 << 52, more in 0u64..1 << 52) {
            let scale = Scale::from_hertz(hertz);
            prop_assert!(scale.to_nanoseconds(ticks + more) >= scale.to_nanoseconds(ticks));
        }
    }
}
