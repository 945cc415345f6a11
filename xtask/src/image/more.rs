//! What HVM guests of other kinds need, on disks of their own: kernels for 32-bit PCs, of Debian 12, the last release that has them;
//! UEFI with drivers for Xen, of Debian 11, likewise; and a disk that such firmware starts. It is fetched for the tests that ask for it.

use super::apt::Apt;
use super::cpio::Archive;
use super::tree::Tree;
use super::{grub, guest, hvm};
use anyhow::{Context, Result};
use fatfs::{FileSystem, FormatVolumeOptions, FsOptions};
use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;

/// Everything that decides what is on the disks, but for the tree.
pub const RECIPE: &str =
    concat!(include_str!("more.rs"), include_str!("apt.rs"), include_str!("hvm.rs"), include_str!("grub.rs"));

/// The last release with kernels for 32-bit PCs.
const NARROW_SUITE: &str = "bookworm";
/// Their packages, and their names in dom0.
const NARROW: &[(&str, &str)] = &[("linux-image-686-pae", "vmlinuz-pae"), ("linux-image-686", "vmlinuz-686")];
/// The last release whose firmware has drivers for Xen: edk2 made them a build of its own, which Debian has not.
const FIRMWARE_SUITE: &str = "bullseye";

/// Size of the UEFI guest's disk, and where its one partition begins, in bytes.
const DISK: usize = 64 << 20;
const START: usize = 1 << 20;
/// The type of UEFI's partition.
const EFI: u8 = 0xef;

/// Makes the archive of 32-bit kernels with their initial RAM file system.
///
/// # Errors
/// Where the mirror or the tree lacks something.
pub fn make_narrow(tree: &Tree, keyring: &Path, cache: &Path, path: &Path) -> Result<()> {
    let apt = Apt::new(keyring, cache, NARROW_SUITE, "i386")?;
    let mut archive = Archive::new();
    for (package, name) in NARROW {
        let package = apt.needed(package, "linux-image-")?;
        let kernel = format!("boot/vmlinuz-{}", package.trim_start_matches("linux-image-"));
        let kernel = apt.files(&package, &[&kernel])?.swap_remove(0);
        archive.file(name, 0o644, kernel);
    }
    let busybox = apt.files("busybox-static", &["bin/busybox"])?.swap_remove(0);
    archive.file("initrd", 0o644, guest::initrd_with(tree, busybox)?);
    super::write_archive(&archive, path)
}

/// Fetches the firmware: code and variables in one file.
///
/// # Errors
/// Where the mirror lacks it.
pub fn fetch_firmware(keyring: &Path, cache: &Path, path: &Path) -> Result<()> {
    let apt = Apt::new(keyring, cache, FIRMWARE_SUITE, "amd64")?;
    Ok(fs::write(path, &apt.files("ovmf", &["usr/share/ovmf/OVMF.fd"])?[0])?)
}

/// Makes the disk that UEFI starts: one partition with GRUB, and what that starts.
///
/// # Errors
/// Where the tree lacks something or GRUB's tool fails.
pub fn make_uefi(tree: &Tree, path: &Path) -> Result<()> {
    let program = path.with_extension("efi");
    grub::make_efi(tree, &program)?;
    let files = [
        ("EFI/BOOT/BOOTX64.EFI", fs::read(&program)?),
        ("boot/grub/grub.cfg", hvm::CONFIGURATION.into()),
        ("boot/vmlinuz", fs::read(tree.kernel())?),
        ("boot/initrd", guest::initrd(tree)?),
    ];
    fs::remove_file(&program)?;
    let mut disk = vec![0; DISK];
    hvm::partition(&mut disk, EFI, START as u64, (DISK - START) as u64);
    fill(&mut disk[START..], &files)?;
    Ok(fs::write(path, disk)?)
}

/// Makes a FAT file system of the files in `volume`.
fn fill(volume: &mut [u8], files: &[(&str, Vec<u8>)]) -> Result<()> {
    let mut volume = Cursor::new(volume);
    fatfs::format_volume(&mut volume, FormatVolumeOptions::new()).context("cannot make a FAT file system")?;
    let system = FileSystem::new(volume, FsOptions::new())?;
    for (path, data) in files {
        for (at, _) in path.match_indices('/') {
            system.root_dir().create_dir(&path[..at])?;
        }
        system.root_dir().create_file(path)?.write_all(data).with_context(|| format!("no room for {path}"))?;
    }
    Ok(system.unmount()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn files_are_where_firmware_looks_for_them() {
        let mut disk = vec![0; 8 << 20];
        hvm::partition(&mut disk, EFI, START as u64, 7 << 20);
        assert_eq!(disk[446..462], [0x80, 0, 0, 0, 0xef, 0, 0, 0, 0, 8, 0, 0, 0, 0x38, 0, 0]);
        assert_eq!(disk[510..512], [0x55, 0xaa]);
        let volume = &mut disk[START..];
        fill(volume, &[("EFI/BOOT/BOOTX64.EFI", vec![7; 5000]), ("EFI/b", b"text".to_vec())]).unwrap();
        let system = FileSystem::new(Cursor::new(volume), FsOptions::new()).unwrap();
        let mut found = Vec::new();
        system.root_dir().open_file("efi/boot/bootx64.efi").unwrap().read_to_end(&mut found).unwrap();
        assert_eq!(found, [7; 5000]);
        assert!(fill(&mut vec![0; 1 << 20], &[("a", vec![0; 2 << 20])]).is_err());
    }
}
