//! Entering the guest kernel: the frame that a trap, a system call or an event leaves on its stack (arch-x86/xen-x86_64.h).

use super::state::{Callback, VcpuState};
use crate::machine::X86;
use hal_cpu::{GuestRegs, is_guest_address};
use platform::GuestMemory;
use types::{Errno, Result};
use x86_defs::control::RFlags;
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
pub fn deliver(machine: &X86, state: &mut VcpuState, bounce: Bounce, was_user: bool) -> Result<()> {
    let masked = state.info.is_none_or(|info| info.upcall_state().1);
    let segments = bounce.with_segments.then(hal_cpu::read_selectors);
    let kernel_sp = state.kernel_sp;
    let regs = &mut state.context.regs;

    let mut frame = [0u64; 12];
    let mut used = 0;
    let mut push = |value: u64| {
        frame[used] = value;
        used += 1;
    };
    push(regs.rcx);
    push(regs.r11);
    if let Some([ds, es, fs, gs]) = segments {
        push(ds.into());
        push(es.into());
        push(fs.into());
        push(gs.into());
    }
    if let Some(code) = bounce.error_code {
        push(code.into());
    }
    push(regs.rip);
    push(frame_cs(regs, was_user, masked));
    push(frame_flags(regs, masked));
    push(regs.rsp);
    push(regs.ss & 0xffff);

    let top = if was_user { kernel_sp } else { regs.rsp } & !15;
    let bottom = top.wrapping_sub(used as u64 * 8);
    if bounce.to.rip == 0 || !is_guest_address(top) || !is_guest_address(bottom) {
        return Err(Errno::FAULT);
    }
    machine.copy_out(bottom, frame[..used].as_bytes())?;

    regs.rsp = bottom;
    regs.ss = u64::from(FLAT_KERNEL_SS64);
    regs.cs = u64::from(FLAT_KERNEL_CS64);
    regs.rip = bounce.to.rip;
    regs.rflags &= !(RFlags::AC | RFlags::VM | RFlags::RF | RFlags::NT | RFlags::TF).bits();
    // The frame is not that of a system call any more, so the way back must load all of it.
    regs.restore_all();
    if let Some(info) = state.info.filter(|_| bounce.to.masks_events) {
        info.set_upcall_mask(true);
    }
    Ok(())
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
