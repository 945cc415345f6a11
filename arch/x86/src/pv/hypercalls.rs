//! The hypercalls of a PV guest, by number (xen.h).

use super::{VcpuState, descriptors, mmu, operations, run, traps};
use crate::current::Current;
use crate::hypercalls::{self, Given};
use crate::{physdev, platform_op};
use hal_cpu::Served;
use hypercall::multicall::multicall;
use hypercall::{Args, Outcome};
use xen_abi::vcpu::VCPUOP_REGISTER_VCPU_INFO;
use xen_abi::xen::*;

/// Length of the SYSCALL instruction, by which a cut-off hypercall is made to be issued again.
const SYSCALL_LENGTH: u64 = 2;

/// Carries out the hypercall that the vCPU has just made.
#[inline(always)]
pub fn dispatch<'c>(current: &'c mut Current<'_>) -> Served<'c> {
    let number = current.state.context.regs.rax;
    // The most frequent call.
    if number == u64::from(HYPERVISOR_IRET) {
        return iret(current);
    }
    carry_out(current, number, InRegisters)
}

#[inline(never)]
fn iret<'c>(current: &'c mut Current<'_>) -> Served<'c> {
    if let Err(errno) = super::iret::iret(current.machine(), current.state) {
        traps::crash_on(current, "iret: bad frame", errno);
    }
    run::go_on(current)
}

/// The call that the vCPU has just made.
#[derive(Clone, Copy)]
struct InRegisters;

impl Given<VcpuState> for InRegisters {
    type Answer<'c> = Served<'c>;

    /// A function of its own for each call, so that a short one saves only the registers which it needs itself.
    #[inline(never)]
    fn answer<'c>(
        self,
        current: &'c mut Current<'_>,
        call: impl FnOnce(&mut Current<'_>, Args) -> Outcome,
    ) -> Served<'c> {
        let regs = &current.state.context.regs;
        let args = [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9];
        let outcome = call(current, args);
        let regs = &mut current.state.context.regs;
        match outcome {
            Outcome::Done(value) => regs.rax = value as u64,
            Outcome::Again(args) => {
                regs.rip = regs.rip.wrapping_sub(SYSCALL_LENGTH);
                [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9] = args;
            }
        }
        run::go_on(current)
    }
}

/// Carries out one hypercall, from a multicall or with arguments that were laid out anew.
pub fn call(current: &mut Current<'_>, number: u64, args: Args) -> Outcome {
    carry_out(current, number, args)
}

/// Carries out one hypercall. Part of its callers: most hypercalls do less than another frame of registers costs.
#[inline(always)]
fn carry_out<'c, G: Given<VcpuState>>(current: &'c mut Current<'_>, number: u64, given: G) -> G::Answer<'c> {
    hypercalls::carry_out!(current, number, given, {
        HYPERVISOR_VCPU_OP => vcpu_op,
        HYPERVISOR_MEMORY_OP => memory_op,
        HYPERVISOR_MULTICALL => multicall_here,
        HYPERVISOR_MMU_UPDATE => mmu::mmu_update,
        HYPERVISOR_MMUEXT_OP => mmu::mmuext_op,
        HYPERVISOR_UPDATE_VA_MAPPING => mmu::update_va_mapping,
        HYPERVISOR_UPDATE_VA_MAPPING_OTHERDOMAIN => mmu::update_va_mapping_otherdomain,
        HYPERVISOR_SET_TRAP_TABLE => operations::set_trap_table,
        HYPERVISOR_SET_GDT => descriptors::set_gdt,
        HYPERVISOR_UPDATE_DESCRIPTOR => descriptors::update_descriptor,
        HYPERVISOR_STACK_SWITCH => operations::stack_switch,
        HYPERVISOR_SET_CALLBACKS => operations::set_callbacks,
        HYPERVISOR_FPU_TASKSWITCH => operations::fpu_taskswitch,
        HYPERVISOR_SET_DEBUGREG => operations::set_debugreg,
        HYPERVISOR_GET_DEBUGREG => operations::get_debugreg,
        HYPERVISOR_SET_SEGMENT_BASE => operations::set_segment_base,
        HYPERVISOR_CALLBACK_OP => operations::callback_op,
        HYPERVISOR_NMI_OP => operations::nmi_op,
        HYPERVISOR_PHYSDEV_OP => physdev::physdev_op,
        HYPERVISOR_PLATFORM_OP => platform_op::platform_op,
        HYPERVISOR_SCHED_OP_COMPAT => sched_op_compat,
        HYPERVISOR_EVENT_CHANNEL_OP_COMPAT => event_channel_op_compat,
        HYPERVISOR_PHYSDEV_OP_COMPAT => physdev::physdev_op_compat,
    })
}

/// Nothing else moves vcpu_info while the vCPU runs; timers are set by this call all the time.
#[inline(always)]
fn vcpu_op(current: &mut Current<'_>, args: Args) -> Outcome {
    let outcome = hypercall::vcpu::vcpu_op(&current.caller(), args);
    if args[0] as u32 == VCPUOP_REGISTER_VCPU_INFO {
        current.find_info();
    }
    outcome
}

fn memory_op(current: &mut Current<'_>, args: Args) -> Outcome {
    hypercall::memory::memory_op(&current.caller(), args)
}

fn multicall_here(current: &mut Current<'_>, args: Args) -> Outcome {
    let machine = current.machine();
    let each = |number, args: Args| call(current, number, args);
    multicall::<MulticallEntry, _, true>(machine, args, each)
}

fn sched_op_compat(current: &mut Current<'_>, args: Args) -> Outcome {
    hypercall::sched::sched_op_compat(&current.caller(), args)
}

fn event_channel_op_compat(current: &mut Current<'_>, args: Args) -> Outcome {
    hypercall::event::event_channel_op_compat(&current.caller(), args)
}
