//! Builds the test kernels that run inside of domains.

use crate::{host, hypervisor};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// The paravirtualised test kernel, an ELF file.
///
/// # Errors
/// Where it does not build.
pub fn pv() -> Result<PathBuf> {
    hypervisor::build_bare("pv-guest", "release").context("cannot build the test guest")
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
