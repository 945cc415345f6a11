//! The workspace's crates, from `cargo metadata`.

use crate::host;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Which folder, and so which layer, a crate is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Layer {
    /// Bytes on the wire.
    Abi,
    /// What a hypervisor decides.
    Core,
    /// What a guest sees as hardware.
    Vdev,
    /// The unsafe code.
    Hal,
    /// Glue.
    Arch,
    /// The binary.
    Binary,
    /// Test kernels.
    Guests,
    /// Tools on the host, and what tests run inside of Linux.
    Tools,
}

/// One crate.
pub struct Crate {
    /// Its package name.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// Its layer.
    pub layer: Layer,
    /// Names of the workspace's crates that it depends on, tests aside.
    pub dependencies: Vec<String>,
    /// Root source files of its targets.
    pub roots: Vec<PathBuf>,
    /// Whether `cargo test` can run its tests on the host.
    pub host_tests: bool,
}

/// The cargo that runs this program, else the one on the path.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(host::workspace());
    command
}

/// All crates of the workspace.
///
/// # Errors
/// Where cargo fails or a crate is outside of the known folders.
pub fn crates() -> Result<Vec<Crate>> {
    let output =
        cargo().args(["metadata", "--no-deps", "--format-version", "1"]).output().context("cannot run cargo")?;
    ensure!(output.status.success(), "cargo metadata failed:\n{}", String::from_utf8_lossy(&output.stderr));
    parse(&String::from_utf8(output.stdout)?)
}

fn parse(metadata: &str) -> Result<Vec<Crate>> {
    let metadata: Value = serde_json::from_str(metadata)?;
    let root = PathBuf::from(metadata["workspace_root"].as_str().context("no workspace_root")?);
    metadata["packages"].as_array().context("no packages")?.iter().map(|package| one(package, &root)).collect()
}

fn one(package: &Value, root: &Path) -> Result<Crate> {
    let name = package["name"].as_str().context("package without name")?.to_string();
    let manifest = Path::new(package["manifest_path"].as_str().context("package without manifest")?);
    let folder = manifest.parent().context("manifest without folder")?.to_path_buf();
    let layer = layer(folder.strip_prefix(root)?).with_context(|| format!("{name} is in no layer's folder"))?;
    let dependencies = package["dependencies"].as_array().into_iter().flatten();
    let dependencies = dependencies
        .filter(|d| d["path"].is_string() && d["kind"].as_str() != Some("dev"))
        .filter_map(|d| Some(d["name"].as_str()?.to_string()))
        .collect();
    let targets = package["targets"].as_array().into_iter().flatten();
    let roots = targets
        .filter(|t| t["kind"].as_array().is_some_and(|k| k.iter().any(|k| k == "lib" || k == "bin")))
        .filter_map(|t| Some(PathBuf::from(t["src_path"].as_str()?)))
        .collect();
    let declared = package["metadata"]["xenolith"]["host-tests"].as_bool();
    let by_layer = matches!(layer, Layer::Abi | Layer::Core | Layer::Vdev | Layer::Tools);
    Ok(Crate { name, folder, layer, dependencies, roots, host_tests: declared.unwrap_or(by_layer) })
}

fn layer(folder: &Path) -> Option<Layer> {
    Some(match folder.iter().next()?.to_str()? {
        "abi" => Layer::Abi,
        "core" => Layer::Core,
        "vdev" => Layer::Vdev,
        "hal" => Layer::Hal,
        "arch" => Layer::Arch,
        "xenolith" => Layer::Binary,
        "guests" => Layer::Guests,
        "xtask" | "tests" => Layer::Tools,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_read() {
        let text = r#"{"workspace_root": "/w", "packages": [{"name": "memory", "manifest_path": "/w/core/memory/Cargo.toml",
            "metadata": null, "targets": [{"kind": ["lib"], "src_path": "/w/core/memory/src/lib.rs"}],
            "dependencies": [{"name": "types", "path": "/w/core/types", "kind": null}, {"name": "log", "kind": null},
                             {"name": "hal", "path": "/w/hal/hal", "kind": "dev"}]}]}"#;
        let crates = parse(text).unwrap();
        assert_eq!(crates[0].layer, Layer::Core);
        assert_eq!(crates[0].dependencies, ["types"]);
        assert!(crates[0].host_tests);
    }

    #[test]
    fn crate_outside_of_the_layers_is_an_error() {
        let text = r#"{"workspace_root": "/w", "packages": [{"name": "x", "manifest_path": "/w/misc/Cargo.toml"}]}"#;
        assert!(parse(text).is_err());
    }
}
