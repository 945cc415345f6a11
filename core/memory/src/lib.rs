//! Machine memory: the frame allocator, the state of every frame, and the typing of PV page tables.
//!
//! A frame that a domain owns has a reference word and a type word ([`FrameTable`]). Whoever holds on to a frame (a mapping,
//! an operation under way) holds a reference; whoever uses it in a way that excludes other ways (mapped writable, page table
//! of a level, descriptors) also holds a use of that [`FrameType`]. The type changes only while nobody uses the frame, and a
//! frame becomes a page table only after every entry in it was checked and has taken references of its own. So no guest can
//! write to a page table that a CPU walks. The rules are Xen's; a guest sees no difference.
//!
//! # Demotion
//! When the last use of a page table goes, the table joins its domain's queue of demotions and keeps one use and one
//! reference until its entries are dropped. [`Memory::settle`] works the queue off, in pieces; every page-table operation
//! begins with it, so that an operation that was cut off goes on when the guest repeats it. A promotion that is cut off
//! leaves the table *partial*, likewise with one use and one reference, and goes on when the type is asked for again.
//!
//! # Locks
//! The lock bit of one page table, then one of: a domain's queue of demotions; a domain's page lock; the accounts. The
//! heap lock is last. Flushes are requested with no lock held but a table's lock bit; whoever spins polls them.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod denied;
mod dirty;
mod domain;
mod frame;
mod heap;
mod memory;
mod nodes;
mod policy;
mod pv;
mod refs;
mod relinquish;
mod view;

pub use denied::{Denied, Outcome, Place, Why};
pub use domain::DomainMemory;
pub use frame::{FrameInfo, FrameTable, FrameType, State};
pub use heap::MAX_ORDER;
pub use memory::{Memory, Request};
pub use policy::{Host, PvPolicy};
pub use pv::{Cas, Context, GrantTarget, Keep};
pub use refs::{FrameRef, check_descriptor};
pub use view::FrameView;
