//! Memory type range registers of a guest. They decide nothing: what a guest has is ordinary memory, of which its CPU caches what
//! the page attribute table lets it. Kernels check that what they have written is there.

use x86_defs::msr::*;

/// Pairs of variable ranges.
pub const VARIABLE: usize = 8;
/// Registers of fixed ranges.
pub const FIXED: usize = 11;
/// MTRR_CAP: eight variable ranges, fixed ranges, write combining.
const CAPABILITIES: u64 = 0x508;
/// MTRR_DEF_TYPE's bits: type, fixed ranges on, all on.
const DEF_TYPE_BITS: u64 = 0xcff;

/// The registers.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Mtrr {
    /// Bases and masks by turns.
    pub variable: [u64; VARIABLE * 2],
    /// The fixed ranges, from low to high.
    pub fixed: [u64; FIXED],
    /// MTRR_DEF_TYPE.
    pub def_type: u64,
}

/// Where a register is among those of fixed ranges.
fn fixed_index(number: u32) -> Option<usize> {
    Some(match number {
        MTRR_FIX_64K => 0,
        MTRR_FIX_16K..=0x259 => 1 + (number - MTRR_FIX_16K) as usize,
        MTRR_FIX_4K..=0x26f => 3 + (number - MTRR_FIX_4K) as usize,
        _ => return None,
    })
}

fn variable_index(number: u32) -> Option<usize> {
    let index = number.wrapping_sub(MTRR_PHYS_BASE0) as usize;
    (index < VARIABLE * 2).then_some(index)
}

/// Whether a byte names a memory type (APM vol. 2, table 7-5).
fn is_type(value: u64) -> bool {
    matches!(value & 0xff, 0 | 1 | 4..=6)
}

impl Mtrr {
    /// What the guest reads; `None` for another register.
    pub fn read(&self, number: u32) -> Option<u64> {
        if number == MTRR_CAP {
            return Some(CAPABILITIES);
        }
        if number == MTRR_DEF_TYPE {
            return Some(self.def_type);
        }
        let fixed = fixed_index(number).map(|index| self.fixed[index]);
        fixed.or_else(|| variable_index(number).map(|index| self.variable[index]))
    }

    /// Carries out a write; false for another register, or a value that it must not have.
    pub fn write(&mut self, number: u32, value: u64) -> bool {
        if number == MTRR_DEF_TYPE {
            let fits = value & !DEF_TYPE_BITS == 0 && is_type(value);
            if fits {
                self.def_type = value;
            }
            return fits;
        }
        if let Some(index) = fixed_index(number) {
            let fits = (0..8).all(|byte| is_type(value >> (8 * byte)));
            if fits {
                self.fixed[index] = value;
            }
            return fits;
        }
        let Some(index) = variable_index(number) else { return false };
        if index % 2 == 0 && !is_type(value) {
            return false;
        }
        self.variable[index] = value;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut mtrr = Mtrr::default();
        for number in [MTRR_DEF_TYPE, MTRR_FIX_64K, 0x259, 0x26f, MTRR_PHYS_BASE0, 0x20f] {
            assert!(mtrr.write(number, 6), "{number:#x}");
            assert_eq!(mtrr.read(number), Some(6));
        }
        assert_eq!(mtrr.fixed[10], 6);
        assert_eq!(mtrr.read(MTRR_CAP), Some(0x508));
    }

    #[test]
    fn what_a_cpu_refuses_is_refused() {
        let mut mtrr = Mtrr::default();
        for (number, value) in
            [(MTRR_CAP, 0), (MTRR_DEF_TYPE, 2), (MTRR_DEF_TYPE, 0x1000), (MTRR_FIX_4K, 0x0306), (0x200, 3), (0x210, 6)]
        {
            assert!(!mtrr.write(number, value), "{number:#x} {value:#x}");
        }
        assert_eq!((mtrr, mtrr.read(0x210)), (Mtrr::default(), None));
    }
}
