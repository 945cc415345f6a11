//! Tests that run on the host: `cargo test` of each crate that has such.

use super::{Outcome, Selection, Tally};
use crate::host::{self, Progress};
use crate::{image, workspace};
use anyhow::{Context, Result};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

/// How long each fuzzer runs.
const FUZZ_SECONDS: &str = "20";

/// Names of the tests: one for each crate.
///
/// # Errors
/// Where cargo does not list the crates.
pub fn names() -> Result<Vec<String>> {
    Ok(workspace::crates()?.iter().filter(|c| c.host_tests).map(|c| format!("host/{}", c.name)).collect())
}

/// What `cargo test` printed, counted.
#[derive(Default, Debug, PartialEq, Eq)]
struct Counts {
    passed: usize,
    ignored: usize,
    failed: Vec<String>,
}

impl Counts {
    fn line(&mut self, line: &str) {
        if let Some(name) = line.strip_prefix("test ").and_then(|l| l.strip_suffix(" ... FAILED")) {
            self.failed.push(format!("host/{name}"));
        }
        let Some(result) = line.strip_prefix("test result: ") else {
            return;
        };
        let words: Vec<&str> = result.split_whitespace().collect();
        for pair in words.windows(2) {
            match (pair[0].parse::<usize>(), pair[1]) {
                (Ok(n), "passed;") => self.passed += n,
                (Ok(n), "ignored;") => self.ignored += n,
                _ => {}
            }
        }
    }
}

/// Runs them, all crates at once.
///
/// # Errors
/// Where cargo cannot be run.
pub fn run(selection: &Selection, tally: &mut Tally) -> Result<()> {
    let wanted: Vec<String> = names()?.into_iter().filter(|n| selection.wants(n)).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let cargo = workspace::cargo();
    let mut command = Command::new("sh");
    // One pipe for both streams keeps what cargo says in order with what the tests say.
    command.args(["-c", "exec \"$0\" \"$@\" 2>&1"]).arg(cargo.get_program()).args(["test", "--no-fail-fast"]);
    let (headers, kernel) = image::references()?;
    command.env("XENOLITH_XEN_HEADERS", headers).env("XENOLITH_TEST_KERNEL", kernel);
    if std::env::var_os("XENOLITH_FUZZ_SECONDS").is_none() {
        command.env("XENOLITH_FUZZ_SECONDS", FUZZ_SECONDS);
    }
    command.current_dir(host::workspace()).stdin(Stdio::null()).stdout(Stdio::piped());
    for name in &wanted {
        command.args(["-p", name.trim_start_matches("host/")]);
    }
    let path = host::run_folder()?.join("host-tests.log");
    let mut log = File::create(&path)?;
    let start = Instant::now();
    let mut child = command.spawn().context("cannot run cargo")?;
    let progress = Progress::new("tests on the host");
    let mut counts = Counts::default();
    for line in BufReader::new(child.stdout.take().context("no pipe")?).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        writeln!(log, "{line}")?;
        counts.line(&line);
        progress.step(line.trim());
    }
    let status = child.wait()?;
    progress.done();
    if !status.success() {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        for line in text.lines().filter(|l| interesting(l)).take(60) {
            println!("         | {line}");
        }
        println!("         | all of it: {}", path.display());
    }
    let broken = !status.success() && counts.failed.is_empty();
    println!("host     {} passed, {} failed, {} ignored", counts.passed, counts.failed.len(), counts.ignored);
    tally.add_counts(counts.passed, counts.failed, counts.ignored);
    if broken {
        tally.add("host/build", &Outcome::Failed("the tests do not build, or one died".to_string()), start.elapsed());
    }
    Ok(())
}

fn interesting(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("error")
        || line.starts_with("--> ")
        || line.ends_with("FAILED")
        || line.contains("panicked at")
        || line.starts_with("assertion")
        || line.contains("XENOLITH_FUZZ_SEED")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_counted() {
        let mut counts = Counts::default();
        for line in [
            "test a::b ... ok",
            "test c ... FAILED",
            "test result: FAILED. 4 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s",
        ] {
            counts.line(line);
        }
        assert_eq!(counts, Counts { passed: 7, ignored: 2, failed: vec!["host/c".to_string()] });
    }
}
