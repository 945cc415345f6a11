//! The event channels of one domain: its ports, and both ways in which a guest learns of events (`event_channel.h`): the
//! two-level bitmaps of `shared_info`, and the FIFO queues of event words.
//!
//! [`EventChannels`] knows neither `Domain` nor the machine. Guest-visible words are reached through [`platform::Frames`];
//! other domains' tables through [`Environment`]. Whatever raises an event returns a [`Raised`], which tells the caller what
//! is left to do: kick a vCPU, wake pollers, call a consumer inside the hypervisor.
//!
//! # Locks
//! Event lock of a table (two of them in order of domain number), then the lock of one port, then at most two FIFO queue
//! locks in order of (vCPU, priority). Sending takes no table-wide lock: it locks the local port, lets it go, and locks the
//! remote port. A port is raised and closed under its own lock, so once a close has returned no more events reach it.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

/// Here so that a model of [`pollers`] can put others in their place.
mod atomics {
    pub use core::sync::atomic::{AtomicU32, Ordering};
}
mod bind;
mod channels;
mod close;
mod control;
mod fifo;
mod poll;
mod pollers;
mod port;
mod send;
mod upcall;
mod virq;
mod words;

pub use channels::{Config, EventChannels};
pub use close::Environment;
pub use control::LINK_BITS;
pub use port::{Consumer, Port, State, Status};
pub use send::{Delivery, Raised};
pub use upcall::Info;
pub use virq::{NR_VIRQS, Scope, scope};
