//! The hypercalls of a 32-bit guest: number in eax, arguments in ebx, ecx, edx, esi, edi, ebp.

use super::{iret, operations};
use crate::current::Current;
use crate::machine;
use crate::pv::{hypercalls, traps};
use core::mem::offset_of;
use hypercall::{Args, Outcome};
use platform::{GuestMemory, Preempt};
use types::Errno;
use xen_abi::compat::MulticallEntry;
use xen_abi::xen::*;
use zerocopy::{FromZeros, IntoBytes};

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
    let outcome = call(current, number, &args);
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
fn call(current: &mut Current<'_>, number: u32, args: &Args) -> Outcome {
    match number {
        HYPERVISOR_MULTICALL => multicall(current, args),
        HYPERVISOR_SET_TRAP_TABLE => operations::set_trap_table(current, args).into(),
        HYPERVISOR_SET_GDT => operations::set_gdt(current, args).into(),
        HYPERVISOR_SET_CALLBACKS => operations::set_callbacks(current, args),
        HYPERVISOR_CALLBACK_OP => operations::callback_op(current, args).into(),
        HYPERVISOR_NMI_OP => operations::nmi_op(current, args).into(),
        // A 32-bit guest has descriptors for that.
        HYPERVISOR_SET_SEGMENT_BASE => Errno::NOSYS.into(),
        _ => {
            let machine = current.machine();
            let native = &mut |number: u32, args: &Args| hypercalls::call(current, number.into(), args);
            compat::translate(machine, number, args, native)
        }
    }
}

/// Several calls in one.
fn multicall(current: &mut Current<'_>, args: &Args) -> Outcome {
    let (address, count) = (args[0], args[1]);
    let place = |done: u64| address + done * size_of::<MulticallEntry>() as u64;
    for done in 0..count {
        let again = Outcome::Again([place(done), count - done, args[2], args[3], args[4], args[5]]);
        if done != 0 && current.machine().should_yield() {
            return again;
        }
        let mut entry = MulticallEntry::new_zeroed();
        if let Err(errno) = current.machine().copy_in(place(done), entry.as_mut_bytes()) {
            return errno.into();
        }
        let outcome = match entry.op {
            HYPERVISOR_IRET | HYPERVISOR_MULTICALL => Errno::NOSYS.into(),
            _ => call(current, entry.op, &entry.args.map(u64::from)),
        };
        let written = match outcome {
            Outcome::Done(value) => {
                let at = place(done) + offset_of!(MulticallEntry, result) as u64;
                current.machine().copy_out(at, &(value as u32).to_le_bytes())
            }
            Outcome::Again(rest) => {
                // The entry itself is rewritten, and the multicall begins again with it.
                entry.args = rest.map(|value| value as u32);
                current.machine().copy_out(place(done), entry.as_bytes())
            }
        };
        match (written, outcome) {
            (Err(errno), _) => return errno.into(),
            (Ok(()), Outcome::Again(_)) => return again,
            (Ok(()), Outcome::Done(_)) => {}
        }
    }
    Outcome::Done(0)
}
