//! Stores that trapped: to page tables that are mapped read-only, and to devices' read-only pages.

use crate::alu::{Alu, Answer, BitChange, sign_extend};
use crate::decode::{self, mask};
use crate::{MAX_LENGTH, Registers};
use iced_x86::{Instruction, Mnemonic, OpKind, Register};

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
    let decoded = match cpu.recent() {
        Some(recent) => recent.instruction(cpu, &bytes, available)?,
        None => decode::instruction(cpu, &bytes[..available])?,
    };
    if decoded.op0_kind() != OpKind::Memory || decoded.has_rep_prefix() && !decoded.has_lock_prefix() {
        return None;
    }
    let operation = operation(decoded.mnemonic())?;
    let size = decode::memory_size(&decoded)?;
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
        kind if decode::is_immediate(kind) => Some((Register::None, decoded.immediate(1))),
        _ => None,
    }
}

impl Write {
    /// Whether what was in memory does not matter.
    pub fn is_plain(&self) -> bool {
        self.operation == Operation::Mov
    }

    /// What the instruction does if memory holds `old`.
    pub fn apply(&self, old: u64) -> Effect {
        let old = old & mask(self.size);
        let alu = Alu { size: self.size, flags: self.flags };
        let source = self.source;
        let bit = |change| alu.bit(old, source, change);
        match self.operation {
            Operation::Mov => self.effect(Some(source), None, self.flags),
            Operation::Not => self.effect(Some(!old), None, self.flags),
            Operation::Xchg => self.effect(Some(source), Some((self.register, old)), self.flags),
            Operation::Cmpxchg => self.compare(alu, old),
            Operation::Xadd => {
                let (sum, flags) = alu.add(old, source);
                self.effect(Some(sum), Some((self.register, old)), flags)
            }
            Operation::Add => self.arithmetic(alu.add(old, source)),
            Operation::Adc => self.arithmetic(alu.add_with_carry(old, source)),
            Operation::Sub => self.arithmetic(alu.subtract(old, source)),
            Operation::Sbb => self.arithmetic(alu.subtract_with_borrow(old, source)),
            Operation::Neg => self.arithmetic(alu.negate(old)),
            Operation::Inc => self.arithmetic(alu.increment(old)),
            Operation::Dec => self.arithmetic(alu.decrement(old)),
            Operation::And => self.arithmetic(alu.logic(old & source)),
            Operation::Or => self.arithmetic(alu.logic(old | source)),
            Operation::Xor => self.arithmetic(alu.logic(old ^ source)),
            Operation::BitSet => self.arithmetic(bit(BitChange::Set)),
            Operation::BitReset => self.arithmetic(bit(BitChange::Reset)),
            Operation::BitFlip => self.arithmetic(bit(BitChange::Flip)),
        }
    }

    fn effect(&self, value: Option<u64>, register: Option<(Register, u64)>, flags: u64) -> Effect {
        Effect { value: value.map(|value| value & mask(self.size)), register, flags, next: self.next }
    }

    fn arithmetic(&self, (value, flags): Answer) -> Effect {
        self.effect(Some(value), None, flags)
    }

    fn compare(&self, alu: Alu, old: u64) -> Effect {
        let (_, flags) = alu.subtract(self.accumulator, old);
        if old == self.accumulator {
            return self.effect(Some(self.source), None, flags);
        }
        self.effect(None, Some((decode::accumulator(self.size), old)), flags)
    }
}
