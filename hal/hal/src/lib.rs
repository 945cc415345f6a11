//! The machine below everything: boot, frames, hypervisor paging, heap, serial line, panic.
#![cfg_attr(not(test), no_std)]
