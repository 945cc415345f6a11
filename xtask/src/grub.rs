//! Booting by GRUB, as an installed machine does: a folder that QEMU shows as a FAT disk, and GRUB in front of it.

use crate::cli::{Boot, Hypervisor, RunOptions};
use crate::image::{self, Dom0};
use crate::machine;
use anyhow::{Context, Result};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The disks that GRUB boots from.
pub struct GrubDisk {
    /// What the FAT disk holds.
    folder: PathBuf,
    start: Start,
}

/// What the firmware starts.
enum Start {
    /// A BIOS starts this disk.
    Bios(PathBuf),
    /// This UEFI starts the program on the FAT disk.
    Uefi(PathBuf),
}

/// Makes the disk that `options` ask for under `folder`; `None` where QEMU itself is the boot loader.
///
/// # Errors
/// Where GRUB cannot be made, or the folder not be filled.
pub fn disk(options: &RunOptions, image: Option<&Path>, dom0: &Dom0, folder: &Path) -> Result<Option<GrubDisk>> {
    if options.boot == Boot::Direct {
        return Ok(None);
    }
    let grub = image::grub()?;
    let folder = folder.join("boot-disk");
    let put = |from: &Path, to: &str| -> Result<()> {
        let to = folder.join(to);
        fs::create_dir_all(to.parent().context("a file has a folder")?)?;
        let from = from.canonicalize().with_context(|| format!("cannot find {}", from.display()))?;
        symlink(&from, &to).with_context(|| format!("cannot make {}", to.display()))
    };
    if let Some(image) = image {
        put(image, "boot/xenolith.gz")?;
    }
    put(&dom0.kernel, "boot/vmlinuz")?;
    put(&dom0.initrd, "boot/initrd")?;
    let start = if options.boot == Boot::GrubEfi {
        put(&grub.efi, "EFI/BOOT/BOOTX64.EFI")?;
        Start::Uefi(grub.firmware)
    } else {
        Start::Bios(grub.bios)
    };
    fs::create_dir_all(folder.join("boot/grub"))?;
    fs::write(folder.join("boot/grub/grub.cfg"), configuration(options, dom0))?;
    Ok(Some(GrubDisk { folder, start }))
}

impl GrubDisk {
    /// Puts the disks into the machine. They are not virtio's, so that dom0's own disk is its first of those.
    pub fn attach(&self, command: &mut Command) {
        let mut disk = |file: String, id: &str, order: u32| {
            command.arg("-drive").arg(format!("file={file},format=raw,if=none,id={id},snapshot=on"));
            command.arg("-device").arg(format!("ide-hd,drive={id},bus=ide.{order},bootindex={order}"));
        };
        if let Start::Bios(path) = &self.start {
            disk(machine::escape(path), "grub", 0);
        }
        disk(format!("fat:{}", machine::escape(&self.folder)), "boot", 1);
        if let Start::Uefi(path) = &self.start {
            command.arg("-bios").arg(path);
        }
    }
}

/// GRUB's configuration: one entry, which docs/guide/install.md shows.
fn configuration(options: &RunOptions, dom0: &Dom0) -> String {
    let dom0_arguments = quoted(&machine::dom0_arguments(options, dom0));
    let entry = if options.hypervisor == Hypervisor::None {
        format!("linux /boot/vmlinuz{dom0_arguments}\ninitrd /boot/initrd\n")
    } else {
        let arguments = quoted(&machine::hypervisor_arguments(options));
        format!(
            "multiboot2 /boot/xenolith.gz{arguments}\nmodule2 /boot/vmlinuz{dom0_arguments}\nmodule2 /boot/initrd\n"
        )
    };
    format!("serial --unit=0 --speed=115200\nterminal_output serial\nset timeout=0\nmenuentry Xenolith {{\n{entry}}}\n")
}

/// The words of a command line, each with a blank before it, such that GRUB's shell leaves them alone.
fn quoted(line: &str) -> String {
    line.split_whitespace().map(|word| format!(" '{}'", word.replace('\'', r"'\''"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_the_hypervisor_as_they_are() {
        assert_eq!(quoted("a=1;2  b='$x'"), r" 'a=1;2' 'b='\''$x'\'''");
        assert_eq!(quoted(""), "");
    }
}
