//! The Debian 13 tree that everything else is taken from, made by debootstrap.

use super::key;
use crate::host;
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;
use std::process::Command;

/// The release of Debian whose kernel and toolstack are kept compatible with.
pub const SUITE: &str = "trixie";

/// What is in the tree beside Debian's essential packages.
const PACKAGES: &[&str] = &[
    "linux-image-amd64",
    "xen-hypervisor-4.20-amd64",
    "xen-utils-4.20",
    "xen-utils-common",
    "xenstore-utils",
    "systemd-sysv",
    "udev",
    "dbus",
    "kmod",
    "libxen-dev",
    "iproute2",
    "iputils-ping",
    "bridge-utils",
    "busybox-static",
    "ca-certificates",
    "e2fsprogs",
    "grub-common",
    "grub-efi-amd64-bin",
    "grub-pc-bin",
    "grub-xen-host",
    "less",
    "lvm2",
    "nano",
    "ovmf",
    "procps",
    "qemu-system-xen",
    "seabios",
    "zstd",
];

/// The key of the tree: its suite and packages. Which versions a mirror has is left to the mirror.
pub fn recipe_key() -> String {
    key(&["1", SUITE, &PACKAGES.join(",")])
}

/// Makes the tree at `root` unless it is there.
///
/// # Errors
/// Where debootstrap fails.
pub fn ensure(root: &Path, folder: &Path) -> Result<()> {
    if root.exists() {
        return Ok(());
    }
    let mirror = mirror()?;
    let partial = folder.join("root-partial");
    remove(&partial)?;
    let mut command = host::as_root("debootstrap");
    command.arg("--variant=minbase").arg(format!("--include={}", PACKAGES.join(",")));
    command.arg(SUITE).arg(&partial).arg(&mirror);
    let label = format!("Debian 13 packages for dom0, from {mirror} (once; about two minutes)");
    host::run_with_progress(command, &label, &folder.join("debootstrap.log"))?;
    let status = host::as_root("sh")
        .arg("-c")
        .arg("rm -f \"$0\"/var/cache/apt/archives/*.deb && mv -T \"$0\" \"$1\"")
        .arg(&partial)
        .arg(root)
        .status()?;
    anyhow::ensure!(status.success(), "cannot move {} to {}", partial.display(), root.display());
    Ok(())
}

fn remove(path: &Path) -> Result<()> {
    if path.exists() {
        let status = host::as_root("rm").args(["-rf", "--one-file-system", "--"]).arg(path).status()?;
        anyhow::ensure!(status.success(), "cannot remove {}", path.display());
    }
    Ok(())
}

/// The mirror that this machine's own apt uses for Debian itself.
///
/// # Errors
/// Where its sources name none.
pub fn mirror() -> Result<String> {
    let output = Command::new("apt-get")
        .args(["indextargets", "--format", "$(COMPONENT) $(REPO_URI)", "Created-By: Packages"])
        .output()
        .context("cannot run apt-get")?;
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    pick_mirror(&listed)
        .or_else(|| pick_mirror(&sources_files()))
        .context("no Debian mirror in this machine's apt sources (a line with `deb URI SUITE main`)")
}

/// The apt sources as lines `main URI`, for machines whose lists were never fetched.
fn sources_files() -> String {
    let folder = fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().filter_map(|e| Some(e.ok()?.path()));
    let mut out = String::new();
    for path in folder.chain(["/etc/apt/sources.list".into()]) {
        for line in fs::read_to_string(path).unwrap_or_default().lines() {
            let mut words = line.split_whitespace();
            if let (Some("deb" | "URIs:"), Some(uri)) = (words.next(), words.find(|w| w.contains("://"))) {
                out.push_str(&format!("main {uri}\n"));
            }
        }
    }
    out
}

/// Of lines `COMPONENT URI`, the first archive whose path is Debian's own (not security updates, not another vendor's).
fn pick_mirror(lines: &str) -> Option<String> {
    lines
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(component, _)| *component == "main")
        .map(|(_, uri)| uri.trim_end_matches('/'))
        .find(|uri| uri.ends_with("/debian"))
        .map(str::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirror_is_debians_main_archive() {
        let lines = "main https://other.example/node_20.x/\nmain http://m.example/debian-security/\nmain http://m.example/debian/\n";
        assert_eq!(pick_mirror(lines).as_deref(), Some("http://m.example/debian"));
        assert_eq!(pick_mirror("main http://m.example/ubuntu/\n"), None);
    }
}
