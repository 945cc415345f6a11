//! The hypercalls that guests of every kind have, by number (xen.h).

use crate::current::Current;
use crate::machine::X86;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use hypercall::{Args, Caller, Outcome};
use types::Errno;

/// Where a call of the vCPU whose state is `S` has its arguments from, and where its outcome goes: registers, or a multicall.
pub trait Given<S>: Copy {
    /// What has become of it.
    type Answer<'c>
    where
        S: 'c;

    /// Carries out the call. Of arguments in registers only those that it needs are touched.
    fn answer<'c>(
        self,
        current: &'c mut Current<'_, S>,
        call: impl FnOnce(&mut Current<'_, S>, Args) -> Outcome,
    ) -> Self::Answer<'c>;
}

impl<S> Given<S> for Args {
    type Answer<'c>
        = Outcome
    where
        S: 'c;

    #[inline(always)]
    fn answer(self, current: &mut Current<'_, S>, call: impl FnOnce(&mut Current<'_, S>, Args) -> Outcome) -> Outcome {
        call(current, self)
    }
}

/// Carries out a call: one of those that are named, which take the vCPU, or one that guests of every kind have. All numbers are in
/// one table.
macro_rules! carry_out {
    ($current:ident, $number:expr, $given:expr, { $($own_number:pat => $own:path,)* }) => {
        $crate::hypercalls::carry_out!($current, $number, $given, { $($own_number => $own,)* }, {
            HYPERVISOR_XEN_VERSION => hypercall::version::xen_version,
            HYPERVISOR_EVENT_CHANNEL_OP => hypercall::event::event_channel_op,
            HYPERVISOR_SCHED_OP => hypercall::sched::sched_op,
            HYPERVISOR_SET_TIMER_OP => hypercall::vcpu::set_timer_op,
            HYPERVISOR_GRANT_TABLE_OP => hypercall::grant::grant_table_op,
            HYPERVISOR_CONSOLE_IO => hypercall::console::console_io,
            HYPERVISOR_VM_ASSIST => hypercall::assist::vm_assist,
            HYPERVISOR_SYSCTL => hypercall::sysctl::sysctl,
            HYPERVISOR_DOMCTL => $crate::domctl::domctl,
            HYPERVISOR_HVM_OP => hypercall::hvm::hvm_op,
            HYPERVISOR_DM_OP => hypercall::hvm::dm_op,
        })
    };
    ($current:ident, $number:expr, $given:expr, { $($own_number:pat => $own:path,)* }, {
        $($common_number:pat => $common:path,)*
    }) => {
        // Nothing is beyond the last number, so that one comparison tells all that there is not.
        match $number.min($crate::hypercalls::NUMBERS) as u32 {
            $($own_number => $given.answer($current, |current, args| $own(current, args)),)*
            $($common_number => $given.answer($current, |current, args| $common(&current.caller(), args)),)*
            // As where Xen's option vpmu is off, its default.
            HYPERVISOR_XENPMU_OP => $given.answer($current, |_, _| types::Errno::OPNOTSUPP.into()),
            HYPERVISOR_KEXEC_OP | HYPERVISOR_HYPFS_OP | HYPERVISOR_ARCH_0 => $given.answer($current, move |current, _| {
                $crate::hypercalls::not_implemented_privileged(&current.caller(), $number)
            }),
            _ => {
                $given.answer($current, move |current, _| $crate::hypercalls::not_implemented(&current.caller(), $number))
            }
        }
    };
}
pub(crate) use carry_out;

/// How many numbers there may be (`NR_hypercalls` of Xen's).
pub const NUMBERS: u64 = 64;

/// Numbers that were refused before, a bit each; the highest stands for all that follow, too.
static REFUSED: AtomicU64 = AtomicU64::new(0);

/// A call that there is not.
pub fn not_implemented(caller: &Caller<'_, X86>, number: u64) -> Outcome {
    let bit = 1 << number.min(63);
    if REFUSED.load(Relaxed) & bit == 0 {
        log_refusal(caller, number, bit);
    }
    Errno::NOSYS.into()
}

/// A call that there is not, which other domains than privileged ones may not make.
pub fn not_implemented_privileged(caller: &Caller<'_, X86>, number: u64) -> Outcome {
    if caller.domain.is_privileged() { not_implemented(caller, number) } else { Errno::PERM.into() }
}

#[cold]
fn log_refusal(caller: &Caller<'_, X86>, number: u64, bit: u64) {
    if REFUSED.fetch_or(bit, Relaxed) & bit == 0 {
        log::warn!("{}: hypercall {number} is not implemented", caller.domain.id);
    }
}
