//! Privileged and I/O instructions.

use crate::decode::{self, Prefixes, REX_B, REX_R};
use crate::string;
use crate::{MAX_LENGTH, Privileged, Result, Trap, reg};
use iced_x86::{Mnemonic, OpKind};

/// Carries out the instruction that raised #GP and moves on, or says what the guest gets instead.
///
/// # Errors
/// See [`Trap`].
pub fn privileged(cpu: &mut impl Privileged) -> Result<()> {
    let mut bytes = [0; MAX_LENGTH];
    let rip = cpu.rip();
    let available = cpu.fetch(rip, &mut bytes).min(MAX_LENGTH);
    let code = &bytes[..available];
    let (prefixes, start) = decode::prefixes(code, cpu.is_64bit());
    let Some((&opcode, rest)) = code[start..].split_first() else {
        return Err(Trap::Unhandled);
    };
    let length = if opcode == 0x0f {
        let Some((&second, operands)) = rest.split_first() else {
            return Err(Trap::Unhandled);
        };
        start + 2 + system(cpu, prefixes, second, operands, code)?
    } else {
        match start_of_io(cpu, prefixes, opcode, rest)? {
            Some(length) => start + 1 + length,
            // A repeated instruction that is not finished: the guest executes it once more.
            None => return Ok(()),
        }
    };
    let next = rip.wrapping_add(length as u64);
    cpu.set_rip(if cpu.is_64bit() { next } else { next & 0xffff_ffff });
    Ok(())
}

/// One-byte opcodes: I/O and the interrupt flag. Bytes behind the opcode, `None` if it is not finished.
fn start_of_io(cpu: &mut impl Privileged, prefixes: Prefixes, opcode: u8, rest: &[u8]) -> Result<Option<usize>> {
    let wide = if prefixes.operand16 { 2 } else { 4 };
    let size = if opcode & 1 == 0 { 1 } else { wide };
    match opcode {
        0xe4..=0xe7 => {
            let port = *rest.first().ok_or(Trap::Unhandled)?;
            port_access(cpu, port.into(), size, opcode & 2 == 0)?;
            Ok(Some(1))
        }
        0xec..=0xef => {
            let port = cpu.get(reg::RDX) as u16;
            port_access(cpu, port, size, opcode & 2 == 0)?;
            Ok(Some(0))
        }
        0x6c..=0x6f => Ok(string::transfer(cpu, prefixes, size, opcode & 2 == 0)?.then_some(0)),
        // A guest's interrupts are masked by events alone. Were the flag honoured, POPF, which does not trap, would leave it.
        0xfa | 0xfb if cpu.has_iopl() => Ok(Some(0)),
        _ => Err(Trap::Unhandled),
    }
}

fn port_access(cpu: &mut impl Privileged, port: u16, size: u8, is_input: bool) -> Result<()> {
    if !cpu.may_use_port(port, size) {
        return Err(Trap::GP);
    }
    let rax = cpu.get(reg::RAX);
    let mask = decode::mask(size);
    if is_input {
        let value = u64::from(cpu.read_port(port, size)) & mask;
        cpu.set(reg::RAX, if size == 4 { value } else { rax & !mask | value });
    } else {
        cpu.write_port(port, size, (rax & mask) as u32);
    }
    Ok(())
}

/// Two-byte opcodes. Bytes behind them.
fn system(cpu: &mut impl Privileged, prefixes: Prefixes, opcode: u8, operands: &[u8], code: &[u8]) -> Result<usize> {
    match opcode {
        0x31 => {
            let tsc = cpu.read_tsc()?;
            set_pair(cpu, tsc);
            return Ok(0);
        }
        0xa2 => {
            answer_cpuid(cpu)?;
            return Ok(0);
        }
        0x01 => return group7(cpu, operands, code),
        _ if !cpu.is_kernel() => return Err(Trap::Unhandled),
        _ => {}
    }
    match opcode {
        0x30 => {
            let value = pair(cpu);
            cpu.write_msr(cpu.get(reg::RCX) as u32, value)?;
            Ok(0)
        }
        0x32 => {
            let value = cpu.read_msr(cpu.get(reg::RCX) as u32)?;
            set_pair(cpu, value);
            Ok(0)
        }
        0x33 => {
            let value = cpu.read_counter(cpu.get(reg::RCX) as u32)?;
            set_pair(cpu, value);
            Ok(0)
        }
        0x20..=0x23 if !prefixes.lock => {
            let modrm = *operands.first().ok_or(Trap::Unhandled)?;
            move_system(cpu, prefixes, opcode, modrm)?;
            Ok(1)
        }
        0x06 => {
            let old = cpu.read_control(0)?;
            cpu.write_control(0, old & !TASK_SWITCHED)?;
            Ok(0)
        }
        0x08 | 0x09 => {
            cpu.write_back_caches();
            Ok(0)
        }
        _ => Err(Trap::Unhandled),
    }
}

/// CR0.TS.
const TASK_SWITCHED: u64 = 1 << 3;

/// MOV to and from control (0x20, 0x22) and debug (0x21, 0x23) registers. The mod bits are ignored (SDM vol. 2, MOV).
fn move_system(cpu: &mut impl Privileged, prefixes: Prefixes, opcode: u8, modrm: u8) -> Result<()> {
    let number = modrm >> 3 & 7 | if prefixes.rex & REX_R != 0 { 8 } else { 0 };
    let general = modrm & 7 | if prefixes.rex & REX_B != 0 { 8 } else { 0 };
    let width = if cpu.is_64bit() { u64::MAX } else { 0xffff_ffff };
    let value = cpu.get(general) & width;
    match opcode {
        0x20 => {
            let value = cpu.read_control(number)?;
            cpu.set(general, value & width);
        }
        0x21 => {
            let value = cpu.read_debug(number)?;
            cpu.set(general, value & width);
        }
        0x22 => cpu.write_control(number, value)?,
        _ => cpu.write_debug(number, value)?,
    }
    Ok(())
}

/// Opcodes 0x0f 0x01: a register form names the instruction, a memory form has an operand.
fn group7(cpu: &mut impl Privileged, operands: &[u8], code: &[u8]) -> Result<usize> {
    match *operands.first().ok_or(Trap::Unhandled)? {
        0xd0 => {
            let value = cpu.read_xcr(cpu.get(reg::RCX) as u32)?;
            set_pair(cpu, value);
            return Ok(1);
        }
        0xf9 => {
            let tsc = cpu.read_tsc()?;
            let aux = cpu.tsc_aux();
            set_pair(cpu, tsc);
            cpu.set(reg::RCX, aux.into());
            return Ok(1);
        }
        _ if !cpu.is_kernel() => return Err(Trap::Unhandled),
        0xd1 => {
            let value = pair(cpu);
            cpu.write_xcr(cpu.get(reg::RCX) as u32, value)?;
            return Ok(1);
        }
        // CLAC and STAC: nothing in ring 3 depends on the flag.
        0xca | 0xcb => return Ok(1),
        _ => {}
    }
    let decoded = decode::instruction(cpu, code).ok_or(Trap::Unhandled)?;
    let is_register = decoded.op0_kind() == OpKind::Register;
    match decoded.mnemonic() {
        Mnemonic::Smsw => {
            let value = cpu.read_control(0)?;
            if is_register {
                decode::set_value(cpu, decoded.op0_register(), value);
            } else {
                let address = decode::effective_address(cpu, &decoded).ok_or(Trap::Unhandled)?;
                cpu.write_memory(address, &(value as u16).to_le_bytes())?;
            }
        }
        Mnemonic::Lmsw => {
            let value = if is_register {
                decode::value(cpu, decoded.op0_register()).ok_or(Trap::Unhandled)?
            } else {
                let address = decode::effective_address(cpu, &decoded).ok_or(Trap::Unhandled)?;
                let mut bytes = [0; 2];
                cpu.read_memory(address, &mut bytes)?;
                u16::from_le_bytes(bytes).into()
            };
            // PE, MP, EM and TS can be changed; PE cannot be cleared (SDM vol. 2, LMSW).
            let old = cpu.read_control(0)?;
            cpu.write_control(0, old & !0xe | value & 0xf)?;
        }
        _ => return Err(Trap::Unhandled),
    }
    // The caller adds what it has seen of the instruction.
    let opcode_end = code.len() - operands.len();
    decoded.len().checked_sub(opcode_end).ok_or(Trap::Unhandled)
}

/// CPUID with the leaf in eax and the subleaf in ecx.
pub fn answer_cpuid(cpu: &mut impl Privileged) -> Result<()> {
    let answer = cpu.cpuid(cpu.get(reg::RAX) as u32, cpu.get(reg::RCX) as u32)?;
    for (number, value) in [reg::RAX, reg::RBX, reg::RCX, reg::RDX].into_iter().zip(answer) {
        cpu.set(number, value.into());
    }
    Ok(())
}

fn pair(cpu: &impl Privileged) -> u64 {
    cpu.get(reg::RDX) << 32 | cpu.get(reg::RAX) & 0xffff_ffff
}

fn set_pair(cpu: &mut impl Privileged, value: u64) {
    cpu.set(reg::RAX, value & 0xffff_ffff);
    cpu.set(reg::RDX, value >> 32);
}
