//! The hypercalls that guests of every kind have, by number (xen.h).

use crate::current::Current;
use crate::domctl;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use hypercall::{Args, Outcome};
use types::Errno;
use xen_abi::xen::*;

/// Carries out a call that is not of one kind of guest alone. Part of its callers, which dispatch by number as it does.
#[inline(always)]
pub fn call<S>(current: &Current<'_, S>, number: u32, args: &Args) -> Outcome {
    let caller = current.caller();
    match number {
        HYPERVISOR_XEN_VERSION => hypercall::version::xen_version(&caller, args),
        HYPERVISOR_EVENT_CHANNEL_OP => hypercall::event::event_channel_op(&caller, args),
        HYPERVISOR_SCHED_OP => hypercall::sched::sched_op(&caller, args),
        HYPERVISOR_VCPU_OP => hypercall::vcpu::vcpu_op(&caller, args),
        HYPERVISOR_SET_TIMER_OP => hypercall::vcpu::set_timer_op(&caller, args),
        HYPERVISOR_GRANT_TABLE_OP => hypercall::grant::grant_table_op(&caller, args),
        HYPERVISOR_MEMORY_OP => hypercall::memory::memory_op(&caller, args),
        HYPERVISOR_CONSOLE_IO => hypercall::console::console_io(&caller, args),
        HYPERVISOR_VM_ASSIST => hypercall::assist::vm_assist(&caller, args),
        HYPERVISOR_SYSCTL => hypercall::sysctl::sysctl(&caller, args),
        HYPERVISOR_DOMCTL => domctl::domctl(&caller, args),
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

#[cold]
fn not_implemented<S>(current: &Current<'_, S>, number: u32) -> Outcome {
    let bit = 1 << number.min(63);
    if REFUSED.fetch_or(bit, Relaxed) & bit == 0 {
        log::warn!("{}: hypercall {number} is not implemented", current.domain.id);
    }
    Errno::NOSYS.into()
}
