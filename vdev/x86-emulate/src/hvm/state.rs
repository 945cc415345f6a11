//! Registers that the emulation reads and changes.

use crate::decode::{self, mask};
use iced_x86::{Instruction, Register};
use x86_defs::control::{Cr0, Efer, RFlags};

/// Segment registers, by their numbers in instructions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SegmentName {
    /// ES.
    Es,
    /// CS.
    Cs,
    /// SS.
    Ss,
    /// DS.
    Ds,
    /// FS.
    Fs,
    /// GS.
    Gs,
}

impl SegmentName {
    /// The segment that a decoded register names.
    pub(super) fn of(register: Register) -> Option<SegmentName> {
        Some(match register {
            Register::ES => SegmentName::Es,
            Register::CS => SegmentName::Cs,
            Register::SS => SegmentName::Ss,
            Register::DS => SegmentName::Ds,
            Register::FS => SegmentName::Fs,
            Register::GS => SegmentName::Gs,
            _ => return None,
        })
    }
}

/// A segment register with its hidden part.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Segment {
    /// The visible part.
    pub selector: u16,
    /// Bits 40 to 47 and 52 to 55 of the descriptor, adjacent, as in a VMCB (APM vol. 2, 15.5.1).
    pub attributes: u16,
    /// Last byte, with the granularity applied.
    pub limit: u32,
    /// First byte.
    pub base: u64,
}

impl Segment {
    const EXECUTABLE: u16 = 1 << 3;
    /// Of data: grows down.
    const DOWN: u16 = 1 << 2;
    /// Of data: writable; of code: readable.
    const ACCESSIBLE: u16 = 1 << 1;
    const PRESENT: u16 = 1 << 7;
    const LONG: u16 = 1 << 9;
    const BIG: u16 = 1 << 10;

    /// Whether the segment is of 64-bit code; it counts in long mode.
    pub fn is_long(&self) -> bool {
        self.attributes & Self::LONG != 0
    }

    /// Whether code and stack in it are of 32 bits.
    pub fn is_big(&self) -> bool {
        self.attributes & Self::BIG != 0
    }

    /// Whether protected mode allows an access at all.
    pub(super) fn allows(&self, is_write: bool) -> bool {
        let is_code = self.attributes & Self::EXECUTABLE != 0;
        let is_accessible = self.attributes & Self::ACCESSIBLE != 0;
        self.attributes & Self::PRESENT != 0
            && if is_write { !is_code && is_accessible } else { !is_code || is_accessible }
    }

    /// Whether the bytes from `first` to `last` are within the limit.
    pub(super) fn contains(&self, first: u64, last: u64) -> bool {
        let limit = u64::from(self.limit);
        if self.attributes & (Self::EXECUTABLE | Self::DOWN) == Self::DOWN {
            let end = if self.is_big() { mask(4) } else { mask(2) };
            return first > limit && last <= end;
        }
        last <= limit
    }
}

/// Sizes of code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CodeSize {
    /// Real mode, virtual-8086 mode, 16-bit segments.
    Bits16,
    /// 32-bit segments.
    Bits32,
    /// 64-bit mode.
    Bits64,
}

impl CodeSize {
    /// 16, 32 or 64.
    pub fn bits(self) -> u32 {
        match self {
            CodeSize::Bits16 => 16,
            CodeSize::Bits32 => 32,
            CodeSize::Bits64 => 64,
        }
    }

    /// What an instruction pointer can hold.
    pub(super) fn pointer(self) -> u64 {
        mask((self.bits() / 8) as u8)
    }
}

/// A virtual CPU as an instruction sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct State {
    /// General registers by their numbers in instructions: rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8 to r15.
    pub general: [u64; 16],
    /// Where the instruction is, from the start of CS.
    pub rip: u64,
    /// RFLAGS.
    pub flags: u64,
    /// Segments by [`SegmentName`].
    pub segments: [Segment; 6],
    /// Current privilege level: 0 in real mode, 3 in virtual-8086 mode.
    pub level: u8,
    /// CR0.
    pub cr0: u64,
    /// CR4.
    pub cr4: u64,
    /// EFER.
    pub efer: u64,
}

impl State {
    /// One of its segments.
    pub fn segment(&self, name: SegmentName) -> &Segment {
        &self.segments[name as usize]
    }

    /// The size of the code that runs.
    pub fn code_size(&self) -> CodeSize {
        CodeSize::of(self.efer, self.segment(SegmentName::Cs))
    }

    /// Whether it is in 64-bit mode.
    pub fn is_64bit(&self) -> bool {
        self.efer & Efer::LMA.bits() != 0 && self.segment(SegmentName::Cs).is_long()
    }

    /// Whether segments have rights: protected mode, but not virtual-8086 mode.
    pub fn is_protected(&self) -> bool {
        self.cr0 & Cr0::PE.bits() != 0 && !self.is_virtual_8086()
    }

    /// Whether it is in virtual-8086 mode.
    pub fn is_virtual_8086(&self) -> bool {
        self.cr0 & Cr0::PE.bits() != 0 && self.flags & RFlags::VM.bits() != 0
    }

    /// A general register in the size it is named by.
    pub(super) fn value(&self, register: Register) -> Option<u64> {
        let place = decode::place(register)?;
        Some(decode::pick(self.general[usize::from(place.0)], place))
    }

    /// Sets one; writes of 32 bits clear the upper half.
    pub(super) fn set_value(&mut self, register: Register, value: u64) {
        if let Some(place) = decode::place(register) {
            let whole = &mut self.general[usize::from(place.0)];
            *whole = decode::merge(*whole, place, value);
        }
    }

    /// Goes to the next instruction.
    pub(super) fn advance(&mut self, instruction: &Instruction) {
        self.rip = self.code_size().behind(self.rip, instruction.len() as u8);
        self.flags &= !RFlags::RF.bits();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_both_kinds() {
        let up = Segment { attributes: 0x93, limit: 0xfff, ..Segment::default() };
        assert!(up.contains(0, 0xfff) && !up.contains(0xffe, 0x1000));
        let down = Segment { attributes: 0x97, ..up };
        assert!(down.contains(0x1000, 0xffff) && !down.contains(0xfff, 0x1000) && !down.contains(0xffff, 0x1_0000));
        let big = Segment { attributes: 0x497, ..up };
        assert!(big.contains(0xffff_0000, 0xffff_ffff) && !big.contains(0xffff_ffff, 0x1_0000_0000));
    }

    #[test]
    fn rights_of_segments() {
        for (attributes, reads, writes) in
            [(0x93, true, true), (0x91, true, false), (0x9b, true, false), (0x99, false, false), (0x13, false, false)]
        {
            let segment = Segment { attributes, ..Segment::default() };
            assert_eq!((segment.allows(false), segment.allows(true)), (reads, writes), "{attributes:x}");
        }
    }

    #[test]
    fn code_sizes() {
        let mut state = State::default();
        assert_eq!(state.code_size(), CodeSize::Bits16);
        state.segments[1].attributes = 0x49b;
        assert_eq!(state.code_size(), CodeSize::Bits32);
        state.segments[1].attributes = 0x29b;
        assert_eq!(state.code_size(), CodeSize::Bits16);
        state.efer = Efer::LMA.bits();
        assert_eq!(state.code_size(), CodeSize::Bits64);
    }
}
