//! Arithmetic, logic, shifts and bits.

use super::step::{Change, Flow, Step};
use super::{Access, Result, Stop, System};
use crate::alu::{Alu, Answer, BitChange, Product, Quotient, Shift, crc32c, sign_extend};
use iced_x86::{Mnemonic, OpKind, Register};

/// Carries the instruction out if it is of this family.
pub fn execute<C: System>(step: &mut Step<'_, C>) -> Result<Option<Flow>> {
    let mnemonic = step.instruction.mnemonic();
    if let Some(operation) = two_operands(mnemonic) {
        let size = step.size(0)?;
        let (source, alu) = (step.load(1, size)?, step.alu(size));
        return step.modify(size, |old| Change::new(operation(alu, old, source))).map(Some);
    }
    if let Some(operation) = one_operand(mnemonic) {
        let size = step.size(0)?;
        let alu = step.alu(size);
        return step.modify(size, |old| Change::new(operation(alu, old))).map(Some);
    }
    if let Some(shift) = shift(mnemonic) {
        let size = step.size(0)?;
        let (count, alu) = (step.load(1, 1)?, step.alu(size));
        return step.modify(size, |old| Change::new(alu.shift(shift, old, count))).map(Some);
    }
    if let Some(change) = bit_change(mnemonic) {
        return bit(step, change).map(Some);
    }
    match mnemonic {
        Mnemonic::Cmp => compare(step, Alu::subtract)?,
        Mnemonic::Test => compare(step, |alu, left, right| alu.logic(left & right))?,
        Mnemonic::Shld | Mnemonic::Shrd => {
            let size = step.size(0)?;
            let (filler, count, alu) = (step.load(1, size)?, step.load(2, 1)?, step.alu(size));
            let is_left = mnemonic == Mnemonic::Shld;
            return step.modify(size, |old| Change::new(alu.shift_double(is_left, old, filler, count))).map(Some);
        }
        Mnemonic::Imul if step.instruction.op_count() > 1 => multiply_into_register(step)?,
        Mnemonic::Mul => multiply(step, Alu::multiply)?,
        Mnemonic::Imul => multiply(step, Alu::multiply_signed)?,
        Mnemonic::Div => divide(step, Alu::divide)?,
        Mnemonic::Idiv => divide(step, Alu::divide_signed)?,
        Mnemonic::Bsf | Mnemonic::Bsr => {
            let size = step.size(0)?;
            let (source, alu) = (step.load(1, size)?, step.alu(size));
            let (found, flags) = alu.scan(source, mnemonic == Mnemonic::Bsr);
            step.state.flags = flags;
            // CPUs leave the register alone where there is no bit (APM vol. 3, BSF).
            if let Some(position) = found {
                step.set_register(0, position)?;
            }
        }
        Mnemonic::Popcnt => count(step, Alu::count_ones)?,
        Mnemonic::Lzcnt => count(step, Alu::leading_zeros)?,
        Mnemonic::Tzcnt => count(step, Alu::trailing_zeros)?,
        Mnemonic::Crc32 => {
            let size = step.size(1)?;
            let checksum = step.load(0, 4)? as u32;
            let source = step.load(1, size)?;
            step.set_register(0, crc32c(checksum, source, size).into())?;
        }
        _ => return Ok(None),
    }
    Ok(Some(Flow::Next))
}

fn two_operands(mnemonic: Mnemonic) -> Option<fn(Alu, u64, u64) -> Answer> {
    Some(match mnemonic {
        Mnemonic::Add => Alu::add,
        Mnemonic::Adc => Alu::add_with_carry,
        Mnemonic::Sub => Alu::subtract,
        Mnemonic::Sbb => Alu::subtract_with_borrow,
        Mnemonic::And => |alu, old, source| alu.logic(old & source),
        Mnemonic::Or => |alu, old, source| alu.logic(old | source),
        Mnemonic::Xor => |alu, old, source| alu.logic(old ^ source),
        _ => return None,
    })
}

fn one_operand(mnemonic: Mnemonic) -> Option<fn(Alu, u64) -> Answer> {
    Some(match mnemonic {
        Mnemonic::Inc => Alu::increment,
        Mnemonic::Dec => Alu::decrement,
        Mnemonic::Neg => Alu::negate,
        Mnemonic::Not => |alu, old| (!old, alu.flags),
        _ => return None,
    })
}

fn shift(mnemonic: Mnemonic) -> Option<Shift> {
    Some(match mnemonic {
        Mnemonic::Rol => Shift::RotateLeft,
        Mnemonic::Ror => Shift::RotateRight,
        Mnemonic::Rcl => Shift::CarryLeft,
        Mnemonic::Rcr => Shift::CarryRight,
        Mnemonic::Shl | Mnemonic::Sal => Shift::Left,
        Mnemonic::Shr => Shift::Right,
        Mnemonic::Sar => Shift::ArithmeticRight,
        _ => return None,
    })
}

fn bit_change(mnemonic: Mnemonic) -> Option<BitChange> {
    Some(match mnemonic {
        Mnemonic::Bt => BitChange::Test,
        Mnemonic::Bts => BitChange::Set,
        Mnemonic::Btr => BitChange::Reset,
        Mnemonic::Btc => BitChange::Flip,
        _ => return None,
    })
}

fn bit<C: System>(step: &mut Step<'_, C>, change: BitChange) -> Result<Flow> {
    let size = step.size(0)?;
    let (position, alu) = (step.load(1, size)?, step.alu(size));
    let distance = if step.instruction.op1_kind() == OpKind::Register {
        // A position in a register reaches beyond the operand in memory (SDM vol. 2, BT).
        let units = sign_extend(position, size) >> (u32::from(size) * 8).trailing_zeros();
        (units as u64).wrapping_mul(size.into())
    } else {
        0
    };
    if change != BitChange::Test {
        return step.modify_at(distance, size, |old| Change::new(alu.bit(old, position, change)));
    }
    let value = if step.is_memory(0) {
        let linear = step.address_at(distance, size, false)?;
        step.read(linear, size, Access::Read)?
    } else {
        step.load(0, size)?
    };
    step.state.flags = alu.bit(value, position, change).1;
    Ok(Flow::Next)
}

fn compare<C: System>(step: &mut Step<'_, C>, operation: fn(Alu, u64, u64) -> Answer) -> Result<()> {
    let size = step.size(0)?;
    let (left, right) = (step.load(0, size)?, step.load(1, size)?);
    step.state.flags = operation(step.alu(size), left, right).1;
    Ok(())
}

fn count<C: System>(step: &mut Step<'_, C>, operation: fn(Alu, u64) -> Answer) -> Result<()> {
    let size = step.size(0)?;
    let source = step.load(1, size)?;
    let (count, flags) = operation(step.alu(size), source);
    step.state.flags = flags;
    step.set_register(0, count)
}

/// IMUL with two and three operands.
fn multiply_into_register<C: System>(step: &mut Step<'_, C>) -> Result<()> {
    let size = step.size(0)?;
    let (left, right) = if step.instruction.op_count() == 2 {
        (step.load(0, size)?, step.load(1, size)?)
    } else {
        (step.load(1, size)?, step.load(2, size)?)
    };
    let product = step.alu(size).multiply_signed(left, right);
    step.state.flags = product.flags;
    step.set_register(0, product.low)
}

/// Registers of a product or dividend of twice `size` bytes: upper and lower half.
fn pair(size: u8) -> (Register, Register) {
    match size {
        1 => (Register::AH, Register::AL),
        2 => (Register::DX, Register::AX),
        4 => (Register::EDX, Register::EAX),
        _ => (Register::RDX, Register::RAX),
    }
}

fn multiply<C: System>(step: &mut Step<'_, C>, operation: fn(Alu, u64, u64) -> Product) -> Result<()> {
    let size = step.size(0)?;
    let (high, low) = pair(size);
    let right = step.load(0, size)?;
    let left = step.state.value(low).ok_or(Stop::Unhandled)?;
    let product = operation(step.alu(size), left, right);
    step.state.set_value(low, product.low);
    step.state.set_value(high, product.high);
    step.state.flags = product.flags;
    Ok(())
}

type Division = fn(Alu, u64, u64, u64) -> Option<Quotient>;

fn divide<C: System>(step: &mut Step<'_, C>, operation: Division) -> Result<()> {
    let size = step.size(0)?;
    let (high, low) = pair(size);
    let divisor = step.load(0, size)?;
    let value = |register| step.state.value(register).ok_or(Stop::Unhandled);
    let (upper, lower) = (value(high)?, value(low)?);
    let Quotient { quotient, remainder } = operation(step.alu(size), upper, lower, divisor).ok_or(Stop::DE)?;
    step.state.set_value(low, quotient);
    step.state.set_value(high, remainder);
    Ok(())
}
