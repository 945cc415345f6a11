//! GNU Mach, the kernel of a 32-bit PV guest, which only Debian's i386 archive has.

use super::guest::Files;
use super::{debian, key};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is downloaded.
const PACKAGES: &[&str] = &["gnumach-image-1.8-xen-486:i386"];
/// Where their kernels are, and what they are called in dom0.
const KERNELS: &[(&str, &str)] = &[("boot/gnumach-1.8-xen-486.gz", "gnumach.gz")];

/// The kernels, unpacked at a folder in the cache; `None` with a note where the mirror does not give them, and what tests them
/// is skipped then.
pub fn ensure_kernels(keyring: &Path, cache: &Path) -> Option<PathBuf> {
    let folder = cache.join(format!("narrow-{}", key(&[include_str!("narrow.rs"), debian::SUITE])));
    if folder.exists() {
        return Some(folder);
    }
    match fetch(keyring, cache, &folder) {
        Ok(()) => Some(folder),
        Err(error) => {
            eprintln!("no 32-bit guests in dom0: {error:#}");
            None
        }
    }
}

/// Contents of the kernels at `folder`, by name in dom0.
///
/// # Errors
/// Where one cannot be read.
pub fn files(folder: &Path) -> Result<Files> {
    KERNELS.iter().map(|(path, name)| Ok((*name, fs::read(folder.join(path))?))).collect()
}

/// Downloads and unpacks the packages by an apt of their own, so that this machine's stays as it is.
fn fetch(keyring: &Path, cache: &Path, folder: &Path) -> Result<()> {
    let scratch = cache.join("narrow-apt");
    fs::remove_dir_all(&scratch).ok();
    for part in ["state/lists/partial", "cache/archives/partial", "etc/apt.conf.d", "etc/preferences.d"] {
        fs::create_dir_all(scratch.join(part))?;
    }
    let source = format!("deb [signed-by={}] {} {} main\n", keyring.display(), debian::mirror()?, debian::SUITE);
    fs::write(scratch.join("etc/sources.list"), source)?;
    fs::write(scratch.join("apt.conf"), configuration(&scratch))?;
    eprintln!("fetching {}", PACKAGES.join(", "));
    run(Command::new("apt-get").arg("update"), &scratch)?;
    run(Command::new("apt-get").arg("download").args(PACKAGES), &scratch)?;
    let partial = scratch.join("unpacked");
    for entry in fs::read_dir(&scratch)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            run(Command::new("dpkg-deb").arg("--extract").arg(&path).arg(&partial), &scratch)?;
        }
    }
    for (path, _) in KERNELS {
        ensure!(partial.join(path).exists(), "the packages have no {path}");
    }
    fs::rename(&partial, folder).context("cannot move the kernels to their place")?;
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
