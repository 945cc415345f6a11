//! Speculative stores: on AMD's CPUs without a register for it in the guest's own state, they are held back by a setting of the
//! core (AMD, "Speculative Store Bypass Disable").

use crate::cpuid;
use crate::registers::{read_msr, write_msr};
use x86_defs::msr;

/// Leaf of speculation features, and bit of its ebx: MSR 0xc001011f is there.
const FEATURES: u32 = 0x8000_0008;
const HAS_VIRTUAL: u32 = 1 << 25;
/// In MSR 0xc001011f: hold back speculative stores.
const VIRTUAL_BIT: u64 = 1 << 2;

/// Bit of LS_CFG that does so on a family, by leaf 1's eax.
const fn bit_of(signature: u32) -> Option<u64> {
    if signature >> 8 & 0xf != 0xf {
        return None;
    }
    match signature >> 20 & 0xff {
        6 => Some(1 << 54),
        7 => Some(1 << 33),
        8 | 9 => Some(1 << 10),
        _ => None,
    }
}

/// Holds back speculative stores on this CPU's core from here on. It is not undone, for the core's other threads may still count
/// on it. Nothing happens on CPUs without a known way.
pub fn hold_back_stores() {
    let has_virtual = cpuid(0x8000_0000, 0).eax >= FEATURES && cpuid(FEATURES, 0).ebx & HAS_VIRTUAL != 0;
    let setting = match bit_of(cpuid(1, 0).eax) {
        _ if has_virtual => Some((msr::VIRT_SPEC_CTRL, VIRTUAL_BIT)),
        bit => bit.map(|bit| (msr::AMD_LS_CFG, bit)),
    };
    let Some((number, bit)) = setting else { return };
    let Ok(value) = read_msr(number) else { return };
    if value & bit == 0 {
        // SAFETY: the bit has loads wait for older stores, which changes how fast they are and not what they give.
        let _ = unsafe { write_msr(number, value | bit) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families() {
        assert_eq!(
            [0x0060_0f12, 0x0073_0f01, 0x0080_0f12, 0x0090_0f02].map(bit_of),
            [Some(1 << 54), Some(1 << 33), Some(1 << 10), Some(1 << 10)]
        );
        assert_eq!([0x00a1_0f11, 0x0080_0612, 0x0010_0f23].map(bit_of), [None; 3]);
    }
}
