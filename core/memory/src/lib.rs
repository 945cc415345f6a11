//! Machine memory: the frame allocator, the state of every frame, and the typing of PV page tables.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
