//! A writer of "newc" cpio archives, the format that Linux unpacks as its initial RAM file system
//! (Linux, Documentation/driver-api/early-userspace/buffer-format.rst).
//!
//! Written here rather than by cpio(1), so that device nodes need no root and the result is the same on each run.

use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// What one path of the archive is.
enum Node {
    Directory { mode: u32 },
    File { mode: u32, data: Vec<u8> },
    Symlink { target: String },
    CharDevice { mode: u32, major: u32, minor: u32 },
}

/// An archive under construction: a tree of paths without leading slash.
#[derive(Default)]
pub struct Archive {
    nodes: BTreeMap<String, Node>,
}

impl Archive {
    /// An empty archive.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether `path` is in the archive already.
    pub fn contains(&self, path: &str) -> bool {
        self.nodes.contains_key(path.trim_start_matches('/'))
    }

    /// The contents of every file so far.
    pub fn files(&self) -> impl Iterator<Item = &[u8]> {
        self.nodes.values().filter_map(|node| match node {
            Node::File { data, .. } => Some(data.as_slice()),
            _ => None,
        })
    }

    fn insert(&mut self, path: &str, node: Node) {
        let path = path.trim_matches('/').to_string();
        for (slash, _) in path.match_indices('/') {
            self.nodes.entry(path[..slash].to_string()).or_insert(Node::Directory { mode: 0o755 });
        }
        self.nodes.insert(path, node);
    }

    /// Adds a directory (and its parents).
    pub fn directory(&mut self, path: &str) {
        self.insert(path, Node::Directory { mode: 0o755 });
    }

    /// Adds a file with its contents.
    pub fn file(&mut self, path: &str, mode: u32, data: impl Into<Vec<u8>>) {
        self.insert(path, Node::File { mode, data: data.into() });
    }

    /// Adds a symbolic link.
    pub fn symlink(&mut self, path: &str, target: &str) {
        self.insert(path, Node::Symlink { target: target.to_string() });
    }

    /// Adds a character device node.
    pub fn char_device(&mut self, path: &str, mode: u32, major: u32, minor: u32) {
        self.insert(path, Node::CharDevice { mode, major, minor });
    }

    /// Adds a folder of the host with everything below it, at `path`.
    ///
    /// # Errors
    /// Where something cannot be read, or is neither file, folder nor link.
    pub fn tree(&mut self, path: &str, source: &Path) -> Result<()> {
        self.directory(path);
        let mut entries: Vec<_> = fs::read_dir(source)
            .with_context(|| format!("cannot list {}", source.display()))?
            .collect::<io::Result<_>>()?;
        entries.sort_by_key(|e| e.file_name());
        for entry in entries {
            let name = entry.file_name();
            let name = name.to_str().with_context(|| format!("{}: name is not UTF-8", entry.path().display()))?;
            let inner = format!("{path}/{name}");
            let kind = entry.file_type()?;
            if kind.is_dir() {
                self.tree(&inner, &entry.path())?;
            } else if kind.is_symlink() {
                let target = fs::read_link(entry.path())?;
                self.symlink(&inner, target.to_str().context("link target is not UTF-8")?);
            } else if kind.is_file() {
                let mode = entry.metadata()?.permissions().mode() & 0o7777;
                let data = fs::read(entry.path()).with_context(|| format!("cannot read {}", entry.path().display()))?;
                self.file(&inner, mode, data);
            } else {
                bail!("{}: neither file, folder nor link", entry.path().display());
            }
        }
        Ok(())
    }

    /// Writes the archive, padded to a multiple of 512 bytes.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut written = 0;
        for (inode, (path, node)) in self.nodes.iter().enumerate() {
            let (mode, data, device): (u32, &[u8], (u32, u32)) = match node {
                Node::Directory { mode } => (0o040_000 | mode, &[], (0, 0)),
                Node::File { mode, data } => (0o100_000 | mode, data, (0, 0)),
                Node::Symlink { target } => (0o120_777, target.as_bytes(), (0, 0)),
                Node::CharDevice { mode, major, minor } => (0o020_000 | mode, &[], (*major, *minor)),
            };
            written += entry(out, inode + 1, path, mode, data, device)?;
        }
        written += entry(out, 0, "TRAILER!!!", 0, &[], (0, 0))?;
        pad(out, written, 512)?;
        Ok(())
    }
}

/// Writes one archive member; returns its size with padding.
fn entry(
    out: &mut dyn Write,
    inode: usize,
    path: &str,
    mode: u32,
    data: &[u8],
    (major, minor): (u32, u32),
) -> io::Result<usize> {
    let links = 1;
    let header = format!(
        "070701{inode:08X}{mode:08X}{uid:08X}{gid:08X}{links:08X}{mtime:08X}{size:08X}{dev:08X}{dev:08X}{major:08X}{minor:08X}{name:08X}{check:08X}",
        uid = 0,
        gid = 0,
        mtime = 0,
        size = data.len(),
        dev = 0,
        name = path.len() + 1,
        check = 0
    );
    out.write_all(header.as_bytes())?;
    out.write_all(path.as_bytes())?;
    out.write_all(&[0])?;
    let mut written = header.len() + path.len() + 1;
    written += pad(out, written, 4)?;
    out.write_all(data)?;
    written += data.len();
    written += pad(out, written, 4)?;
    Ok(written)
}

/// Fills up with zeroes from `position` to a multiple of `align`; returns how many.
fn pad(out: &mut dyn Write, position: usize, align: usize) -> io::Result<usize> {
    let missing = position.next_multiple_of(align) - position;
    out.write_all(&vec![0; missing])?;
    Ok(missing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn parents_come_first_and_size_is_aligned() {
        let mut archive = Archive::new();
        archive.file("a/b/c", 0o644, "xyz");
        let mut out = Vec::new();
        archive.write(&mut out).unwrap();
        assert_eq!(out.len() % 512, 0);
        let text = String::from_utf8_lossy(&out);
        let at = |needle: &str| text.find(needle).unwrap();
        assert!(at("a\0") < at("a/b\0") && at("a/b\0") < at("a/b/c\0"));
    }

    #[test]
    fn cpio_reads_it_back() {
        let mut archive = Archive::new();
        archive.file("etc/file", 0o640, "12345");
        archive.symlink("etc/link", "file");
        archive.char_device("dev/console", 0o600, 5, 1);
        let mut bytes = Vec::new();
        archive.write(&mut bytes).unwrap();
        let mut child = Command::new("cpio")
            .args(["-itv", "--quiet", "--numeric-uid-gid"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&bytes).unwrap();
        let listing = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        assert!(listing.contains("-rw-r-----") && listing.contains("etc/link -> file"), "{listing}");
        assert!(listing.lines().any(|l| l.starts_with("crw-------") && l.contains("5,   1")), "{listing}");
    }
}
