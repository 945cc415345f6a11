//! Single bits, searches and checksums.

use super::{Alu, Answer};
use crate::decode::mask;
use x86_defs::control::RFlags;

/// What BT and its like do to the bit that they copy to the carry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BitChange {
    /// BT: nothing.
    Test,
    /// BTS.
    Set,
    /// BTR.
    Reset,
    /// BTC.
    Flip,
}

impl Alu {
    /// BT, BTS, BTR, BTC. `position` counts modulo the operand's bits.
    pub fn bit(self, value: u64, position: u64, change: BitChange) -> Answer {
        let bit = 1 << (position & u64::from(self.bits() - 1));
        let changed = match change {
            BitChange::Test => value,
            BitChange::Set => value | bit,
            BitChange::Reset => value & !bit,
            BitChange::Flip => value ^ bit,
        };
        (changed, self.with(&[(RFlags::CF, value & bit != 0)]))
    }

    /// BSF and BSR; no position where no bit is set.
    pub fn scan(self, value: u64, is_reverse: bool) -> (Option<u64>, u64) {
        let found = (value != 0).then(|| if is_reverse { value.ilog2() } else { value.trailing_zeros() }.into());
        (found, self.with(&[(RFlags::ZF, value == 0)]))
    }

    /// TZCNT.
    pub fn trailing_zeros(self, value: u64) -> Answer {
        self.zeros(value.trailing_zeros())
    }

    /// LZCNT.
    pub fn leading_zeros(self, value: u64) -> Answer {
        self.zeros((value << (64 - self.bits())).leading_zeros())
    }

    fn zeros(self, count: u32) -> Answer {
        let count = count.min(self.bits());
        (count.into(), self.with(&[(RFlags::CF, count == self.bits()), (RFlags::ZF, count == 0)]))
    }

    /// POPCNT.
    pub fn count_ones(self, value: u64) -> Answer {
        let cleared = self.flags & !super::STATUS.bits();
        (value.count_ones().into(), Alu { flags: cleared, ..self }.with(&[(RFlags::ZF, value == 0)]))
    }
}

/// MOVBE, BSWAP: the bytes of a value of `size` bytes in reverse order.
pub const fn byte_swap(value: u64, size: u8) -> u64 {
    (value & mask(size)).swap_bytes() >> (64 - 8 * size as u32)
}

/// CRC32: the checksum of iSCSI over `size` more bytes (SDM vol. 2, CRC32).
pub fn crc32c(checksum: u32, value: u64, size: u8) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    value.to_le_bytes().iter().take(size.into()).fold(checksum, |checksum, byte| {
        (0..8).fold(checksum ^ u32::from(*byte), |rest, _| rest >> 1 ^ if rest & 1 != 0 { POLYNOMIAL } else { 0 })
    })
}
