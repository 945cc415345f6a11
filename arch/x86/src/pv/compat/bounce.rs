//! Entering a 32-bit guest's kernel.

use super::segments::linear;
use crate::machine::X86;
use crate::pv::bounce::Bounce;
use crate::pv::state::VcpuState;
use arrayvec::ArrayVec;
use platform::GuestMemory;
use types::{Errno, Result};
use x86_defs::control::RFlags;
use zerocopy::IntoBytes;

/// Words of the largest frame.
const MOST: usize = 10;

/// What is interrupted.
#[derive(Clone, Copy)]
struct Interrupted {
    eip: u32,
    cs: u16,
    eflags: u32,
    /// Stack pointer and segment, where the way in changes stacks.
    outer: Option<(u32, u16)>,
    /// Event delivery is masked.
    masked: bool,
}

/// The frame, lowest address first: data segments for the failsafe callback, error code, and what the CPU pushes in 32-bit
/// mode. The upcall mask is above CS; IF is its inverse, IOPL 0.
fn frame(of: &Interrupted, error_code: Option<u32>, segments: Option<[u16; 4]>) -> ArrayVec<u32, MOST> {
    let mut frame = ArrayVec::new();
    frame.extend(segments.into_iter().flatten().map(u32::from));
    frame.extend(error_code);
    let fixed = (RFlags::IF | RFlags::IOPL).bits() as u32;
    let enabled = if of.masked { 0 } else { RFlags::IF.bits() as u32 };
    frame.extend([of.eip, u32::from(of.cs) | u32::from(of.masked) << 16, of.eflags & !fixed | enabled]);
    if let Some((esp, ss)) = of.outer {
        frame.extend([esp, ss.into()]);
    }
    frame
}

/// Makes the guest kernel go on at `bounce.to`, with the interrupted state on its stack: from user code on the one that it
/// named by stack_switch, else on its present one.
///
/// # Errors
/// `EFAULT` where the guest has no stack there, or no place in a segment: the domain is to be crashed.
#[inline(never)]
pub fn deliver(machine: &X86, state: &mut VcpuState, bounce: Bounce, was_user: bool) -> Result<()> {
    if !state.is_place(&bounce.to) {
        return Err(Errno::FAULT);
    }
    let regs = &state.context.regs;
    let interrupted = Interrupted {
        eip: regs.rip as u32,
        cs: regs.cs as u16,
        eflags: regs.rflags as u32,
        outer: was_user.then_some((regs.rsp as u32, regs.ss as u16)),
        masked: state.info.is_none_or(|info| info.upcall_state().1),
    };
    let frame = frame(&interrupted, bounce.error_code, bounce.with_segments.then(hal_cpu::read_selectors));
    let (ss, top) =
        if was_user { (state.kernel_ss, state.kernel_sp as u32) } else { (regs.ss as u16, regs.rsp as u32) };
    let bottom = top.wrapping_sub(frame.len() as u32 * 4);
    machine.copy_out(linear(machine, state, ss, bottom)?, frame.as_slice().as_bytes())?;

    let regs = &mut state.context.regs;
    regs.rsp = bottom.into();
    regs.ss = ss.into();
    regs.cs = bounce.to.cs.into();
    regs.rip = bounce.to.rip;
    regs.rflags &= !(RFlags::VM | RFlags::RF | RFlags::NT | RFlags::TF).bits();
    regs.restore_all();
    if let Some(info) = state.info.filter(|_| bounce.to.masks_events) {
        info.set_upcall_mask(true);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERRUPTED: Interrupted =
        Interrupted { eip: 0x1000, cs: 0xe019, eflags: 0x3246, outer: None, masked: false };

    #[test]
    fn a_kernel_keeps_its_stack() {
        assert_eq!(frame(&INTERRUPTED, None, None).as_slice(), [0x1000, 0xe019, 0x246]);
        let masked = Interrupted { masked: true, ..INTERRUPTED };
        assert_eq!(frame(&masked, None, None).as_slice(), [0x1000, 0x1_e019, 0x46], "the mask is above CS");
    }

    #[test]
    fn user_codes_stack_comes_last_and_an_error_code_first() {
        let user = Interrupted { cs: 0xe02b, outer: Some((0x8000, 0xe033)), ..INTERRUPTED };
        assert_eq!(frame(&user, Some(6), None).as_slice(), [6, 0x1000, 0xe02b, 0x246, 0x8000, 0xe033]);
    }

    #[test]
    fn the_failsafe_frame_begins_with_data_segments() {
        let user = Interrupted { outer: Some((0x8000, 0xe033)), ..INTERRUPTED };
        let words = frame(&user, None, Some([1, 2, 3, 4]));
        assert_eq!(words.as_slice(), [1, 2, 3, 4, 0x1000, 0xe019, 0x246, 0x8000, 0xe033]);
    }
}
