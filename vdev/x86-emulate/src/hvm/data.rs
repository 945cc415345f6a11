//! Moves and exchanges.

use super::state::SegmentName;
use super::step::{Change, Flow, Step};
use super::{Access, Result, Stop, System, address};
use crate::alu::{byte_swap, sign_extend};
use crate::decode::{self, mask};
use crate::reg;
use iced_x86::{Mnemonic, OpKind, Register};
use x86_defs::control::RFlags;

/// Carries the instruction out if it is of this family.
pub fn execute<C: System>(step: &mut Step<'_, C>) -> Result<Option<Flow>> {
    match step.instruction.mnemonic() {
        Mnemonic::Mov | Mnemonic::Movnti => mov(step)?,
        Mnemonic::Movzx => {
            let size = step.size(1)?;
            let value = step.load(1, size)?;
            step.set_register(0, value)?;
        }
        Mnemonic::Movsx | Mnemonic::Movsxd => {
            let size = step.size(1)?;
            let value = step.load(1, size)?;
            step.set_register(0, sign_extend(value, size) as u64)?;
        }
        Mnemonic::Movbe => {
            let size = step.size(0)?;
            let value = step.load(1, size)?;
            step.store(size, byte_swap(value, size))?;
        }
        Mnemonic::Lea => {
            let offset = address::offset(step.state, step.instruction)?;
            step.set_register(0, offset)?;
        }
        Mnemonic::Xlatb => {
            let linear = step.address(1, false)?;
            let value = step.read(linear, 1, Access::Read)?;
            step.state.set_value(Register::AL, value);
        }
        Mnemonic::Xchg => return exchange(step).map(Some),
        Mnemonic::Xadd => return exchange_and_add(step).map(Some),
        Mnemonic::Cmpxchg => return compare_and_exchange(step).map(Some),
        Mnemonic::Cmpxchg8b => return compare_and_exchange_pair(step, 4).map(Some),
        Mnemonic::Cmpxchg16b => return compare_and_exchange_pair(step, 8).map(Some),
        Mnemonic::Push => push(step)?,
        Mnemonic::Pop => pop(step)?,
        other => return conditional(step, other),
    }
    Ok(Some(Flow::Next))
}

fn mov<C: System>(step: &mut Step<'_, C>) -> Result<()> {
    if let Some(segment) = SegmentName::of(step.instruction.op1_register()) {
        // A selector is of 2 bytes in memory, and is extended in a register.
        let size = if step.is_memory(0) { 2 } else { step.size(0)? };
        let selector = step.state.segment(segment).selector;
        return step.store(size, selector.into());
    }
    let size = step.size(0)?;
    let value = step.load(1, size)?;
    step.store(size, value)
}

fn exchange<C: System>(step: &mut Step<'_, C>) -> Result<Flow> {
    let size = step.size(0)?;
    let register = step.instruction.op1_register();
    let new = step.load(1, size)?;
    let flags = step.state.flags;
    step.modify(size, |old| Change { value: Some(new), flags, register: Some((register, old)) })
}

fn exchange_and_add<C: System>(step: &mut Step<'_, C>) -> Result<Flow> {
    let size = step.size(0)?;
    let register = step.instruction.op1_register();
    let (addend, alu) = (step.load(1, size)?, step.alu(size));
    step.modify(size, |old| {
        let (sum, flags) = alu.add(old, addend);
        Change { value: Some(sum), flags, register: Some((register, old)) }
    })
}

fn compare_and_exchange<C: System>(step: &mut Step<'_, C>) -> Result<Flow> {
    let size = step.size(0)?;
    let accumulator = decode::accumulator(size);
    let expected = step.state.value(accumulator).ok_or(Stop::Unhandled)?;
    let (new, alu) = (step.load(1, size)?, step.alu(size));
    step.modify(size, |old| {
        let (_, flags) = alu.subtract(expected, old);
        if old == expected {
            Change { value: Some(new), flags, register: None }
        } else {
            Change { value: None, flags, register: Some((accumulator, old)) }
        }
    })
}

/// CMPXCHG8B and CMPXCHG16B, by halves of `half` bytes.
fn compare_and_exchange_pair<C: System>(step: &mut Step<'_, C>, half: u8) -> Result<Flow> {
    let size = usize::from(half) * 2;
    let linear = step.address(half * 2, true)?;
    if half == 8 && linear % 16 != 0 {
        return Err(Stop::GP);
    }
    let shift = u32::from(half) * 8;
    let pair = |step: &Step<'_, C>, high: u8, low: u8| {
        let part = |number: u8| u128::from(step.state.general[usize::from(number)] & mask(half));
        part(high) << shift | part(low)
    };
    let mut bytes = [0; 16];
    step.client.read(linear, &mut bytes[..size], Access::Modify)?;
    let old = u128::from_le_bytes(bytes);
    let is_equal = old == pair(step, reg::RDX, reg::RAX);
    if is_equal {
        let new = pair(step, reg::RCX, reg::RBX).to_le_bytes();
        if !step.is_atomic() {
            step.client.write(linear, &new[..size])?;
        } else if !step.client.compare_exchange(linear, &bytes[..size], &new[..size])? {
            return Ok(Flow::Again);
        }
    } else {
        step.state.general[usize::from(reg::RAX)] = old as u64 & mask(half);
        step.state.general[usize::from(reg::RDX)] = (old >> shift) as u64 & mask(half);
    }
    let zero = RFlags::ZF.bits();
    step.state.flags = step.state.flags & !zero | if is_equal { zero } else { 0 };
    Ok(Flow::Next)
}

/// Bytes that PUSH and POP move.
fn stack_unit<C: System>(step: &Step<'_, C>) -> Result<u8> {
    match step.instruction.op0_kind() {
        OpKind::Immediate8to16 | OpKind::Immediate16 => Ok(2),
        OpKind::Immediate8to32 | OpKind::Immediate32 => Ok(4),
        OpKind::Immediate8to64 | OpKind::Immediate32to64 => Ok(8),
        _ => step.size(0),
    }
}

/// The stack pointer's register.
fn stack_pointer<C: System>(step: &Step<'_, C>) -> Register {
    if step.state.is_64bit() {
        Register::RSP
    } else if step.state.segment(SegmentName::Ss).is_big() {
        Register::ESP
    } else {
        Register::SP
    }
}

fn push<C: System>(step: &mut Step<'_, C>) -> Result<()> {
    let size = stack_unit(step)?;
    let value = step.load(0, size)?;
    let pointer = stack_pointer(step);
    let top = step.state.value(pointer).ok_or(Stop::Unhandled)?.wrapping_sub(size.into());
    step.state.set_value(pointer, top);
    let top = step.state.value(pointer).ok_or(Stop::Unhandled)?;
    let linear = address::linear(step.state, SegmentName::Ss, top, size.into(), true)?;
    step.write(linear, size, value)
}

fn pop<C: System>(step: &mut Step<'_, C>) -> Result<()> {
    let size = stack_unit(step)?;
    let pointer = stack_pointer(step);
    let top = step.state.value(pointer).ok_or(Stop::Unhandled)?;
    let linear = address::linear(step.state, SegmentName::Ss, top, size.into(), false)?;
    // An address of the destination that uses the stack pointer has the new one (SDM vol. 2, POP).
    step.state.set_value(pointer, top.wrapping_add(size.into()));
    if step.is_memory(0) {
        let to = step.address(size, true)?;
        step.client.check_write(to, size.into())?;
    }
    let value = step.read(linear, size, Access::Read)?;
    step.store(size, value)
}

/// SETcc and CMOVcc.
fn conditional<C: System>(step: &mut Step<'_, C>, mnemonic: Mnemonic) -> Result<Option<Flow>> {
    if let Some(holds) = set_condition(step, mnemonic) {
        step.store(1, holds.into())?;
        return Ok(Some(Flow::Next));
    }
    let Some(holds) = move_condition(step, mnemonic) else {
        return Ok(None);
    };
    // The source is read, and an upper half cleared, whether the condition holds or not.
    let size = step.size(0)?;
    let new = step.load(1, size)?;
    let old = step.load(0, size)?;
    step.set_register(0, if holds { new } else { old })?;
    Ok(Some(Flow::Next))
}

/// Whether SETcc's condition holds; `None` for other instructions.
fn set_condition<C: System>(step: &Step<'_, C>, mnemonic: Mnemonic) -> Option<bool> {
    Some(match mnemonic {
        Mnemonic::Seto => condition(step, 0),
        Mnemonic::Setno => condition(step, 1),
        Mnemonic::Setb => condition(step, 2),
        Mnemonic::Setae => condition(step, 3),
        Mnemonic::Sete => condition(step, 4),
        Mnemonic::Setne => condition(step, 5),
        Mnemonic::Setbe => condition(step, 6),
        Mnemonic::Seta => condition(step, 7),
        Mnemonic::Sets => condition(step, 8),
        Mnemonic::Setns => condition(step, 9),
        Mnemonic::Setp => condition(step, 10),
        Mnemonic::Setnp => condition(step, 11),
        Mnemonic::Setl => condition(step, 12),
        Mnemonic::Setge => condition(step, 13),
        Mnemonic::Setle => condition(step, 14),
        Mnemonic::Setg => condition(step, 15),
        _ => return None,
    })
}

/// Whether CMOVcc's condition holds; `None` for other instructions.
fn move_condition<C: System>(step: &Step<'_, C>, mnemonic: Mnemonic) -> Option<bool> {
    Some(match mnemonic {
        Mnemonic::Cmovo => condition(step, 0),
        Mnemonic::Cmovno => condition(step, 1),
        Mnemonic::Cmovb => condition(step, 2),
        Mnemonic::Cmovae => condition(step, 3),
        Mnemonic::Cmove => condition(step, 4),
        Mnemonic::Cmovne => condition(step, 5),
        Mnemonic::Cmovbe => condition(step, 6),
        Mnemonic::Cmova => condition(step, 7),
        Mnemonic::Cmovs => condition(step, 8),
        Mnemonic::Cmovns => condition(step, 9),
        Mnemonic::Cmovp => condition(step, 10),
        Mnemonic::Cmovnp => condition(step, 11),
        Mnemonic::Cmovl => condition(step, 12),
        Mnemonic::Cmovge => condition(step, 13),
        Mnemonic::Cmovle => condition(step, 14),
        Mnemonic::Cmovg => condition(step, 15),
        _ => return None,
    })
}

/// A condition by the low 4 bits of its opcodes (SDM vol. 1, appendix B).
fn condition<C: System>(step: &Step<'_, C>, code: u8) -> bool {
    let is_less = step.has(RFlags::SF) != step.has(RFlags::OF);
    let holds = match code >> 1 {
        0 => step.has(RFlags::OF),
        1 => step.has(RFlags::CF),
        2 => step.has(RFlags::ZF),
        3 => step.has(RFlags::CF) || step.has(RFlags::ZF),
        4 => step.has(RFlags::SF),
        5 => step.has(RFlags::PF),
        6 => is_less,
        _ => is_less || step.has(RFlags::ZF),
    };
    holds != (code & 1 != 0)
}
