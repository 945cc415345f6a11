//! `./x test`: the host's tests, then the system tests in QEMU.

mod bad_input;
mod bench;
mod compare;
mod console;
mod guest;
mod hosted;
mod log;
mod panic;
mod system;
mod tables;

use crate::cli::{Hypervisor, TestOptions};
use anyhow::Result;
use std::process::ExitCode;
use std::time::Duration;

/// What became of one test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It passed.
    Passed,
    /// It failed; the text says how.
    Failed(String),
    /// It was not run; the text says why.
    Skipped(String),
}

/// Counts of outcomes, and the report of each as it comes.
#[derive(Default)]
pub struct Tally {
    passed: usize,
    failed: Vec<String>,
    skipped: usize,
}

impl Tally {
    /// Reports and counts one test.
    pub fn add(&mut self, name: &str, outcome: &Outcome, time: Duration) {
        let seconds = time.as_secs_f32();
        match outcome {
            Outcome::Passed => {
                self.passed += 1;
                println!("ok       {name} ({seconds:.1} s)");
            }
            Outcome::Failed(reason) => {
                self.failed.push(name.to_string());
                println!("FAILED   {name} ({seconds:.1} s)");
                for line in reason.lines() {
                    println!("         | {line}");
                }
            }
            Outcome::Skipped(reason) => {
                self.skipped += 1;
                println!("skipped  {name}: {reason}");
            }
        }
    }

    /// Counts many tests at once.
    fn add_counts(&mut self, passed: usize, failed: Vec<String>, skipped: usize) {
        self.passed += passed;
        self.failed.extend(failed);
        self.skipped += skipped;
    }
}

/// Which tests are wanted.
pub struct Selection<'a> {
    options: &'a TestOptions,
}

impl Selection<'_> {
    /// Whether the test of this name is.
    pub fn wants(&self, name: &str) -> bool {
        let filter = &self.options.filter;
        filter.is_empty() || filter.iter().any(|f| name.contains(f.as_str()))
    }

    /// Why a test that takes long is not run, where it is not.
    pub fn too_long(&self, long: bool) -> Option<Outcome> {
        (long && !self.options.all).then(|| Outcome::Skipped("takes long; run with --all".to_string()))
    }

    /// The hypervisor under test.
    pub fn hypervisor(&self) -> Hypervisor {
        self.options.hypervisor
    }
}

/// Names of the tests that boot a machine.
fn machine_names() -> Result<Vec<String>> {
    Ok([
        bad_input::names(),
        panic::names(),
        console::names(),
        system::names()?,
        guest::names()?,
        compare::names()?,
        bench::names(),
    ]
    .concat())
}

/// Runs the tests that `options` select; the last line printed has the counts.
///
/// # Errors
/// Where the tests cannot be found; a test that cannot be run has failed, which is no error.
pub fn test(options: &TestOptions) -> Result<ExitCode> {
    let selection = Selection { options };
    if options.list {
        let of_machines = machine_names()?;
        for name in hosted::names()?.iter().chain(&of_machines) {
            if selection.wants(name) {
                println!("{name}");
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut tally = Tally::default();
    hosted::run(&selection, &mut tally)?;
    bad_input::run(&selection, &mut tally)?;
    panic::run(&selection, &mut tally);
    console::run(&selection, &mut tally);
    system::run(&selection, &mut tally)?;
    guest::run(&selection, &mut tally)?;
    compare::run(&selection, &mut tally)?;
    bench::run(&selection, &mut tally);
    if !tally.failed.is_empty() {
        println!("failed: {}", tally.failed.join(" "));
    }
    println!("{} passed, {} failed, {} skipped", tally.passed, tally.failed.len(), tally.skipped);
    Ok(ExitCode::from(u8::from(!tally.failed.is_empty())))
}
