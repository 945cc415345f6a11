//! Prefixes, operands' registers and effective addresses.

use crate::{Registers, Segment};
use iced_x86::{Code, Decoder, DecoderOptions, Instruction, MemorySize, OpKind, Register};

/// Prefixes of an instruction (SDM vol. 2, 2.1.1 and 2.2.1).
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Prefixes {
    /// 0x66: 16-bit operands.
    pub operand16: bool,
    /// 0x67: addresses of the next smaller size.
    pub small_address: bool,
    /// 0xf2 or 0xf3.
    pub repeat: bool,
    /// 0xf0.
    pub lock: bool,
    /// 0x64 or 0x65.
    pub segment: Option<Segment>,
    /// REX, 0 for none.
    pub rex: u8,
}

/// REX.R.
pub const REX_R: u8 = 4;
/// REX.B.
pub const REX_B: u8 = 1;

/// Splits prefixes off; the second part is how long they are.
#[inline]
pub fn prefixes(code: &[u8], is_64bit: bool) -> (Prefixes, usize) {
    let mut found = Prefixes::default();
    for (index, byte) in code.iter().enumerate() {
        match byte {
            0x66 => found.operand16 = true,
            0x67 => found.small_address = true,
            0xf2 | 0xf3 => found.repeat = true,
            0xf0 => found.lock = true,
            0x26 | 0x2e | 0x36 | 0x3e => {}
            0x64 => found.segment = Some(Segment::Fs),
            0x65 => found.segment = Some(Segment::Gs),
            0x40..=0x4f if is_64bit => {
                // REX counts only right before the opcode; a prefix behind it makes it void.
                if !matches!(
                    code.get(index + 1),
                    Some(0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3 | 0x40..=0x4f)
                ) {
                    found.rex = *byte;
                }
            }
            _ => return (found, index),
        }
    }
    (found, code.len())
}

/// Decodes one instruction; `None` where the bytes are none.
pub fn instruction(cpu: &impl Registers, code: &[u8]) -> Option<Instruction> {
    let bitness = if cpu.is_64bit() { 64 } else { 32 };
    let mut decoder = Decoder::with_ip(bitness, code, cpu.rip(), DecoderOptions::NONE);
    let decoded = decoder.decode();
    (decoded.code() != Code::INVALID).then_some(decoded)
}

/// Value of a general register in the size it is named by.
pub fn value(cpu: &impl Registers, register: Register) -> Option<u64> {
    let place = place(register)?;
    Some(pick(cpu.get(place.0), place))
}

/// Sets a general register in the size it is named by; 32-bit writes clear the upper half.
pub fn set_value(cpu: &mut impl Registers, register: Register, value: u64) {
    if let Some(place) = place(register) {
        cpu.set(place.0, merge(cpu.get(place.0), place, value));
    }
}

/// Number of a general register, the position of its bits, its bytes.
pub type Place = (u8, u32, u8);

/// The part of a 64-bit register that is at `place`.
pub fn pick(whole: u64, (_, shift, size): Place) -> u64 {
    whole >> shift & mask(size)
}

/// A 64-bit register with the part at `place` replaced.
pub fn merge(whole: u64, (_, shift, size): Place, value: u64) -> u64 {
    let kept = if size < 4 { whole & !(mask(size) << shift) } else { 0 };
    kept | (value & mask(size)) << shift
}

/// RAX, in `size` bytes.
pub fn accumulator(size: u8) -> Register {
    match size {
        1 => Register::AL,
        2 => Register::AX,
        4 => Register::EAX,
        _ => Register::RAX,
    }
}

/// Bytes of an integer in memory: 1, 2, 4 or 8.
pub fn memory_size(instruction: &Instruction) -> Option<u8> {
    Some(match instruction.memory_size() {
        MemorySize::UInt8 | MemorySize::Int8 => 1,
        MemorySize::UInt16 | MemorySize::Int16 => 2,
        MemorySize::UInt32 | MemorySize::Int32 => 4,
        MemorySize::UInt64 | MemorySize::Int64 => 8,
        _ => return None,
    })
}

/// Whether an operand is a constant.
pub fn is_immediate(kind: OpKind) -> bool {
    matches!(
        kind,
        OpKind::Immediate8
            | OpKind::Immediate16
            | OpKind::Immediate32
            | OpKind::Immediate64
            | OpKind::Immediate8to16
            | OpKind::Immediate8to32
            | OpKind::Immediate8to64
            | OpKind::Immediate32to64
    )
}

/// Number of a general register, the position of its bits, its bytes.
pub fn place(register: Register) -> Option<Place> {
    // iced-x86 numbers registers in the order of their encodings, byte registers first: al to bl, ah to bh, spl to dil, r8l to
    // r15l.
    let distance = |first: Register| (register as usize).checked_sub(first as usize).map(|distance| distance as u8);
    let group = |first, size| distance(first).filter(|number| *number < 16).map(|number| (number, 0, size));
    group(Register::RAX, 8).or_else(|| group(Register::EAX, 4)).or_else(|| group(Register::AX, 2)).or_else(|| {
        match distance(Register::AL)? {
            number @ 0..=3 => Some((number, 0, 1)),
            number @ 4..=7 => Some((number - 4, 8, 1)),
            number @ 8..=19 => Some((number - 4, 0, 1)),
            _ => None,
        }
    })
}

fn is_32bit(register: Register) -> bool {
    matches!(place(register), Some((_, _, 4)))
}

/// All ones in `size` bytes, 1 to 8.
pub const fn mask(size: u8) -> u64 {
    u64::MAX >> (64 - 8 * size as u32)
}

/// Linear address of the instruction's memory operand.
pub fn effective_address(cpu: &impl Registers, instruction: &Instruction) -> Option<u64> {
    let (base, index) = (instruction.memory_base(), instruction.memory_index());
    let mut address = instruction.memory_displacement64();
    let mut small = !cpu.is_64bit();
    // A displacement from RIP is an address by now.
    if base != Register::None && base != Register::RIP && base != Register::EIP {
        address = address.wrapping_add(value(cpu, base)?);
        small |= is_32bit(base);
    }
    if index != Register::None {
        let scaled = value(cpu, index)?.wrapping_mul(instruction.memory_index_scale().into());
        address = address.wrapping_add(scaled);
        small |= is_32bit(index);
    }
    if small || base == Register::EIP {
        address &= 0xffff_ffff;
    }
    let segment = match instruction.memory_segment() {
        Register::FS => cpu.segment_base(Segment::Fs),
        Register::GS => cpu.segment_base(Segment::Gs),
        _ => 0,
    };
    Some(address.wrapping_add(segment))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_have_their_places() {
        for (register, expected) in [
            (Register::AL, (0, 0, 1)),
            (Register::BH, (3, 8, 1)),
            (Register::SPL, (4, 0, 1)),
            (Register::R15L, (15, 0, 1)),
            (Register::AX, (0, 0, 2)),
            (Register::R15W, (15, 0, 2)),
            (Register::ESP, (4, 0, 4)),
            (Register::R15D, (15, 0, 4)),
            (Register::RAX, (0, 0, 8)),
            (Register::R15, (15, 0, 8)),
        ] {
            assert_eq!(place(register), Some(expected), "{register:?}");
        }
        assert_eq!(place(Register::None), None);
        assert_eq!(place(Register::CS), None);
        assert_eq!(place(Register::XMM0), None);
    }

    #[test]
    fn a_rex_prefix_counts_only_before_the_opcode() {
        assert_eq!(prefixes(&[0x48, 0x66, 0x0f], true).0.rex, 0);
        assert_eq!(
            prefixes(&[0x66, 0x48, 0x0f], true),
            (Prefixes { operand16: true, rex: 0x48, ..Prefixes::default() }, 2)
        );
        assert_eq!(prefixes(&[0x48, 0x0f], false), (Prefixes::default(), 0));
        assert_eq!(prefixes(&[0x66; 15], true).1, 15);
    }
}
