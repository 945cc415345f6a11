//! Making a CPU a vCPU's, and taking it back.

use super::{mode, traps};
use crate::current::Current;
use crate::machine::X86;
use crate::time;
use core::sync::atomic::Ordering::SeqCst;
use domain::{Arch, Domain, Vcpu};
use hal_cpu::FlatSegments;
use platform::GuestMemory;
use x86_defs::control::Cr4;
use xen_abi::xen::VMASST_TYPE_RUNSTATE_UPDATE_FLAG;

/// Set in the entry time while the record is being written (XEN_RUNSTATE_UPDATE, vcpu.h).
const UPDATING: u64 = 1 << 63;

/// Loads page tables, descriptor tables, segments, vector and debug registers.
pub fn load(current: &mut Current<'_>) {
    let Some(root) = current.state.root() else {
        current.crash("it has no page tables");
        return;
    };
    hal_cpu::load_root(root);
    let state = &mut *current.state;
    hal_cpu::set_flat_segments(if state.narrow.is_some() { FlatSegments::Narrow } else { FlatSegments::Wide });
    let tables =
        hal_cpu::set_guest_gdt(&state.gdt).and_then(|()| hal_cpu::set_guest_ldt(&state.ldt, state.ldt_entries));
    if let Err(errno) = tables {
        log::error!("{}: descriptor tables: {errno}", current.domain.id);
    }
    hal_cpu::set_guest_cr4(Cr4::from_bits_retain(state.cr4));
    hal_cpu::load_debug(&state.debug);
    hal_cpu::set_tsc_aux(state.tsc_aux);
    let xstate = state.load_xstate();
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
    state.save_xstate();
    state.debug = hal_cpu::save_debug();
}

/// Writes how the vCPU spent its time, and its time record, to where the guest wants them, at addresses of its kernel, whichever
/// mode it is in.
pub fn write_records(current: &mut Current<'_>) {
    let has_runstate = current.hypervisor.record_runstate(current.vcpu) || current.vcpu.runstate_area.load(SeqCst) == 0;
    let has_time = current.machine().record_time(current.vcpu) || current.vcpu.time_area.load(SeqCst) == 0;
    if has_runstate && has_time {
        return;
    }
    let was_user = mode::to_kernel(current.state);
    if !has_runstate {
        copy_runstate(current.machine(), current.domain, current.vcpu);
    }
    if !has_time {
        time::copy_record(current.machine(), current.vcpu);
    }
    if was_user {
        // It came from user mode, so it has tables for it.
        let _ = mode::to_user(current.state);
    }
}

/// Writes how the vCPU spent its time (VCPUOP_register_runstate_memory_area). Its kernel's address space is loaded.
fn copy_runstate(machine: &X86, domain: &Domain<X86>, vcpu: &Vcpu<X86>) {
    let address = vcpu.runstate_area.load(SeqCst);
    let runstate = *vcpu.runstate.lock();
    let flagged = domain.vm_assist.load(SeqCst) >> VMASST_TYPE_RUNSTATE_UPDATE_FLAG & 1 != 0;
    // Where the record's 64-bit numbers begin: a 32-bit guest aligns them to four bytes.
    let first = if domain.memory.is_pae() { 4 } else { 8 };
    let mut record = [0; 48];
    record[..4].copy_from_slice(&(runstate.state() as u32).to_le_bytes());
    let since = if flagged { runstate.since() | UPDATING } else { runstate.since() };
    for (place, number) in record[first..].chunks_exact_mut(8).zip([since].iter().chain(&runstate.times())) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    let written = machine.copy_out(address, &record[..first + 40]);
    if flagged && written.is_ok() {
        // It was writable a moment ago; if it is no more, the guest has only itself to blame.
        let _ = machine.copy_out(address.wrapping_add(first as u64), &runstate.since().to_le_bytes());
    }
}
