//! What CPUID leaves and MSRs a guest may see.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
