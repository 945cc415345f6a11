//! The disk of the small HVM guest: GRUB as on an installed machine, and one file system with kernel and initrd; and a CD-ROM with
//! the same.

use super::tree::Tree;
use super::{grub, guest, iso};
use anyhow::{Context, Result, ensure};
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

/// Everything that decides what the disk looks like.
pub const RECIPE: &str = concat!(include_str!("hvm.rs"), include_str!("grub.rs"), include_str!("iso.rs"));

/// Where the file system begins, behind GRUB, and how long it is, in bytes.
const START: u64 = 1 << 20;
const LENGTH: u64 = 63 << 20;
/// Bytes of a sector.
const SECTOR: u64 = 512;
/// Where the first entry of the table of partitions is, and the mark at the end of the sector.
const TABLE: std::ops::Range<usize> = 446..510;
const MARK: (usize, [u8; 2]) = (510, [0x55, 0xaa]);
/// The type of a partition of Linux's.
const LINUX: u8 = 0x83;

/// What GRUB shows and starts, on any firmware. It speaks on the screen and on the serial port, as the kernel does.
pub const CONFIGURATION: &str = "\
serial --unit=0 --speed=115200
terminal_input console serial
terminal_output console serial
set timeout=0
menuentry 'Debian GNU/Linux' {
    linux /boot/vmlinuz console=tty0 console=ttyS0,115200 quiet
    initrd /boot/initrd
}
";

/// What it does on the CD-ROM.
const CDROM_CONFIGURATION: &str = "\
serial --unit=0 --speed=115200
terminal_output console serial
set timeout=0
menuentry 'Debian on a CD-ROM' {
    linux /vmlinuz.bin console=tty0 console=ttyS0,115200 quiet
    initrd /initrd.img
}
";

/// Makes the CD-ROM at `path`.
///
/// # Errors
/// Where the tree lacks something or GRUB's tool fails.
pub fn make_cdrom(tree: &Tree, path: &Path) -> Result<()> {
    let core = path.with_extension("core");
    grub::make_cdrom(tree, &core)?;
    let files = [
        ("GRUB.CFG", CDROM_CONFIGURATION.into()),
        ("VMLINUZ.BIN", fs::read(tree.kernel())?),
        ("INITRD.IMG", guest::initrd(tree)?),
    ];
    let image = iso::image(fs::read(&core)?, &files)?;
    fs::remove_file(&core)?;
    Ok(fs::write(path, image)?)
}

/// Makes the disk at `path`.
///
/// # Errors
/// Where the tree lacks something or a tool fails.
pub fn make(tree: &Tree, path: &Path) -> Result<()> {
    grub::make_bios(tree, path)?;
    let folder = path.with_extension("files");
    let boot = folder.join("boot");
    fs::create_dir_all(boot.join("grub"))?;
    fs::write(boot.join("grub/grub.cfg"), CONFIGURATION)?;
    fs::copy(tree.kernel(), boot.join("vmlinuz"))?;
    fs::write(boot.join("initrd"), guest::initrd(tree)?)?;
    let disk = OpenOptions::new().read(true).write(true).open(path)?;
    disk.set_len(START + LENGTH)?;
    let mut first = [0; SECTOR as usize];
    disk.read_exact_at(&mut first, 0)?;
    partition(&mut first, LINUX, START, LENGTH);
    disk.write_all_at(&first, 0)?;
    let made = Command::new("mke2fs")
        .args(["-q", "-F", "-t", "ext2", "-L", "hvm", "-E"])
        .arg(format!("offset={START},root_owner=0:0"))
        .arg("-d")
        .arg(&folder)
        .arg(path)
        .arg(format!("{}k", LENGTH >> 10))
        .output()
        .context("cannot run mke2fs")?;
    fs::remove_dir_all(&folder)?;
    ensure!(made.status.success(), "mke2fs failed: {}", String::from_utf8_lossy(&made.stderr));
    Ok(())
}

/// Writes the table into a disk's first sector: one partition, which is found by sector number alone, and three that are none; GRUB's
/// sector has code there, for disks without a table. Start and length are in bytes.
pub fn partition(sector: &mut [u8], kind: u8, start: u64, length: u64) {
    let table = &mut sector[TABLE];
    table.fill(0);
    table[0] = 0x80;
    table[4] = kind;
    table[8..12].copy_from_slice(&((start / SECTOR) as u32).to_le_bytes());
    table[12..16].copy_from_slice(&((length / SECTOR) as u32).to_le_bytes());
    sector[MARK.0..][..2].copy_from_slice(&MARK.1);
}
