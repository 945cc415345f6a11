//! Moves of vector registers, as code that copies to and from video memory has them; and hints to caches.

use super::step::{Flow, Step};
use super::{Access, Result, State, Stop, System};
use crate::decode::mask;
use iced_x86::{Mnemonic, OpKind, Register};
use x86_defs::control::{Cr0, Cr4};

/// Part of a vector register that is moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    /// All of it, at any address.
    Whole,
    /// All of it; the address is a multiple of 16.
    Aligned,
    /// The lowest bytes; a load clears the others.
    Low(u8),
    /// As that, but another vector register gives its lowest bytes alone.
    Scalar(u8),
    /// The lower half alone.
    LowerHalf,
    /// The upper half alone.
    UpperHalf,
}

/// Carries the instruction out if it is of this family.
pub fn execute<C: System>(step: &mut Step<'_, C>) -> Result<Option<Flow>> {
    let part = match step.instruction.mnemonic() {
        Mnemonic::Movups | Mnemonic::Movupd | Mnemonic::Movdqu | Mnemonic::Lddqu => Part::Whole,
        Mnemonic::Movaps | Mnemonic::Movapd | Mnemonic::Movdqa => Part::Aligned,
        Mnemonic::Movntps | Mnemonic::Movntpd | Mnemonic::Movntdq | Mnemonic::Movntdqa => Part::Aligned,
        Mnemonic::Movd => Part::Low(4),
        Mnemonic::Movq => Part::Low(8),
        Mnemonic::Movss => Part::Scalar(4),
        Mnemonic::Movsd => Part::Scalar(8),
        Mnemonic::Movlps | Mnemonic::Movlpd => Part::LowerHalf,
        Mnemonic::Movhps | Mnemonic::Movhpd => Part::UpperHalf,
        other => return hint(step, other),
    };
    check_usable(step)?;
    if is_vector(step.instruction.op0_register()) {
        load(step, part)?;
    } else {
        store(step, part)?;
    }
    Ok(Some(Flow::Next))
}

/// Instructions that only say what will be used, or wait for others.
fn hint<C: System>(step: &mut Step<'_, C>, mnemonic: Mnemonic) -> Result<Option<Flow>> {
    match mnemonic {
        Mnemonic::Clflush | Mnemonic::Clflushopt | Mnemonic::Clwb => {
            step.address(1, false)?;
        }
        Mnemonic::Prefetchnta | Mnemonic::Prefetcht0 | Mnemonic::Prefetcht1 | Mnemonic::Prefetcht2 => {}
        Mnemonic::Prefetch | Mnemonic::Prefetchw | Mnemonic::Prefetchwt1 => {}
        Mnemonic::Nop | Mnemonic::Pause | Mnemonic::Lfence | Mnemonic::Mfence | Mnemonic::Sfence => {}
        _ => return Ok(None),
    }
    Ok(Some(Flow::Next))
}

/// SSE instructions exist, and the vector registers are the guest's (SDM vol. 3, table 14-1).
fn check_usable<C: System>(step: &Step<'_, C>) -> Result<()> {
    let State { cr0, cr4, .. } = *step.state;
    if cr0 & Cr0::EM.bits() != 0 || cr4 & Cr4::OSFXSR.bits() == 0 {
        return Err(Stop::UD);
    }
    if cr0 & Cr0::TS.bits() != 0 { Err(Stop::NM) } else { Ok(()) }
}

fn is_vector(register: Register) -> bool {
    number(register).is_some()
}

fn number(register: Register) -> Option<u8> {
    let distance = (register as usize).checked_sub(Register::XMM0 as usize)?;
    (distance < 16).then_some(distance as u8)
}

/// Memory's address and bytes for a part.
fn place<C: System>(step: &Step<'_, C>, part: Part, is_write: bool) -> Result<(u64, usize)> {
    let bytes = match part {
        Part::Whole | Part::Aligned => 16,
        Part::Low(bytes) | Part::Scalar(bytes) => bytes,
        Part::LowerHalf | Part::UpperHalf => 8,
    };
    let linear = step.address(bytes, is_write)?;
    if part == Part::Aligned && linear % 16 != 0 {
        return Err(Stop::GP);
    }
    Ok((linear, bytes.into()))
}

fn load<C: System>(step: &mut Step<'_, C>, part: Part) -> Result<()> {
    let to = number(step.instruction.op0_register()).ok_or(Stop::Unhandled)?;
    let old = step.client.vector(to);
    let low = |bytes: u8| u128::from(mask(bytes));
    if step.instruction.op1_kind() != OpKind::Memory {
        let from = step.instruction.op1_register();
        let value = match (number(from), part) {
            (Some(from), Part::Whole | Part::Aligned) => step.client.vector(from),
            (Some(from), Part::Low(bytes)) => step.client.vector(from) & low(bytes),
            (Some(from), Part::Scalar(bytes)) => old & !low(bytes) | step.client.vector(from) & low(bytes),
            (None, Part::Low(_)) => step.state.value(from).ok_or(Stop::Unhandled)?.into(),
            _ => return Err(Stop::Unhandled),
        };
        step.client.set_vector(to, value);
        return Ok(());
    }
    let (linear, bytes) = place(step, part, false)?;
    let mut read = [0; 16];
    step.client.read(linear, &mut read[..bytes], Access::Read)?;
    let read = u128::from_le_bytes(read);
    let value = match part {
        Part::LowerHalf => old & !low(8) | read,
        Part::UpperHalf => old & low(8) | read << 64,
        _ => read,
    };
    step.client.set_vector(to, value);
    Ok(())
}

fn store<C: System>(step: &mut Step<'_, C>, part: Part) -> Result<()> {
    let from = number(step.instruction.op1_register()).ok_or(Stop::Unhandled)?;
    let value = step.client.vector(from);
    if step.instruction.op0_kind() != OpKind::Memory {
        return step.set_register(0, value as u64);
    }
    let (linear, bytes) = place(step, part, true)?;
    let value = if part == Part::UpperHalf { value >> 64 } else { value };
    step.client.write(linear, &value.to_le_bytes()[..bytes])
}
