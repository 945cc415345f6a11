//! Ports, control and debug registers, MSRs and what else is intercepted.

use super::step::{Flow, Step};
use super::{Access, DescriptorTable, Result, State, Stop, System, Table};
use crate::decode::{self, mask};
use crate::reg;
use iced_x86::{Code, Mnemonic, OpKind, Register};
use x86_defs::control::{Cr0, Cr4, RFlags, is_canonical};

/// Carries the instruction out if it is of this family.
pub fn execute<C: System>(step: &mut Step<'_, C>) -> Result<Option<Flow>> {
    match step.instruction.mnemonic() {
        Mnemonic::Mov => return special_mov(step),
        Mnemonic::In | Mnemonic::Out => port(step)?,
        Mnemonic::Cpuid => {
            let [eax, ebx, ecx, edx] = step.client.cpuid(low(step, reg::RAX), low(step, reg::RCX))?;
            for (number, value) in [(reg::RAX, eax), (reg::RBX, ebx), (reg::RCX, ecx), (reg::RDX, edx)] {
                step.state.general[usize::from(number)] = value.into();
            }
        }
        Mnemonic::Rdtsc | Mnemonic::Rdtscp => read_tsc(step)?,
        Mnemonic::Smsw => {
            check_private(step)?;
            let status = step.client.read_control(0)?;
            // All of CR0 into a register, 2 bytes into memory.
            let size = if step.is_memory(0) { 2 } else { step.size(0)? };
            step.store(size, status)?;
        }
        Mnemonic::Sgdt => store_table(step, Table::Global)?,
        Mnemonic::Sidt => store_table(step, Table::Interrupt)?,
        Mnemonic::Cli | Mnemonic::Sti => return interrupt_flag(step).map(Some),
        other => return kernel(step, other),
    }
    Ok(Some(Flow::Next))
}

/// Instructions of level 0.
fn kernel<C: System>(step: &mut Step<'_, C>, mnemonic: Mnemonic) -> Result<Option<Flow>> {
    type Action<C> = fn(&mut Step<'_, C>) -> Result<Flow>;
    let action: Action<C> = match mnemonic {
        Mnemonic::Hlt => |_| Ok(Flow::Halt),
        Mnemonic::Clts => |step| {
            let status = step.client.read_control(0)?;
            step.client.write_control(0, status & !Cr0::TS.bits()).map(|()| Flow::Next)
        },
        Mnemonic::Lmsw => load_machine_status,
        Mnemonic::Invlpg => |step| {
            // An address that no access could have is no error.
            if let Ok(linear) = step.address(1, false) {
                step.client.invalidate_page(linear);
            }
            Ok(Flow::Next)
        },
        Mnemonic::Wbinvd | Mnemonic::Invd => |step| {
            step.client.write_back_caches();
            Ok(Flow::Next)
        },
        Mnemonic::Rdmsr => |step| {
            let value = step.client.read_msr(low(step, reg::RCX))?;
            set_pair(step, value);
            Ok(Flow::Next)
        },
        Mnemonic::Wrmsr => |step| step.client.write_msr(low(step, reg::RCX), pair(step)).map(|()| Flow::Next),
        Mnemonic::Xsetbv => |step| {
            if step.state.cr4 & Cr4::OSXSAVE.bits() == 0 {
                return Err(Stop::UD);
            }
            step.client.write_xcr(low(step, reg::RCX), pair(step)).map(|()| Flow::Next)
        },
        Mnemonic::Lgdt => |step| load_table(step, Table::Global),
        Mnemonic::Lidt => |step| load_table(step, Table::Interrupt),
        _ => return Ok(None),
    };
    check_level(step)?;
    action(step).map(Some)
}

/// The lower half of a register.
fn low<C>(step: &Step<'_, C>, number: u8) -> u32 {
    step.state.general[usize::from(number)] as u32
}

/// The value in edx and eax.
fn pair<C>(step: &Step<'_, C>) -> u64 {
    u64::from(low(step, reg::RDX)) << 32 | u64::from(low(step, reg::RAX))
}

fn set_pair<C>(step: &mut Step<'_, C>, value: u64) {
    step.state.general[usize::from(reg::RAX)] = value & mask(4);
    step.state.general[usize::from(reg::RDX)] = value >> 32;
}

fn check_level<C>(step: &Step<'_, C>) -> Result<()> {
    if step.state.level == 0 { Ok(()) } else { Err(Stop::GP) }
}

/// UMIP keeps some reads to level 0 (SDM vol. 3, 2.5).
fn check_private<C>(step: &Step<'_, C>) -> Result<()> {
    if step.state.cr4 & Cr4::UMIP.bits() != 0 { check_level(step) } else { Ok(()) }
}

/// Moves from and to control and debug registers; `None` for other ones.
fn special_mov<C: System>(step: &mut Step<'_, C>) -> Result<Option<Flow>> {
    let (to, from) = (step.instruction.op0_register(), step.instruction.op1_register());
    if let Some(source) = special(from) {
        check_level(step)?;
        let value = match source {
            Special::Control(number) => step.client.read_control(number)?,
            Special::Debug(number) => step.client.read_debug(number)?,
        };
        step.state.set_value(to, value);
    } else if let Some(destination) = special(to) {
        check_level(step)?;
        let value = step.state.value(from).ok_or(Stop::Unhandled)?;
        match destination {
            Special::Control(number) => step.client.write_control(number, value)?,
            Special::Debug(number) => step.client.write_debug(number, value)?,
        }
    } else {
        return Ok(None);
    }
    Ok(Some(Flow::Next))
}

/// A control or debug register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Special {
    /// By its number.
    Control(u8),
    /// By its number.
    Debug(u8),
}

/// The control or debug register that a decoded register is.
pub fn special(register: Register) -> Option<Special> {
    let distance = |first: Register| (register as usize).checked_sub(first as usize).filter(|distance| *distance < 16);
    distance(Register::CR0)
        .map(|number| Special::Control(number as u8))
        .or_else(|| distance(Register::DR0).map(|number| Special::Debug(number as u8)))
}

/// The port that an IN or OUT names.
pub fn port_number(state: &State, instruction: &iced_x86::Instruction) -> u16 {
    let index = u32::from(instruction.mnemonic() == Mnemonic::In);
    if instruction.op_kind(index) == OpKind::Immediate8 {
        instruction.immediate8().into()
    } else {
        state.general[usize::from(reg::RDX)] as u16
    }
}

fn port<C: System>(step: &mut Step<'_, C>) -> Result<()> {
    let is_input = step.instruction.mnemonic() == Mnemonic::In;
    let index = u32::from(!is_input);
    let (port, size) = (port_number(step.state, step.instruction), step.size(index)?);
    check_port(step.state, step.client, port, size)?;
    if is_input {
        let value = step.client.read_port(port, size)?;
        step.set_register(0, value.into())
    } else {
        let value = step.load(1, size)?;
        step.client.write_port(port, size, value as u32)
    }
}

/// Whether the code may use a port (SDM vol. 1, 19.5).
pub fn check_port<C: System>(state: &State, client: &mut C, port: u16, size: u8) -> Result<()> {
    let allowed_level = (state.flags & RFlags::IOPL.bits()) >> RFlags::IOPL.bits().trailing_zeros();
    let is_free = !state.is_virtual_8086() && u64::from(state.level) <= allowed_level;
    if is_free || client.may_use_port(port, size)? { Ok(()) } else { Err(Stop::GP) }
}

fn read_tsc<C: System>(step: &mut Step<'_, C>) -> Result<()> {
    if step.state.cr4 & Cr4::TSD.bits() != 0 {
        check_level(step)?;
    }
    let tsc = step.client.read_tsc();
    set_pair(step, tsc);
    if step.instruction.mnemonic() == Mnemonic::Rdtscp {
        step.state.general[usize::from(reg::RCX)] = step.client.tsc_aux().into();
    }
    Ok(())
}

fn load_machine_status<C: System>(step: &mut Step<'_, C>) -> Result<Flow> {
    let value = step.load(0, 2)?;
    // PE, MP, EM and TS can be changed; PE cannot be cleared (SDM vol. 2, LMSW).
    let kept = !(Cr0::MP | Cr0::EM | Cr0::TS).bits();
    let old = step.client.read_control(0)?;
    step.client.write_control(0, old & kept | value & 0xf)?;
    Ok(Flow::Next)
}

/// CLI and STI.
fn interrupt_flag<C: System>(step: &mut Step<'_, C>) -> Result<Flow> {
    let level = (step.state.flags & RFlags::IOPL.bits()) >> RFlags::IOPL.bits().trailing_zeros();
    if u64::from(step.state.level) > level {
        return Err(Stop::GP);
    }
    let flag = RFlags::IF.bits();
    let was_set = step.state.flags & flag != 0;
    if step.instruction.mnemonic() == Mnemonic::Cli {
        step.state.flags &= !flag;
        return Ok(Flow::Next);
    }
    step.state.flags |= flag;
    Ok(if was_set { Flow::Next } else { Flow::Shadow })
}

/// Bytes of a table's address in memory.
fn base_size<C>(step: &Step<'_, C>) -> usize {
    if step.state.is_64bit() { 8 } else { 4 }
}

fn store_table<C: System>(step: &mut Step<'_, C>, table: Table) -> Result<()> {
    check_private(step)?;
    let bytes = 2 + base_size(step);
    let linear = step.address(bytes as u8, true)?;
    let DescriptorTable { base, limit } = step.client.table(table);
    let mut image = [0; 10];
    image[..2].copy_from_slice(&limit.to_le_bytes());
    image[2..].copy_from_slice(&base.to_le_bytes());
    step.client.write(linear, &image[..bytes])
}

fn load_table<C: System>(step: &mut Step<'_, C>, table: Table) -> Result<Flow> {
    let bytes = 2 + base_size(step);
    let linear = step.address(bytes as u8, false)?;
    let mut image = [0; 16];
    step.client.read(linear, &mut image[..bytes], Access::Read)?;
    let image = u128::from_le_bytes(image);
    let mut base = (image >> 16) as u64;
    // With operands of 2 bytes, 24 bits of the address are loaded (SDM vol. 2, LGDT).
    if matches!(step.instruction.code(), Code::Lgdt_m1632_16 | Code::Lidt_m1632_16) {
        base &= mask(3);
    }
    if !is_canonical(base) {
        return Err(Stop::GP);
    }
    step.client.set_table(table, DescriptorTable { base, limit: image as u16 });
    Ok(Flow::Next)
}

/// Number of the general register among a move's operands.
pub fn general_number(register: Register) -> Option<u8> {
    decode::place(register).map(|(number, _, _)| number)
}
