//! The public interface of Xen 4.20: every structure and number, no logic.
//!
//! One module per public header. A structure keeps the member names of its C original and takes its own name from it
//! without the header's prefix (`struct xen_domctl_createdomain` is [`domctl::CreateDomain`]); a number keeps its C
//! name in upper case (`XEN_DOMCTL_createdomain` is [`domctl::XEN_DOMCTL_CREATEDOMAIN`]).
//!
//! All structures are plain bytes: any bit pattern is a value, padding is spelled out (`_gapN` where C leaves it
//! implicit), so they can be copied from and to guest memory as they are. `zerocopy::FromZeros::new_zeroed` makes an
//! empty one. A C union is a [`Union`] of machine words, read and written as one of its variants.
//!
//! `tests/layout.rs` compares all of it with the C headers.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

#[macro_use]
mod define;
mod handle;
pub mod layout;
mod union;

pub mod arch_x86;
pub mod callback;
pub mod compat;
pub mod cpufeatureset;
pub mod cpuid;
pub mod dm_op;
pub mod domctl;
pub mod elfnote;
pub mod event_channel;
pub mod features;
pub mod grant_table;
pub mod hvm_op;
pub mod hvm_params;
pub mod hvm_save;
pub mod hvm_start_info;
pub mod hvm_vcpu;
pub mod ioreq;
pub mod kexec;
pub mod memory;
pub mod nmi;
pub mod physdev;
pub mod platform;
pub mod sched;
pub mod sysctl;
pub mod vcpu;
pub mod version;
pub mod vm_event;
pub mod xen;

pub use handle::GuestHandle;
pub use union::Union;
