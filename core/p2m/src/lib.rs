//! Second-stage tables of translated (HVM, PVH) guests: from guest frames to machine frames (Xen: p2m, hap).
//!
//! A [`P2m`] is the table of one domain. [`P2m::get`] takes no lock; all that changes the table does. The table's own frames
//! come from a [`Pool`] of the domain's (`XEN_DOMCTL_set_paging_mempool_size`), so that a guest cannot make the hypervisor
//! allocate more than its toolstack allowed.
//!
//! # Who holds which reference
//! - Each entry with a frame ([`Type::has_frame`]) holds one reference to each 4 KiB frame behind it. [`Keeper::take`] takes
//!   it before the entry is written; it refuses frames that the domain may not have there.
//! - An entry that goes is *retired*: its references, and the frames of tables below it, stay as they are until every CPU
//!   has dropped the translations that came from them. Only then [`Keeper::put`] drops the references, and table frames go
//!   back to the pool. [`P2m::flush`] does so; it is never skipped, only put off: an operation that finds the list of
//!   retired entries full flushes itself. So no frame is freed while a CPU can reach it through the table, and no table
//!   frame is used anew while one can walk it.
//! - Changing an entry's type or rights in place, splitting and coalescing keep its references.
//! - Hence the order in which a frame is taken from a guest: [`P2m::set`] a hole, look at what was there ([`Set::before`]:
//!   this answer, not an earlier [`P2m::get`], says whose removal it was), [`P2m::flush`], then drop the domain's own
//!   reference (`Memory::decrease`). In any other order nothing breaks; the frame is freed later.
//! - Whoever wants to use the frame behind a guest frame takes a reference by [`P2m::pin`], which asks again afterwards.
//!
//! `Memory` implements [`Keeper`] and [`Supply`] through the glue: `take` is `get_writable` or `get_frame` by the frame's
//! expected owner (the domain, or for [`Type::MapForeign`] and grants the one that the caller has looked up), nothing at all
//! for [`Type::MmioDirect`]; and it writes the machine-to-physical entry where the frame is the domain's own RAM.
//!
//! # Readers
//! Tables are lent frames, so reading one that meanwhile is something else is sound but meaningless. Whoever takes a table
//! out of the tree raises the `Generation` before the table's words change; a reader that finds it raised reads again.
//!
//! # Locks
//! One per table. `Keeper`, `Supply` and `Demand` are called under it, and may take the locks of the frame allocator. Flushes
//! are requested under it: who spins for it answers them.
#![cfg_attr(not(test), no_std)]
#![cfg_attr(test, allow(clippy::duplicate_mod, reason = "the generation is compiled once more against loom's atomics"))]
#![forbid(unsafe_code)]

/// Here so that the model of [`generation`] can put others in their place.
mod atomics {
    pub use core::sync::atomic::{AtomicU64, Ordering, fence};
}
mod change;
mod edit;
mod entry;
mod format;
mod generation;
#[cfg(test)]
mod generation_model;
mod pod;
mod pool;
mod reclaim;
mod release;
mod table;

pub use edit::Set;
pub use entry::{Access, Entry, Flush, Type};
pub use format::{Decoded, Format, Leaf, Npt};
pub use pool::{Pool, Supply};
pub use table::P2m;

use platform::{Frames, Tlb};
use types::{Gfn, Mfn, Result};

/// Orders of pages: 4 KiB, 2 MiB, 1 GiB.
pub const ORDERS: [u8; 3] = [0, 9, 18];

/// References to the frames that entries map.
pub trait Keeper {
    /// Takes a reference to each of the 2^`order` frames from `mfn` on, for an entry of type `ty` at `gfn`; all or none.
    /// Notes `gfn` as the frames' place if they are the domain's own RAM. `EINVAL`, `EPERM`, `EBUSY`: the domain may not map
    /// one of them so.
    fn take(&self, gfn: Gfn, mfn: Mfn, order: u8, ty: Type) -> Result<()>;
    /// Drops what [`Keeper::take`] took. No CPU has a translation to the frames through the former entry.
    fn put(&self, mfn: Mfn, order: u8, ty: Type);
}

/// Memory of the domain that is to be populated on demand.
pub trait Demand {
    /// New frames of the domain's own (2^`order`, aligned), mapped nowhere; `None` if there are none, or the domain may have
    /// no more.
    fn allocate_ram(&self, order: u8) -> Option<Mfn>;
    /// Drops the domain's own references to such frames.
    fn free_ram(&self, mfn: Mfn, order: u8);
    /// Such frames, which were the guest's, now wait to be mapped again: their machine-to-physical entries are void.
    fn unplaced(&self, mfn: Mfn, order: u8);
    /// References to a frame of the domain's RAM, its own one not counted; `None` if it is no such frame, or has another use.
    fn references(&self, mfn: Mfn) -> Option<u32>;
    /// Frames that the domain has (`tot_pages`).
    fn total_pages(&self) -> u64;
}

/// Everything that a [`P2m`] needs around it. What concerns a domain concerns the one whose table it is.
pub trait Host: Frames + Tlb + Supply + Keeper {}

impl<T: Frames + Tlb + Supply + Keeper> Host for T {}
