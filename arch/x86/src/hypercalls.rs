//! The hypercalls that guests of every kind have, by number (xen.h).

use crate::current::Current;
use crate::machine::X86;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use hypercall::{Args, Caller, Outcome};
use types::Errno;
use xen_abi::xen::*;

/// Where the arguments of a call are: in the registers of the vCPU whose state is `S`, or copied from a multicall. A call that
/// needs one or two of them takes just these.
pub trait Given<S>: Copy {
    /// All of them.
    fn args(self, current: &Current<'_, S>) -> Args;
}

impl<S> Given<S> for Args {
    #[inline(always)]
    fn args(self, _: &Current<'_, S>) -> Args {
        self
    }
}

/// Carries out a call: one of those that are named, which take the vCPU, or one that guests of every kind have. All numbers are in
/// one table. Each call takes its arguments itself, so that only what it needs of them is touched.
macro_rules! carry_out {
    ($current:ident, $number:expr, $given:expr, { $($own_number:pat => $own:path,)* }) => {
        match $number {
            $($own_number => {
                let args = $given.args($current);
                $own($current, args)
            })*
            HYPERVISOR_XEN_VERSION => hypercall::version::xen_version(&$current.caller(), $given.args($current)),
            HYPERVISOR_EVENT_CHANNEL_OP => {
                hypercall::event::event_channel_op(&$current.caller(), $given.args($current))
            }
            HYPERVISOR_SCHED_OP => hypercall::sched::sched_op(&$current.caller(), $given.args($current)),
            HYPERVISOR_SET_TIMER_OP => hypercall::vcpu::set_timer_op(&$current.caller(), $given.args($current)),
            HYPERVISOR_GRANT_TABLE_OP => hypercall::grant::grant_table_op(&$current.caller(), $given.args($current)),
            HYPERVISOR_CONSOLE_IO => hypercall::console::console_io(&$current.caller(), $given.args($current)),
            HYPERVISOR_VM_ASSIST => hypercall::assist::vm_assist(&$current.caller(), $given.args($current)),
            HYPERVISOR_SYSCTL => hypercall::sysctl::sysctl(&$current.caller(), $given.args($current)),
            HYPERVISOR_DOMCTL => $crate::domctl::domctl(&$current.caller(), $given.args($current)),
            HYPERVISOR_HVM_OP => hypercall::hvm::hvm_op(&$current.caller(), $given.args($current)),
            HYPERVISOR_DM_OP => hypercall::hvm::dm_op(&$current.caller(), $given.args($current)),
            other => $crate::hypercalls::not_implemented(&$current.caller(), other),
        }
    };
}
pub(crate) use carry_out;

/// Numbers that were refused before, a bit each.
static REFUSED: AtomicU64 = AtomicU64::new(0);

/// A call that there is not. As where Xen's option vpmu is off, its default, the performance monitors are known and unsupported.
#[cold]
pub fn not_implemented(caller: &Caller<'_, X86>, number: u32) -> Outcome {
    match number {
        HYPERVISOR_XENPMU_OP => return Errno::OPNOTSUPP.into(),
        HYPERVISOR_KEXEC_OP | HYPERVISOR_HYPFS_OP | HYPERVISOR_ARCH_0 if !caller.domain.is_privileged() => {
            return Errno::PERM.into();
        }
        _ => {}
    }
    let bit = 1 << number.min(63);
    if REFUSED.fetch_or(bit, Relaxed) & bit == 0 {
        log::warn!("{}: hypercall {number} is not implemented", caller.domain.id);
    }
    Errno::NOSYS.into()
}
