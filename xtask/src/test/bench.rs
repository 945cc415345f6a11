//! What operations cost, compared with tests/bench/baseline.json: no count may have grown by more than 3 %. With `XENOLITH_BLESS` set,
//! a run writes that file anew.

use super::{Outcome, Selection, Tally};
use crate::bench::{self, Report, Wanted};
use crate::cli::Hypervisor;
use crate::guests::Kind;
use crate::host;
use anyhow::Result;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

fn baseline() -> PathBuf {
    host::workspace().join("tests/bench/baseline.json")
}

fn name(kind: Kind) -> String {
    format!("bench/{}", kind.name())
}

/// Names of the tests: one for each kind of guest.
pub fn names() -> Vec<String> {
    Kind::ALL.into_iter().map(name).collect()
}

/// Runs them, all in one boot.
pub fn run(selection: &Selection, tally: &mut Tally) {
    let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| selection.wants(&name(*kind))).collect();
    if kinds.is_empty() {
        return;
    }
    let start = Instant::now();
    let outcomes = if selection.hypervisor() == Hypervisor::Xenolith {
        compare(&kinds)
    } else {
        Ok(kinds.iter().map(|_| Outcome::Skipped("the baseline is Xenolith's".to_string())).collect())
    };
    let outcomes = outcomes.unwrap_or_else(|e| kinds.iter().map(|_| Outcome::Failed(format!("{e:#}"))).collect());
    for (number, (kind, outcome)) in kinds.iter().zip(&outcomes).enumerate() {
        tally.add(&name(*kind), outcome, if number == 0 { start.elapsed() } else { Duration::ZERO });
    }
}

/// Measures, and gives the outcome for each kind of guest.
fn compare(kinds: &[Kind]) -> Result<Vec<Outcome>> {
    let hypervisor = Hypervisor::Xenolith;
    let measured =
        bench::measure(hypervisor, &Wanted { kinds: kinds.to_vec(), whole: false, scale: false, quick: false })?;
    let report = Report { measured: [(bench::name(hypervisor).to_string(), measured)].into(), ..Report::of_today()? };
    if std::env::var_os("XENOLITH_BLESS").is_some() {
        fs::write(baseline(), report.json())?;
        return Ok(vec![Outcome::Passed; kinds.len()]);
    }
    let before = Report::read(&baseline())?;
    let of = |report: &Report| report.measured.get(bench::name(hypervisor)).map(|one| one.version.clone());
    if let (Some(then), Some(now)) = (of(&before), of(&report)) {
        // Another compiler makes another binary, whose counts say nothing of the change.
        if then != now {
            return Ok(vec![Outcome::Skipped(format!("the baseline is of {then}, this is {now}")); kinds.len()]);
        }
    }
    let lines = bench::grown(&before, &report);
    let of_kind = |kind: &Kind| {
        let about = format!(": {}/", kind.name());
        let lines: Vec<&str> = lines.iter().filter(|line| line.contains(&about)).map(String::as_str).collect();
        if lines.is_empty() { Outcome::Passed } else { Outcome::Failed(lines.join("\n")) }
    };
    Ok(kinds.iter().map(of_kind).collect())
}
