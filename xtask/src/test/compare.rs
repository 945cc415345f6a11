//! Comparisons: each script in tests/compare/ has to print the same on Xenolith as on Debian's Xen.
//!
//! A line `cost WHAT NUMBER` is the same where Xenolith's number is not the larger one by more than two runs on the same
//! hypervisor differ by. A script may say `# machine: OPTIONS` and `# long`, as the system tests do.

use super::{Outcome, Selection, Tally, system};
use crate::cli::Hypervisor;
use crate::script::{self, Verdict, Watched};
use crate::{host, run};
use anyhow::{Context, Result, bail};
use std::cell::Cell;
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
        let text = fs::read_to_string(&path)?;
        let script = system::parse(&name, &text)?;
        if let Some(skipped) = selection.too_long(script.long) {
            tally.add(&name, &skipped, Duration::ZERO);
            continue;
        }
        let output = |hypervisor| output(hypervisor, &script.machine, text.as_bytes());
        let outcome = match (output(Hypervisor::Xenolith), output(Hypervisor::Xen)) {
            (Ok(ours), Ok(theirs)) => compare(&ours, &theirs),
            (Err(error), _) => Outcome::Failed(format!("on Xenolith: {error:#}")),
            (_, Err(error)) => Outcome::Failed(format!("on Xen: {error:#}")),
        };
        tally.add(&name, &outcome, start.elapsed());
    }
    Ok(())
}

fn output(hypervisor: Hypervisor, machine: &str, script: &[u8]) -> Result<String> {
    let mut options = system::machine_options(machine)?;
    options.hypervisor = hypervisor;
    let folder = host::run_folder()?;
    let log = folder.join("serial.log");
    eprintln!("boots {hypervisor:?} to compare; serial log: {}", log.display());
    let prepared = run::prepare(&options)?;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let deadline = Cell::new(script::after(TIME_LIMIT));
    let watched = Watched { folder: &folder, log: &log, out: &mut out, err: &mut err, deadline: &deadline };
    match run::scripted(&options, &prepared, script, watched)? {
        Verdict::Exited(0) => Ok(String::from_utf8_lossy(&out).into_owned()),
        Verdict::Exited(status) => bail!("exit status {status}\n{}", String::from_utf8_lossy(&err)),
        Verdict::NoDom0(reason) => bail!("{reason}\n{}", system::last_lines(&log)),
        Verdict::TimeLimit { state, .. } => bail!("time limit passed; asked for its state:\n{state}"),
    }
}

/// A cost differs by one part in so many from one run to the next: dom0 never does quite the same.
const NOISE: u64 = 100;

/// What a line says that something costs.
fn cost(line: &str) -> Option<(&str, u64)> {
    let (what, number) = line.strip_prefix("cost ")?.rsplit_once(' ')?;
    Some((what, number.parse().ok()?))
}

/// Whether our line is what Xen's allows.
fn agree(ours: &str, theirs: &str) -> bool {
    match (cost(ours), cost(theirs)) {
        (Some((what, ours)), Some((same, theirs))) => what == same && ours <= theirs + theirs / NOISE,
        _ => ours == theirs,
    }
}

fn compare(ours: &str, theirs: &str) -> Outcome {
    let (a, b): (Vec<&str>, Vec<&str>) = (ours.lines().collect(), theirs.lines().collect());
    if a.is_empty() && b.is_empty() {
        return Outcome::Failed("neither printed anything".to_string());
    }
    let differing = |line: &usize| !matches!((a.get(*line), b.get(*line)), (Some(a), Some(b)) if agree(a, b));
    let differing: Vec<usize> = (0..a.len().max(b.len())).filter(differing).collect();
    if differing.is_empty() {
        return Outcome::Passed;
    }
    let mut report = String::from("differs (- Xen, + Xenolith):\n");
    for line in differing.into_iter().take(SHOWN) {
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
        assert!(matches!(compare("a\n", "a\nb\n"), Outcome::Failed(_)));
    }

    #[test]
    fn a_cost_may_be_lower_and_not_higher_than_noise() {
        assert_eq!(compare("cost of it 202\n", "cost of it 200\n"), Outcome::Passed);
        assert!(matches!(compare("cost of it 203\n", "cost of it 200\n"), Outcome::Failed(_)));
        assert_eq!(compare("cost of it 4\n", "cost of it 5\n"), Outcome::Passed);
        assert_eq!(compare("cost of it 5\n", "cost of it 5\n"), Outcome::Passed);
        assert!(matches!(compare("cost of it 6\n", "cost of it 5\n"), Outcome::Failed(_)));
        assert!(matches!(compare("cost of this 4\n", "cost of it 5\n"), Outcome::Failed(_)));
        assert!(matches!(compare("cost of it\n", "cost of it 5\n"), Outcome::Failed(_)));
    }
}
