//! Loads the control domain: from image, memory and command line to a plan that the architecture carries out.
//!
//! In order: [`Payload::find`] and [`Payload::unpack`] get the kernel out of the boot module, [`Kernel::parse`] reads it,
//! [`MemoryOption::size`] says how large the domain is to be, [`Plan::new`] lays it out. The architecture then allocates
//! frames, copies [`Kernel::segments`], writes [`Plan::page_table_entries`], fills the P2M list ([`Plan::p2m_slot`]) and the
//! start page ([`Plan::write_start_page`]), and starts the first vCPU in [`Plan::entry_state`].
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

extern crate alloc;

mod elf;
mod error;
mod memory;
mod plan;
mod start;
mod tables;
mod unpack;

pub use elf::{Kernel, Notes, Segment};
pub use error::Error;
pub use memory::{MemoryOption, MemorySize};
pub use plan::{Config, Layout, Plan};
pub use start::{EntryState, StartParameters};
pub use tables::TableEntry;
pub use unpack::{Format, Payload};
