//! From an instruction's memory operand to linear addresses.

use super::state::{SegmentName, State};
use super::{Result, Stop};
use crate::decode::{self, mask};
use iced_x86::{Instruction, Register};
use x86_defs::control::is_canonical;

/// Bytes of the addresses that an instruction computes: 2, 4 or 8.
pub fn width(instruction: &Instruction) -> u8 {
    let size_of = |register: Register| match register {
        Register::None => None,
        Register::RIP => Some(8),
        Register::EIP => Some(4),
        other => decode::place(other).map(|(_, _, size)| size),
    };
    // XLAT's index is AL; its base tells. Without registers the displacement has the size of addresses.
    size_of(instruction.memory_base())
        .or_else(|| size_of(instruction.memory_index()))
        .unwrap_or(instruction.memory_displ_size().clamp(2, 8) as u8)
}

/// Offset of an instruction's memory operand in its segment.
pub fn offset(state: &State, instruction: &Instruction) -> Result<u64> {
    let (base, index) = (instruction.memory_base(), instruction.memory_index());
    let mut offset = instruction.memory_displacement64();
    // A displacement from RIP is an address by now.
    if !matches!(base, Register::None | Register::RIP | Register::EIP) {
        offset = offset.wrapping_add(state.value(base).ok_or(Stop::Unhandled)?);
    }
    if index != Register::None {
        let scale = u64::from(instruction.memory_index_scale());
        offset = offset.wrapping_add(state.value(index).ok_or(Stop::Unhandled)?.wrapping_mul(scale));
    }
    Ok(offset & mask(width(instruction)))
}

/// Linear address of `bytes` bytes at an offset in a segment, 1 at least.
///
/// # Errors
/// #SS for the stack segment, else #GP: not canonical, beyond the limit, or not allowed.
pub fn linear(state: &State, name: SegmentName, offset: u64, bytes: u64, is_write: bool) -> Result<u64> {
    let fault = if name == SegmentName::Ss { Stop::SS } else { Stop::GP };
    let last = offset.checked_add(bytes - 1).ok_or(fault)?;
    let segment = state.segment(name);
    let is_64bit = state.is_64bit();
    let base = if is_64bit && !matches!(name, SegmentName::Fs | SegmentName::Gs) { 0 } else { segment.base };
    let address = base.wrapping_add(offset);
    if is_64bit {
        let end = address.checked_add(bytes - 1).ok_or(fault)?;
        return if is_canonical(address) && is_canonical(end) { Ok(address) } else { Err(fault) };
    }
    if !segment.contains(offset, last) || state.is_protected() && !segment.allows(is_write) {
        return Err(fault);
    }
    let address = address & mask(4);
    if address + (bytes - 1) > mask(4) { Err(fault) } else { Ok(address) }
}
