//! GNU Mach, the 32-bit PV kernel that Debian packages: only its i386 archive has it.

use super::apt::Apt;
use super::guest::Files;
use super::{debian, key};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};

/// What is downloaded.
const PACKAGE: &str = "gnumach-image-1.8-xen-486";
/// Where its kernel is.
const KERNEL: &str = "boot/gnumach-1.8-xen-486.gz";

/// Releases of Debian, and the name that their kernel has in dom0.
const RELEASES: &[(&str, &str)] = &[
    // This kernel never starts its console; what it says stays in its memory.
    (debian::SUITE, "gnumach.gz"),
    // The last one that starts it. Debian 12's writes to a page table of its own before that, and dies of it.
    ("bullseye", "gnumach-11.gz"),
];

/// A kernel that was fetched.
pub struct Kernel {
    /// Its name in dom0.
    name: &'static str,
    /// The package, unpacked in the cache.
    folder: PathBuf,
}

impl Kernel {
    /// What decides what is in it.
    pub fn key(&self) -> String {
        self.folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// The kernels; with a note instead of one that the mirror does not give, and what tests it is skipped then.
pub fn ensure_kernels(keyring: &Path, cache: &Path) -> Vec<Kernel> {
    RELEASES
        .iter()
        .filter_map(|&(suite, name)| Some(Kernel { name, folder: ensure_kernel(keyring, cache, suite)? }))
        .collect()
}

/// The kernels by their names in dom0.
///
/// # Errors
/// Where one cannot be read.
pub fn files(kernels: &[Kernel]) -> Result<Files> {
    kernels.iter().map(|kernel| Ok((kernel.name, fs::read(kernel.folder.join(KERNEL))?))).collect()
}

/// The package of one release, unpacked at a folder in the cache.
fn ensure_kernel(keyring: &Path, cache: &Path, suite: &str) -> Option<PathBuf> {
    let folder = cache.join(format!("narrow-{}", key(&[include_str!("narrow.rs"), suite])));
    if folder.exists() {
        return Some(folder);
    }
    match fetch(keyring, cache, suite, &folder) {
        Ok(()) => Some(folder),
        Err(error) => {
            eprintln!("no GNU Mach of Debian's {suite} in dom0: {error:#}");
            None
        }
    }
}

/// Downloads and unpacks the package.
fn fetch(keyring: &Path, cache: &Path, suite: &str, folder: &Path) -> Result<()> {
    let partial = cache.join("narrow-partial");
    fs::remove_dir_all(&partial).ok();
    Apt::new(keyring, cache, suite, "i386")?.unpack(PACKAGE, &partial)?;
    ensure!(partial.join(KERNEL).exists(), "{PACKAGE} has no {KERNEL}");
    fs::rename(&partial, folder).context("cannot move the kernel to its place")
}
