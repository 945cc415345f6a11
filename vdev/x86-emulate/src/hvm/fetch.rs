//! Code bytes and their meaning.

use super::state::{CodeSize, SegmentName, State};
use super::{Access, Memory, Result, Stop};
use crate::MAX_LENGTH;
use crate::decode::mask;
use iced_x86::{Code, Decoder, DecoderError, DecoderOptions, Instruction};
use x86_defs::control::is_canonical;

/// Decodes the instruction at rip.
pub fn instruction(state: &State, client: &mut impl Memory) -> Result<Instruction> {
    let linear = code_address(state)?;
    let mut bytes = [0; MAX_LENGTH];
    let within = bytes_to_limit(state, linear);
    let available = client.fetch(linear, &mut bytes).min(MAX_LENGTH).min(within);
    match decode(&bytes[..available], state.code_size(), state.rip) {
        Ok(instruction) => Ok(instruction),
        // It goes beyond the segment.
        Err(DecoderError::NoMoreBytes) if available == within => Err(Stop::GP),
        Err(DecoderError::NoMoreBytes) => {
            // The rest of the instruction is in a page that cannot be executed: the access has the fault.
            client.read(linear.wrapping_add(available as u64), &mut [0], Access::Execute)?;
            Err(Stop::Unhandled)
        }
        Err(_) => Err(Stop::Unhandled),
    }
}

/// Decodes `code`, which is at `rip`.
pub fn decode(code: &[u8], size: CodeSize, rip: u64) -> core::result::Result<Instruction, DecoderError> {
    let mut decoder = Decoder::with_ip(size.bits(), code, rip, DecoderOptions::NONE);
    let decoded = decoder.decode();
    if decoded.code() == Code::INVALID { Err(decoder.last_error()) } else { Ok(decoded) }
}

/// Linear address of rip.
fn code_address(state: &State) -> Result<u64> {
    if state.is_64bit() {
        return if is_canonical(state.rip) { Ok(state.rip) } else { Err(Stop::GP) };
    }
    Ok(state.segment(SegmentName::Cs).base.wrapping_add(state.rip) & mask(4))
}

/// Bytes of code from rip, which is at `linear`, to the limit of CS or the end of the address space.
fn bytes_to_limit(state: &State, linear: u64) -> usize {
    let most = MAX_LENGTH as u64;
    let left = if state.is_64bit() {
        (u64::MAX - linear).saturating_add(1)
    } else {
        let limit = u64::from(state.segment(SegmentName::Cs).limit);
        (limit + 1).saturating_sub(state.rip).min(mask(4) + 1 - linear)
    };
    left.min(most) as usize
}
