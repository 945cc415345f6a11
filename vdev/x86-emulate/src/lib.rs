//! Decodes and carries out the instructions that PV guests may not run themselves.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
