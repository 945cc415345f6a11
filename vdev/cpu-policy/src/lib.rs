//! What CPUID leaves and MSRs a guest may see.
//!
//! [`Policies::of_host`] derives what guests can have from what the CPU reports. A domain begins with a copy of one of them; the
//! toolstack replaces parts of it ([`Policy::propose_leaf`], [`Policy::accept`]); [`Policy::answer`] is what its CPUID gives.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod answer;
mod features;
mod policies;
mod policy;
mod wire;

pub use answer::{Guest, SECOND_LEAF, Tsc};
pub use features::{FEATURESET_WORDS, FeatureSet};
pub use policies::Policies;
pub use policy::{CPUID_FAULTING, Leaf, Policy};
pub use wire::{Bad, MAX_LEAVES, MAX_MSRS, NO_SUBLEAF};
