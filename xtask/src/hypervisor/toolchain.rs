//! Finding a Rust toolchain that can build for a machine without an operating system.

use super::TARGET;
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A toolchain for the hypervisor.
#[derive(Debug, PartialEq, Eq)]
pub struct Toolchain {
    /// Its cargo.
    pub cargo: PathBuf,
    /// Its compiler.
    pub rustc: PathBuf,
    /// Whether `core` has to be built, because there is only its source.
    pub builds_core: bool,
}

/// What a compiler on this machine comes with.
struct Candidate {
    cargo: PathBuf,
    rustc: PathBuf,
    prebuilt: bool,
    source: bool,
}

impl Toolchain {
    /// Its clippy, whether it is there or not.
    pub fn clippy(&self) -> PathBuf {
        self.cargo.with_file_name("cargo-clippy")
    }
}

/// Finds one that comes with clippy.
pub fn find_with_clippy() -> Option<Toolchain> {
    let has_clippy = |candidate: &Candidate| candidate.cargo.with_file_name("clippy-driver").is_file();
    choose(candidates().into_iter().filter(has_clippy).collect()).ok()
}

/// Finds one: first any with `core` prebuilt for the target, then any with its source.
///
/// # Errors
/// Where there is none, with what to install.
pub fn find() -> Result<Toolchain> {
    choose(candidates())
}

fn choose(candidates: Vec<Candidate>) -> Result<Toolchain> {
    let ready = candidates.iter().find(|candidate| candidate.prebuilt);
    let Some(found) = ready.or_else(|| candidates.iter().find(|candidate| candidate.source)) else {
        bail!(
            "no Rust toolchain here can build for {TARGET}: with rustup, run `rustup target add {TARGET}`; on Debian 13, \
             install rust-src; on Debian 12, cargo-web, rustc-web and rust-web-src"
        );
    };
    Ok(Toolchain { cargo: found.cargo.clone(), rustc: found.rustc.clone(), builds_core: !found.prebuilt })
}

fn candidates() -> Vec<Candidate> {
    let mut folders: Vec<PathBuf> = Vec::new();
    if let Some(cargo) = std::env::var_os("CARGO") {
        folders.extend(Path::new(&cargo).parent().map(Path::to_path_buf));
    }
    folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    folders.push(PathBuf::from("/usr/bin"));
    let mut found = Vec::new();
    let mut seen = Vec::new();
    for folder in folders {
        if seen.contains(&folder) {
            continue;
        }
        found.extend(examine(&folder));
        seen.push(folder);
    }
    found
}

fn examine(folder: &Path) -> Option<Candidate> {
    let (cargo, rustc) = (folder.join("cargo"), folder.join("rustc"));
    if !cargo.is_file() || !rustc.is_file() {
        return None;
    }
    let libraries = ask(&rustc, &["--target", TARGET, "--print", "target-libdir"])?;
    let sysroot = ask(&rustc, &["--print", "sysroot"])?;
    let has_core = |name: std::ffi::OsString| name.to_string_lossy().starts_with("libcore-");
    let prebuilt =
        std::fs::read_dir(libraries).is_ok_and(|mut all| all.any(|e| e.is_ok_and(|e| has_core(e.file_name()))));
    let source = sysroot.join("lib/rustlib/src/rust/library/core/Cargo.toml").is_file();
    Some(Candidate { cargo, rustc, prebuilt, source })
}

/// A path that the compiler prints.
fn ask(rustc: &Path, arguments: &[&str]) -> Option<PathBuf> {
    let output = Command::new(rustc).args(arguments).env_remove("LD_LIBRARY_PATH").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| PathBuf::from(text.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(name: &str, prebuilt: bool, source: bool) -> Candidate {
        Candidate { cargo: format!("{name}/cargo").into(), rustc: format!("{name}/rustc").into(), prebuilt, source }
    }

    #[test]
    fn prebuilt_is_preferred() {
        let all = vec![candidate("a", false, false), candidate("b", false, true), candidate("c", true, false)];
        let chosen = choose(all).unwrap();
        assert_eq!((chosen.rustc, chosen.builds_core), (PathBuf::from("c/rustc"), false));
    }

    #[test]
    fn source_is_next() {
        let chosen = choose(vec![candidate("a", false, false), candidate("b", false, true)]).unwrap();
        assert_eq!((chosen.cargo, chosen.builds_core), (PathBuf::from("b/cargo"), true));
    }

    #[test]
    fn none_says_what_to_install() {
        let error = choose(vec![candidate("a", false, false)]).unwrap_err().to_string();
        assert!(error.contains("rustup target add"), "{error}");
    }
}
