//! 32-bit PV guests (arch-x86/xen-x86_32.h). Their kernel runs in ring 1, in one address space with its user code, and makes
//! hypercalls by `int 0x82`. Their page tables have three levels; the CPU needs a fourth, which is the hypervisor's.

pub mod bounce;
pub mod context;
mod hypercalls;
mod iret;
mod operations;
mod segments;

use super::state::{Narrow, VcpuState};
use crate::current::Current;
use crate::machine::X86;
use ::compat::Window;
use alloc::boxed::Box;
use core::sync::atomic::Ordering::Relaxed;
use domain::Hypervisor;
use hal_cpu::{Exit, HYPERCALL_VECTOR};
use memory::{PvPolicy, Request};
use platform::Frames;
use types::{Errno, Result};
use x86_defs::descriptor::selector;
use x86_defs::pte::{Pte, PteFlags};

/// First L4 slot of the hypervisor.
const FIRST_OWN_SLOT: usize = 256;

/// Makes a vCPU that has not run one of a 32-bit guest.
///
/// # Errors
/// `ENOMEM`.
pub fn prepare(hypervisor: &Hypervisor<X86>, state: &mut VcpuState) -> Result<()> {
    if state.narrow.is_some() {
        return Ok(());
    }
    let top = hypervisor.memory.allocate_anonymous(Request::order(0)).map_err(|_| Errno::NOMEM)?;
    let table = hypervisor.machine().table(top).ok_or(Errno::NOMEM)?;
    for (word, entry) in table[FIRST_OWN_SLOT..].iter().zip(hypervisor.machine().hypervisor_slots()) {
        word.store(entry, Relaxed);
    }
    state.context.allow_ring1();
    state.narrow = Some(Box::new(Narrow { top, window: Some(Box::new(Window::new())) }));
    Ok(())
}

/// Gives back what [`prepare`] took: the vCPU never runs again.
pub fn release(hypervisor: &Hypervisor<X86>, state: &mut VcpuState) {
    if let Some(narrow) = state.narrow.take() {
        hypervisor.memory.free_anonymous(narrow.top, 0);
    }
}

/// Makes the guest's root the first entry of the hypervisor's table above it; nothing for a 64-bit guest.
pub fn put_below_top(machine: &X86, state: &VcpuState) {
    let (Some(narrow), Some(root)) = (&state.narrow, state.root_kernel) else { return };
    let flags = PteFlags::PRESENT | PteFlags::WRITABLE | PteFlags::USER | PteFlags::ACCESSED;
    if let Some(table) = machine.table(narrow.top) {
        table[0].store(Pte::new(root.0, flags).0, Relaxed);
    }
}

/// Sees which of its modes the guest left, which it changes by itself.
pub fn note_mode(current: &mut Current<'_>) {
    current.state.kernel_mode = current.state.context.regs.cs & 3 != 3;
}

/// The same for what is no exception, and carries out a hypercall; whether it was one. Else the exit is to be handled as a 64-bit
/// guest's.
pub fn is_hypercall(current: &mut Current<'_>, exit: Exit) -> bool {
    match exit {
        Exit::Interrupt(HYPERCALL_VECTOR) => {
            current.state.kernel_mode = true;
            hypercalls::dispatch(current);
            return true;
        }
        Exit::Syscall32 | Exit::Sysenter => {
            // The entry code has put a 64-bit guest's segments there.
            let regs = &mut current.state.context.regs;
            (regs.cs, regs.ss) = (selector::NARROW_RING3_CS.into(), selector::NARROW_RING3_DS.into());
            current.state.kernel_mode = false;
        }
        _ => note_mode(current),
    }
    false
}
