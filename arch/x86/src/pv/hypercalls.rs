//! The hypercalls of a PV guest, by number (xen.h).

use super::{descriptors, iret, mmu, operations, traps};
use crate::current::Current;
use crate::{domctl, physdev, platform_op};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use hypercall::multicall::multicall;
use hypercall::{Args, Outcome};
use types::Errno;
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
    let outcome = call(current, number, &args);
    let regs = &mut current.state.context.regs;
    match outcome {
        Outcome::Done(value) => regs.rax = value as u64,
        Outcome::Again(args) => {
            regs.rip = regs.rip.wrapping_sub(SYSCALL_LENGTH);
            [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9] = args;
        }
    }
}

/// Carries out one hypercall, from registers or from a multicall.
pub fn call(current: &mut Current<'_>, number: u64, args: &Args) -> Outcome {
    let caller = current.caller();
    match u32::try_from(number).unwrap_or(u32::MAX) {
        HYPERVISOR_XEN_VERSION => hypercall::version::xen_version(&caller, args),
        HYPERVISOR_EVENT_CHANNEL_OP => hypercall::event::event_channel_op(&caller, args),
        HYPERVISOR_SCHED_OP => hypercall::sched::sched_op(&caller, args),
        HYPERVISOR_SCHED_OP_COMPAT => hypercall::sched::sched_op_compat(&caller, args),
        HYPERVISOR_VCPU_OP => {
            let outcome = hypercall::vcpu::vcpu_op(&caller, args);
            // Nothing else moves it while the vCPU runs; timers are set by this call all the time.
            if args[0] as u32 == VCPUOP_REGISTER_VCPU_INFO {
                current.find_info();
            }
            outcome
        }
        HYPERVISOR_SET_TIMER_OP => hypercall::vcpu::set_timer_op(&caller, args),
        HYPERVISOR_GRANT_TABLE_OP => hypercall::grant::grant_table_op(&caller, args),
        HYPERVISOR_MEMORY_OP => hypercall::memory::memory_op(&caller, args),
        HYPERVISOR_CONSOLE_IO => hypercall::console::console_io(&caller, args),
        HYPERVISOR_VM_ASSIST => hypercall::assist::vm_assist(&caller, args),
        HYPERVISOR_SYSCTL => hypercall::sysctl::sysctl(&caller, args),
        HYPERVISOR_DOMCTL => domctl::domctl(&caller, args),
        HYPERVISOR_PHYSDEV_OP => physdev::physdev_op(current, args),
        HYPERVISOR_PLATFORM_OP => platform_op::platform_op(current, args),
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
        HYPERVISOR_EVENT_CHANNEL_OP_COMPAT => hypercall::event::event_channel_op_compat(&caller, args),
        HYPERVISOR_PHYSDEV_OP_COMPAT => physdev::physdev_op_compat(current, args),
        HYPERVISOR_HVM_OP => hypercall::hvm::hvm_op(&caller, args),
        HYPERVISOR_DM_OP => hypercall::hvm::dm_op(&caller, args),
        // As where Xen's option vpmu is off, its default.
        HYPERVISOR_XENPMU_OP => Errno::OPNOTSUPP.into(),
        HYPERVISOR_KEXEC_OP | HYPERVISOR_HYPFS_OP | HYPERVISOR_ARCH_0 if !current.domain.is_privileged() => {
            Errno::PERM.into()
        }
        other => not_implemented(current, other),
    }
}

/// Numbers that were refused before, a bit each.
static REFUSED: AtomicU64 = AtomicU64::new(0);

fn not_implemented(current: &mut Current<'_>, number: u32) -> Outcome {
    let bit = 1 << number.min(63);
    if REFUSED.fetch_or(bit, Relaxed) & bit == 0 {
        log::warn!("{}: hypercall {number} is not implemented", current.domain.id);
    }
    Errno::NOSYS.into()
}
