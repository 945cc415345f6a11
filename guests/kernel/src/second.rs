//! Further virtual processors: the state that one begins in.

use crate::entry;
use crate::memory::{Guest, page};
use crate::pvh::{physical, top_table};
use crate::shared::vcpu_op;
use core::cell::UnsafeCell;
use xen_abi::Union;
use xen_abi::arch_x86::*;
use xen_abi::hvm_vcpu::*;
use xen_abi::vcpu::*;
use zerocopy::{FromZeros, IntoBytes};

struct Context(UnsafeCell<Option<VcpuGuestContext>>);

// SAFETY: only the first processor uses it.
unsafe impl Sync for Context {}

static CONTEXT: Context = Context(UnsafeCell::new(None));

/// Gives processor `vcpu` a state that runs, but for what `change` does to it.
pub fn initialise(guest: &Guest, vcpu: u32, change: impl FnOnce(&mut VcpuGuestContext)) -> i64 {
    // SAFETY: only the first processor comes here, and never twice at a time.
    let context = unsafe { &mut *CONTEXT.0.get() }.insert(VcpuGuestContext::new_zeroed());
    let (_, top) = guest.table(page(0), 4);
    context.flags = VGCF_IN_KERNEL;
    context.user_regs.rip = entry::second().0;
    context.user_regs.rsp = entry::second().1;
    context.user_regs.cs = FLAT_KERNEL_CS;
    context.user_regs.ss = FLAT_KERNEL_SS;
    context.user_regs.rflags = 0x202;
    context.kernel_ss = u64::from(FLAT_KERNEL_SS);
    context.kernel_sp = entry::second().1;
    context.ctrlreg[3] = pfn_to_cr3(top);
    context.event_callback_eip = entry::event();
    context.failsafe_callback_eip = entry::failsafe();
    context.syscall_callback_eip = entry::syscall();
    change(context);
    vcpu_op(VCPUOP_INITIALISE, vcpu, context)
}

/// Gives processor `vcpu` of a translated guest the state in `registers`, of `mode`.
pub fn issue(vcpu: u32, mode: u32, registers: &[u8]) -> i64 {
    let mut words = [0u64; 15];
    words.as_mut_bytes()[..registers.len()].copy_from_slice(registers);
    vcpu_op(VCPUOP_INITIALISE, vcpu, &mut VcpuHvmContext { mode, pad: 0, cpu_regs: Union(words) })
}

/// Gives processor `vcpu` of a translated guest a state that runs 64-bit code, but for what `change` does to it.
pub fn initialise_translated(vcpu: u32, change: impl FnOnce(&mut VcpuHvm64)) -> i64 {
    let (rip, rsp) = entry::second();
    let mut registers = VcpuHvm64 {
        rip,
        rsp,
        rflags: 2,
        cr0: 0x8001_0033,
        cr3: physical(top_table()),
        cr4: 0x620,
        efer: 0x500,
        ..VcpuHvm64::new_zeroed()
    };
    change(&mut registers);
    issue(vcpu, VCPU_HVM_MODE_64B, registers.as_bytes())
}
