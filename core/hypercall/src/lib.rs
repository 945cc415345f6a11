//! Hypercalls that every architecture has: one file per family. The architecture dispatches by number, and adds its own.
//!
//! A family function takes the [`Caller`] and the raw arguments, and answers with an [`Outcome`]. Arguments are copied in once,
//! checked, and only then acted on. A refused toolstack call logs one line through [`refuse!`].
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod area;
pub mod assist;
mod bitmap;
mod caller;
pub mod console;
pub mod domctl;
pub mod event;
pub mod grant;
pub mod hvm;
pub mod keys;
pub mod memory;
pub mod multicall;
mod refusal;
mod rights;
pub mod sched;
pub mod sysctl;
pub mod vcpu;
pub mod version;

pub use caller::{Args, Caller, Outcome};
