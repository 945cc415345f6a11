//! The two modes of a PV guest. Both of a 64-bit one run in ring 3; they differ in page tables and in the base of GS. Those of
//! a 32-bit one differ in the ring only.

use super::state::VcpuState;
use crate::machine::X86;
use types::{Errno, Mfn, Result};

/// Switches a running vCPU to kernel mode; true if it was in user mode.
#[inline]
pub fn to_kernel(machine: &X86, state: &mut VcpuState) -> bool {
    if state.kernel_mode {
        return false;
    }
    state.kernel_mode = true;
    if state.narrow.is_none() {
        change_space(machine, state.root_kernel);
    }
    true
}

/// Switches a running vCPU to user mode.
///
/// # Errors
/// `EFAULT` where it has no page tables for it.
#[inline]
pub fn to_user(machine: &X86, state: &mut VcpuState) -> Result<()> {
    if state.root_user.is_none() && state.narrow.is_none() {
        return Err(Errno::FAULT);
    }
    if state.kernel_mode {
        state.kernel_mode = false;
        if state.narrow.is_none() {
            change_space(machine, state.root_user);
        }
    }
    Ok(())
}

#[inline(always)]
fn change_space(machine: &X86, root: Option<Mfn>) {
    hal_cpu::swap_gs();
    if let Some(root) = root {
        hal_cpu::load_root(machine.lendable(), root);
    }
}
