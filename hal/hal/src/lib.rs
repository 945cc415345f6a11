//! The machine below everything: boot, frames, hypervisor paging, heap, serial line, panic.
//!
//! Order of use: [`entry!`] names the main function; it calls [`boot::init`], takes what has to be physically contiguous with
//! [`boot::take_slice`], and then [`boot::finish`], which gives access to the frames for guests.
#![cfg_attr(not(test), no_std)]
#![cfg_attr(not(target_os = "none"), allow(dead_code, reason = "what only the machine needs"))]

extern crate alloc;

pub mod boot;
pub mod cmdline;
pub mod console;
pub mod cpu;
pub mod frames;
pub mod heap;
pub mod io;
pub mod layout;
pub mod m2p;
mod mapper;
pub mod paging;
pub mod panic;
pub mod ports;
pub mod stack;
pub mod symbols;

pub use frames::LendableFrames;
pub use io::{IoRegion, map_io, read_firmware};

/// Names the main function of the binary, a `fn(hal::boot::Handoff) -> !`, which the entry code calls once on the boot CPU.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        #[unsafe(no_mangle)]
        fn xenolith_main(handoff: $crate::boot::Handoff) -> ! {
            $main(handoff)
        }
    };
}
