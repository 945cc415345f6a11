//! Instructions that are told from their first bytes: those that an exit names, and plain moves. What is in doubt is left to the
//! decoder, for which there is `None`.

use super::state::{CodeSize, Segment};
use crate::decode::mask;
use x86_defs::control::Efer;

/// An instruction without operands or prefixes, which an exit names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opcode {
    bytes: u32,
    length: u8,
}

impl Opcode {
    /// CPUID.
    pub const CPUID: Opcode = Opcode { bytes: 0xa2_0f, length: 2 };
    /// RDMSR.
    pub const RDMSR: Opcode = Opcode { bytes: 0x32_0f, length: 2 };
    /// WRMSR.
    pub const WRMSR: Opcode = Opcode { bytes: 0x30_0f, length: 2 };
    /// VMMCALL.
    pub const VMMCALL: Opcode = Opcode { bytes: 0xd9_01_0f, length: 3 };
    /// XSETBV.
    pub const XSETBV: Opcode = Opcode { bytes: 0xd1_01_0f, length: 3 };
    /// WBINVD.
    pub const WBINVD: Opcode = Opcode { bytes: 0x09_0f, length: 2 };
    /// HLT.
    pub const HLT: Opcode = Opcode { bytes: 0xf4, length: 1 };

    /// Bytes of it.
    pub const fn length(self) -> u8 {
        self.length
    }

    /// Whether `code`, the first of its bytes lowest, begins with it.
    pub const fn begins(self, code: u32) -> bool {
        (code ^ self.bytes) << (32 - 8 * self.length as u32) == 0
    }
}

/// What is moved from or to memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moved {
    /// From memory into the general register of this number.
    Load(u8),
    /// From the general register of this number into memory.
    Store(u8),
    /// This value into memory.
    StoreValue(u64),
}

/// A move between memory and a whole general register, or of a constant into memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlainMove {
    /// What is moved.
    pub what: Moved,
    /// Bytes that are: 4 or 8.
    pub size: u8,
    /// Bytes of the instruction.
    pub length: u8,
}

/// Most bytes of such a move: REX, opcode, ModRM, SIB, displacement, value.
const LONGEST: u8 = 12;

impl PlainMove {
    /// The move with which `code` begins, the first of its bytes lowest; `None` for anything else, other prefixes than REX, and code
    /// of 16 bits.
    pub fn of(code: u128, size: CodeSize) -> Option<PlainMove> {
        let is_64bit = match size {
            CodeSize::Bits16 => return None,
            CodeSize::Bits32 => false,
            CodeSize::Bits64 => true,
        };
        let rex = if is_64bit && code as u8 >> 4 == 4 { code as u8 } else { 0 };
        let start = u8::from(rex != 0);
        let code = code >> (8 * start);
        let size = if rex & 8 != 0 { 8 } else { 4 };
        let register = (code >> 11) as u8 & 7 | (rex & 4) << 1;
        let offset_size = if is_64bit { 8 } else { 4 };
        let (what, length) = match code as u8 {
            0x8b => (Moved::Load(register), 1 + operand_length(code >> 8)?),
            0x89 => (Moved::Store(register), 1 + operand_length(code >> 8)?),
            0xa1 => (Moved::Load(0), 1 + offset_size),
            0xa3 => (Moved::Store(0), 1 + offset_size),
            // The other numbers of a register are no instructions.
            0xc7 if code >> 11 & 7 == 0 => {
                let before = 1 + operand_length(code >> 8)?;
                let value = (code >> (8 * before)) as u32 as i32;
                (Moved::StoreValue(value as u64 & mask(size)), before + 4)
            }
            _ => return None,
        };
        let length = start + length;
        debug_assert!(length <= LONGEST);
        Some(PlainMove { what, size, length })
    }
}

/// Bytes of ModRM and what belongs to it, where addresses are not of 16 bits; `None` if it names no memory.
fn operand_length(code: u128) -> Option<u8> {
    let (mode, base) = (code as u8 >> 6, code as u8 & 7);
    let has_index = base == 4;
    let base = if has_index { (code >> 8) as u8 & 7 } else { base };
    let displacement = match mode {
        // Without a base there is a displacement.
        0 if base == 5 => 4,
        0 => 0,
        1 => 1,
        2 => 4,
        _ => return None,
    };
    Some(1 + u8::from(has_index) + displacement)
}

impl CodeSize {
    /// The size of the code in a segment, with this EFER.
    #[inline]
    pub fn of(efer: u64, code: &Segment) -> CodeSize {
        if efer & Efer::LMA.bits() != 0 && code.is_long() {
            CodeSize::Bits64
        } else if code.is_big() {
            CodeSize::Bits32
        } else {
            CodeSize::Bits16
        }
    }

    /// An instruction pointer `length` bytes further: it wraps around as the CPU's does.
    #[inline]
    pub fn behind(self, rip: u64, length: u8) -> u64 {
        rip.wrapping_add(length.into()) & self.pointer()
    }

    /// The linear address of an instruction pointer, in a segment that begins at `base`.
    #[inline]
    pub fn linear(self, rip: u64, base: u64) -> u64 {
        if self == CodeSize::Bits64 { rip } else { base.wrapping_add(rip) & mask(4) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hvm::fetch::decode;
    use iced_x86::{Mnemonic, OpKind, Register};

    const SIZES: [CodeSize; 3] = [CodeSize::Bits16, CodeSize::Bits32, CodeSize::Bits64];
    const OPCODES: [(Opcode, Mnemonic); 7] = [
        (Opcode::CPUID, Mnemonic::Cpuid),
        (Opcode::RDMSR, Mnemonic::Rdmsr),
        (Opcode::WRMSR, Mnemonic::Wrmsr),
        (Opcode::VMMCALL, Mnemonic::Vmmcall),
        (Opcode::XSETBV, Mnemonic::Xsetbv),
        (Opcode::WBINVD, Mnemonic::Wbinvd),
        (Opcode::HLT, Mnemonic::Hlt),
    ];

    #[test]
    fn opcodes_are_what_the_decoder_says() {
        for (opcode, mnemonic) in OPCODES {
            for size in SIZES {
                let found = decode(&opcode.bytes.to_le_bytes(), size, 0).unwrap();
                assert_eq!((found.mnemonic(), found.len()), (mnemonic, usize::from(opcode.length)), "{size:?}");
            }
            let filled = opcode.bytes | !0 << (8 * u32::from(opcode.length));
            assert!(opcode.begins(opcode.bytes) && opcode.begins(filled));
            // With a prefix, and with any byte changed, it is left to the decoder.
            assert!([0x66, 0x2e, 0xf3, 0x48].iter().all(|prefix| !opcode.begins(opcode.bytes << 8 | prefix)));
            assert!((0..8 * opcode.length).all(|bit| !opcode.begins(opcode.bytes ^ 1 << bit)));
        }
    }

    #[test]
    fn pointers_wrap_around_by_mode() {
        assert_eq!(CodeSize::Bits16.behind(0xffff, 2), 1);
        assert_eq!(CodeSize::Bits32.behind(0xffff_fffe, 2), 0);
        assert_eq!(CodeSize::Bits64.behind(0xffff_fffe, 2), 0x1_0000_0000);
        assert_eq!(CodeSize::Bits64.behind(u64::MAX, 1), 0);
        assert_eq!(CodeSize::Bits32.linear(0x2000, 0xffff_f000), 0x1000);
        assert_eq!(CodeSize::Bits64.linear(0xffff_8000_0000_0000, 0x5000), 0xffff_8000_0000_0000);
    }

    /// What the decoder makes of a move that this module claims to know.
    fn decoded(code: u128, size: CodeSize) -> Option<PlainMove> {
        let found = decode(&code.to_le_bytes()[..crate::MAX_LENGTH], size, 0).ok()?;
        let bytes = crate::decode::memory_size(&found)?;
        let whole = |register: Register| crate::decode::place(register).filter(|place| place.2 >= 4);
        let what = match (found.op0_kind(), found.op1_kind()) {
            _ if found.mnemonic() != Mnemonic::Mov || bytes < 4 => return None,
            (OpKind::Register, OpKind::Memory) => Moved::Load(whole(found.op0_register())?.0),
            (OpKind::Memory, OpKind::Register) => Moved::Store(whole(found.op1_register())?.0),
            (OpKind::Memory, _) => Moved::StoreValue(found.immediate(1) & mask(bytes)),
            _ => return None,
        };
        Some(PlainMove { what, size: bytes, length: found.len() as u8 })
    }

    #[test]
    fn moves_are_what_the_decoder_says() {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u128;
        let mut known = 0;
        for round in 0..200_000u32 {
            seed = seed.wrapping_mul(0xda94_2042_e4dd_58b5).wrapping_add(0x1234_5678_9abc_def1).rotate_left(29);
            let opcode = [0x8b, 0x89, 0xa1, 0xa3, 0xc7][round as usize % 5];
            let rex = 0x40 | u128::from(round >> 4 & 15);
            let code = if round & 1 == 0 { seed << 8 | opcode } else { seed << 16 | opcode << 8 | rex };
            for size in SIZES {
                // All that it claims to know has to be so; a decoder without assists may know more.
                if let Some(found) = PlainMove::of(code, size) {
                    known += 1;
                    assert_eq!(decoded(code, size), Some(found), "{code:x} {size:?}");
                }
            }
        }
        assert!(known > 100_000, "{known}");
    }

    #[test]
    fn usual_moves_are_known_and_others_are_not() {
        let of = |bytes: &[u8], size| {
            let mut all = [0x90; 16];
            all[..bytes.len()].copy_from_slice(bytes);
            PlainMove::of(u128::from_le_bytes(all), size).map(|found| (found.what, found.size, found.length))
        };
        let (narrow, wide) = (CodeSize::Bits32, CodeSize::Bits64);
        assert_eq!(of(&[0x8b, 0x04, 0x25, 0x20, 0xc0, 0x5f, 0xff], wide), Some((Moved::Load(0), 4, 7)));
        assert_eq!(of(&[0x44, 0x89, 0x87, 0, 0xd0, 0x5f, 0xff], wide), Some((Moved::Store(8), 4, 7)));
        assert_eq!(of(&[0x48, 0x8b, 0x80, 0xf0, 0, 0, 0], wide), Some((Moved::Load(0), 8, 7)));
        assert_eq!(of(&[0xa1, 0x20, 0, 0xe0, 0xfe], narrow), Some((Moved::Load(0), 4, 5)));
        assert_eq!(of(&[0xc7, 0x05, 0xb0, 0, 0xe0, 0xfe, 0, 0, 0, 0], narrow), Some((Moved::StoreValue(0), 4, 10)));
        // A sign-extended value of 8 bytes.
        let longest = [0x48, 0xc7, 0x84, 0x24, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(of(&longest, wide), Some((Moved::StoreValue(u64::MAX), 8, LONGEST)));
        // Between registers; bytes; with prefixes; of another number; in 16-bit code.
        for bytes in
            [&[0x8b, 0xc0][..], &[0x8a, 0], &[0x66, 0x8b, 0], &[0x65, 0x8b, 0], &[0xf0, 0x89, 0], &[0xc7, 0x08]]
        {
            assert_eq!(of(bytes, wide), None, "{bytes:x?}");
        }
        assert_eq!(of(&[0x8b, 0x07], CodeSize::Bits16), None);
        // In 32-bit code 0x48 is an instruction of its own.
        assert_eq!(of(&[0x48, 0x8b, 0], narrow), None);
    }
}
