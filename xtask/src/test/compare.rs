//! Comparisons: each script in tests/compare/ has to print the same on Xenolith as on Debian's Xen.

use super::{Outcome, Selection, Tally, system};
use crate::cli::{Hypervisor, MachineOptions};
use crate::script::Verdict;
use crate::{host, run};
use anyhow::{Context, Result, bail};
use clap::Parser;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const TIME_LIMIT: u64 = 480;
/// Differing lines that a report shows.
const SHOWN: usize = 20;

fn scripts() -> Result<Vec<PathBuf>> {
    let folder = host::workspace().join("tests/compare");
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut paths: Vec<PathBuf> =
        entries.filter_map(|e| Some(e.ok()?.path())).filter(|p| p.extension().is_some_and(|e| e == "sh")).collect();
    paths.sort();
    Ok(paths)
}

fn name(path: &std::path::Path) -> String {
    format!("compare/{}", path.file_stem().unwrap_or_default().to_string_lossy())
}

/// Names of the tests.
///
/// # Errors
/// Where the folder cannot be read.
pub fn names() -> Result<Vec<String>> {
    Ok(scripts()?.iter().map(|p| name(p)).collect())
}

/// Runs them.
///
/// # Errors
/// Where the folder cannot be read.
pub fn run(selection: &Selection, tally: &mut Tally) -> Result<()> {
    for path in scripts()? {
        let name = name(&path);
        if !selection.wants(&name) {
            continue;
        }
        if selection.hypervisor() != Hypervisor::Xenolith {
            tally.add(&name, &Outcome::Skipped("compares Xenolith with Xen".to_string()), Duration::ZERO);
            continue;
        }
        let start = Instant::now();
        let text = fs::read(&path)?;
        let outcome = match (output(Hypervisor::Xenolith, &text), output(Hypervisor::Xen, &text)) {
            (Ok(ours), Ok(theirs)) => compare(&ours, &theirs),
            (Err(error), _) => Outcome::Failed(format!("on Xenolith: {error:#}")),
            (_, Err(error)) => Outcome::Failed(format!("on Xen: {error:#}")),
        };
        tally.add(&name, &outcome, start.elapsed());
    }
    Ok(())
}

fn output(hypervisor: Hypervisor, script: &[u8]) -> Result<String> {
    let mut options = MachineOptions::try_parse_from(["machine"])?.run;
    options.hypervisor = hypervisor;
    options.timeout = TIME_LIMIT;
    let folder = host::run_folder()?;
    let log = folder.join("serial.log");
    eprintln!("boots {hypervisor:?} to compare; serial log: {}", log.display());
    let prepared = run::prepare(&options)?;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    match run::scripted(&options, &prepared, script, &folder, &log, &mut out, &mut err)? {
        Verdict::Exited(0) => Ok(String::from_utf8_lossy(&out).into_owned()),
        Verdict::Exited(status) => bail!("exit status {status}\n{}", String::from_utf8_lossy(&err)),
        Verdict::NoDom0(reason) => bail!("{reason}\n{}", system::last_lines(&log)),
        Verdict::TimeLimit { .. } => bail!("time limit passed\n{}", system::last_lines(&log)),
    }
}

fn compare(ours: &str, theirs: &str) -> Outcome {
    if ours == theirs {
        return if ours.is_empty() { Outcome::Failed("neither printed anything".to_string()) } else { Outcome::Passed };
    }
    let (a, b): (Vec<&str>, Vec<&str>) = (ours.lines().collect(), theirs.lines().collect());
    let mut report = String::from("differs (- Xen, + Xenolith):\n");
    let differing = (0..a.len().max(b.len())).filter(|i| a.get(*i) != b.get(*i));
    for line in differing.take(SHOWN) {
        for (sign, side) in [('-', &b), ('+', &a)] {
            if let Some(text) = side.get(line) {
                report.push_str(&format!("{sign}{}: {text}\n", line + 1));
            }
        }
    }
    Outcome::Failed(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_equal_and_not_empty_passes() {
        assert_eq!(compare("a\n", "a\n"), Outcome::Passed);
        assert!(matches!(compare("", ""), Outcome::Failed(_)));
        let Outcome::Failed(report) = compare("a\nb\n", "a\nc\n") else { panic!() };
        assert!(report.contains("-2: c") && report.contains("+2: b") && !report.contains("1: a"), "{report}");
    }
}
