//! What a PV guest's trap leads to.

use super::bounce::{self, Bounce};
use super::state::Callback;
use super::{compat, emulate, fault, mode};
use crate::current::Current;
use alloc::format;
use core::mem::offset_of;
use hal_cpu::{HOLE_END, HOLE_START};
use types::Errno;
use x86_defs::control::{PageFault, Vector};

/// Byte offset of `arch.cr2` in vcpu_info (xen.h), and in a 32-bit guest's, where padding follows it.
const CR2_OFFSET: usize = 16;
const NARROW_CR2_OFFSET: usize = offset_of!(xen_abi::compat::VcpuInfo, arch);

/// Handles an exception.
#[inline]
pub fn exception(current: &mut Current<'_>, vector: u8, error_code: u32) {
    let handled = match vector {
        Vector::PAGE_FAULT => return page_fault(current, error_code),
        Vector::GENERAL_PROTECTION => general_protection(current, error_code),
        Vector::INVALID_OPCODE => emulate::forced_cpuid(current),
        Vector::DEVICE_NOT_AVAILABLE => device_not_available(current),
        Vector::DEBUG => {
            current.state.debug.note(hal_cpu::take_debug_status());
            false
        }
        // The hardware has failed, and nothing says that it is this guest alone which that concerns (SDM vol. 3, 16.1).
        Vector::MACHINE_CHECK => hal_cpu::fatal_trap(&current.state.context.regs),
        _ => false,
    };
    if !handled {
        inject(current, vector, Vector::has_error_code(vector).then_some(error_code));
    }
}

/// Delivers an exception to the guest's own handler.
#[inline]
pub fn inject(current: &mut Current<'_>, vector: u8, error_code: Option<u32>) {
    let handler = current.state.traps[usize::from(vector)].handler;
    if !current.state.is_place(&handler) {
        return crash_unhandled(current, vector, error_code);
    }
    deliver(current, Bounce { to: handler, error_code, with_segments: false });
}

#[cold]
fn crash_unhandled(current: &mut Current<'_>, vector: u8, error_code: Option<u32>) {
    let regs = &current.state.context.regs;
    let text = format!(
        "unhandled trap {vector} (error code {:#x}) at rip {:#x}, rsp {:#x}",
        error_code.unwrap_or(0),
        regs.rip,
        regs.rsp
    );
    current.crash(&text);
}

/// Delivers a page fault, with the address where the guest looks for it.
pub fn inject_page_fault(current: &mut Current<'_>, address: u64, error_code: u32) {
    current.state.cr2 = address;
    if let Some(info) = current.state.info {
        let at = if current.state.narrow.is_some() { NARROW_CR2_OFFSET } else { CR2_OFFSET };
        info.word(at).store(address, core::sync::atomic::Ordering::Relaxed);
    }
    let user = PageFault::USER.bits();
    let code = if current.state.kernel_mode { error_code & !user } else { error_code | user };
    inject(current, Vector::PAGE_FAULT, Some(code));
}

/// Enters the guest kernel; crashes the domain if its stack is not there.
pub fn deliver(current: &mut Current<'_>, bounce: Bounce) {
    deliver_here(current, bounce);
}

/// The same as a part of its caller: where most of the bounce is known, little is left of it.
#[inline(always)]
fn deliver_here(current: &mut Current<'_>, bounce: Bounce) {
    let was_user = mode::to_kernel(current.machine(), current.state);
    let result = match current.state.narrow {
        None => bounce::deliver(current.machine(), current.state, &bounce, was_user),
        Some(_) => compat::bounce::deliver(current.machine(), current.state, bounce, was_user),
    };
    if result.is_err() {
        crash_without_stack(current, bounce.to.rip);
    }
}

#[cold]
fn crash_without_stack(current: &mut Current<'_>, to: u64) {
    let regs = &current.state.context.regs;
    let text = format!(
        "no kernel stack to deliver to {to:#x}: rip {:#x}, rsp {:#x}, kernel stack {:#x}",
        regs.rip, regs.rsp, current.state.kernel_sp
    );
    current.crash(&text);
}

/// Enters the kernel for a system call of its user code.
pub fn enter_syscall(current: &mut Current<'_>, callback: Callback) {
    if !current.state.is_place(&callback) {
        inject(current, Vector::INVALID_OPCODE, None);
        return;
    }
    deliver_here(current, Bounce::plain(callback));
    current.state.context.regs.rflags &= !x86_defs::control::RFlags::DF.bits();
}

/// Delivers the failsafe callback: the guest's frame or segments could not be loaded.
pub fn failsafe(current: &mut Current<'_>) {
    let to = current.state.failsafe;
    deliver(current, Bounce { to, error_code: None, with_segments: true });
}

/// A first use of vector registers while the guest has CR0.TS set: its own business.
fn device_not_available(current: &mut Current<'_>) -> bool {
    if current.state.task_switched {
        // Delivery clears the flag, as Xen does for PV guests, so that the handler can restore its registers.
        current.state.task_switched = false;
        hal_cpu::set_task_switched(false);
        return false;
    }
    hal_cpu::set_task_switched(false);
    true
}

/// Software interrupts arrive here with the number of the gate, because no gate of ours lets ring 3 in (SDM vol. 3, 6.13).
#[inline(never)]
fn general_protection(current: &mut Current<'_>, error_code: u32) -> bool {
    const EXTERNAL: u32 = 1;
    const IDT: u32 = 2;
    if error_code & (EXTERNAL | IDT) == IDT {
        let vector = (error_code >> 3) as u8;
        let gate = current.state.traps[usize::from(vector)];
        let ring = if current.state.kernel_mode { 1 } else { 3 };
        if current.state.is_place(&gate.handler) && gate.dpl >= ring {
            // `int n` is two bytes long; the fault points at it, a trap points behind it.
            current.state.context.regs.rip = current.state.context.regs.rip.wrapping_add(2);
            deliver(current, Bounce::plain(gate.handler));
            return true;
        }
        return false;
    }
    // Only a guest kernel executes privileged instructions; user code may use ports that it was granted.
    emulate::privileged(current)
}

#[inline(never)]
fn page_fault(current: &mut Current<'_>, error_code: u32) {
    let address = hal_cpu::fault_address();
    let code = PageFault::from_bits_retain(error_code);
    if (HOLE_START..HOLE_END).contains(&address) {
        if fault::descriptor_fault(current, address) {
            return;
        }
    } else if !code.intersects(PageFault::RESERVED | PageFault::FETCH) && fault::fixup(current, address, code) {
        return;
    }
    if code.contains(PageFault::RESERVED) {
        log::warn!("{}: reserved bit in the page tables at {address:#x}", current.domain.id);
    }
    inject_page_fault(current, address, error_code);
}

/// Why a guest's own request failed in a way that it cannot be told of.
pub fn crash_on(current: &mut Current<'_>, what: &str, errno: Errno) {
    let text = format!("{what}: {errno}");
    current.crash(&text);
}
