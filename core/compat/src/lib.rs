//! Hypercalls of 32-bit PV guests (arch-x86/xen-x86_32.h), as the 64-bit ones that they amount to.
//!
//! The families in `core/hypercall` know one layout. [`translate`] takes a 32-bit guest's arguments, writes what differs in
//! 64-bit layout into the [`Window`], a few pages of the hypervisor's that the families reach like guest memory, has the call
//! carried out, and copies results back. Long lists go through the window in parts; a call that is cut off goes on from the
//! guest's own arguments, as a 64-bit one does.
//!
//! What concerns the vCPU itself (traps, callbacks, stacks, multicalls) is the architecture's.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod grant;
mod memory;
mod mmu;
mod small;
mod window;

pub use window::{WINDOW, WINDOW_BYTES, Window, is_in_window};

use hypercall::{Args, Outcome};
use platform::{GuestMemory, Preempt};
use types::Result;
use xen_abi::xen::*;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

/// Carries a 64-bit call out.
pub type Native<'a> = dyn FnMut(u32, Args) -> Outcome + 'a;

/// What a translation works with.
struct Call<'a, 'b, M> {
    /// The guest's memory, and the window.
    machine: &'a M,
    native: &'a mut Native<'b>,
    number: u32,
    args: Args,
}

impl<M: GuestMemory + Preempt> Call<'_, '_, M> {
    /// Carries out the same call with other arguments.
    fn issue(&mut self, args: Args) -> Outcome {
        (self.native)(self.number, args)
    }

    fn read<T: FromBytes + IntoBytes + FromZeros>(&self, address: u64) -> Result<T> {
        let mut value = T::new_zeroed();
        self.machine.copy_in(address, value.as_mut_bytes())?;
        Ok(value)
    }

    fn write<T: IntoBytes + Immutable>(&self, address: u64, value: &T) -> Result<()> {
        self.machine.copy_out(address, value.as_bytes())
    }

    /// The call again, with other arguments: all a 32-bit guest's.
    fn again(&self, change: impl FnOnce(&mut Args)) -> Outcome {
        let mut args = self.args;
        change(&mut args);
        Outcome::Again(args)
    }
}

/// Carries out hypercall `number` of a 32-bit guest. The arguments, and those of an [`Outcome::Again`], have 32 bits each.
/// `native` carries out 64-bit calls of the same guest; `machine` reaches the guest's memory and the window.
pub fn translate<M: GuestMemory + Preempt>(machine: &M, number: u32, args: Args, native: &mut Native<'_>) -> Outcome {
    let mut call = Call { machine, native, number, args };
    match number {
        HYPERVISOR_SET_TIMER_OP => small::set_timer(&mut call),
        HYPERVISOR_UPDATE_DESCRIPTOR => small::update_descriptor(&mut call),
        HYPERVISOR_XEN_VERSION => small::version(&mut call),
        HYPERVISOR_VCPU_OP => small::vcpu(&mut call),
        HYPERVISOR_SCHED_OP => small::sched(&mut call),
        HYPERVISOR_PHYSDEV_OP => small::physdev(&mut call),
        HYPERVISOR_MEMORY_OP => memory::memory_op(&mut call),
        HYPERVISOR_GRANT_TABLE_OP => grant::grant_table_op(&mut call),
        HYPERVISOR_MMUEXT_OP => mmu::mmuext_op(&mut call),
        HYPERVISOR_UPDATE_VA_MAPPING | HYPERVISOR_UPDATE_VA_MAPPING_OTHERDOMAIN => mmu::update_va_mapping(&mut call),
        // The same in both widths.
        _ => call.issue(args),
    }
}
