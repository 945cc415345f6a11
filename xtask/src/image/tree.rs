//! Reading from a Debian tree: paths inside it, with its own symbolic links resolved inside of it.

use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

/// A Debian installation in a folder.
pub struct Tree {
    root: PathBuf,
    release: String,
}

impl Tree {
    /// Opens the tree at `root`.
    ///
    /// # Errors
    /// Where it holds no kernel.
    pub fn open(root: &Path) -> Result<Self> {
        let modules = root.join("usr/lib/modules");
        let release = fs::read_dir(&modules)
            .with_context(|| format!("cannot list {}", modules.display()))?
            .filter_map(|e| e.ok()?.file_name().into_string().ok())
            .find(|name| root.join(format!("boot/vmlinuz-{name}")).exists())
            .with_context(|| format!("no kernel with modules in {}", root.display()))?;
        Ok(Self { root: root.to_path_buf(), release })
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The kernel's release, such as `6.12.41+deb13-amd64`.
    pub fn release(&self) -> &str {
        &self.release
    }

    /// The kernel.
    pub fn kernel(&self) -> PathBuf {
        self.root.join(format!("boot/vmlinuz-{}", self.release))
    }

    /// The initial RAM file system that Debian's scripts made.
    pub fn initrd(&self) -> PathBuf {
        self.root.join(format!("boot/initrd.img-{}", self.release))
    }

    /// Debian's Xen (gzip'd ELF).
    ///
    /// # Errors
    /// Where the package is not in the tree.
    pub fn xen(&self) -> Result<PathBuf> {
        let boot = self.root.join("boot");
        fs::read_dir(&boot)?
            .filter_map(|e| Some(e.ok()?.path()))
            .find(|p| {
                p.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with("xen-") && n.ends_with(".gz"))
            })
            .with_context(|| format!("no Xen in {}", boot.display()))
    }

    /// The host's path of `path` with every symbolic link resolved as if the tree were `/`.
    ///
    /// # Errors
    /// Where it does not exist or links go in a circle.
    pub fn resolve(&self, path: &str) -> Result<PathBuf> {
        let mut todo: Vec<String> = components(Path::new(path));
        let mut done = PathBuf::new();
        let mut links = 0;
        while let Some(name) = (!todo.is_empty()).then(|| todo.remove(0)) {
            if name == ".." {
                done.pop();
                continue;
            }
            let next = self.root.join(&done).join(&name);
            let Ok(target) = fs::read_link(&next) else {
                done.push(name);
                continue;
            };
            links += 1;
            if links > 40 {
                bail!("{path}: too many symbolic links");
            }
            if target.is_absolute() {
                done = PathBuf::new();
            }
            todo.splice(0..0, components(&target));
        }
        let full = self.root.join(&done);
        if !full.exists() {
            bail!("/{} does not exist in the Debian tree", done.display());
        }
        Ok(full)
    }

    /// The contents of `path`, links resolved.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn read(&self, path: &str) -> Result<Vec<u8>> {
        let full = self.resolve(path)?;
        fs::read(&full).with_context(|| format!("cannot read {}", full.display()))
    }

    /// Names of kernel modules (as in modules.dep, `kernel/.../NAME.ko.xz`) with what they need, in loading order.
    /// A name that the kernel has built in, or not at all, is left out.
    ///
    /// # Errors
    /// Where modules.dep cannot be read.
    pub fn modules(&self, names: &[&str]) -> Result<Vec<String>> {
        let text = self.read(&format!("usr/lib/modules/{}/modules.dep", self.release))?;
        Ok(loading_order(&String::from_utf8(text)?, names))
    }

    /// The uncompressed contents of a module, named as in modules.dep.
    ///
    /// # Errors
    /// Where it cannot be read or uncompressed.
    pub fn module(&self, path: &str) -> Result<Vec<u8>> {
        let data = self.read(&format!("usr/lib/modules/{}/{path}", self.release))?;
        if !path.ends_with(".xz") {
            return Ok(data);
        }
        let mut out = Vec::new();
        lzma_rust2::XzReader::new(data.as_slice(), false)
            .read_to_end(&mut out)
            .with_context(|| format!("cannot uncompress {path}"))?;
        Ok(out)
    }
}

fn components(path: &Path) -> Vec<String> {
    path.components()
        .filter_map(|c| match c {
            Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
            Component::ParentDir => Some("..".to_string()),
            _ => None,
        })
        .collect()
}

/// The module's name of a path: `kernel/fs/ext4/ext4.ko.xz` is `ext4`.
pub fn module_name(path: &str) -> &str {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file)
}

fn loading_order(modules_dep: &str, names: &[&str]) -> Vec<String> {
    let mut order = Vec::new();
    let mut seen = BTreeSet::new();
    for name in names {
        let same = |path: &str| module_name(path).replace('-', "_") == name.replace('-', "_");
        let Some((path, needs)) = modules_dep.lines().filter_map(|l| l.split_once(':')).find(|(path, _)| same(path))
        else {
            continue;
        };
        // modules.dep lists what to load last first.
        for module in needs.split_whitespace().rev().chain([path]) {
            if seen.insert(module.to_string()) {
                order.push(module.to_string());
            }
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_ordered_needs_first_and_once() {
        let dep =
            "kernel/a.ko.xz: kernel/b_x.ko.xz kernel/c.ko.xz\nkernel/b_x.ko.xz: kernel/c.ko.xz\nkernel/c.ko.xz:\n";
        assert_eq!(
            loading_order(dep, &["b-x", "a", "builtin"]),
            ["kernel/c.ko.xz", "kernel/b_x.ko.xz", "kernel/a.ko.xz"]
        );
    }

    #[test]
    fn links_stay_inside_the_tree() {
        let root = std::env::temp_dir().join(format!("xenolith-tree-{}", std::process::id()));
        fs::create_dir_all(root.join("usr/lib/modules/1")).unwrap();
        fs::create_dir_all(root.join("boot")).unwrap();
        fs::write(root.join("boot/vmlinuz-1"), "k").unwrap();
        let link = |target: &str, path: &str| std::os::unix::fs::symlink(target, root.join(path)).unwrap();
        link("/boot", "usr/abs");
        link("../../../../boot", "usr/rel");
        link("loop", "loop");
        let tree = Tree::open(&root).unwrap();
        assert_eq!(tree.read("/usr/abs/vmlinuz-1").unwrap(), b"k");
        assert_eq!(tree.read("usr/rel/vmlinuz-1").unwrap(), b"k");
        assert!(tree.resolve("/loop").is_err());
        assert!(tree.resolve("/usr/missing").is_err());
        fs::remove_dir_all(&root).unwrap();
    }
}
