//! One CPU: descriptors, traps, the way into a guest and back, guest copies, FPU.
//!
//! Start-up: hal's, then [`start_bsp`]; for each further CPU [`prepare`] and, on it, [`start_ap`]. To run a PV guest on a CPU:
//! [`load_root`], [`set_guest_gdt`], [`set_guest_ldt`], [`set_guest_cr4`], [`load_segments`], [`load_debug`], [`set_xcr0`] and
//! [`Xstate::restore`], then [`enter`] in a loop. For guests in AMD-V's guest mode see [`svm`]. Interrupts are off all along; see
//! [`idle_wait`] and [`interrupt_window`].
#![cfg_attr(not(test), no_std)]

extern crate alloc;

/// Assembly that goes on in the table of instructions that may fault; hal's linker script keeps and aligns it, elsewhere the
/// linker itself names its ends.
#[cfg(target_os = "none")]
macro_rules! ex_table_section {
    () => {
        ".pushsection .ex_table, \"a\", @progbits"
    };
}
#[cfg(not(target_os = "none"))]
macro_rules! ex_table_section {
    () => {
        ".pushsection hal_ex_table, \"aR\", @progbits\n.balign 4"
    };
}

/// Assembly that records label `2` as an instruction that may fault, and label `4` as where execution goes on then, with rax
/// overwritten.
macro_rules! expect_fault {
    () => {
        concat!(crate::ex_table_section!(), "\n.long 2b - .\n.long 4b - .\n.popsection")
    };
}

pub(crate) use {ex_table_section, expect_fault};

mod area;
mod context;
mod guest;
mod init;
mod registers;
mod segments;
mod speculation;
pub mod svm;
mod tables;
mod traps;
mod xstate;

pub use area::{AREA_BASE, AREA_SHIFT, AREA_SIZE, MAX_CPUS, PerCpu, Slot, cpu_id, stack_top, try_cpu_id};
pub use context::{Exit, GuestContext, GuestRegs, Served, Server, enter};
pub use guest::GuestSpace;
pub use hal::cpu::{Cpuid, cpuid, rdtsc};
pub use init::{prepare, start_ap, start_bsp};
pub use registers::{
    DebugRegs, GUEST_CR4, Gp, HOLE_END, HOLE_START, current_cr4, current_root, disarm_debug, flush_local, invlpg,
    is_guest_address, load_debug, load_debug_addresses, load_hypervisor_root, load_root, read_msr, set_guest_cr4,
    set_task_switched, set_tsc_aux, take_debug_status, write_msr,
};
pub use segments::{
    SegmentFault, SegmentState, load_gs_selector, load_gs_selector_other, load_segments, read_fs_base, read_gs_base,
    read_gs_base_other, read_selectors, save_segments, swap_gs, write_fs_base, write_gs_base, write_gs_base_other,
};
pub use speculation::hold_back_stores;
pub use tables::{
    FlatSegments, GUEST_GDT_PAGES, MAX_LDT_ENTRIES, guest_ldt_offset, set_flat_segments, set_guest_gdt, set_guest_ldt,
};
pub use traps::{
    HYPERCALL_VECTOR, TrapFrame, fatal_trap, fault_address, idle_wait, interrupt_window, set_interrupt_hook,
    set_nmi_hook,
};
pub use xstate::{BadImage, SUPPORTED_XCR0, Xstate, has_xsave, host_xcr0, set_xcr0, xstate_size};
