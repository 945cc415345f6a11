//! Links the image by hal's linker script.

fn main() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../hal/hal/image.ld");
    println!("cargo:rerun-if-changed={script}");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        for argument in ["-no-pie", "-T", script, "-z", "max-page-size=4096", "--build-id=none"] {
            println!("cargo:rustc-link-arg-bins={argument}");
        }
    }
}
