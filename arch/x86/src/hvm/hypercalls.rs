//! The hypercalls of an HVM guest.

use super::VcpuState;
use super::space::{self, Space};
use super::{devices, enlightened, narrow};
use crate::current::Current;
use crate::hypercalls::{self, Given};
use crate::machine;
use core::sync::atomic::Ordering::Relaxed;
use hypercall::multicall::multicall;
use hypercall::{Args, Outcome};
use types::Errno;
use x86_defs::control::{Cr0, RFlags};
use x86_emulate::hvm::CodeSize;
use xen_abi::vcpu::VCPUOP_REGISTER_VCPU_INFO;
use xen_abi::xen::*;

/// Carries out the hypercall that the vCPU has just made. Whether its instruction is over.
pub fn dispatch(current: &mut Current<'_, VcpuState>) -> bool {
    let (code, flags) = (current.state.engine.code(), current.state.regs.rflags);
    let is_kernel = code.control.cr0 & Cr0::PE.bits() != 0 && flags & RFlags::VM.bits() == 0 && code.level < 2;
    if !is_kernel {
        current.state.regs.rax = Errno::PERM.as_return() as u64;
        return true;
    }
    current.vcpu.holds_events_back.store(flags & RFlags::IF.bits() == 0, Relaxed);
    let is_64bit = code.size() == CodeSize::Bits64;
    if let Some(is_over) = enlightened::dispatch(current, is_64bit) {
        return is_over;
    }
    if !is_64bit {
        return narrow::dispatch(current);
    }
    let regs = &current.state.regs;
    let number = regs.rax;
    let args = [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9];
    let outcome = with_space(current, |current| call(current, number, args));
    let regs = &mut current.state.regs;
    match outcome {
        Outcome::Done(value) => {
            regs.rax = value as u64;
            true
        }
        Outcome::Again(args) => {
            [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9] = args;
            false
        }
    }
}

/// Does something with copies to and from the guest's addresses.
pub fn with_space<T>(current: &mut Current<'_, VcpuState>, act: impl FnOnce(&mut Current<'_, VcpuState>) -> T) -> T {
    let mode = space::mode(current.machine(), &current.state.engine.control(), current.state.regs.rflags);
    machine::set_space(Some(Space { domain: current.domain.clone(), mode }));
    let value = act(current);
    machine::set_space(None);
    value
}

/// Carries out one hypercall, from registers or from a multicall.
pub fn call(current: &mut Current<'_, VcpuState>, number: u64, args: Args) -> Outcome {
    hypercalls::carry_out!(current, number, args, {
        HYPERVISOR_VCPU_OP => vcpu_op,
        HYPERVISOR_MEMORY_OP => memory_op,
        HYPERVISOR_MULTICALL => multicall_here,
    })
}

fn vcpu_op(current: &mut Current<'_, VcpuState>, args: Args) -> Outcome {
    let outcome = hypercall::vcpu::vcpu_op(&current.caller(), args);
    if args[0] as u32 == VCPUOP_REGISTER_VCPU_INFO {
        current.find_info();
    }
    outcome
}

fn memory_op(current: &mut Current<'_, VcpuState>, args: Args) -> Outcome {
    let outcome = hypercall::memory::memory_op(&current.caller(), args);
    if hypercall::memory::takes_frames_away(args) {
        devices::invalidate_mappings(current);
    }
    outcome
}

fn multicall_here(current: &mut Current<'_, VcpuState>, args: Args) -> Outcome {
    let machine = current.machine();
    let each = |number, args: Args| call(current, number, args);
    multicall::<MulticallEntry, _, false>(machine, args, each)
}
