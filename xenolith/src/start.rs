//! The binary's own part of start-up: the names of the build.

use hal::boot::Handoff;

hal::entry!(main);

/// What the console shows first.
const BANNER: &str =
    concat!("Xenolith version 4.20.0-xenolith (", env!("CARGO_PKG_VERSION"), ", ", env!("XENOLITH_RUSTC"), ")");

fn main(handoff: Handoff) -> ! {
    x86::boot::start(handoff, BANNER, [env!("XENOLITH_RUSTC"), "xenolith", "", ""])
}
