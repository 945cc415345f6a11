//! System tests: shell scripts in tests/system/, run in dom0. Those that want the same machine share one boot.
//!
//! A script says what it needs in comments: `# machine: OPTIONS` (as for `./x run`), `# limit: SECONDS`, `# long`.
//! It passes by exit status 0 and is skipped by 77.

use super::{Outcome, Selection, Tally};
use crate::cli::{Hypervisor, MachineOptions, RunOptions};
use crate::host;
use crate::script::{self, Verdict, Watched};
use crate::{guests, run};
use anyhow::{Context, Result};
use clap::Parser;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a machine may take to boot, to power off, and to go on from one script to the next.
const BOOT: u64 = 480;
/// How long a script may go on after its limit, which is kept in dom0, before the machine is lost.
const GRACE: u64 = 60;
/// A script's own limit where it names none.
const LIMIT: u64 = 120;
/// Exit status by which a script says that it does not apply.
const SKIP: i32 = 77;

/// One script.
#[derive(Debug, PartialEq, Eq)]
pub struct Script {
    name: String,
    /// Options of its machine.
    pub machine: String,
    limit: u64,
    /// Whether it runs only where long tests are asked for.
    pub long: bool,
}

fn folder() -> PathBuf {
    host::workspace().join("tests/system")
}

fn scripts() -> Result<Vec<Script>> {
    let folder = folder();
    let mut scripts = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_suffix(".sh"));
        if let Some(name) = name {
            scripts.push(parse(name, &fs::read_to_string(&path)?)?);
        }
    }
    scripts.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(scripts)
}

/// What a script says of itself in its comments.
///
/// # Errors
/// Where a limit is no number.
pub fn parse(name: &str, text: &str) -> Result<Script> {
    let mut script = Script { name: name.to_string(), machine: String::new(), limit: LIMIT, long: false };
    for comment in text.lines().filter_map(|l| l.strip_prefix("# ")) {
        match comment.split_once(": ") {
            Some(("machine", options)) => script.machine = options.trim().to_string(),
            Some(("limit", seconds)) => {
                script.limit = seconds.trim().parse().with_context(|| format!("{name}: bad limit"))?
            }
            _ => script.long |= comment.trim() == "long",
        }
    }
    Ok(script)
}

/// The machine with these options, those of `./x run`.
///
/// # Errors
/// Where there is no such option.
pub fn machine_options(machine: &str) -> Result<RunOptions> {
    let words = ["machine"].into_iter().chain(machine.split_whitespace());
    Ok(MachineOptions::try_parse_from(words).with_context(|| format!("machine: {machine}"))?.run)
}

/// Names of the tests.
///
/// # Errors
/// Where a script cannot be read.
pub fn names() -> Result<Vec<String>> {
    Ok(scripts()?.iter().map(|s| format!("system/{}", s.name)).collect())
}

/// Runs them.
///
/// # Errors
/// Where the scripts cannot be read.
pub fn run(selection: &Selection, tally: &mut Tally) -> Result<()> {
    let mut boots: BTreeMap<String, Vec<Script>> = BTreeMap::new();
    for script in scripts()? {
        let name = format!("system/{}", script.name);
        if !selection.wants(&name) {
            continue;
        }
        match selection.too_long(script.long) {
            Some(skipped) => tally.add(&name, &skipped, Duration::ZERO),
            None => boots.entry(script.machine.clone()).or_default().push(script),
        }
    }
    for (machine, scripts) in &boots {
        let mut left = scripts.as_slice();
        while !left.is_empty() {
            left = &left[boot(selection.hypervisor(), machine, left, tally)..];
        }
    }
    Ok(())
}

/// Boots one machine and runs scripts one after the other; gives how many have their outcome now. What a lost machine
/// leaves is for another one.
fn boot(hypervisor: Hypervisor, machine: &str, scripts: &[Script], tally: &mut Tally) -> usize {
    let start = Instant::now();
    let deadline = Cell::new(script::after(BOOT));
    let mut results = Results { scripts, deadline: &deadline, tally, line: Vec::new(), current: None, ended: 0 };
    let how = match drive(hypervisor, machine, &mut results) {
        Ok(how) => how,
        Err(error) => format!("{error:#}"),
    };
    let ended = results.ended;
    let (lost, said) = match results.current.take() {
        Some((_, said, _)) => (1, said),
        // A machine on which none began will do no better the next time.
        None if ended == 0 => (scripts.len(), String::new()),
        None => (0, String::new()),
    };
    for script in &scripts[ended..ended + lost] {
        tally.add(&format!("system/{}", script.name), &Outcome::Failed(format!("{said}{how}")), start.elapsed());
    }
    ended + lost
}

fn drive(hypervisor: Hypervisor, machine: &str, results: &mut Results) -> Result<String> {
    let mut options = machine_options(machine)?;
    options.hypervisor = hypervisor;
    let scripts = results.scripts;
    let list: String = scripts.iter().map(|s| format!("{} {}\n", s.name, s.limit)).collect();
    let script = format!("#!/bin/sh\nexec /root/files/runner <<'END'\n{list}END\n");
    let folder = host::run_folder()?;
    options.files = Some(stage(&folder.join("files"))?);
    let log = folder.join("serial.log");
    let names: Vec<&str> = scripts.iter().map(|s| s.name.as_str()).collect();
    eprintln!("boots {hypervisor:?} {machine} for {}; serial log: {}", names.join(", "), log.display());
    let prepared = run::prepare(&options)?;
    let deadline = results.deadline;
    deadline.set(script::after(BOOT));
    let watched = Watched { folder: &folder, log: &log, out: results, err: &mut io::sink(), deadline };
    Ok(match run::scripted(&options, &prepared, script.as_bytes(), watched)? {
        Verdict::Exited(status) => format!("the runner ended with status {status} before this test did"),
        Verdict::NoDom0(reason) => format!("{reason}\n{}", last_lines(&log)),
        Verdict::TimeLimit { state, .. } => {
            format!("the machine stands still; asked for its state, it says:\n{state}\n(serial log: {})", log.display())
        }
    })
}

/// Puts into `into` what the scripts find beside them in dom0.
fn stage(into: &Path) -> Result<PathBuf> {
    fs::create_dir(into).with_context(|| format!("cannot make {}", into.display()))?;
    for entry in fs::read_dir(folder())? {
        let path = entry?.path();
        fs::copy(&path, into.join(path.file_name().unwrap_or_default()))
            .with_context(|| format!("cannot copy {}", path.display()))?;
    }
    let exercise = guests::exercise()?;
    fs::copy(&exercise, into.join("exercise")).with_context(|| format!("cannot copy {}", exercise.display()))?;
    Ok(into.to_path_buf())
}

/// The end of a serial log, for a report.
pub fn last_lines(log: &Path) -> String {
    let text = String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).replace('\r', "");
    let lines: Vec<&str> = text.lines().collect();
    format!("{}\n(serial log: {})", lines[lines.len().saturating_sub(12)..].join("\n"), log.display())
}

/// Takes in what the runner writes: `@begin NAME`, the test's output, `@end NAME STATUS`.
struct Results<'a> {
    /// Those that run, in this order.
    scripts: &'a [Script],
    /// When the machine is given up.
    deadline: &'a Cell<Instant>,
    tally: &'a mut Tally,
    line: Vec<u8>,
    current: Option<(String, String, Instant)>,
    /// How many have ended.
    ended: usize,
}

impl Results<'_> {
    fn take(&mut self, line: &str) {
        if let Some(name) = line.strip_prefix("@begin ") {
            eprintln!("  {name} ...");
            self.current = Some((name.to_string(), String::new(), Instant::now()));
            let limit = self.scripts.get(self.ended).map_or(0, |s| s.limit);
            self.deadline.set(script::after(limit + GRACE));
        } else if let Some((name, status)) = line.strip_prefix("@end ").and_then(|l| l.split_once(' ')) {
            let Some((_, text, start)) = self.current.take() else {
                return;
            };
            let outcome = match status.parse() {
                Ok(0) => Outcome::Passed,
                Ok(SKIP) => Outcome::Skipped(text.lines().last().unwrap_or("does not apply").to_string()),
                // Those of timeout(1): the limit passed, the program had to be killed.
                Ok(124 | 137 | 143) => Outcome::Failed(format!("{text}its time limit passed")),
                _ => Outcome::Failed(format!("{text}exit status {status}")),
            };
            self.tally.add(&format!("system/{name}"), &outcome, start.elapsed());
            self.ended += 1;
            self.deadline.set(script::after(BOOT));
        } else if let Some((_, text, _)) = &mut self.current {
            text.push_str(line);
            text.push('\n');
        }
    }
}

impl Write for Results<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        for byte in data {
            if *byte == b'\n' {
                let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
                self.take(line.trim_end());
            } else {
                self.line.push(*byte);
            }
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needs_are_read_from_comments() {
        let text = "#!/bin/sh\n# Something: else\n# machine: --smp 4\n# limit: 7\n# long\n";
        let want = Script { name: "n".to_string(), machine: "--smp 4".to_string(), limit: 7, long: true };
        assert_eq!(parse("n", text).unwrap(), want);
        assert!(parse("n", "# limit: soon").is_err());
    }

    #[test]
    fn runner_output_becomes_outcomes() {
        let scripts: Vec<Script> = ["a", "b", "c", "d"].map(|name| parse(name, "# limit: 100\n").unwrap()).into();
        let start = Instant::now();
        let deadline = Cell::new(start);
        let mut tally = Tally::default();
        let mut results = Results {
            scripts: &scripts,
            deadline: &deadline,
            tally: &mut tally,
            line: Vec::new(),
            current: None,
            ended: 0,
        };
        results
            .write_all(
                b"@begin a\n@end a 0\n@begin b\nno such thing\n@end b 1\n@begin c\nn/a\n@end c 77\n@begin d\nhal",
            )
            .unwrap();
        assert_eq!(results.ended, 3, "the last one has not ended");
        assert!(results.current.is_some_and(|(name, ..)| name == "d"));
        let left = deadline.get() - start;
        assert!(left >= Duration::from_secs(100) && left < Duration::from_secs(100 + BOOT), "its own limit: {left:?}");
        assert_eq!((tally.passed, tally.failed, tally.skipped), (1, vec!["system/b".to_string()], 1));
    }

    #[test]
    fn every_script_in_the_tree_is_valid() {
        for script in scripts().unwrap() {
            assert!(machine_options(&script.machine).is_ok(), "{}: {}", script.name, script.machine);
        }
    }
}
