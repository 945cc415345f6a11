//! GRUB from Debian's packages, as an installed machine has it, and the firmware for UEFI.

use super::tree::Tree;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Everything that decides what GRUB looks like.
pub const RECIPE: &str = include_str!("grub.rs");

/// GRUB for both kinds of firmware.
pub struct Grub {
    /// A disk that a BIOS starts: GRUB in its first sectors, nothing else.
    pub bios: PathBuf,
    /// GRUB as a program of UEFI.
    pub efi: PathBuf,
    /// UEFI for QEMU's `-bios`.
    pub firmware: PathBuf,
}

/// What GRUB does first: find the disk that has its configuration, which it then obeys.
const START: &str = "\
search --no-floppy --file --set=root /boot/grub/grub.cfg
set prefix=($root)/boot/grub
";

const START_CDROM: &str = "\
search --no-floppy --file --set=root /grub.cfg
set prefix=($root)/
";

/// GRUB's modules for either firmware.
const MODULES: &[&str] = &[
    "normal",
    "search",
    "search_fs_file",
    "part_msdos",
    "fat",
    "ext2",
    "gzio",
    "multiboot2",
    "linux",
    "serial",
    "terminal",
];

/// Size of the BIOS disk, since firmware does not like those of a few sectors.
const DISK: usize = 1 << 20;

/// Makes the BIOS disk: GRUB's first sector says that the rest follows in the second, so both are just put in a row.
///
/// # Errors
/// Where the tree lacks something or GRUB's tool fails.
pub fn make_bios(tree: &Tree, path: &Path) -> Result<()> {
    let core = path.with_extension("core");
    make_core(tree, "i386-pc", START, &["biosdisk"], &core)?;
    let mut disk = tree.read("usr/lib/grub/i386-pc/boot.img")?;
    disk.extend(fs::read(&core)?);
    ensure!(disk.len() <= DISK, "GRUB is larger than its disk");
    disk.resize(DISK, 0);
    fs::remove_file(&core)?;
    Ok(fs::write(path, disk)?)
}

/// Makes the program of a CD-ROM that has its configuration in its only folder.
///
/// # Errors
/// Where the tree lacks something or GRUB's tool fails.
pub fn make_cdrom(tree: &Tree, path: &Path) -> Result<()> {
    make_core(tree, "i386-pc-eltorito", START_CDROM, &["biosdisk", "iso9660"], path)
}

/// Makes the UEFI program.
///
/// # Errors
/// Where the tree lacks something or GRUB's tool fails.
pub fn make_efi(tree: &Tree, path: &Path) -> Result<()> {
    make_core(tree, "x86_64-efi", START, &[], path)
}

/// The firmware.
///
/// # Errors
/// Where it is not in the tree.
pub fn firmware(tree: &Tree) -> Result<PathBuf> {
    tree.resolve("usr/share/ovmf/OVMF.fd")
}

/// Runs the tree's grub-mkimage, by the tree's own libraries.
fn make_core(tree: &Tree, target: &str, first: &str, more: &[&str], path: &Path) -> Result<()> {
    let start = path.with_extension("start");
    fs::write(&start, first)?;
    let output = Command::new(tree.resolve("lib64/ld-linux-x86-64.so.2")?)
        .arg("--library-path")
        .arg(tree.root().join("usr/lib/x86_64-linux-gnu"))
        .arg(tree.resolve("usr/bin/grub-mkimage")?)
        .arg("--directory")
        .arg(tree.root().join("usr/lib/grub").join(target.trim_end_matches("-eltorito")))
        .args(["--format", target, "--prefix", "/boot/grub", "--config"])
        .arg(&start)
        .arg("--output")
        .arg(path)
        .args(MODULES)
        .args(more)
        .output()
        .context("cannot run grub-mkimage")?;
    fs::remove_file(&start)?;
    ensure!(output.status.success(), "grub-mkimage failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
