//! The code around an instruction, byte by byte.

use std::mem::offset_of;

use crate::{Registers, Slots};

/// Modes that a Linux program can be in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// 64-bit mode.
    Bits64,
    /// Compatibility mode with a flat 32-bit segment. Registers have 32 bits there, and are eight.
    Bits32,
}

/// Bytes that an instruction may have.
pub const SIZE_OF_CODE: usize = 15;
/// Where the instruction is in the page of code: behind all loads.
const INSTRUCTION_64: usize = 0x180;
const INSTRUCTION_32: usize = 0x200;
/// Where the way back begins.
const END: usize = 0x300;
/// Linux's flat code segments of ring 3, and its data segment (arch/x86/include/asm/segment.h).
const CODE_32: u16 = 0x23;
const CODE_64: u16 = 0x33;
const DATA: u16 = 0x2b;
const NOP: u8 = 0x90;
const RSP: usize = 4;

/// Where the instruction is in the page of code.
pub fn instruction_offset(mode: Mode) -> usize {
    match mode {
        Mode::Bits64 => INSTRUCTION_64,
        Mode::Bits32 => INSTRUCTION_32,
    }
}

/// Code that ends up at `base`.
struct Writer {
    code: Vec<u8>,
    registers: u32,
}

impl Writer {
    fn put(&mut self, bytes: &[u8]) {
        self.code.extend_from_slice(bytes);
    }

    /// Fills with instructions that do nothing.
    fn pad(&mut self, until: usize) {
        assert!(self.code.len() <= until, "code of {} bytes, more than {until}", self.code.len());
        self.code.resize(until, NOP);
    }

    /// An instruction of 64-bit code with a register and a slot of the registers' page: ModRM and SIB for an absolute address.
    fn with_slot(&mut self, prefix: &[u8], rex: u8, opcode: &[u8], register: usize, slot: usize) {
        let address = self.registers + slot as u32;
        self.put(prefix);
        self.put(&[rex | (register >> 3 << 2) as u8]);
        self.put(opcode);
        self.put(&[(register as u8 & 7) << 3 | 4, 0x25]);
        self.put(&address.to_le_bytes());
    }

    fn load(&mut self, register: usize, slot: usize) {
        self.with_slot(&[], 0x48, &[0x8b], register, slot);
    }

    fn store(&mut self, register: usize, slot: usize) {
        self.with_slot(&[], 0x48, &[0x89], register, slot);
    }

    /// The same in 32-bit code: `opcode`, ModRM with an absolute address.
    fn with_slot_32(&mut self, opcode: u8, register: usize, slot: usize) {
        self.put(&[opcode, (register as u8) << 3 | 5]);
        self.put(&(self.registers + slot as u32).to_le_bytes());
    }

    /// Saves the host's registers, loads vectors and flags.
    fn enter(&mut self) {
        // push rbx, rbp, r12, r13, r14, r15; pushfq
        self.put(&[0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57, 0x9c]);
        self.store(RSP, offset_of!(Slots, host_stack));
        for number in 0..16 {
            let slot = offset_of!(Registers, vectors) + 16 * number;
            self.with_slot(&[0xf3], 0x40, &[0x0f, 0x6f], number, slot);
        }
    }

    /// push [flags]; popfq
    fn load_flags(&mut self) {
        self.load(0, offset_of!(Registers, flags));
        self.put(&[0x50, 0x9d]);
    }

    /// The way back, with rsp the host's already and flags those of the instruction.
    fn leave(&mut self) {
        // pushfq; pop rax
        self.put(&[0x9c, 0x58]);
        self.store(0, offset_of!(Registers, flags));
        for number in 0..16 {
            let slot = offset_of!(Registers, vectors) + 16 * number;
            self.with_slot(&[0xf3], 0x40, &[0x0f, 0x7f], number, slot);
        }
        // popfq; pop r15, r14, r13, r12, rbp, rbx; ret
        self.put(&[0x9d, 0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c, 0x5d, 0x5b, 0xc3]);
    }
}

/// All of the code, with `instruction` in its place.
pub fn code(mode: Mode, base: u32, registers: u32, instruction: &[u8]) -> Vec<u8> {
    assert!(instruction.len() <= SIZE_OF_CODE);
    let mut writer = Writer { code: Vec::with_capacity(0x1000), registers };
    writer.enter();
    match mode {
        Mode::Bits64 => around_64(&mut writer, instruction),
        Mode::Bits32 => around_32(&mut writer, base, instruction),
    }
    writer.load(RSP, offset_of!(Slots, host_stack));
    writer.leave();
    writer.code
}

/// The slot of a general register; the field is the first.
const fn slot(register: usize) -> usize {
    offset_of!(Registers, general) + 8 * register
}

fn around_64(writer: &mut Writer, instruction: &[u8]) {
    writer.load_flags();
    (0..16).filter(|register| *register != RSP).for_each(|register| writer.load(register, slot(register)));
    writer.load(RSP, slot(RSP));
    writer.pad(INSTRUCTION_64);
    writer.put(instruction);
    writer.pad(INSTRUCTION_64 + SIZE_OF_CODE);
    (0..16).for_each(|register| writer.store(register, slot(register)));
    writer.pad(END);
}

fn around_32(writer: &mut Writer, base: u32, instruction: &[u8]) {
    // mov eax, DATA; mov ds, eax; mov es, eax: 64-bit programs have none.
    writer.put(&[0xb8]);
    writer.put(&u32::from(DATA).to_le_bytes());
    writer.put(&[0x8e, 0xd8, 0x8e, 0xc0]);
    writer.load_flags();
    // A far jump by the pointer right behind it: jmp far [rip].
    writer.put(&[0xff, 0x2d, 0, 0, 0, 0]);
    let target = base + writer.code.len() as u32 + 6;
    writer.put(&target.to_le_bytes());
    writer.put(&CODE_32.to_le_bytes());
    (0..8).for_each(|register| writer.with_slot_32(0x8b, register, slot(register)));
    writer.pad(INSTRUCTION_32);
    writer.put(instruction);
    writer.pad(INSTRUCTION_32 + SIZE_OF_CODE);
    (0..8).for_each(|register| writer.with_slot_32(0x89, register, slot(register)));
    // jmp far CODE_64:END
    writer.put(&[0xea]);
    writer.put(&(base + END as u32).to_le_bytes());
    writer.put(&CODE_64.to_le_bytes());
    writer.pad(END);
}
