//! QEMU for the small dom0, with its libraries and firmware: an archive on a disk of its own, since it is as large as all the
//! rest, and few boots have a use for it.

use super::cpio::Archive;
use super::mini;
use super::tree::Tree;
use anyhow::Result;
use std::fs;

/// Everything that decides what the archive looks like.
pub const RECIPE: &str = include_str!("emulator.rs");

/// Where Debian has it; the small dom0 has a script there that unpacks the archive.
pub const PROGRAM: &str = "usr/libexec/xen-qemu-system-i386";
/// What QEMU looks for beside it.
const DATA: &[&str] = &["usr/share/qemu/keymaps/en-us"];
const DATA_FOLDERS: &[&str] = &["usr/share/seabios", "usr/share/qemu"];

/// The archive.
///
/// # Errors
/// Where the tree lacks something.
pub fn archive(tree: &Tree) -> Result<Archive> {
    let mut archive = Archive::new();
    mini::program(&mut archive, tree, PROGRAM)?;
    mini::libraries(&mut archive, tree)?;
    for path in DATA {
        archive.file(path, 0o644, tree.read(path)?);
    }
    for folder in DATA_FOLDERS {
        for name in mini::names(&tree.root().join(folder))? {
            let is_pc_firmware = name.ends_with(".rom") || name.starts_with("vgabios") || name.starts_with("bios");
            if is_pc_firmware && fs::metadata(tree.resolve(&format!("{folder}/{name}"))?)?.is_file() {
                archive.file(&format!("usr/share/qemu/{name}"), 0o644, tree.read(&format!("{folder}/{name}"))?);
            }
        }
    }
    Ok(archive)
}
