//! Grant tables (`grant_table.h`): what a domain allows others to do with its frames, and which of others' frames it maps.
//!
//! [`GrantTable`] is the granting side: the shared frames that the guest writes, and how often each entry is in use.
//! [`MapTrack`] is the mapping side: the handles of a domain's mappings. Neither knows `Domain`, page tables or reference
//! counts of frames; the caller does that work between their calls, in the order that each method's documentation gives.
//!
//! # Locks
//! A table's lock (for reading, but for growth, change of version and the end), then the lock of one entry (two for
//! `swap`, in order), then whatever the caller's `resolve` takes. No lock is held when another domain's table is visited.
//! `MapTrack`'s lock is the last: nothing is called under it.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod access;
mod copy;
mod entry;
mod maptrack;
mod status;
mod table;
mod transfer;
mod version;

pub use access::{Access, Granted, Released};
pub use copy::{CopyGrant, Tables};
pub use maptrack::{Claim, Handle, MapTrack, Mapping};
pub use status::Status;
pub use table::{FrameKind, GrantTable, Limits, Reference, Search};
