//! The iret hypercall of a 32-bit guest: eax, then the frame that its IRET would take, lie on its stack.

use super::segments::linear;
use crate::machine::X86;
use crate::pv::iret::guest_flags;
use crate::pv::state::VcpuState;
use platform::GuestMemory;
use types::{Errno, Result};
use x86_defs::control::RFlags;
use zerocopy::IntoBytes;

/// Carries it out.
///
/// # Errors
/// `EFAULT` where the frame cannot be read, or is of ring 0 or virtual-8086 mode: the domain is to be crashed.
pub fn iret(machine: &X86, state: &mut VcpuState) -> Result<()> {
    let (ss, esp) = (state.context.regs.ss as u16, state.context.regs.rsp as u32);
    let mut frame = [0u32; 6];
    machine.copy_in(linear(machine, state, ss, esp)?, frame[..4].as_mut_bytes())?;
    let [eax, eip, cs, eflags, ..] = frame;
    if cs & 3 == 0 || u64::from(eflags) & RFlags::VM.bits() != 0 {
        return Err(Errno::FAULT);
    }
    let (new_esp, new_ss) = if cs & 3 == 1 {
        (esp.wrapping_add(16), ss)
    } else {
        machine.copy_in(linear(machine, state, ss, esp.wrapping_add(16))?, frame[4..].as_mut_bytes())?;
        (frame[4], frame[5] as u16)
    };
    let regs = &mut state.context.regs;
    regs.rax = eax.into();
    regs.rip = eip.into();
    regs.cs = (cs & 0xffff).into();
    regs.rflags = guest_flags(eflags.into());
    regs.rsp = new_esp.into();
    regs.ss = new_ss.into();
    regs.restore_all();
    state.kernel_mode = cs & 3 != 3;
    if let Some(info) = state.info {
        info.set_upcall_mask(u64::from(eflags) & RFlags::IF.bits() == 0);
    }
    Ok(())
}
