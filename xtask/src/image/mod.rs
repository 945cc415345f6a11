//! The dom0 images: made from Debian 13's packages, cached outside of the clone, keyed by their recipe.
//!
//! A cache folder holds one Debian tree (`root-KEY`) and what is made from it: the small dom0 (`mini-KEY.cpio`), the
//! full one (`full-KEY.ext4`) and a Debian guest for it (`debian-KEY.ext4`), an HVM guest (`hvm-KEY.img`, `hvm-KEY.iso`) and QEMU for the
//! small dom0 (`emulator-KEY.cpio`), what other guests need where a test asks for it (`more-KEY.*`), a C compiler to measure
//! (`compiler-KEY.cpio`), GRUB (`grub-KEY.img`, `grub-KEY.efi`), and Debian's own Xen for comparison (`xen-KEY.elf`).

mod apt;
mod compiler;
pub mod cpio;
mod debian;
mod elf;
mod emulator;
mod full;
mod grub;
mod guest;
mod hvm;
mod iso;
mod mini;
mod more;
mod narrow;
mod tiny;
mod tree;

use crate::host;
use anyhow::{Context, Result};
pub use grub::Grub;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use tree::Tree;

/// Debian's keys in a tree.
const KEYRING: &str = "usr/share/keyrings/debian-archive-keyring.gpg";

/// Files of a dom0, ready to be booted.
#[derive(Clone)]
pub struct Dom0 {
    /// Its kernel (bzImage).
    pub kernel: PathBuf,
    /// Its initial RAM file system.
    pub initrd: PathBuf,
    /// Its root disk; `None` where the initial RAM file system is all.
    pub root: Option<PathBuf>,
    /// Its other disks, by serial number. What is written to any disk is forgotten with the machine.
    pub disks: Vec<(&'static str, PathBuf)>,
}

/// The key of a recipe: what goes in decides what comes out.
fn key(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().iter().take(6).map(|b| format!("{b:02x}")).collect()
}

/// Makes `path` by `make` unless it is there: written under another name first, so that what exists is whole.
fn cached(path: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    let partial = path.with_extension(format!("part{}", std::process::id()));
    fs::remove_file(&partial).ok();
    make(&partial).with_context(|| format!("cannot make {}", path.display()))?;
    fs::rename(&partial, path).with_context(|| format!("cannot move {} to its place", partial.display()))
}

/// Writes an archive into a file.
fn write_archive(archive: &cpio::Archive, path: &Path) -> Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    archive.write(&mut out)?;
    out.flush()?;
    Ok(())
}

/// The cache with a Debian tree in it, locked for this process.
struct Cache {
    folder: PathBuf,
    root_key: String,
    tree: Tree,
    _lock: File,
}

fn open_cache() -> Result<Cache> {
    let folder = host::cache()?;
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let lock = host::lock(&folder.join("lock"), "the dom0 images")?;
    let root_key = debian::recipe_key();
    let root = folder.join(format!("root-{root_key}"));
    debian::ensure(&root, &folder)?;
    Ok(Cache { tree: Tree::open(&root)?, folder, root_key, _lock: lock })
}

impl Cache {
    /// The small guests for /root/guests, and the key of what they are made from.
    fn guests(&self) -> Result<(String, guest::Files)> {
        let narrow = narrow::ensure_kernels(&self.tree.root().join(KEYRING), &self.folder);
        let keys: Vec<_> = narrow.iter().map(narrow::Kernel::key).collect();
        Ok((key(&[guest::RECIPE, &keys.join(" ")]), guest::files(&self.tree, &narrow)?))
    }

    /// The disk of the small HVM guest, and its CD-ROM.
    fn hvm_guest(&self) -> Result<[(&'static str, PathBuf); 2]> {
        let disk = self.folder.join(format!("hvm-{}.img", key(&[&self.root_key, hvm::RECIPE, guest::RECIPE])));
        cached(&disk, |path| hvm::make(&self.tree, path))?;
        let cdrom = disk.with_extension("iso");
        cached(&cdrom, |path| hvm::make_cdrom(&self.tree, path))?;
        Ok([("hvm-guest", disk), ("hvm-cdrom", cdrom)])
    }
}

/// The small dom0: everything in the initial RAM file system.
///
/// # Errors
/// Where it is not cached and cannot be made.
pub fn mini() -> Result<Dom0> {
    let cache = open_cache()?;
    let (guests_key, guests) = cache.guests()?;
    let initrd = cache.folder.join(format!("mini-{}.cpio", key(&[&cache.root_key, mini::RECIPE, &guests_key])));
    cached(&initrd, |path| write_archive(&mini::archive(&cache.tree, guests)?, path))?;
    let emulator = cache.folder.join(format!("emulator-{}.cpio", key(&[&cache.root_key, emulator::RECIPE])));
    cached(&emulator, |path| write_archive(&emulator::archive(&cache.tree)?, path))?;
    let mut disks = vec![("emulator", emulator)];
    disks.extend(cache.hvm_guest()?);
    Ok(Dom0 { kernel: cache.tree.kernel(), initrd, root: None, disks })
}

/// The full dom0: Debian with systemd on a disk.
///
/// # Errors
/// Where it is not cached and cannot be made.
pub fn full() -> Result<Dom0> {
    let cache = open_cache()?;
    let (guests_key, guests) = cache.guests()?;
    let disk = cache.folder.join(format!("full-{}.ext4", key(&[&cache.root_key, full::RECIPE, &guests_key])));
    cached(&disk, |path| full::make(&cache.tree, guests, &cache.folder, path))?;
    let guest = cache.folder.join(format!("debian-{}.ext4", key(&[&cache.root_key, full::DEBIAN_RECIPE])));
    cached(&guest, |path| full::make_debian(&cache.tree, &cache.folder, path))?;
    let initrd = cache.folder.join(format!("full-{}.initrd", cache.root_key));
    cached(&initrd, |path| Ok(fs::write(path, fs::read(cache.tree.initrd())?)?))?;
    let mut disks = vec![("debian-guest", guest)];
    disks.extend(cache.hvm_guest()?);
    Ok(Dom0 { kernel: cache.tree.kernel(), initrd, root: Some(disk), disks })
}

/// What HVM guests of other kinds need, as disks for dom0; with a note instead of one that cannot be had, and what tests it is
/// skipped then.
///
/// # Errors
/// Where the tree is not cached and cannot be made.
pub fn more_guests() -> Result<Vec<(&'static str, PathBuf)>> {
    let Cache { folder, root_key, tree, _lock } = open_cache()?;
    let keyring = tree.root().join(KEYRING);
    let start = folder.join(format!("more-{}", key(&[&root_key, more::RECIPE, guest::RECIPE])));
    let mut disks = Vec::new();
    let mut add = |name: &'static str, make: &dyn Fn(&Path) -> Result<()>| {
        let path = start.with_extension(name);
        match cached(&path, make) {
            Ok(()) => disks.push((name, path)),
            Err(error) => eprintln!("no {name} in dom0: {error:#}"),
        }
    };
    add("narrow-guests", &|path| more::make_narrow(&tree, &keyring, &folder, path));
    add("uefi-firmware", &|path| more::fetch_firmware(&keyring, &folder, path));
    add("uefi-guest", &|path| more::make_uefi(&tree, path));
    Ok(disks)
}

/// An archive of a C compiler, whose work is measured; `None`, with a note, where it cannot be had.
///
/// # Errors
/// Where the tree is not cached and cannot be made.
pub fn compiler() -> Result<Option<PathBuf>> {
    let Cache { folder, root_key, tree, _lock } = open_cache()?;
    let path = folder.join(format!("compiler-{}.cpio", key(&[&root_key, compiler::RECIPE])));
    let made = cached(&path, |path| compiler::make(&tree, &tree.root().join(KEYRING), &folder, path));
    Ok(made.map_err(|error| eprintln!("no C compiler: {error:#}")).ok().map(|()| path))
}

/// GRUB for both kinds of firmware.
///
/// # Errors
/// Where it is not cached and cannot be made.
pub fn grub() -> Result<Grub> {
    let Cache { folder, root_key, tree, _lock } = open_cache()?;
    let path = folder.join(format!("grub-{}", key(&[&root_key, grub::RECIPE])));
    let (bios, efi) = (path.with_extension("img"), path.with_extension("efi"));
    cached(&bios, |path| grub::make_bios(&tree, path))?;
    cached(&efi, |path| grub::make_efi(&tree, path))?;
    Ok(Grub { bios, efi, firmware: grub::firmware(&tree)? })
}

/// Debian's own Xen, as an ELF file that QEMU can load.
///
/// # Errors
/// Where it is not cached and cannot be made.
pub fn debian_xen() -> Result<PathBuf> {
    let cache = open_cache()?;
    let path = cache.folder.join(format!("xen-{}.elf", cache.root_key));
    cached(&path, |path| {
        let mut elf = Vec::new();
        flate2::read::GzDecoder::new(File::open(cache.tree.xen()?)?).read_to_end(&mut elf)?;
        Ok(fs::write(path, elf)?)
    })?;
    Ok(path)
}

/// What tests on the host read of Debian 13: the folder of Xen's public headers, and the kernel.
///
/// # Errors
/// Where the tree is not cached and cannot be made.
pub fn references() -> Result<(PathBuf, PathBuf)> {
    let tree = open_cache()?.tree;
    Ok((tree.root().join("usr/include/xen"), tree.kernel()))
}

/// Removes every image; the next run makes them anew.
///
/// # Errors
/// Where something cannot be removed.
pub fn clean() -> Result<()> {
    let folder = host::cache()?;
    if !folder.exists() {
        eprintln!("nothing to remove at {}", folder.display());
        return Ok(());
    }
    let status = host::as_root("rm").args(["-rf", "--one-file-system", "--"]).arg(&folder).status()?;
    anyhow::ensure!(status.success(), "cannot remove {}", folder.display());
    eprintln!("removed {}", folder.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_depends_on_each_part_and_their_borders() {
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
        assert_ne!(key(&["a"]), key(&["b"]));
        assert_eq!(key(&["a", "b"]), key(&["a", "b"]));
    }

    #[test]
    fn failed_making_leaves_nothing_behind() {
        let folder = std::env::temp_dir().join(format!("xenolith-cached-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("thing");
        assert!(cached(&path, |_| anyhow::bail!("no")).is_err());
        assert!(!path.exists());
        cached(&path, |p| Ok(fs::write(p, "1")?)).unwrap();
        cached(&path, |_| anyhow::bail!("must not be made twice")).unwrap();
        fs::remove_dir_all(&folder).unwrap();
    }
}
