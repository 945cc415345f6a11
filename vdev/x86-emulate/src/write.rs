//! Stores that trapped: to page tables that are mapped read-only, and to devices' read-only pages.

use crate::decode::{self, mask};
use crate::{MAX_LENGTH, Registers};
use iced_x86::{Instruction, MemorySize, Mnemonic, OpKind, Register};
use x86_defs::control::RFlags;

/// What is done to the operand in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Operation {
    Mov,
    Xchg,
    Cmpxchg,
    Xadd,
    Add,
    Or,
    Adc,
    Sbb,
    And,
    Sub,
    Xor,
    Not,
    Neg,
    Inc,
    Dec,
    BitSet,
    BitReset,
    BitFlip,
}

/// A decoded store, with the values of its other operands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Write {
    /// Linear address of the operand.
    pub address: u64,
    /// Bytes of it: 1, 2, 4 or 8.
    pub size: u8,
    operation: Operation,
    source: u64,
    /// RAX in the operand's size, for CMPXCHG.
    accumulator: u64,
    flags: u64,
    /// Register of the second operand.
    register: Register,
    next: u64,
}

/// What a store does, given what was in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Effect {
    /// New contents of the operand; `None` where a CMPXCHG finds a difference and changes nothing.
    pub value: Option<u64>,
    register: Option<(Register, u64)>,
    flags: u64,
    next: u64,
}

impl Effect {
    /// Makes the registers what they are after the instruction. To be called once memory was written.
    pub fn complete(&self, cpu: &mut impl Registers) {
        if let Some((register, value)) = self.register {
            decode::set_value(cpu, register, value);
        }
        if self.flags != cpu.flags() {
            cpu.set_flags(self.flags);
        }
        cpu.set_rip(self.next);
    }
}

/// Decodes the store at the guest's rip; `None` for anything else, and for stores that are not emulated.
pub fn decode_write(cpu: &impl Registers) -> Option<Write> {
    let mut bytes = [0; MAX_LENGTH];
    let available = cpu.fetch(cpu.rip(), &mut bytes).min(MAX_LENGTH);
    let decoded = decode::instruction(cpu, &bytes[..available])?;
    if decoded.op0_kind() != OpKind::Memory || decoded.has_rep_prefix() && !decoded.has_lock_prefix() {
        return None;
    }
    let operation = operation(decoded.mnemonic())?;
    let size = match decoded.memory_size() {
        MemorySize::UInt8 | MemorySize::Int8 => 1,
        MemorySize::UInt16 | MemorySize::Int16 => 2,
        MemorySize::UInt32 | MemorySize::Int32 => 4,
        MemorySize::UInt64 | MemorySize::Int64 => 8,
        _ => return None,
    };
    let mut address = decode::effective_address(cpu, &decoded)?;
    let (register, mut source) = second_operand(cpu, &decoded)?;
    if matches!(operation, Operation::BitSet | Operation::BitReset | Operation::BitFlip) {
        let bits = u64::from(size) * 8;
        if register != Register::None {
            // A bit offset in a register reaches beyond the operand (SDM vol. 2, BT).
            let signed = sign_extend(source, size);
            let units = signed >> bits.trailing_zeros();
            address = address.wrapping_add((units as u64).wrapping_mul(size.into()));
        }
        source &= bits - 1;
    }
    Some(Write {
        address,
        size,
        operation,
        source: source & mask(size),
        accumulator: cpu.get(crate::reg::RAX) & mask(size),
        flags: cpu.flags(),
        register,
        next: if cpu.is_64bit() { decoded.next_ip() } else { decoded.next_ip() & 0xffff_ffff },
    })
}

fn operation(mnemonic: Mnemonic) -> Option<Operation> {
    Some(match mnemonic {
        Mnemonic::Mov | Mnemonic::Movnti => Operation::Mov,
        Mnemonic::Xchg => Operation::Xchg,
        Mnemonic::Cmpxchg => Operation::Cmpxchg,
        Mnemonic::Xadd => Operation::Xadd,
        Mnemonic::Add => Operation::Add,
        Mnemonic::Or => Operation::Or,
        Mnemonic::Adc => Operation::Adc,
        Mnemonic::Sbb => Operation::Sbb,
        Mnemonic::And => Operation::And,
        Mnemonic::Sub => Operation::Sub,
        Mnemonic::Xor => Operation::Xor,
        Mnemonic::Not => Operation::Not,
        Mnemonic::Neg => Operation::Neg,
        Mnemonic::Inc => Operation::Inc,
        Mnemonic::Dec => Operation::Dec,
        Mnemonic::Bts => Operation::BitSet,
        Mnemonic::Btr => Operation::BitReset,
        Mnemonic::Btc => Operation::BitFlip,
        _ => return None,
    })
}

/// The register of the second operand, where it is one, and its value.
fn second_operand(cpu: &impl Registers, decoded: &Instruction) -> Option<(Register, u64)> {
    if decoded.op_count() < 2 {
        return Some((Register::None, 0));
    }
    match decoded.op1_kind() {
        OpKind::Register => {
            let register = decoded.op1_register();
            Some((register, decode::value(cpu, register)?))
        }
        OpKind::Immediate8
        | OpKind::Immediate16
        | OpKind::Immediate32
        | OpKind::Immediate64
        | OpKind::Immediate8to16
        | OpKind::Immediate8to32
        | OpKind::Immediate8to64
        | OpKind::Immediate32to64 => Some((Register::None, decoded.immediate(1))),
        _ => None,
    }
}

const fn sign_extend(value: u64, size: u8) -> i64 {
    let unused = 64 - 8 * size as u32;
    (value << unused) as i64 >> unused
}

impl Write {
    /// Whether what was in memory does not matter.
    pub fn is_plain(&self) -> bool {
        self.operation == Operation::Mov
    }

    /// What the instruction does if memory holds `old`.
    pub fn apply(&self, old: u64) -> Effect {
        let old = old & mask(self.size);
        let bit = 1u64.wrapping_shl(self.source as u32);
        let carry = self.flags & RFlags::CF.bits();
        let unchanged = |value| self.effect(Some(value), None, self.flags);
        let bits = |value| {
            let flags = self.flags & !RFlags::CF.bits() | u64::from(old & bit != 0);
            self.effect(Some(value), None, flags)
        };
        let source = self.source;
        match self.operation {
            Operation::Mov => unchanged(source),
            Operation::Not => unchanged(!old),
            Operation::Xchg => self.effect(Some(source), Some((self.register, old)), self.flags),
            Operation::Cmpxchg => self.compare(old),
            Operation::Xadd => {
                let (sum, flags) = self.add(old, source, 0);
                self.effect(Some(sum), Some((self.register, old)), flags)
            }
            Operation::Add => self.arithmetic(self.add(old, source, 0)),
            Operation::Adc => self.arithmetic(self.add(old, source, carry)),
            Operation::Sub => self.arithmetic(self.subtract(old, source, 0)),
            Operation::Sbb => self.arithmetic(self.subtract(old, source, carry)),
            Operation::Neg => self.arithmetic(self.subtract(0, old, 0)),
            // Carry survives INC and DEC.
            Operation::Inc => self.keep_carry(self.add(old, 1, 0)),
            Operation::Dec => self.keep_carry(self.subtract(old, 1, 0)),
            Operation::And => self.arithmetic(self.logic(old & source)),
            Operation::Or => self.arithmetic(self.logic(old | source)),
            Operation::Xor => self.arithmetic(self.logic(old ^ source)),
            Operation::BitSet => bits(old | bit),
            Operation::BitReset => bits(old & !bit),
            Operation::BitFlip => bits(old ^ bit),
        }
    }

    fn effect(&self, value: Option<u64>, register: Option<(Register, u64)>, flags: u64) -> Effect {
        Effect { value: value.map(|value| value & mask(self.size)), register, flags, next: self.next }
    }

    fn arithmetic(&self, (value, flags): (u64, u64)) -> Effect {
        self.effect(Some(value), None, flags)
    }

    fn keep_carry(&self, (value, flags): (u64, u64)) -> Effect {
        let carry = RFlags::CF.bits();
        self.effect(Some(value), None, flags & !carry | self.flags & carry)
    }

    fn compare(&self, old: u64) -> Effect {
        let (_, flags) = self.subtract(self.accumulator, old, 0);
        if old == self.accumulator {
            return self.effect(Some(self.source), None, flags);
        }
        let register = match self.size {
            1 => Register::AL,
            2 => Register::AX,
            4 => Register::EAX,
            _ => Register::RAX,
        };
        self.effect(None, Some((register, old)), flags)
    }

    fn add(&self, left: u64, right: u64, carry: u64) -> (u64, u64) {
        let sum = left.wrapping_add(right).wrapping_add(carry) & mask(self.size);
        let carries = left & right | (left | right) & !sum;
        let overflow = (left ^ sum) & (right ^ sum);
        (sum, self.arithmetic_flags(sum, carries, overflow))
    }

    fn subtract(&self, left: u64, right: u64, borrow: u64) -> (u64, u64) {
        let difference = left.wrapping_sub(right).wrapping_sub(borrow) & mask(self.size);
        let borrows = !left & right | (!left | right) & difference;
        let overflow = (left ^ right) & (left ^ difference);
        (difference, self.arithmetic_flags(difference, borrows, overflow))
    }

    fn logic(&self, value: u64) -> (u64, u64) {
        (value, self.arithmetic_flags(value, 0, 0))
    }

    /// Status flags of a result (SDM vol. 1, 3.4.3.1). `carries` has the carry out of each bit, `overflow` its sign's bit.
    fn arithmetic_flags(&self, result: u64, carries: u64, overflow: u64) -> u64 {
        let top = u32::from(self.size) * 8 - 1;
        let status = RFlags::CF | RFlags::PF | RFlags::AF | RFlags::ZF | RFlags::SF | RFlags::OF;
        let mut flags = RFlags::empty();
        flags.set(RFlags::CF, carries >> top & 1 != 0);
        flags.set(RFlags::PF, (result as u8).count_ones() % 2 == 0);
        flags.set(RFlags::AF, carries >> 3 & 1 != 0);
        flags.set(RFlags::ZF, result == 0);
        flags.set(RFlags::SF, result >> top & 1 != 0);
        flags.set(RFlags::OF, overflow >> top & 1 != 0);
        self.flags & !status.bits() | flags.bits()
    }
}
