//! Builds the test kernels and programs that run inside of domains.

use crate::{host, hypervisor, workspace};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};

/// A test kernel, an ELF file; it is the same for all kinds of guests, but for an HVM one it is converted.
///
/// # Errors
/// Where it does not build.
fn kernel(package: &str) -> Result<PathBuf> {
    hypervisor::build_bare(package, "release").with_context(|| format!("cannot build {package}"))
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

/// How the test guest is run.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum, Debug)]
pub enum Kind {
    /// Paravirtualised.
    Pv,
    /// Translated, without devices.
    Pvh,
    /// Translated, with a board and a device model.
    Hvm,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 3] = [Kind::Pv, Kind::Pvh, Kind::Hvm];

    /// As toolstacks name it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Pv => "pv",
            Kind::Pvh => "pvh",
            Kind::Hvm => "hvm",
        }
    }

    /// What stands before a section's name in that of its test.
    pub fn prefix(self) -> &'static str {
        match self {
            Kind::Pv => "guest/",
            Kind::Pvh => "guest/pvh-",
            Kind::Hvm => "guest/hvm-",
        }
    }

    /// Where what the test guest says on Xen is kept.
    pub fn expected(self) -> PathBuf {
        host::workspace().join(format!("tests/guests/{}.expected", self.name()))
    }

    /// Where the answers are that differ from Xen's on purpose.
    pub fn differing(self) -> PathBuf {
        host::workspace().join(format!("tests/guests/{}.differs", self.name()))
    }
}

/// Puts the test kernel into `folder`.
///
/// # Errors
/// Where it does not build or cannot be written.
pub fn put_kernel(folder: &Path) -> Result<()> {
    put("pv-guest", folder)
}

/// Puts the kernel that counts what operations cost into `folder`.
///
/// # Errors
/// As above.
pub fn put_bench_kernel(folder: &Path) -> Result<()> {
    put("bench-guest", folder)
}

fn put(package: &str, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let kernel = kernel(package)?;
    fs::copy(&kernel, folder.join(package)).with_context(|| format!("cannot copy {}", kernel.display()))?;
    let data = fs::read(&kernel)?;
    let firmware = hypervisor::firmware(&data).with_context(|| format!("cannot convert {}", kernel.display()))?;
    fs::write(folder.join(format!("{package}.firmware")), firmware)?;
    Ok(())
}

/// Puts into `folder` what dom0 needs to run the test guest; gives the text of a script that runs it as `kind`, these sections of it
/// (none: all).
///
/// # Errors
/// Where the guest does not build or a file cannot be written.
pub fn stage(folder: &Path, kind: Kind, sections: &[&str]) -> Result<String> {
    put_kernel(folder)?;
    let script = host::workspace().join("tests/guests/run.sh");
    let text = fs::read_to_string(&script).with_context(|| format!("cannot read {}", script.display()))?;
    let arguments = format!("#!/bin/sh\nset -- {} {}\n", kind.name(), sections.join(" "));
    Ok(text.replacen("#!/bin/sh\n", &arguments, 1))
}
