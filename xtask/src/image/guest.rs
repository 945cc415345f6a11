//! The small guest that both dom0s carry at /root/guests.

use super::cpio::Archive;
use super::narrow;
use super::tree::{Tree, module_name};
use anyhow::Result;

/// Everything that decides what the guest looks like.
pub const RECIPE: &str = concat!(
    include_str!("guest.rs"),
    include_str!("files/guest-init"),
    include_str!("files/guest-poweroff"),
    include_str!("files/lease"),
    include_str!("files/pv.cfg"),
    include_str!("files/pvh.cfg"),
    include_str!("files/hvm.cfg"),
    include_str!("files/tiny.cfg"),
    include_str!("files/grub32.cfg"),
    include_str!("files/gnumach.cfg"),
    include_str!("tiny.rs")
);

/// Files by name.
pub type Files = Vec<(&'static str, Vec<u8>)>;

/// The frontends and the watchdog, which the guest loads when it starts.
const MODULES: &[&str] = &["xen-blkfront", "xen-netfront", "xen_wdt"];
/// What it loads when asked to, in /modules/more: a file system takes time to start.
const MORE_MODULES: &[&str] = &["ext4", "crc32c_generic", "button", "evdev"];

/// What is at /root/guests, but for Debian's kernel; with the kernels in `narrow`.
///
/// # Errors
/// Where the tree lacks something.
pub fn files(tree: &Tree, narrow: &[narrow::Kernel]) -> Result<Files> {
    let mut files = narrow::files(narrow)?;
    files.extend([
        ("pv.cfg", include_bytes!("files/pv.cfg").to_vec()),
        ("pvh.cfg", include_bytes!("files/pvh.cfg").to_vec()),
        ("hvm.cfg", include_bytes!("files/hvm.cfg").to_vec()),
        ("initrd", initrd(tree)?),
        ("tiny.cfg", include_bytes!("files/tiny.cfg").to_vec()),
        ("tiny", super::tiny::kernel()),
        ("grub32", tree.read("usr/lib/grub-xen/grub-i386-xen.bin")?),
        ("grub-pvh", tree.read("usr/lib/grub-xen/grub-i386-xen_pvh.bin")?),
        ("grub32.cfg", include_bytes!("files/grub32.cfg").to_vec()),
        ("gnumach.cfg", include_bytes!("files/gnumach.cfg").to_vec()),
    ]);
    Ok(files)
}

/// The guest's initial RAM file system: busybox, the frontends, one script.
///
/// # Errors
/// Where the tree lacks something.
pub fn initrd(tree: &Tree) -> Result<Vec<u8>> {
    let mut archive = base(tree, tree.read("usr/bin/busybox")?)?;
    for (folder, names) in [("modules", MODULES), ("modules/more", MORE_MODULES)] {
        for (number, path) in tree.modules(names)?.iter().enumerate() {
            archive.file(&format!("{folder}/{number:02}-{}.ko", module_name(path)), 0o644, tree.module(path)?);
        }
    }
    packed(&archive)
}

/// The same for a kernel without modules, with this busybox, which may be another architecture's.
///
/// # Errors
/// Where the tree lacks something.
pub fn initrd_with(tree: &Tree, busybox: Vec<u8>) -> Result<Vec<u8>> {
    packed(&base(tree, busybox)?)
}

/// All but the modules. The applets are those of the tree's busybox.
fn base(tree: &Tree, busybox: Vec<u8>) -> Result<Archive> {
    let mut archive = Archive::new();
    for folder in ["proc", "sys", "dev", "sbin", "tmp", "mnt"] {
        archive.directory(folder);
    }
    archive.char_device("dev/console", 0o600, 5, 1);
    archive.file("bin/busybox", 0o755, busybox);
    for applet in super::mini::busybox_applets(tree)? {
        archive.symlink(&format!("bin/{applet}"), "busybox");
    }
    for name in ["poweroff", "reboot"] {
        archive.file(&format!("bin/{name}"), 0o755, include_str!("files/guest-poweroff"));
        archive.symlink(&format!("sbin/{name}"), &format!("../bin/{name}"));
    }
    archive.file("init", 0o755, include_str!("files/guest-init"));
    archive.file("etc/udhcpc/default.script", 0o755, include_str!("files/lease"));
    Ok(archive)
}

fn packed(archive: &Archive) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    archive.write(&mut out)?;
    Ok(out)
}
