//! The hypercalls of an HVM guest's 32-bit code: number in eax, arguments in ebx, ecx, edx, esi, edi, ebp.

use super::VcpuState;
use super::hypercalls::{self, with_space};
use crate::current::Current;
use crate::machine;
use hypercall::multicall::multicall;
use hypercall::{Args, Outcome};
use xen_abi::compat::MulticallEntry;
use xen_abi::xen::HYPERVISOR_MULTICALL;

/// What a register's name stands for in 32-bit code.
const LOW: u64 = 0xffff_ffff;

/// Carries out the hypercall that the vCPU has just made. Whether its instruction is over.
pub fn dispatch(current: &mut Current<'_, VcpuState>) -> bool {
    let regs = &current.state.regs;
    let number = regs.rax as u32;
    let args = [regs.rbx, regs.rcx, regs.rdx, regs.rsi, regs.rdi, regs.rbp].map(|register| register & LOW);
    let outcome = with_window(current, |current| with_space(current, |current| call(current, number, args)));
    let regs = &mut current.state.regs;
    match outcome {
        Outcome::Done(value) => {
            regs.rax = value as u64 & LOW;
            true
        }
        Outcome::Again(args) => {
            [regs.rbx, regs.rcx, regs.rdx, regs.rsi, regs.rdi, regs.rbp] = args.map(|value| value & LOW);
            false
        }
    }
}

/// Makes the vCPU's window reachable on this CPU for as long as `act` takes.
fn with_window<T>(current: &mut Current<'_, VcpuState>, act: impl FnOnce(&mut Current<'_, VcpuState>) -> T) -> T {
    machine::set_window(current.state.window.take());
    let value = act(current);
    current.state.window = machine::set_window(None);
    value
}

fn call(current: &mut Current<'_, VcpuState>, number: u32, args: Args) -> Outcome {
    let machine = current.machine();
    if number == HYPERVISOR_MULTICALL {
        let each = |number, args: Args| call(current, number as u32, args);
        return multicall::<MulticallEntry, _, false>(machine, args, each);
    }
    let native = &mut |number: u32, args: Args| hypercalls::call(current, number.into(), args);
    compat::translate(machine, number, args, native)
}
