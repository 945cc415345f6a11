//! Links the image by hal's linker script, and tells it which compiler made it.

use std::path::Path;
use std::process::Command;

fn main() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../hal/hal/image.ld");
    println!("cargo:rerun-if-changed={script}");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-env=XENOLITH_RUSTC={}", compiler());
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        for argument in ["-no-pie", "-T", script, "-z", "max-page-size=4096", "--build-id=none"] {
            println!("cargo:rustc-link-arg-bins={argument}");
        }
        // Cargo tells of a profile's name by the folder alone.
        let folder = std::env::var("OUT_DIR").unwrap_or_default();
        if !Path::new(&folder).ancestors().any(|above| above.ends_with("release")) {
            println!("cargo:rustc-link-arg-bins=--defsym=MANY_FUNCTIONS=1");
        }
    }
}

/// Name and version of the compiler, such as `rustc 1.85.0`.
fn compiler() -> String {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let printed = Command::new(rustc).arg("--version").output().map(|output| output.stdout).unwrap_or_default();
    let printed = String::from_utf8_lossy(&printed).into_owned();
    printed.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}
