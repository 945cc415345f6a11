//! Builds the hypervisor's image.

mod image;
mod toolchain;

use crate::host::{self, Progress};
use anyhow::{Context, Result, bail};
use flate2::{Compression, GzBuilder};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use toolchain::Toolchain;

pub use image::firmware;

/// The hypervisor's target.
const TARGET: &str = "x86_64-unknown-none";
/// Variables of an outer cargo that must not reach the inner one, which may be of another toolchain.
const OUTER: [&str; 7] = [
    "CARGO",
    "RUSTC",
    "RUSTFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
    "CARGO_BUILD_TARGET",
    "LD_LIBRARY_PATH",
];

/// The built hypervisor.
pub struct Image {
    /// As it was linked, with its symbols.
    pub elf64: PathBuf,
    /// ELF32 file with a multiboot header, for QEMU's `-kernel`.
    pub elf32: PathBuf,
    /// The same gzip'd, for `/boot` and GRUB.
    pub gz: PathBuf,
}

/// Builds the hypervisor with cargo profile `profile` ("release", "quick" or "dev").
///
/// # Errors
/// Where it does not build, or no toolchain for it is found.
pub fn build(profile: &str) -> Result<Image> {
    let built = build_bare("xenolith", profile)?;
    let elf64 = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    let elf32 = image::convert(&elf64).with_context(|| format!("cannot convert {}", built.display()))?;
    let image = Image { elf32: built.with_extension("elf32"), gz: built.with_extension("gz"), elf64: built };
    if fs::read(&image.elf32).is_ok_and(|old| old == elf32) && image.gz.exists() {
        return Ok(image);
    }
    let mut gz = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    gz.write_all(&elf32)?;
    replace(&image.gz, &gz.finish()?)?;
    replace(&image.elf32, &elf32)?;
    Ok(image)
}

/// Builds the binary of package `package`, of the same name, for the bare machine; gives its ELF file.
///
/// # Errors
/// Where it does not build, or no toolchain for it is found.
pub fn build_bare(package: &str, profile: &str) -> Result<PathBuf> {
    let folder = host::target().join("hypervisor");
    compile(&toolchain::find()?, package, profile, &folder)?;
    Ok(folder.join(TARGET).join(if profile == "dev" { "debug" } else { profile }).join(package))
}

/// Clippy for the bare machine, for arguments to be added; `None` where no toolchain for it comes with clippy.
pub fn clippy_bare() -> Option<Command> {
    let toolchain = toolchain::find_with_clippy()?;
    // Called as cargo would call it, since cargo would look for another toolchain's on the path first.
    let program = toolchain.clippy();
    let mut command = bare(&program, "clippy", &toolchain, &host::target().join("hypervisor"));
    command.env("CARGO", &toolchain.cargo);
    Some(command)
}

/// A cargo command for the bare machine.
fn bare(program: &Path, command: &str, toolchain: &Toolchain, folder: &Path) -> Command {
    let mut cargo = Command::new(program);
    for name in OUTER {
        cargo.env_remove(name);
    }
    cargo
        .current_dir(host::workspace())
        .env("RUSTC", &toolchain.rustc)
        .env("CARGO_TARGET_DIR", folder)
        .args([command, "--target", TARGET]);
    if toolchain.builds_core {
        cargo.env("RUSTC_BOOTSTRAP", "1");
        cargo.args(["-Zbuild-std=core,alloc,compiler_builtins", "-Zbuild-std-features=compiler-builtins-mem"]);
    }
    cargo
}

/// Writes a file at once, so that a running QEMU or another build never sees half of it.
fn replace(path: &Path, data: &[u8]) -> Result<()> {
    let new = path.with_extension(format!("new{}", std::process::id()));
    fs::write(&new, data)
        .and_then(|()| fs::rename(&new, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn compile(toolchain: &Toolchain, package: &str, profile: &str, folder: &Path) -> Result<()> {
    let mut flags = vec!["-Cforce-frame-pointers=no"];
    if has_program("ld") {
        flags.extend(["-Clinker=ld", "-Clinker-flavor=ld"]);
    }
    let mut command = bare(&toolchain.cargo, "build", toolchain, folder);
    command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}")).args(["--package", package, "--profile", profile]);
    let progress = Progress::new(&format!("building {package}"));
    let status =
        command.stdin(Stdio::null()).status().with_context(|| format!("cannot run {}", toolchain.cargo.display()))?;
    if !status.success() {
        bail!("{package} does not build: see the errors above");
    }
    progress.done();
    Ok(())
}

/// Whether a program is on the search path.
fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
}
