//! The hypervisor's image.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![deny(unsafe_code)]

#[cfg(target_os = "none")]
mod start;

/// The image runs on a machine of its own.
#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("This is a hypervisor: build its image with ./x build.");
    std::process::exit(1);
}
