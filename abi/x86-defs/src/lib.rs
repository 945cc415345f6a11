//! x86-64 as the manuals define it: page-table entries, control registers, MSRs, descriptors, APIC registers, AMD-V.
//!
//! SDM is Intel's Software Developer's Manual, APM is AMD's Architecture Programmer's Manual.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod apic;
pub mod control;
pub mod cpuid;
pub mod descriptor;
pub mod msr;
pub mod pte;
pub mod svm;
