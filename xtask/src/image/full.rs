//! The full dom0, Debian 13 with systemd on a disk, as an installation would have it; and the disk of a Debian guest.

use super::guest::Files;
use super::tree::Tree;
use crate::host;
use anyhow::{Result, anyhow};
use std::fs;
use std::path::{Path, PathBuf};

const FILES: &[(&str, &str)] = &[
    ("stage.sh", include_str!("files/stage")),
    ("full-setup", include_str!("files/full-setup")),
    ("debian-setup", include_str!("files/debian-setup")),
    ("run-job", include_str!("files/run-job")),
    ("hvm-cpus", include_str!("files/hvm-cpus")),
    ("unpack-job", include_str!("files/unpack-job")),
    ("xenolith-job.service", include_str!("files/xenolith-job.service")),
    ("motd", include_str!("files/motd")),
];

/// Everything that decides what the disk looks like.
pub const RECIPE: &str = concat!(
    include_str!("full.rs"),
    include_str!("files/stage"),
    include_str!("files/full-setup"),
    include_str!("files/debian.cfg"),
    include_str!("files/run-job"),
    include_str!("files/hvm-cpus"),
    include_str!("files/unpack-job"),
    include_str!("files/xenolith-job.service"),
    include_str!("files/motd")
);

/// Everything that decides what the guest's disk looks like.
pub const DEBIAN_RECIPE: &str =
    concat!(include_str!("full.rs"), include_str!("files/stage"), include_str!("files/debian-setup"));

/// Makes dom0's disk at `path`, with the `small` guests, and with `folder` for what is needed on the way.
///
/// # Errors
/// Where one of the steps fails; its output is in the error.
pub fn make(tree: &Tree, small: Files, folder: &Path, path: &Path) -> Result<()> {
    let files = files(folder)?;
    let guests = files.join("guests");
    fs::create_dir_all(&guests)?;
    for (name, data) in small {
        fs::write(guests.join(name), data)?;
    }
    fs::write(guests.join("debian.cfg"), include_str!("files/debian.cfg"))?;
    set_up(tree, &files, "full-setup", path)
}

/// Makes the guest's disk at `path`.
///
/// # Errors
/// As `make`.
pub fn make_debian(tree: &Tree, folder: &Path, path: &Path) -> Result<()> {
    let files = files(folder)?;
    fs::write(files.join("kernel"), unpacked(&fs::read(tree.kernel())?)?)?;
    set_up(tree, &files, "debian-setup", path)
}

/// The ELF file in a bzImage: pvgrub does not know Debian's compression, zstd.
fn unpacked(kernel: &[u8]) -> Result<Vec<u8>> {
    let bad = |error| anyhow!("Debian's kernel: {error}");
    let payload = dom0::Payload::find(kernel).map_err(bad)?;
    let mut elf = vec![0; payload.unpacked_size()];
    payload.unpack(&mut elf).map_err(bad)?;
    Ok(elf)
}

/// Writes our files into a folder for the scripts.
fn files(folder: &Path) -> Result<PathBuf> {
    let files = folder.join("full-files");
    fs::create_dir_all(&files)?;
    for (name, text) in FILES {
        fs::write(files.join(name), text)?;
    }
    Ok(files)
}

fn set_up(tree: &Tree, files: &Path, script: &str, path: &Path) -> Result<()> {
    let mut command = host::as_root("sh");
    command.arg("-e").arg(files.join(script)).arg(tree.root()).arg(files).arg(path);
    let log = files.with_file_name(format!("{script}.log"));
    host::run_with_progress(command, &format!("{script}, a disk"), &log)
}
