//! Packages of other releases and architectures of Debian, by an apt of their own, so that this machine's stays as it is.

use super::debian;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// An apt for one release and architecture, with a folder for what it leaves behind, which is gone with it.
pub struct Apt {
    scratch: PathBuf,
}

impl Apt {
    /// Fetches the lists of `suite` for `architecture`, signed by a key of `keyring`.
    ///
    /// # Errors
    /// Where the mirror does not give them.
    pub fn new(keyring: &Path, cache: &Path, suite: &str, architecture: &str) -> Result<Self> {
        let scratch = cache.join("other-apt");
        fs::remove_dir_all(&scratch).ok();
        for part in ["state/lists/partial", "cache/archives/partial", "etc/apt.conf.d", "etc/preferences.d"] {
            fs::create_dir_all(scratch.join(part))?;
        }
        let apt = Self { scratch };
        let source = format!("deb [signed-by={}] {} {suite} main\n", keyring.display(), debian::mirror()?);
        fs::write(apt.scratch.join("etc/sources.list"), source)?;
        fs::write(apt.scratch.join("apt.conf"), configuration(&apt.scratch, architecture))?;
        apt.run(Command::new("apt-get").arg("update"))?;
        Ok(apt)
    }

    /// The package that `package` needs whose name begins with `start`: of a kernel's name, the one with that kernel.
    ///
    /// # Errors
    /// Where there is none.
    pub fn needed(&self, package: &str, start: &str) -> Result<String> {
        let listed = self.run(Command::new("apt-cache").args(["depends", "--important"]).arg(package))?;
        find_needed(&listed, start).with_context(|| format!("{package} needs no {start}..."))
    }

    /// Downloads a package and unpacks it into `folder`.
    ///
    /// # Errors
    /// Where the mirror does not give it, or it is damaged.
    pub fn unpack(&self, package: &str, folder: &Path) -> Result<()> {
        eprintln!("fetching {package}");
        fs::create_dir_all(folder)?;
        self.run(Command::new("apt-get").arg("download").arg(package))?;
        let start = format!("{package}_");
        for entry in fs::read_dir(&self.scratch)? {
            let path = entry?.path();
            if path.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with(&start)) {
                self.run(Command::new("dpkg-deb").arg("--extract").arg(&path).arg(folder))?;
            }
        }
        Ok(())
    }

    /// The contents of some files of a package.
    ///
    /// # Errors
    /// As `unpack`, or where it has no such file.
    pub fn files(&self, package: &str, paths: &[&str]) -> Result<Vec<Vec<u8>>> {
        let folder = self.scratch.join("unpacked").join(package);
        self.unpack(package, &folder)?;
        let read = |path: &&str| fs::read(folder.join(path)).with_context(|| format!("{package} has no {path}"));
        paths.iter().map(read).collect()
    }

    /// Runs a program; gives what it writes.
    fn run(&self, command: &mut Command) -> Result<String> {
        let name = command.get_program().to_string_lossy().into_owned();
        let output = command
            .env("APT_CONFIG", self.scratch.join("apt.conf"))
            .current_dir(&self.scratch)
            .output()
            .with_context(|| format!("cannot run {name}"))?;
        ensure!(output.status.success(), "{name} failed: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Apt {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.scratch).ok();
    }
}

/// An apt that reads and writes in `scratch` only.
fn configuration(scratch: &Path, architecture: &str) -> String {
    let place = scratch.display();
    format!(
        "Dir::State \"{place}/state\";\nDir::State::status \"/dev/null\";\nDir::Cache \"{place}/cache\";\n\
         Dir::Etc \"{place}/etc\";\nAPT::Architecture \"{architecture}\";\nAPT::Architectures {{ \"{architecture}\"; }};\n\
         APT::Sandbox::User \"root\";\nAcquire::Languages \"none\";\nAcquire::Retries \"2\";\n\
         Acquire::http::Timeout \"20\";\n"
    )
}

/// Of what `apt-cache depends` lists, the first package that begins with `start`.
fn find_needed(listed: &str, start: &str) -> Option<String> {
    let names = listed.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    names.map(str::trim).find(|name| name.starts_with(start)).map(str::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_is_found_among_what_its_name_needs() {
        let listed = "linux-image-686\n  Depends: kmod\n  Depends: linux-image-6.1.0-50-686\n";
        assert_eq!(find_needed(listed, "linux-image-").as_deref(), Some("linux-image-6.1.0-50-686"));
        assert_eq!(find_needed("linux-image-686\n", "linux-image-"), None);
    }
}
