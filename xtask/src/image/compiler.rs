//! A small C compiler with its libraries, for guests and dom0, where it is measured what a compilation takes.

use super::apt::Apt;
use super::cpio::Archive;
use super::tree::Tree;
use super::{debian, mini};
use anyhow::Result;
use std::path::Path;

/// Everything that decides what the archive looks like, but for the tree.
pub const RECIPE: &str = concat!(include_str!("compiler.rs"), include_str!("apt.rs"));

/// The package, and its program.
const PACKAGE: &str = "tcc";
const PROGRAM: &str = "usr/bin/tcc";

/// Makes the archive, to be unpacked at `/`. The program's loader is in usr/lib64.
///
/// # Errors
/// Where the mirror or the tree lacks something.
pub fn make(tree: &Tree, keyring: &Path, cache: &Path, path: &Path) -> Result<()> {
    let apt = Apt::new(keyring, cache, debian::SUITE, "amd64")?;
    let mut archive = Archive::new();
    archive.file(PROGRAM, 0o755, apt.files(PACKAGE, &[PROGRAM])?.swap_remove(0));
    mini::libraries(&mut archive, tree)?;
    super::write_archive(&archive, path)
}
