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
        // Nothing is beyond the last number, so that one comparison tells all that there is not.
        match $number.min(u64::from($crate::hypercalls::NUMBERS)) as u32 {
            $($own_number => $given.answer($current, |current, args| $own(current, args)),)*
            HYPERVISOR_XEN_VERSION => {
                $given.answer($current, |current, args| hypercall::version::xen_version(&current.caller(), args))
            }
            HYPERVISOR_EVENT_CHANNEL_OP => {
                $given.answer($current, |current, args| hypercall::event::event_channel_op(&current.caller(), args))
            }
            HYPERVISOR_SCHED_OP => {
                $given.answer($current, |current, args| hypercall::sched::sched_op(&current.caller(), args))
            }
            HYPERVISOR_SET_TIMER_OP => {
                $given.answer($current, |current, args| hypercall::vcpu::set_timer_op(&current.caller(), args))
            }
            HYPERVISOR_GRANT_TABLE_OP => {
                $given.answer($current, |current, args| hypercall::grant::grant_table_op(&current.caller(), args))
            }
            HYPERVISOR_CONSOLE_IO => {
                $given.answer($current, |current, args| hypercall::console::console_io(&current.caller(), args))
            }
            HYPERVISOR_VM_ASSIST => {
                $given.answer($current, |current, args| hypercall::assist::vm_assist(&current.caller(), args))
            }
            HYPERVISOR_SYSCTL => {
                $given.answer($current, |current, args| hypercall::sysctl::sysctl(&current.caller(), args))
            }
            HYPERVISOR_DOMCTL => {
                $given.answer($current, |current, args| $crate::domctl::domctl(&current.caller(), args))
            }
            HYPERVISOR_HVM_OP => {
                $given.answer($current, |current, args| hypercall::hvm::hvm_op(&current.caller(), args))
            }
            HYPERVISOR_DM_OP => {
                $given.answer($current, |current, args| hypercall::hvm::dm_op(&current.caller(), args))
            }
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
pub const NUMBERS: u32 = 64;

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
