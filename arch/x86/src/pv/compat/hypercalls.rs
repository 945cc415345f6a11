//! The hypercalls of a 32-bit guest: number in eax, arguments in ebx, ecx, edx, esi, edi, ebp.

use super::{iret, operations};
use crate::current::Current;
use crate::machine;
use crate::pv::{hypercalls, traps};
use hypercall::multicall::multicall;
use hypercall::{Args, Outcome};
use types::Errno;
use xen_abi::compat::MulticallEntry;
use xen_abi::xen::*;

/// Length of `int 0x82`, by which a cut-off hypercall is made to be issued again.
const INT_LENGTH: u64 = 2;
/// What a register's name stands for in 32-bit code.
const LOW: u64 = 0xffff_ffff;

/// Carries out the hypercall that the vCPU has just made.
pub fn dispatch(current: &mut Current<'_>) {
    let regs = &current.state.context.regs;
    let number = regs.rax as u32;
    if number == HYPERVISOR_IRET {
        if let Err(errno) = iret::iret(current.machine(), current.state) {
            traps::crash_on(current, "iret: bad frame", errno);
        }
        return;
    }
    let args = [regs.rbx, regs.rcx, regs.rdx, regs.rsi, regs.rdi, regs.rbp].map(|register| register & LOW);
    lend_window(current);
    let outcome = call(current, number, args);
    take_window_back(current);
    let regs = &mut current.state.context.regs;
    match outcome {
        Outcome::Done(value) => regs.rax = value as u64 & LOW,
        Outcome::Again(args) => {
            regs.rip = regs.rip.wrapping_sub(INT_LENGTH);
            [regs.rbx, regs.rcx, regs.rdx, regs.rsi, regs.rdi, regs.rbp] = args.map(|value| value & LOW);
        }
    }
}

/// Makes the vCPU's window reachable on this CPU.
fn lend_window(current: &mut Current<'_>) {
    if let Some(narrow) = &mut current.state.narrow {
        machine::set_window(narrow.window.take());
    }
}

fn take_window_back(current: &mut Current<'_>) {
    if let Some(narrow) = &mut current.state.narrow {
        narrow.window = machine::set_window(None);
    }
}

/// Carries out one hypercall, from registers or from a multicall.
fn call(current: &mut Current<'_>, number: u32, args: Args) -> Outcome {
    match number {
        HYPERVISOR_MULTICALL => {
            let machine = current.machine();
            let each = |number, args: Args| call(current, number as u32, args);
            multicall::<MulticallEntry, _, false>(machine, args, each)
        }
        HYPERVISOR_SET_TRAP_TABLE => operations::set_trap_table(current, args).into(),
        HYPERVISOR_SET_GDT => operations::set_gdt(current, args).into(),
        HYPERVISOR_SET_CALLBACKS => operations::set_callbacks(current, args),
        HYPERVISOR_CALLBACK_OP => operations::callback_op(current, args).into(),
        HYPERVISOR_NMI_OP => operations::nmi_op(current, args).into(),
        // A 32-bit guest has descriptors for that.
        HYPERVISOR_SET_SEGMENT_BASE => Errno::NOSYS.into(),
        _ => {
            let machine = current.machine();
            let native = &mut |number: u32, args: Args| hypercalls::call(current, number.into(), args);
            compat::translate(machine, number, args, native)
        }
    }
}
