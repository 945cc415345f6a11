//! The two modes of a PV guest. Both of a 64-bit one run in ring 3; they differ in page tables and in the base of GS. Those of
//! a 32-bit one differ in the ring only.

use super::state::VcpuState;
use types::{Errno, Result};

/// Switches a running vCPU to kernel mode; true if it was in user mode.
pub fn to_kernel(state: &mut VcpuState) -> bool {
    let was_user = !state.kernel_mode;
    if was_user {
        toggle(state);
    }
    was_user
}

/// Switches a running vCPU to user mode.
///
/// # Errors
/// `EFAULT` where it has no page tables for it.
pub fn to_user(state: &mut VcpuState) -> Result<()> {
    if state.root_user.is_none() && state.narrow.is_none() {
        return Err(Errno::FAULT);
    }
    if state.kernel_mode {
        toggle(state);
    }
    Ok(())
}

fn toggle(state: &mut VcpuState) {
    state.kernel_mode = !state.kernel_mode;
    if state.narrow.is_some() {
        return;
    }
    hal_cpu::swap_gs();
    if let Some(root) = state.root() {
        hal_cpu::load_root(root);
    }
}
