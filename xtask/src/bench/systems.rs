//! Whole systems: Debian's kernel as dom0, as a guest, and with no hypervisor, and what the same programs cost in each.

use super::measure::{self, Bench, Measured};
use crate::cli::Hypervisor;
use crate::{guests, host, image};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;

/// How long a boot with all its guests may take, in seconds.
const TIME_LIMIT: u64 = 900;
/// Memory of the machine without a hypervisor, in MiB: dom0's.
const MEMORY: u32 = 1024;
/// What stands before the names of figures, but for those without a hypervisor.
const START: &str = "system-";
/// And before those.
const BARE: &str = "system/";

/// The name that the figure `name` has without a hypervisor: of `system-pv/work.compile`, `system/work.compile`.
pub fn bare(name: &str) -> Option<String> {
    let (_, rest) = name.strip_prefix(START)?.split_once('/')?;
    Some(format!("{BARE}{rest}"))
}

/// Boots and measures.
///
/// # Errors
/// Where the machine does not start, or a guest does not end.
pub fn measure(hypervisor: Hypervisor, quick: bool) -> Result<Measured> {
    let mut bench = Bench::with_files(hypervisor, quick, stage)?;
    let systems: &[&str] = if hypervisor == Hypervisor::None {
        bench.options.mem = MEMORY;
        &["none"]
    } else {
        &["dom0", "pv", "pvh"]
    };
    let costs = measure::costs(&bench.run_script("systems.sh", systems, TIME_LIMIT)?);
    ensure!(!costs.is_empty(), "nothing was measured; see {}", bench.log().display());
    let log = String::from_utf8_lossy(&fs::read(bench.log())?).into_owned();
    let version = if hypervisor == Hypervisor::None { kernel(&log) } else { measure::version(&log) };
    Ok(Measured { version, costs })
}

/// Puts what the script needs into `folder`.
fn stage(folder: &Path) -> Result<()> {
    let scripts = host::workspace().join("tests/bench/system");
    fs::create_dir_all(folder)?;
    for entry in fs::read_dir(&scripts).with_context(|| format!("cannot list {}", scripts.display()))? {
        let entry = entry?;
        fs::copy(entry.path(), folder.join(entry.file_name()))?;
    }
    fs::copy(guests::exercise()?, folder.join("exercise"))?;
    if let Some(compiler) = image::compiler()? {
        fs::copy(compiler, folder.join("compiler.cpio"))?;
    }
    Ok(())
}

/// The kernel's name in its log.
fn kernel(log: &str) -> String {
    let release = log.split_once("Linux version ").and_then(|(_, rest)| rest.split_whitespace().next());
    release.map_or_else(|| "unknown".to_string(), |release| format!("none: Linux {release}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_systems_have_one_without_a_hypervisor() {
        assert_eq!(bare("system-dom0/kernel.system-call").as_deref(), Some("system/kernel.system-call"));
        assert_eq!(bare("system/kernel.system-call"), None);
        assert_eq!(bare("pv/timer.set"), None);
    }

    #[test]
    fn the_kernel_is_named() {
        let log = "SeaBIOS\n[    0.000000] Linux version 6.12.41+deb13-amd64 (someone@example.org) (gcc 14)\n";
        assert_eq!(kernel(log), "none: Linux 6.12.41+deb13-amd64");
        assert_eq!(kernel(""), "unknown");
    }
}
