//! Entering the guest kernel: the frame that a trap, a system call or an event leaves on its stack (arch-x86/xen-x86_64.h).

use super::state::{Callback, VcpuState};
use crate::machine::X86;
use hal_cpu::GuestRegs;
use platform::GuestMemory;
use types::{Errno, Result};
use x86_defs::control::RFlags;
use x86_defs::descriptor::selector::{FLAT_RING3_CS64, FLAT_RING3_SS};
use xen_abi::arch_x86::{FLAT_KERNEL_CS64, FLAT_KERNEL_SS64};
use zerocopy::IntoBytes;

/// What is delivered.
#[derive(Clone, Copy, Debug)]
pub struct Bounce {
    /// Where the guest kernel goes on.
    pub to: Callback,
    /// Error code of the exception, where it has one.
    pub error_code: Option<u32>,
    /// Data segments follow in the frame (the failsafe callback).
    pub with_segments: bool,
}

impl Bounce {
    /// Delivery without error code.
    pub fn plain(to: Callback) -> Bounce {
        Bounce { to, error_code: None, with_segments: false }
    }
}

/// Makes the guest kernel go on at `bounce.to`, with the interrupted state on its stack. The caller has switched a vCPU in
/// user mode to kernel mode before (`was_user`).
///
/// # Errors
/// `EFAULT` where the guest has no stack there: the domain is to be crashed.
#[inline(always)]
pub fn deliver(machine: &X86, state: &mut VcpuState, bounce: &Bounce, was_user: bool) -> Result<()> {
    if bounce.to.rip == 0 {
        return Err(Errno::FAULT);
    }
    let masked = state.info.is_none_or(|info| info.upcall_state().1);
    let regs = &state.context.regs;
    let [rcx, r11] = [regs.rcx, regs.r11];
    let [rip, rsp, ss] = [regs.rip, regs.rsp, regs.ss & 0xffff];
    let (cs, flags) = (frame_cs(regs, was_user, masked), frame_flags(regs, masked));
    let top = if was_user { state.kernel_sp } else { rsp } & !15;
    let bottom = match (bounce.with_segments, bounce.error_code) {
        (false, None) => put(machine, top, [rcx, r11, rip, cs, flags, rsp, ss]),
        (false, Some(code)) => put(machine, top, [rcx, r11, code.into(), rip, cs, flags, rsp, ss]),
        // The failsafe callback is not one of an exception.
        (true, _) => put_with_segments(machine, top, [rcx, r11, rip, cs, flags, rsp, ss]),
    }?;

    let regs = &mut state.context.regs;
    regs.rsp = bottom;
    regs.ss = u64::from(FLAT_KERNEL_SS64);
    regs.cs = u64::from(FLAT_KERNEL_CS64);
    regs.rip = bounce.to.rip;
    regs.rflags &= !(RFlags::AC | RFlags::VM | RFlags::RF | RFlags::NT | RFlags::TF).bits();
    // The kernel takes them from its stack.
    const { assert!(FLAT_KERNEL_CS64 == FLAT_RING3_CS64 && FLAT_KERNEL_SS64 == FLAT_RING3_SS) };
    regs.spare_rcx_and_r11();
    if let Some(info) = state.info.filter(|_| bounce.to.masks_events) {
        info.set_upcall_mask(true);
    }
    Ok(())
}

/// Writes a frame below `top`; its address.
#[inline(always)]
fn put<const N: usize>(machine: &X86, top: u64, frame: [u64; N]) -> Result<u64> {
    let bottom = top.wrapping_sub(size_of_val(&frame) as u64);
    machine.copy_out_loaded(bottom, frame.as_bytes())?;
    Ok(bottom)
}

#[cold]
fn put_with_segments(machine: &X86, top: u64, [rcx, r11, rip, cs, flags, rsp, ss]: [u64; 7]) -> Result<u64> {
    let [ds, es, fs, gs] = hal_cpu::read_selectors().map(u64::from);
    put(machine, top, [rcx, r11, ds, es, fs, gs, rip, cs, flags, rsp, ss])
}

/// CS as the guest sees it: ring 0 for its kernel, and the upcall mask in bits 32 to 39.
fn frame_cs(regs: &GuestRegs, was_user: bool, masked: bool) -> u64 {
    let cs = if was_user { regs.cs & 0xffff } else { regs.cs & 0xfffc };
    cs | u64::from(masked) << 32
}

/// RFLAGS as the guest sees it: IF is the inverse of the upcall mask, IOPL is 0.
fn frame_flags(regs: &GuestRegs, masked: bool) -> u64 {
    let flags = regs.rflags & !(RFlags::IF | RFlags::IOPL).bits();
    if masked { flags } else { flags | RFlags::IF.bits() }
}
