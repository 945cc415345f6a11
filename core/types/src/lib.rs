//! Numbers that every layer of the hypervisor names: domains, virtual and physical CPUs, frames, error numbers, and the
//! outcome of work that may have to be continued.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod cpumask;
mod errno;
mod ids;
mod progress;

pub use cpumask::CpuMask;
pub use errno::{Errno, Result};
pub use ids::{CpuId, DomId, Gfn, Mfn, PAGE_SHIFT, PAGE_SIZE, VcpuId};
pub use progress::Progress;
