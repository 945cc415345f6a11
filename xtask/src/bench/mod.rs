//! `./x bench`: what operations cost in instructions, on Xenolith, on Debian's Xen and, of whole systems, on neither.
//!
//! Under QEMU's icount a guest's time-stamp counter counts one per instruction, so that a figure is the same in every run.

mod measure;
mod plot;
mod report;
mod scale;
mod systems;

pub use measure::{Measured, Wanted, measure};
pub use report::{Report, grown};

use crate::cli::{Against, BenchOptions, Hypervisor};
use crate::host;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs;
use std::process::ExitCode;

/// Carries out `./x bench`.
///
/// # Errors
/// Where a machine does not start or a guest does not end, or a file cannot be read or written.
pub fn bench(options: &BenchOptions) -> Result<ExitCode> {
    if let Some(name) = &options.profile {
        let hypervisor = if options.hypervisor == Against::Xen { Hypervisor::Xen } else { Hypervisor::Xenolith };
        print!("{}", measure::profile(hypervisor, name, options.quick)?);
        return Ok(ExitCode::SUCCESS);
    }
    let before = options.against.as_deref().map(Report::read).transpose()?;
    let hypervisors: &[Hypervisor] = match options.hypervisor {
        Against::Xenolith => &[Hypervisor::Xenolith],
        Against::Xen => &[Hypervisor::Xen],
        Against::Both => &[Hypervisor::Xenolith, Hypervisor::Xen],
    };
    let wanted =
        Wanted { kinds: options.kind.clone(), whole: !options.short, scale: options.scale, quick: options.quick };
    let mut measured = BTreeMap::new();
    let mut is_whole = true;
    // What was measured before is shown whatever comes of whole systems.
    let mut add_systems = |hypervisor: Hypervisor, to: &mut Measured| match systems::measure(hypervisor, options.quick)
    {
        Ok(Measured { version, costs }) => {
            to.version = version;
            to.costs.extend(costs);
        }
        Err(error) => {
            eprintln!("x: whole systems on {hypervisor:?} are left out: {error:#}");
            is_whole = false;
        }
    };
    for hypervisor in hypervisors {
        let mut one = if options.systems { Measured::default() } else { measure(*hypervisor, &wanted)? };
        if !options.short {
            add_systems(*hypervisor, &mut one);
        }
        measured.insert(name(*hypervisor).to_string(), one);
    }
    if !options.short {
        let mut bare = Measured::default();
        add_systems(Hypervisor::None, &mut bare);
        measured.insert(name(Hypervisor::None).to_string(), bare);
    }
    let report = Report { measured, ..Report::of_today()? };
    let folder = options.out.clone().unwrap_or_else(|| host::target().join("bench"));
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let markdown = report.markdown();
    fs::write(folder.join("bench.json"), report.json())?;
    fs::write(folder.join("bench.md"), &markdown)?;
    for (group, picture) in plot::plots(&report) {
        fs::write(folder.join(format!("{}.svg", group.replace('/', "-"))), picture)?;
    }
    print!("{markdown}");
    eprintln!("JSON, Markdown and plots are in {}", folder.display());
    let worse = before.map_or_else(Vec::new, |before| grown(&before, &report));
    for line in &worse {
        println!("{line}");
    }
    Ok(ExitCode::from(u8::from(!worse.is_empty() || !is_whole)))
}

/// A hypervisor's name in reports.
pub fn name(hypervisor: Hypervisor) -> &'static str {
    match hypervisor {
        Hypervisor::Xenolith => "xenolith",
        Hypervisor::Xen => "xen",
        Hypervisor::None => "none",
    }
}
