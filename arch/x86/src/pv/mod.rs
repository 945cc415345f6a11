//! Paravirtualised guests. Both kernel and user code of a 64-bit one run in ring 3; what differs for a 32-bit one, whose kernel
//! runs in ring 1, is in [`compat`].

pub mod bounce;
pub mod compat;
pub mod context;
pub mod cpuid;
pub mod descriptors;
pub mod emulate;
pub mod events;
pub mod fault;
pub mod guest_context;
pub mod hypercall_page;
pub mod hypercalls;
pub mod iret;
pub mod mmu;
pub mod mode;
pub mod msr;
pub mod operations;
mod port;
mod run;
pub mod state;
pub mod traps;

pub use state::VcpuState;

use xen_abi::xen::*;

/// CR0 as a PV guest sees it: PE, MP, ET, NE, WP, AM, PG.
pub const GUEST_CR0: u64 = 0x8005_0033;

/// Assists that a 64-bit PV guest may turn on.
pub const ALLOWED_ASSISTS: u32 = 1 << VMASST_TYPE_WRITABLE_PAGETABLES
    | 1 << VMASST_TYPE_PAE_EXTENDED_CR3
    | 1 << VMASST_TYPE_ARCHITECTURAL_IOPL
    | 1 << VMASST_TYPE_RUNSTATE_UPDATE_FLAG;
