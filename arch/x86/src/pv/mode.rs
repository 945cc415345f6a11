//! The two modes of a 64-bit PV guest. Both run in ring 3; they differ in page tables and in the base of GS.

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
    if state.root_user.is_none() {
        return Err(Errno::FAULT);
    }
    if state.kernel_mode {
        toggle(state);
    }
    Ok(())
}

fn toggle(state: &mut VcpuState) {
    hal_cpu::swap_gs();
    state.kernel_mode = !state.kernel_mode;
    if let Some(root) = state.root() {
        hal_cpu::load_root(root);
    }
}
