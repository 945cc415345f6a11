//! The layer table: which crate may depend on which.
//!
//! xenolith -> arch -> {vdev, core, hal} -> platform -> types -> abi

use crate::workspace::{Crate, Layer};

/// Crates of core/ that are the seam everyone stands on, lowest first.
const SEAM: &[&str] = &["types", "platform"];
/// Crates of core/ that compose its subsystems, lowest first; the others do not know each other.
const COMPOSERS: &[&str] = &["domain", "hypercall", "compat"];
/// Crates of vdev/ that virtual devices stand on, and those that join devices, lowest first; the others do not know each other.
const VDEV_BASE: &[&str] = &["vtimer"];
const BOARDS: &[&str] = &["virq", "chipset"];

/// What test kernels share.
const GUEST_KERNEL: &str = "guest-kernel";

/// Every dependency that the table forbids.
pub fn problems(crates: &[Crate]) -> Vec<String> {
    let mut problems = Vec::new();
    for from in crates {
        for name in &from.dependencies {
            match crates.iter().find(|c| c.name == *name) {
                Some(to) if !allowed(from, to) => {
                    let (a, b) = (from.layer, to.layer);
                    problems.push(format!("{} ({a:?}) must not depend on {name} ({b:?})", from.name));
                }
                _ => {}
            }
        }
    }
    problems
}

/// Height in its folder: a crate may depend on lower ones. Those that are in neither list share one height.
fn height(which: &Crate) -> usize {
    let (lowest, highest) = if which.layer == Layer::Core { (SEAM, COMPOSERS) } else { (VDEV_BASE, BOARDS) };
    let position = |list: &[&str]| list.iter().position(|name| *name == which.name);
    match (position(lowest), position(highest)) {
        (Some(at), _) => at,
        (None, None) => lowest.len(),
        (None, Some(at)) => lowest.len() + 1 + at,
    }
}

fn allowed(from: &Crate, to: &Crate) -> bool {
    let below = to.layer == from.layer && height(to) < height(from);
    let to_seam = to.layer == Layer::Core && SEAM.contains(&to.name.as_str());
    match from.layer {
        Layer::Abi => to.layer == Layer::Abi,
        Layer::Guests => to.layer == Layer::Abi || to.name == GUEST_KERNEL,
        Layer::Core => to.layer == Layer::Abi || below,
        Layer::Vdev => to.layer == Layer::Abi || to_seam || below,
        Layer::Hal => matches!(to.layer, Layer::Abi | Layer::Hal) || to_seam,
        Layer::Arch => !matches!(to.layer, Layer::Binary | Layer::Guests | Layer::Tools),
        Layer::Binary => !matches!(to.layer, Layer::Guests | Layer::Tools),
        Layer::Tools => matches!(to.layer, Layer::Abi | Layer::Core | Layer::Tools),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, layer: Layer, dependencies: &[&str]) -> Crate {
        Crate {
            name: name.to_string(),
            folder: Default::default(),
            layer,
            dependencies: dependencies.iter().map(|d| d.to_string()).collect(),
            roots: Vec::new(),
            host_tests: true,
        }
    }

    #[test]
    fn table_holds() {
        let crates = [
            one("xen-abi", Layer::Abi, &[]),
            one("types", Layer::Core, &["xen-abi"]),
            one("platform", Layer::Core, &["types"]),
            one("memory", Layer::Core, &["platform", "types"]),
            one("evtchn", Layer::Core, &["platform"]),
            one("domain", Layer::Core, &["memory", "evtchn"]),
            one("hypercall", Layer::Core, &["domain", "memory"]),
            one("vtimer", Layer::Vdev, &["xen-abi"]),
            one("vpit", Layer::Vdev, &["vtimer", "types"]),
            one("virq", Layer::Vdev, &["vpit"]),
            one("chipset", Layer::Vdev, &["virq", "vpit", "vtimer"]),
            one("hal", Layer::Hal, &["platform", "xen-abi"]),
            one("x86", Layer::Arch, &["hal", "hypercall"]),
            one("xenolith", Layer::Binary, &["x86"]),
            one("guest-kernel", Layer::Guests, &["xen-abi"]),
            one("pv-guest", Layer::Guests, &["guest-kernel", "xen-abi"]),
        ];
        assert_eq!(problems(&crates), [""; 0]);
        let bad = [
            ("types", Layer::Core, "platform"),
            ("memory", Layer::Core, "evtchn"),
            ("memory", Layer::Core, "domain"),
            ("domain", Layer::Core, "hypercall"),
            ("memory", Layer::Core, "hal"),
            ("hal", Layer::Hal, "memory"),
            ("hal", Layer::Hal, "x86"),
            ("vlapic", Layer::Vdev, "memory"),
            ("vlapic", Layer::Vdev, "vpit"),
            ("vtimer", Layer::Vdev, "vpit"),
            ("vlapic", Layer::Vdev, "virq"),
            ("virq", Layer::Vdev, "chipset"),
            ("xen-abi", Layer::Abi, "types"),
            ("guest-kernel", Layer::Guests, "pv-guest"),
            ("pv-guest", Layer::Guests, "types"),
        ];
        for (name, layer, on) in bad {
            let mut all = vec![one(name, layer, &[on])];
            all.extend(crates.iter().filter(|c| c.name != name).map(|c| one(&c.name, c.layer, &[])));
            assert_eq!(problems(&all).len(), 1, "{name} on {on}");
        }
    }
}
