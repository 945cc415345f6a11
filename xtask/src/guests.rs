//! Builds the test kernels and programs that run inside of domains.

use crate::{host, hypervisor, workspace};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};

/// The paravirtualised test kernel, an ELF file.
///
/// # Errors
/// Where it does not build.
pub fn pv() -> Result<PathBuf> {
    hypervisor::build_bare("pv-guest", "release").context("cannot build the test guest")
}

/// The program that puts a load on disks and networks, linked statically so that it runs in any guest.
///
/// # Errors
/// Where it does not build.
pub fn exercise() -> Result<PathBuf> {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let status = workspace::cargo()
        .env("CARGO_TARGET_DIR", host::target())
        // Without debug information: it travels to dom0 and from there to guests.
        .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static\u{1f}-Cstrip=symbols")
        .args(["build", "--quiet", "--release", "--package", "exercise", "--target", &target])
        .status()
        .context("cannot run cargo")?;
    ensure!(status.success(), "exercise does not build: see the errors above");
    Ok(host::target().join(target).join("release/exercise"))
}

/// Where what the test guest says on Xen is kept.
pub fn expected() -> PathBuf {
    host::workspace().join("tests/guests/pv.expected")
}

/// Where the answers are that differ from Xen's on purpose.
pub fn differing() -> PathBuf {
    host::workspace().join("tests/guests/pv.differs")
}

/// Puts into `folder` what dom0 needs to run the test guest; gives the script's text.
///
/// # Errors
/// Where the guest does not build or a file cannot be written.
pub fn stage(folder: &Path) -> Result<String> {
    fs::create_dir_all(folder)?;
    let kernel = pv()?;
    fs::copy(&kernel, folder.join("pv-guest")).with_context(|| format!("cannot copy {}", kernel.display()))?;
    let script = host::workspace().join("tests/guests/pv.sh");
    fs::read_to_string(&script).with_context(|| format!("cannot read {}", script.display()))
}
