//! Making a CPU a vCPU's, and taking it back.

use super::{mode, traps};
use crate::current::Current;
use crate::time;
use hal_cpu::FlatSegments;
use x86_defs::control::Cr4;

/// Loads page tables, descriptor tables, segments, vector and debug registers.
pub fn load(current: &mut Current<'_>) {
    let Some(root) = current.state.root() else {
        current.crash("it has no page tables");
        return;
    };
    hal_cpu::load_root(current.machine().lendable(), root);
    let state = &mut *current.state;
    hal_cpu::set_flat_segments(if state.narrow.is_some() { FlatSegments::Narrow } else { FlatSegments::Wide });
    let tables =
        hal_cpu::set_guest_gdt(&state.gdt).and_then(|()| hal_cpu::set_guest_ldt(&state.ldt, state.ldt_entries));
    if let Err(errno) = tables {
        log::error!("{}: descriptor tables: {errno}", current.domain.id);
    }
    hal_cpu::set_guest_cr4(Cr4::from_bits_retain(state.cr4));
    if state.debug.is_armed() {
        hal_cpu::load_debug(&state.debug);
    }
    hal_cpu::set_tsc_aux(state.tsc_aux);
    let xstate = state.vectors.load();
    hal_cpu::set_task_switched(state.task_switched);
    let segments = hal_cpu::load_segments(&state.segments);
    if xstate.is_err() {
        current.crash("its vector registers cannot be loaded");
    } else if segments.is_err() {
        traps::failsafe(current);
    }
}

/// Saves what a guest may have changed without the hypervisor.
pub fn save(current: &mut Current<'_>) {
    let state = &mut *current.state;
    state.segments = hal_cpu::save_segments();
    state.vectors.save();
    if state.debug.is_armed() {
        hal_cpu::disarm_debug();
    }
}

/// Writes how the vCPU spent its time, and its time record, to where the guest wants them, at addresses of its kernel, whichever
/// mode it is in.
pub fn write_records(current: &mut Current<'_>) {
    let wanted = time::write_by_frame(current.hypervisor, current.vcpu);
    if wanted.is_empty() {
        return;
    }
    let was_user = mode::to_kernel(current.machine(), current.state);
    wanted.write(current.machine(), current.domain, current.vcpu);
    if was_user {
        // It came from user mode, so it has tables for it.
        let _ = mode::to_user(current.machine(), current.state);
    }
}
