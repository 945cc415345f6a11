//! The small dom0: Debian's binaries, the libraries that they need and a few kernel modules in one archive that the
//! kernel unpacks into memory. No systemd, no udev: a boot takes a third of the full dom0's time.
//!
//! Not compressed: unpacking costs an emulated CPU seconds, loading a larger file costs QEMU nothing.

use super::cpio::Archive;
use super::elf;
use super::emulator;
use super::guest::Files;
use super::tree::{Tree, module_name};
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// Everything that decides what the archive looks like.
pub const RECIPE: &str = concat!(
    include_str!("mini.rs"),
    include_str!("files/mini-init"),
    include_str!("files/emulator"),
    include_str!("files/run-job"),
    include_str!("files/hvm-cpus"),
    include_str!("files/lease"),
    include_str!("files/motd")
);

/// Loaded by the init script, always.
const BOOT_MODULES: &[&str] =
    &["xen-evtchn", "xen-gntdev", "xen-gntalloc", "xen-privcmd", "xenfs", "xen-netback", "xen-blkback", "loop"];

/// Loaded where the machine has such a device, or on demand.
const OTHER_MODULES: &[&str] = &[
    "virtio_blk",
    "virtio_net",
    "e1000",
    "e1000e",
    "ahci",
    "sd_mod",
    "nvme",
    "xhci_pci",
    "usb_storage",
    "usbhid",
    "hid-generic",
    "bridge",
    "tun",
    "ext4",
    "crc32c_generic",
    "xen-acpi-processor",
    "xen-pciback",
    "xen-blkfront",
    "xen-netfront",
];

/// Programs beside Xen's own, which are all taken.
const PROGRAMS: &[&str] = &[
    "usr/bin/bash",
    "usr/bin/dash",
    "usr/bin/ip",
    "usr/bin/flock",
    "usr/bin/expr",
    "usr/bin/stat",
    "usr/bin/readlink",
    "usr/bin/timeout",
    "usr/bin/stty",
    "usr/bin/mawk",
    "usr/bin/script",
    "usr/sbin/brctl",
    "usr/sbin/bridge",
    "usr/sbin/losetup",
    "usr/sbin/mke2fs",
];

/// Xen's programs that only a full dom0 has: they need Python, or are large and never used.
const LEFT_OUT: &[&str] =
    &["pygrub", "convert-legacy-stream", "verify-stream-v2", "xen-9pfsd", "vchan-socket-proxy", "depriv-fd-checker"];

/// Libraries that no program names, but that are opened when needed: by pthread_cancel, which the toolstack uses.
const OPENED_LIBRARIES: &[&str] = &["libgcc_s.so.1"];

/// Firmware of HVM guests, which the toolstack loads.
const SEABIOS: &str = "usr/share/seabios/bios-256k.bin";

/// Where Debian keeps libraries.
const LIBRARY_FOLDERS: &[&str] = &["usr/lib/x86_64-linux-gnu", "usr/lib"];

/// The whole archive, with the small `guests`.
///
/// # Errors
/// Where the tree lacks something.
pub fn archive(tree: &Tree, guests: Files) -> Result<Archive> {
    let mut archive = Archive::new();
    skeleton(&mut archive, tree)?;
    xen_files(&mut archive, tree)?;
    for path in PROGRAMS {
        program(&mut archive, tree, path)?;
    }
    archive.symlink("usr/bin/sh", "dash");
    archive.symlink("usr/bin/awk", "mawk");
    libraries(&mut archive, tree)?;
    modules(&mut archive, tree)?;
    archive.file("usr/bin/busybox", 0o755, tree.read("usr/bin/busybox")?);
    for applet in busybox_applets(tree)? {
        let sbin = format!("usr/sbin/{applet}");
        let bin = format!("usr/bin/{applet}");
        if !archive.contains(&sbin) && !archive.contains(&bin) {
            archive.symlink(&bin, "busybox");
        }
    }
    archive.symlink("usr/sbin/modprobe", "../bin/busybox");
    for name in ["poweroff", "reboot", "halt"] {
        archive.file(&format!("usr/sbin/{name}"), 0o755, format!("#!/bin/sh\nsync\nexec busybox {name} -f\n"));
    }
    for (name, data) in guests {
        archive.file(&format!("root/guests/{name}"), 0o644, data);
    }
    archive.file("root/guests/vmlinuz", 0o644, fs::read(tree.kernel())?);
    Ok(archive)
}

/// Names of busybox's applets.
///
/// # Errors
/// Where the tree's busybox does not run.
pub fn busybox_applets(tree: &Tree) -> Result<Vec<String>> {
    let output = Command::new(tree.resolve("usr/bin/busybox")?).arg("--list").output().context("cannot run busybox")?;
    let names = String::from_utf8(output.stdout)?;
    Ok(names.lines().filter(|n| !n.is_empty() && *n != "busybox").map(str::to_string).collect())
}

fn skeleton(archive: &mut Archive, tree: &Tree) -> Result<()> {
    for folder in [
        "proc",
        "sys",
        "dev",
        "run",
        "tmp",
        "mnt",
        "root/files",
        "var/log/xen/console",
        "var/lib/xen/dump",
        "var/lib/xenstored",
        "var/cache",
        "usr/lib64",
    ] {
        archive.directory(folder);
    }
    for name in ["bin", "sbin", "lib", "lib64"] {
        archive.symlink(name, &format!("usr/{name}"));
    }
    archive.symlink("var/run", "../run");
    archive.symlink("var/lock", "../run/lock");
    archive.char_device("dev/console", 0o600, 5, 1);
    archive.char_device("dev/null", 0o666, 1, 3);
    archive.file("init", 0o755, include_str!("files/mini-init"));
    archive.file(emulator::PROGRAM, 0o755, include_str!("files/emulator"));
    archive.file(SEABIOS, 0o644, tree.read(SEABIOS)?);
    archive.file("usr/lib/xenolith/run-job", 0o755, include_str!("files/run-job"));
    archive.file("usr/lib/xenolith/hvm-cpus", 0o755, include_str!("files/hvm-cpus"));
    archive.file("etc/udhcpc/default.script", 0o755, include_str!("files/lease"));
    archive.file("etc/motd", 0o644, include_str!("files/motd"));
    archive.file("etc/profile", 0o644, "PS1='dom0:\\w# '\nalias ll='ls -l'\n");
    for path in ["etc/passwd", "etc/group", "etc/nsswitch.conf", "etc/os-release", "etc/debian_version"] {
        archive.file(path, 0o644, tree.read(path)?);
    }
    archive.file("etc/hostname", 0o644, "dom0\n");
    archive.file("etc/hosts", 0o644, "127.0.0.1 localhost dom0\n");
    Ok(())
}

/// Xen's programs, scripts and configuration.
fn xen_files(archive: &mut Archive, tree: &Tree) -> Result<()> {
    archive.tree("etc/xen", &tree.root().join("etc/xen"))?;
    archive.tree("usr/lib/xen-common", &tree.root().join("usr/lib/xen-common"))?;
    let versioned = names(&tree.root().join("usr/lib"))?.into_iter().find(|n| n.starts_with("xen-4"));
    let versioned = versioned.context("no xen-utils in the Debian tree")?;
    let bin = format!("usr/lib/{versioned}/bin");
    for name in names(&tree.root().join(&bin))? {
        if !LEFT_OUT.contains(&name.as_str()) {
            program(archive, tree, &format!("{bin}/{name}"))?;
        }
    }
    let loader = format!("usr/lib/{versioned}/boot/hvmloader");
    archive.file(&loader, 0o644, tree.read(&loader)?);
    // oxenstored loads its hypercall bindings from here.
    archive.tree(&format!("usr/lib/{versioned}/ocaml"), &tree.root().join(format!("usr/lib/{versioned}/ocaml")))?;
    for folder in ["usr/bin", "usr/sbin"] {
        for name in names(&tree.root().join(folder))? {
            if (name.starts_with("xen") || name.starts_with("oxen") || name == "xl") && name != "xenalyze" {
                program(archive, tree, &format!("{folder}/{name}"))?;
            }
        }
    }
    Ok(())
}

/// Names of what is in a folder, in their order.
pub fn names(folder: &Path) -> Result<Vec<String>> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .with_context(|| format!("cannot list {}", folder.display()))?
        .filter_map(|e| e.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    Ok(names)
}

/// Adds one program as the tree has it: a link stays a link where it is relative.
///
/// # Errors
/// Where the tree lacks it.
pub fn program(archive: &mut Archive, tree: &Tree, path: &str) -> Result<()> {
    match fs::read_link(tree.root().join(path)) {
        Ok(target) if target.is_relative() => archive.symlink(path, target.to_str().context("link is not UTF-8")?),
        _ => {
            let mode = fs::metadata(tree.resolve(path)?)?.permissions().mode() & 0o777;
            archive.file(path, mode, tree.read(path)?);
        }
    }
    Ok(())
}

/// Adds the libraries that the programs so far need, and what these need.
///
/// # Errors
/// Where the tree lacks one.
pub fn libraries(archive: &mut Archive, tree: &Tree) -> Result<()> {
    let mut todo: Vec<elf::Needs> = archive.files().map(elf::needs).collect::<Result<_>>()?;
    todo.push(elf::Needs { interpreter: None, libraries: OPENED_LIBRARIES.iter().map(|l| l.to_string()).collect() });
    let mut seen = BTreeSet::new();
    while let Some(needs) = todo.pop() {
        if let Some(path) = needs.interpreter {
            let real = format!("usr{path}");
            if !archive.contains(&real) {
                archive.file(&real, 0o755, tree.read(&path)?);
            }
        }
        for name in needs.libraries {
            if !seen.insert(name.clone()) {
                continue;
            }
            let found = LIBRARY_FOLDERS.iter().map(|f| format!("{f}/{name}")).find(|p| tree.resolve(p).is_ok());
            let path = found.with_context(|| format!("library {name} is not in the Debian tree"))?;
            let data = tree.read(&path)?;
            todo.push(elf::needs(&data)?);
            archive.file(&path, 0o644, data);
        }
    }
    Ok(())
}

/// Adds the kernel modules, uncompressed, with the tables that modprobe reads.
fn modules(archive: &mut Archive, tree: &Tree) -> Result<()> {
    let folder = format!("usr/lib/modules/{}", tree.release());
    let boot = tree.modules(BOOT_MODULES)?;
    let all = tree.modules(&[BOOT_MODULES, OTHER_MODULES].concat())?;
    for path in &all {
        archive.file(&format!("{folder}/{}", plain(path)), 0o644, tree.module(path)?);
    }
    archive.file("etc/xenolith/modules", 0o644, boot.iter().map(|p| format!("{}\n", plain(p))).collect::<String>());
    let table = |name: &str| -> Result<String> { Ok(String::from_utf8(tree.read(&format!("{folder}/{name}"))?)?) };
    let has = |path: &str| all.iter().any(|p| p == path);
    let dependencies = table("modules.dep")?;
    let dependencies = dependencies.lines().filter(|l| l.split_once(':').is_some_and(|(path, _)| has(path)));
    archive.file(
        &format!("{folder}/modules.dep"),
        0o644,
        dependencies.map(|l| format!("{}\n", plain(l))).collect::<String>(),
    );
    let underscored: BTreeSet<String> = all.iter().map(|p| module_name(p).replace('-', "_")).collect();
    let aliases = table("modules.alias")?;
    let aliases = aliases.lines().filter(|l| l.rsplit(' ').next().is_some_and(|n| underscored.contains(n)));
    archive.file(&format!("{folder}/modules.alias"), 0o644, aliases.map(|l| format!("{l}\n")).collect::<String>());
    for name in ["modules.builtin", "modules.symbols"] {
        archive.file(
            &format!("{folder}/{name}"),
            0o644,
            if name == "modules.builtin" { table(name)? } else { String::new() },
        );
    }
    Ok(())
}

/// A path or line of modules.dep with its modules not compressed.
fn plain(line: &str) -> String {
    line.replace(".ko.xz", ".ko")
}
