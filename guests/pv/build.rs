//! Links the kernel by its own linker script; on the host it is a program that does nothing.

fn main() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/guest.ld");
    println!("cargo:rerun-if-changed={script}");
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        for argument in ["-no-pie", "-T", script, "-z", "max-page-size=4096", "--build-id=none"] {
            println!("cargo:rustc-link-arg-bins={argument}");
        }
    }
}
