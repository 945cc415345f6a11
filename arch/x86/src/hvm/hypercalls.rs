//! The hypercalls of an HVM guest.

use super::VcpuState;
use super::space::{self, Space};
use crate::current::Current;
use crate::hypercalls;
use crate::machine;
use hypercall::multicall::multicall;
use hypercall::{Args, Outcome};
use types::Errno;
use x86_defs::control::{Cr0, RFlags};
use xen_abi::vcpu::VCPUOP_REGISTER_VCPU_INFO;
use xen_abi::xen::*;

/// Carries out the hypercall that the vCPU has just made. Whether its instruction is over.
pub fn dispatch(current: &mut Current<'_, VcpuState>) -> bool {
    let state = current.state.emulated();
    let is_kernel = state.cr0 & Cr0::PE.bits() != 0 && state.flags & RFlags::VM.bits() == 0 && state.level < 2;
    if !is_kernel {
        current.state.regs.rax = Errno::PERM.as_return() as u64;
        return true;
    }
    if !state.is_64bit() {
        current.state.regs.rax = refuse_narrow(current).into();
        return true;
    }
    let regs = &current.state.regs;
    let number = regs.rax;
    let args = [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9];
    let outcome = with_space(current, |current| call(current, number, &args));
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

/// Arguments of 32-bit code are laid out otherwise, which is not done yet for guests of this kind.
#[cold]
fn refuse_narrow(current: &Current<'_, VcpuState>) -> u32 {
    log::debug!("{}: hypercall of 32-bit code", current.domain.id);
    Errno::NOSYS.as_return() as u32
}

/// Does something with copies to and from the guest's addresses.
pub fn with_space<T>(current: &mut Current<'_, VcpuState>, act: impl FnOnce(&mut Current<'_, VcpuState>) -> T) -> T {
    let mode = space::mode(current.machine(), &current.state.engine.control(), current.state.regs.rflags);
    machine::set_space(Some(Space { domain: current.domain.clone(), mode }));
    let value = act(current);
    machine::set_space(None);
    value
}

fn call(current: &mut Current<'_, VcpuState>, number: u64, args: &Args) -> Outcome {
    match u32::try_from(number).unwrap_or(u32::MAX) {
        HYPERVISOR_VCPU_OP if args[0] as u32 == VCPUOP_REGISTER_VCPU_INFO => {
            let outcome = hypercalls::call(current, HYPERVISOR_VCPU_OP, args);
            current.find_info();
            outcome
        }
        HYPERVISOR_MULTICALL => {
            let machine = current.machine();
            let each = |number, args: &Args| call(current, number, args);
            multicall::<MulticallEntry, _>(machine, args, each)
        }
        other => hypercalls::call(current, other, args),
    }
}
