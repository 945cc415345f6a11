//! The build script of each test kernel: links it by the script of all; on the host it is a program that does nothing.

fn main() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../kernel/guest.ld");
    println!("cargo:rerun-if-changed={script}");
    println!("cargo:rerun-if-changed={}", concat!(env!("CARGO_MANIFEST_DIR"), "/../kernel/link.rs"));
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        for argument in ["-no-pie", "-T", script, "-z", "max-page-size=4096", "--build-id=none"] {
            println!("cargo:rustc-link-arg-bins={argument}");
        }
    }
}
