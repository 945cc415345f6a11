//! The iret hypercall: how a PV kernel returns from a trap (xen-x86_64.h, `struct iret_context`).

use super::mode;
use super::state::VcpuState;
use crate::machine::X86;
use platform::GuestMemory;
use types::{Errno, Result};
use x86_defs::control::RFlags;
use x86_defs::descriptor::selector::FLAT_RING3_CS64;
use xen_abi::arch_x86::IretContext;
use xen_abi::arch_x86::VGCF_IN_SYSCALL;
use zerocopy::{FromZeros, IntoBytes};

/// Carries it out. The frame lies at the guest's stack pointer.
///
/// # Errors
/// `EFAULT` where the frame cannot be read, or user mode has no page tables: the domain is to be crashed.
pub fn iret(machine: &X86, state: &mut VcpuState) -> Result<()> {
    let mut frame = IretContext::new_zeroed();
    machine.copy_in_loaded(state.context.regs.rsp, frame.as_mut_bytes())?;

    if frame.cs & 3 == 3 {
        if !state.kernel_mode {
            return Err(Errno::FAULT);
        }
        mode::to_user(machine, state)?;
    }
    let regs = &mut state.context.regs;
    regs.rip = frame.rip;
    regs.cs = frame.cs & 0xffff | 3;
    regs.rsp = frame.rsp;
    regs.ss = frame.ss & 0xffff | 3;
    regs.rflags = guest_flags(frame.rflags);
    regs.rax = frame.rax;
    if frame.flags & VGCF_IN_SYSCALL != 0 && regs.cs == u64::from(FLAT_RING3_CS64) {
        // The kernel's promise.
        regs.spare_rcx_and_r11();
    } else {
        regs.r11 = frame.r11;
        regs.rcx = frame.rcx;
        regs.restore_all();
    }
    if let Some(info) = state.info {
        info.set_upcall_mask(frame.rflags & RFlags::IF.bits() == 0);
    }
    Ok(())
}

/// RFLAGS that a guest asked for, as the CPU may have them in ring 3: interrupts on, no I/O privilege, no virtual-8086 mode.
pub fn guest_flags(asked: u64) -> u64 {
    let fixed = RFlags::IOPL | RFlags::VM | RFlags::VIF | RFlags::VIP;
    asked & RFlags::all().bits() & !fixed.bits() | (RFlags::IF | RFlags::ONE).bits()
}
