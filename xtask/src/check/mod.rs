//! `./x check`: what reviewers need not look at.

mod layers;
mod sources;

use crate::hypervisor;
use crate::workspace::{self, Crate, Layer};
use anyhow::{Context, Result};
use std::process::{Command, ExitCode};
use std::time::Instant;

/// Runs every check; says what each found.
///
/// # Errors
/// Where a check cannot be made at all.
pub fn check() -> Result<ExitCode> {
    let crates = workspace::crates()?;
    let mut failed = 0;
    let mut report = |name: &str, start: Instant, problems: Vec<String>| {
        let verdict = if problems.is_empty() { "ok" } else { "FAILED" };
        eprintln!("{name}: {verdict} ({:.1} s)", start.elapsed().as_secs_f32());
        for problem in &problems {
            eprintln!("  {problem}");
        }
        failed += usize::from(!problems.is_empty());
    };
    let start = Instant::now();
    report("layers", start, layers::problems(&crates));
    let start = Instant::now();
    report("unsafe code and sizes", start, sources::problems(&crates)?);
    let start = Instant::now();
    report("formatting", start, cargo(workspace::cargo().args(["fmt", "--all", "--check"]))?);
    let start = Instant::now();
    let mut command = host_clippy();
    command.arg("--all-targets");
    report("clippy, crates for the host", start, cargo(of(&mut command, &crates, false))?);
    let start = Instant::now();
    let (name, mut command) = match hypervisor::clippy_bare() {
        Some(command) => ("clippy, crates for the machine", command),
        // The code is the same but for what is only there on the machine, and needs no core library of another target.
        None => ("clippy, crates for the machine, as for the host (no clippy for it here)", host_clippy()),
    };
    report(name, start, cargo(of(&mut command, &crates, true))?);
    if failed > 0 {
        eprintln!("{failed} checks failed");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// `./x fmt`.
///
/// # Errors
/// Where cargo cannot be run.
pub fn format() -> Result<ExitCode> {
    let status = workspace::cargo().args(["fmt", "--all"]).status().context("cannot run cargo fmt")?;
    Ok(ExitCode::from(u8::from(!status.success())))
}

/// Runs one of cargo's checks, its output on the terminal.
fn cargo(command: &mut Command) -> Result<Vec<String>> {
    let status = command.status().with_context(|| format!("cannot run {}", command.get_program().to_string_lossy()))?;
    Ok(if status.success() { Vec::new() } else { vec!["see above".to_string()] })
}

fn host_clippy() -> Command {
    let mut command = workspace::cargo();
    command.arg("clippy");
    command
}

/// Lets clippy look at the crates for the bare machine, or at the others.
fn of<'a>(clippy: &'a mut Command, crates: &[Crate], bare: bool) -> &'a mut Command {
    let is_bare = |c: &&Crate| matches!(c.layer, Layer::Hal | Layer::Arch | Layer::Binary | Layer::Guests);
    clippy.arg("--quiet");
    for one in crates.iter().filter(|c| is_bare(c) == bare) {
        clippy.args(["-p", &one.name]);
    }
    clippy.args(["--", "-D", "warnings"])
}
