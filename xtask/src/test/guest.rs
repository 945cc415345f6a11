//! The test guest: what it says of each case has to be what it says on Debian's Xen, which is kept in
//! tests/guests/KIND.expected. With `XENOLITH_BLESS` set, a run on Xen writes that file anew.
//!
//! Where Xenolith answers otherwise on purpose, tests/guests/KIND.differs has a line `CASE: ANSWER # REASON`. Such a line
//! fails the test where the case gives any other answer, Xen's included: none stays longer than it is true.

use super::{Outcome, Selection, Tally, system};
use crate::cli::{Hypervisor, MachineOptions};
use crate::guests::Kind;
use crate::script::{self, Verdict, Watched};
use crate::{guests, host, run};
use anyhow::{Context, Result, bail};
use clap::Parser;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

/// How long the boot and all sections may take, in seconds.
const TIME_LIMIT: u64 = 900;
/// Lines by section, the sections in their order.
type Sections = Vec<(String, Vec<String>)>;

fn sections(text: &str) -> Sections {
    let mut sections = Sections::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("== ") {
            sections.push((name.to_string(), Vec::new()));
        } else if let Some((_, lines)) = sections.last_mut() {
            lines.push(line.to_string());
        }
    }
    sections
}

fn expected(kind: Kind) -> Result<Sections> {
    let path = kind.expected();
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(sections(&text))
}

/// The answers that differ on purpose, by case.
///
/// # Errors
/// Where the file cannot be read, or a line has no answer or no reason.
fn intended(kind: Kind) -> Result<BTreeMap<String, String>> {
    let path = kind.differing();
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    parse_intended(&text).with_context(|| format!("in {}", path.display()))
}

fn parse_intended(text: &str) -> Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (answer, _reason) =
            line.split_once(" # ").with_context(|| format!("'{line}': write `CASE: ANSWER # REASON`"))?;
        let (case, answer) =
            answer.split_once(": ").with_context(|| format!("'{line}': write `CASE: ANSWER # REASON`"))?;
        all.insert(case.trim().to_string(), answer.trim().to_string());
    }
    Ok(all)
}

fn name(kind: Kind, section: &str) -> String {
    format!("{}{section}", kind.prefix())
}

/// Names of the tests: one for each section.
///
/// # Errors
/// Where the expected answers cannot be read.
pub fn names() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for kind in Kind::ALL {
        names.extend(expected(kind)?.iter().map(|(section, _)| name(kind, section)));
    }
    Ok(names)
}

/// Runs them, all of a kind in one boot.
///
/// # Errors
/// Where the expected answers cannot be read.
pub fn run(selection: &Selection, tally: &mut Tally) -> Result<()> {
    Kind::ALL.into_iter().try_for_each(|kind| run_kind(kind, selection, tally))
}

fn run_kind(kind: Kind, selection: &Selection, tally: &mut Tally) -> Result<()> {
    let blesses = std::env::var_os("XENOLITH_BLESS").is_some() && selection.hypervisor() == Hypervisor::Xen;
    if blesses && selection.wants(kind.prefix()) {
        return bless(kind);
    }
    let wanted: Sections = expected(kind)?.into_iter().filter(|(s, _)| selection.wants(&name(kind, s))).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    if selection.hypervisor() == Hypervisor::None {
        for (section, _) in &wanted {
            let outcome = Outcome::Skipped("needs a hypervisor".to_string());
            tally.add(&name(kind, section), &outcome, Duration::ZERO);
        }
        return Ok(());
    }
    let intended = if selection.hypervisor() == Hypervisor::Xen { BTreeMap::new() } else { intended(kind)? };
    let start = Instant::now();
    let names: Vec<&str> = wanted.iter().map(|(s, _)| s.as_str()).collect();
    let (text, trouble) = match output(selection.hypervisor(), kind, &names) {
        Ok(both) => both,
        Err(error) => (String::new(), format!("{error:#}")),
    };
    let got: BTreeMap<String, Vec<String>> = sections(&text).into_iter().collect();
    for (section, lines) in &wanted {
        let mut outcome = got
            .get(section)
            .map_or_else(|| Outcome::Failed("did not run".to_string()), |got| compare(got, lines, &intended));
        if let Outcome::Failed(report) = &mut outcome {
            report.push_str(&trouble);
        }
        tally.add(&name(kind, section), &outcome, start.elapsed());
    }
    Ok(())
}

/// Takes what the guest says on Xen as what is expected.
fn bless(kind: Kind) -> Result<()> {
    let (text, trouble) = output(Hypervisor::Xen, kind, &[])?;
    if !trouble.is_empty() {
        bail!("not all of it ran on Xen: {trouble}");
    }
    fs::write(kind.expected(), text)?;
    Ok(())
}

/// What the guest says in these sections (none: in all), and what went wrong with the machine.
fn output(hypervisor: Hypervisor, kind: Kind, sections: &[&str]) -> Result<(String, String)> {
    let mut options = MachineOptions::try_parse_from(["machine"])?.run;
    options.hypervisor = hypervisor;
    let folder = host::run_folder()?;
    let files = folder.join("files");
    let script = guests::stage(&files, kind, sections)?;
    options.files = Some(files);
    let log = folder.join("serial.log");
    eprintln!("boots {hypervisor:?} to run the test guest; serial log: {}", log.display());
    let prepared = run::prepare(&options)?;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let deadline = Cell::new(script::after(TIME_LIMIT));
    let watched = Watched { folder: &folder, log: &log, out: &mut out, err: &mut err, deadline: &deadline };
    let verdict = run::scripted(&options, &prepared, script.as_bytes(), watched)?;
    let trouble = match verdict {
        Verdict::Exited(0) => String::new(),
        Verdict::Exited(status) => format!("exit status {status}\n{}", String::from_utf8_lossy(&err)),
        Verdict::NoDom0(reason) => format!("{reason}\n{}", system::last_lines(&log)),
        Verdict::TimeLimit { state, .. } => format!("time limit passed; asked for its state:\n{state}"),
    };
    fs::write(folder.join("output"), &out)?;
    Ok((String::from_utf8_lossy(&out).into_owned(), trouble))
}

/// Answers by case: what comes before the first `: `.
fn by_case(lines: &[String]) -> BTreeMap<&str, &str> {
    lines.iter().map(|l| l.split_once(": ").unwrap_or((l, ""))).collect()
}

/// The answer of a case that gives none.
const NO_ANSWER: &str = "no answer";

fn compare(got: &[String], on_xen: &[String], intended: &BTreeMap<String, String>) -> Outcome {
    let (got, on_xen) = (by_case(got), by_case(on_xen));
    let cases: BTreeSet<&str> = got.keys().chain(on_xen.keys()).copied().collect();
    let mut report = Vec::new();
    for case in &cases {
        let answer = got.get(case).copied().unwrap_or(NO_ANSWER);
        let xen = on_xen.get(case).copied().unwrap_or(NO_ANSWER);
        match intended.get(*case) {
            Some(ours) if ours == answer => {}
            Some(ours) => report.push(format!("{case}: {answer}, on Xen {xen}, intended {ours}")),
            None if answer == xen => {}
            None => report.push(format!("{case}: {answer}, on Xen {xen}")),
        }
    }
    if report.is_empty() {
        return Outcome::Passed;
    }
    Outcome::Failed(format!("{} of {} cases differ:\n{}\n", report.len(), cases.len(), report.join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_string).collect()
    }

    #[test]
    fn sections_are_split() {
        let all = sections("noise\n== a\nx: 1\ny: 2\n== b\n");
        assert_eq!(all, [("a".to_string(), lines("x: 1\ny: 2")), ("b".to_string(), Vec::new())]);
    }

    fn differences(got: &str, on_xen: &str, intended: &str) -> String {
        match compare(&lines(got), &lines(on_xen), &parse_intended(intended).unwrap()) {
            Outcome::Failed(report) => report,
            Outcome::Passed => String::new(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_equal_answers_pass() {
        assert_eq!(differences("b: 2\na: 1", "a: 1\nb: 2", ""), "");
        let report = differences("a: 0\nc: 3", "a: 1\nb: 2", "");
        assert!(report.starts_with("3 of 3 cases differ"), "{report}");
        assert!(report.contains("a: 0, on Xen 1") && report.contains("b: no answer, on Xen 2"));
        assert!(report.contains("c: 3, on Xen no answer"), "{report}");
    }

    #[test]
    fn an_intended_difference_passes_while_it_is_one() {
        assert_eq!(differences("a: 0", "a: 1", "a: 0 # because"), "");
        assert_eq!(differences("", "a: 1", "a: no answer # because"), "");
        assert!(differences("a: 1", "a: 1", "a: 0 # because").contains("intended 0"));
        assert!(differences("a: 2", "a: 1", "a: 0 # because").contains("intended 0"));
    }

    #[test]
    fn an_intended_difference_needs_a_reason() {
        assert!(parse_intended("a: 0\n").is_err());
        assert!(parse_intended("# a comment\n\na # why\n").is_err());
    }
}
