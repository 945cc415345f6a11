//! Joins the logic to x86-64 hardware: start-up, the life of a CPU, PV guests, interrupts, and the calls that only x86 has.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod boot;
mod console;
mod current;
mod dom0;
mod domctl;
mod facts;
mod general;
mod glue;
mod hvm;
mod hypercalls;
mod irq;
mod machine;
mod memory_map;
mod microcode;
mod physdev;
mod platform_op;
mod policy;
pub mod pv;
mod resource;
mod run;
mod time;
mod vcpu;
mod vectors;
mod wallclock;

pub use current::Current;
pub use machine::X86;
