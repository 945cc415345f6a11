//! The hypercalls of a PV guest, by number (xen.h).

use super::{descriptors, iret, mmu, operations, traps};
use crate::current::Current;
use crate::{hypercalls, physdev, platform_op};
use hypercall::multicall::multicall;
use hypercall::{Args, Outcome};
use xen_abi::vcpu::VCPUOP_REGISTER_VCPU_INFO;
use xen_abi::xen::*;

/// Length of the SYSCALL instruction, by which a cut-off hypercall is made to be issued again.
const SYSCALL_LENGTH: u64 = 2;

/// Carries out the hypercall that the vCPU has just made.
#[inline]
pub fn dispatch(current: &mut Current<'_>) {
    let regs = &current.state.context.regs;
    let number = regs.rax;
    if number == u64::from(HYPERVISOR_IRET) {
        if let Err(errno) = iret::iret(current.machine(), current.state) {
            traps::crash_on(current, "iret: bad frame", errno);
        }
        return;
    }
    let args = [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9];
    let outcome = carry_out(current, number, &args);
    let regs = &mut current.state.context.regs;
    match outcome {
        Outcome::Done(value) => regs.rax = value as u64,
        Outcome::Again(args) => {
            regs.rip = regs.rip.wrapping_sub(SYSCALL_LENGTH);
            [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9] = args;
        }
    }
}

/// Carries out one hypercall, from a multicall or with arguments that were laid out anew.
pub fn call(current: &mut Current<'_>, number: u64, args: &Args) -> Outcome {
    carry_out(current, number, args)
}

/// Carries out one hypercall. Part of its callers: most hypercalls do less than another frame of registers costs.
#[inline(always)]
fn carry_out(current: &mut Current<'_>, number: u64, args: &Args) -> Outcome {
    match u32::try_from(number).unwrap_or(u32::MAX) {
        // Nothing else moves vcpu_info while the vCPU runs; timers are set by this call all the time.
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
        HYPERVISOR_MMU_UPDATE => mmu::mmu_update(current, args),
        HYPERVISOR_MMUEXT_OP => mmu::mmuext_op(current, args),
        HYPERVISOR_UPDATE_VA_MAPPING => mmu::update_va_mapping(current, args),
        HYPERVISOR_UPDATE_VA_MAPPING_OTHERDOMAIN => mmu::update_va_mapping_otherdomain(current, args),
        HYPERVISOR_SET_TRAP_TABLE => operations::set_trap_table(current, args),
        HYPERVISOR_SET_GDT => descriptors::set_gdt(current, args),
        HYPERVISOR_UPDATE_DESCRIPTOR => descriptors::update_descriptor(current, args),
        HYPERVISOR_STACK_SWITCH => operations::stack_switch(current, args),
        HYPERVISOR_SET_CALLBACKS => operations::set_callbacks(current, args),
        HYPERVISOR_FPU_TASKSWITCH => operations::fpu_taskswitch(current, args),
        HYPERVISOR_SET_DEBUGREG => operations::set_debugreg(current, args),
        HYPERVISOR_GET_DEBUGREG => operations::get_debugreg(current, args),
        HYPERVISOR_SET_SEGMENT_BASE => operations::set_segment_base(current, args),
        HYPERVISOR_CALLBACK_OP => operations::callback_op(current, args),
        HYPERVISOR_NMI_OP => operations::nmi_op(current, args),
        HYPERVISOR_PHYSDEV_OP => physdev::physdev_op(current, args),
        HYPERVISOR_PLATFORM_OP => platform_op::platform_op(current, args),
        HYPERVISOR_SCHED_OP_COMPAT => hypercall::sched::sched_op_compat(&current.caller(), args),
        HYPERVISOR_EVENT_CHANNEL_OP_COMPAT => hypercall::event::event_channel_op_compat(&current.caller(), args),
        HYPERVISOR_PHYSDEV_OP_COMPAT => physdev::physdev_op_compat(current, args),
        other => hypercalls::call(current, other, args),
    }
}
