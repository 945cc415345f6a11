//! The full dom0: Debian 13 with systemd on a disk, as an installation would have it.

use super::guest::Files;
use super::tree::Tree;
use crate::host;
use anyhow::Result;
use std::fs;
use std::path::Path;

const SETUP: &str = include_str!("files/full-setup");
const FILES: &[(&str, &str)] = &[
    ("run-job", include_str!("files/run-job")),
    ("unpack-job", include_str!("files/unpack-job")),
    ("xenolith-job.service", include_str!("files/xenolith-job.service")),
    ("motd", include_str!("files/motd")),
];

/// Everything that decides what the disk looks like.
pub const RECIPE: &str = concat!(
    include_str!("full.rs"),
    include_str!("files/full-setup"),
    include_str!("files/run-job"),
    include_str!("files/unpack-job"),
    include_str!("files/xenolith-job.service"),
    include_str!("files/motd")
);

/// Makes the disk at `path`, with the `small` guests, and with `folder` for what is needed on the way.
///
/// # Errors
/// Where one of the steps fails; its output is in the error.
pub fn make(tree: &Tree, small: Files, folder: &Path, path: &Path) -> Result<()> {
    let files = folder.join("full-files");
    fs::create_dir_all(&files)?;
    for (name, text) in FILES {
        fs::write(files.join(name), text)?;
    }
    let guests = files.join("guests");
    fs::create_dir_all(&guests)?;
    for (name, data) in small {
        fs::write(guests.join(name), data)?;
    }
    fs::write(files.join("setup"), SETUP)?;
    let mut command = host::as_root("sh");
    command.arg("-e").arg(files.join("setup")).arg(tree.root()).arg(&files).arg(path);
    host::run_with_progress(command, "full dom0 disk", &folder.join("full.log"))
}
