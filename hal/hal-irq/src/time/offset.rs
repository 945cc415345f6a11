//! How far another CPU's TSC is from ours, by asking it again and again.

/// Bounds of "its TSC less ours", narrowed by every exchange.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offset {
    low: i64,
    high: i64,
}

impl Offset {
    /// Nothing is known yet.
    pub const UNKNOWN: Offset = Offset { low: i64::MIN, high: i64::MAX };

    /// One exchange: the other CPU read `theirs` between our `before` and our `after`.
    pub fn exchange(&mut self, before: u64, theirs: u64, after: u64) {
        self.low = self.low.max(theirs.wrapping_sub(after) as i64);
        self.high = self.high.min(theirs.wrapping_sub(before) as i64);
    }

    /// Whether all exchanges are explained by TSCs that run as one.
    pub fn may_be_zero(&self) -> bool {
        self.low <= 0 && self.high >= 0
    }

    /// The best estimate, in ticks.
    pub fn estimate(&self) -> i64 {
        if self.may_be_zero() { 0 } else { ((i128::from(self.low) + i128::from(self.high)) / 2) as i64 }
    }

    /// How far off the estimate may be, in ticks.
    pub fn uncertainty(&self) -> u64 {
        self.high.abs_diff(self.low) / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_truth_is_within_the_bounds(
            truth in -1_000_000i64..1_000_000,
            rounds in proptest::collection::vec((0u64..500, 0u64..500), 1..50),
        ) {
            let mut offset = Offset::UNKNOWN;
            let mut now = 5_000_000u64;
            for (there, back) in rounds {
                let theirs = (now + there).wrapping_add_signed(truth);
                offset.exchange(now, theirs, now + there + back);
                now += 1000;
            }
            prop_assert!(offset.low <= truth && truth <= offset.high);
            prop_assert!(truth != 0 || offset.may_be_zero());
            prop_assert!(truth.abs() <= 1000 || !offset.may_be_zero());
            if !offset.may_be_zero() {
                prop_assert!(offset.estimate().abs_diff(truth) <= offset.uncertainty() + 1);
            }
        }
    }
}
