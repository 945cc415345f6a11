//! Reference time: units of 100 ns since the guest began (TLFS, 12.4, 12.7).

use crate::Tsc;

/// Units of 100 ns in a millisecond, which are those that a counter of one kHz takes a tick for.
const UNITS: u64 = 10_000;

/// A guest's reference time. It goes by its time-stamp counter, from an offset on, and stands still while the guest is paused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ReferenceTime {
    offset: u64,
    frozen: Option<u64>,
}

/// Units of a tick, as a fraction of 2^64.
pub(crate) fn scale(khz: u32) -> u64 {
    ((UNITS << 32) / u64::from(khz.max(1))) << 32
}

fn units(tsc: &Tsc) -> u64 {
    ((u128::from(tsc.now) * u128::from(scale(tsc.khz))) >> 64) as u64
}

impl ReferenceTime {
    /// Its value, modulo 2^64.
    pub fn now(&self, tsc: &Tsc) -> u64 {
        self.frozen.unwrap_or_else(|| units(tsc).wrapping_add(self.offset))
    }

    /// What is added to the scaled counter, modulo 2^64.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// It stands still: the guest is paused.
    pub fn freeze(&mut self, tsc: &Tsc) {
        self.frozen = Some(self.now(tsc));
    }

    /// It goes on from where it stood, or from what a saved record says.
    pub fn thaw(&mut self, tsc: &Tsc) {
        if let Some(value) = self.frozen.take() {
            self.offset = value.wrapping_sub(units(tsc));
        }
    }

    /// It stands still at a value, which a saved record has.
    pub fn set(&mut self, value: u64) {
        self.frozen = Some(value);
    }
}
