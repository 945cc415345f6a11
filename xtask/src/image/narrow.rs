//! GNU Mach, the 32-bit PV kernel that Debian packages: only its i386 archive has it.

use super::guest::Files;
use super::{debian, key};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is downloaded.
const PACKAGE: &str = "gnumach-image-1.8-xen-486:i386";
/// Where its kernel is.
const KERNEL: &str = "boot/gnumach-1.8-xen-486.gz";

/// The package, unpacked at a folder in the cache; `None` with a note where the mirror does not give them, and what tests them
/// is skipped then.
pub fn ensure_kernel(keyring: &Path, cache: &Path) -> Option<PathBuf> {
    let folder = cache.join(format!("narrow-{}", key(&[include_str!("narrow.rs"), debian::SUITE])));
    if folder.exists() {
        return Some(folder);
    }
    match fetch(keyring, cache, &folder) {
        Ok(()) => Some(folder),
        Err(error) => {
            eprintln!("no GNU Mach in dom0: {error:#}");
            None
        }
    }
}

/// The kernel of the package at `folder`, by its name in dom0.
///
/// # Errors
/// Where it cannot be read.
pub fn files(folder: &Path) -> Result<Files> {
    Ok(vec![("gnumach.gz", fs::read(folder.join(KERNEL))?)])
}

/// Downloads and unpacks the package by an apt of their own, so that this machine's stays as it is.
fn fetch(keyring: &Path, cache: &Path, folder: &Path) -> Result<()> {
    let scratch = cache.join("narrow-apt");
    fs::remove_dir_all(&scratch).ok();
    for part in ["state/lists/partial", "cache/archives/partial", "etc/apt.conf.d", "etc/preferences.d"] {
        fs::create_dir_all(scratch.join(part))?;
    }
    let source = format!("deb [signed-by={}] {} {} main\n", keyring.display(), debian::mirror()?, debian::SUITE);
    fs::write(scratch.join("etc/sources.list"), source)?;
    fs::write(scratch.join("apt.conf"), configuration(&scratch))?;
    eprintln!("fetching {PACKAGE}");
    run(Command::new("apt-get").arg("update"), &scratch)?;
    run(Command::new("apt-get").arg("download").arg(PACKAGE), &scratch)?;
    let partial = scratch.join("unpacked");
    for entry in fs::read_dir(&scratch)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            run(Command::new("dpkg-deb").arg("--extract").arg(&path).arg(&partial), &scratch)?;
        }
    }
    ensure!(partial.join(KERNEL).exists(), "{PACKAGE} has no {KERNEL}");
    fs::rename(&partial, folder).context("cannot move the kernel to its place")?;
    fs::remove_dir_all(&scratch).context("cannot remove what apt left")
}

/// An apt for both architectures that reads and writes in `scratch` only.
fn configuration(scratch: &Path) -> String {
    let place = scratch.display();
    format!(
        "Dir::State \"{place}/state\";\nDir::State::status \"/dev/null\";\nDir::Cache \"{place}/cache\";\n\
         Dir::Etc \"{place}/etc\";\nAPT::Architecture \"amd64\";\nAPT::Architectures {{ \"amd64\"; \"i386\"; }};\n\
         APT::Sandbox::User \"root\";\nAcquire::Languages \"none\";\nAcquire::Retries \"2\";\n\
         Acquire::http::Timeout \"20\";\n"
    )
}

fn run(command: &mut Command, scratch: &Path) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .env("APT_CONFIG", scratch.join("apt.conf"))
        .current_dir(scratch)
        .output()
        .with_context(|| format!("cannot run {name}"))?;
    ensure!(output.status.success(), "{name} failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
