//! INS and OUTS (SDM vol. 2).

use crate::decode::Prefixes;
use crate::{Privileged, Result, Trap, reg};
use x86_defs::control::RFlags;

/// Units that one call moves at most; the guest comes back for the others by the same instruction.
const LIMIT: u64 = 512;

/// Moves units of `size` bytes between port DX and memory. True when the instruction is finished.
pub fn transfer(cpu: &mut impl Privileged, prefixes: Prefixes, size: u8, is_input: bool) -> Result<bool> {
    let is_small = prefixes.small_address || !cpu.is_64bit();
    let width = if is_small { 0xffff_ffff } else { u64::MAX };
    let port = cpu.get(reg::RDX) as u16;
    if !cpu.may_use_port(port, size) {
        return Err(Trap::GP);
    }
    // 16-bit addresses in 32-bit code.
    if prefixes.small_address && !cpu.is_64bit() {
        return Err(Trap::Unhandled);
    }
    let pointer = if is_input { reg::RDI } else { reg::RSI };
    let base = match prefixes.segment {
        Some(segment) if !is_input => cpu.segment_base(segment),
        _ => 0,
    };
    let step = if cpu.flags() & RFlags::DF.bits() != 0 { u64::from(size).wrapping_neg() } else { size.into() };
    let mut left = if prefixes.repeat { cpu.get(reg::RCX) & width } else { 1 };
    for _ in 0..LIMIT {
        if left == 0 {
            break;
        }
        let at = cpu.get(pointer) & width;
        let address = base.wrapping_add(at);
        let mut unit = [0; 4];
        let bytes = usize::from(size);
        if is_input {
            // The memory is tried first, so that nothing that the device gave is lost in a fault.
            cpu.read_memory(address, &mut unit[..bytes])?;
            cpu.write_memory(address, &unit[..bytes])?;
            unit = cpu.read_port(port, size).to_le_bytes();
            cpu.write_memory(address, &unit[..bytes])?;
        } else {
            cpu.read_memory(address, &mut unit[..bytes])?;
            cpu.write_port(port, size, u32::from_le_bytes(unit));
        }
        left -= 1;
        cpu.set(pointer, at.wrapping_add(step) & width);
        if prefixes.repeat {
            cpu.set(reg::RCX, left);
        }
    }
    Ok(left == 0)
}
