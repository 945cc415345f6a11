//! What a person gets wrong before dom0 runs: one clear line on the console, then a halt, never a reset.

use super::tables::{self, Fault};
use super::{Outcome, Selection, Tally, system};
use crate::cli::{Hypervisor, MachineOptions, RunOptions};
use crate::host;
use crate::machine::{self, Console, Payload};
use crate::run::{self, Prepared};
use anyhow::{Context, Result};
use clap::Parser;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long the line may take to come.
const LIMIT: Duration = Duration::from_secs(120);
/// How long the machine has to stay up after the line, so that it is a halt. Xen's reset comes after 5 s.
const HALT: Duration = Duration::from_secs(7);

/// One mistake.
struct Mistake {
    name: &'static str,
    /// More arguments for the hypervisor.
    arguments: &'static str,
    /// What else is made wrong.
    make: fn(&mut RunOptions, &Prepared, &Path) -> Result<()>,
    /// All of these words are in one line on Xenolith's console; `a|b` is either.
    words: &'static [&'static str],
    /// The same for Xen; empty where Xen says nothing.
    xen_words: &'static [&'static str],
    /// Whether the hypervisor has to stop there; else it may go on with dom0.
    halts: bool,
}

const MISTAKES: &[Mistake] = &[
    Mistake {
        name: "no-module",
        arguments: "",
        make: |options, _, _| {
            options.no_modules = true;
            Ok(())
        },
        words: &["dom0", "kernel", "module"],
        xen_words: &["dom0 kernel not specified"],
        halts: true,
    },
    Mistake {
        name: "truncated-kernel",
        arguments: "",
        make: |options, prepared, folder| {
            let path = folder.join("truncated");
            let kernel = fs::read(&prepared.dom0.kernel)?;
            fs::write(&path, &kernel[..kernel.len() / 4])?;
            options.kernel = Some(path);
            Ok(())
        },
        words: &["dom0", "kernel"],
        xen_words: &["panic"],
        halts: true,
    },
    Mistake {
        name: "no-kernel-at-all",
        arguments: "",
        make: |options, _, folder| {
            let path = folder.join("text");
            fs::write(&path, "this is no kernel\n".repeat(1000))?;
            options.kernel = Some(path);
            Ok(())
        },
        words: &["dom0", "kernel"],
        xen_words: &["could not construct"],
        halts: true,
    },
    Mistake {
        name: "little-memory",
        arguments: "",
        make: |options, _, _| {
            options.mem = 160;
            Ok(())
        },
        words: &["memory", "dom0"],
        xen_words: &["panic"],
        halts: true,
    },
    Mistake {
        name: "acpi-empty-entry",
        arguments: "",
        make: |options, _, folder| broken_tables(options, folder, Fault::EmptyEntry),
        words: &["acpi|madt", "corrupt|invalid|malformed|bad|broken|length"],
        xen_words: &[],
        halts: false,
    },
    Mistake {
        name: "acpi-huge-table",
        arguments: "",
        make: |options, _, folder| broken_tables(options, folder, Fault::HugeTable),
        words: &["acpi|madt", "corrupt|invalid|malformed|bad|broken|length"],
        xen_words: &[],
        halts: false,
    },
    Mistake {
        name: "unknown-option",
        arguments: "frobnicate=7",
        make: |_, _, _| Ok(()),
        words: &["unknown", "frobnicate"],
        xen_words: &[],
        halts: false,
    },
    Mistake {
        name: "bad-option-value",
        arguments: "dom0_max_vcpus=banana",
        make: |_, _, _| Ok(()),
        words: &["dom0_max_vcpus", "banana", "invalid"],
        xen_words: &[],
        halts: false,
    },
    Mistake {
        name: "bad-dom0-memory",
        arguments: "dom0_mem=lots",
        make: |_, _, _| Ok(()),
        words: &["dom0_mem", "cannot be read"],
        xen_words: &[],
        halts: true,
    },
];

fn broken_tables(options: &mut RunOptions, folder: &Path, fault: Fault) -> Result<()> {
    let files = tables::files(2, fault);
    options.qemu_args.extend(["-M", "q35,acpi=off"].map(String::from));
    for (name, data) in [("acpi/rsdp", files.rsdp), ("acpi/tables", files.tables), ("table-loader", files.loader)] {
        let path = folder.join(name.replace('/', "-"));
        fs::write(&path, data)?;
        options.qemu_args.extend(["-fw_cfg".to_string(), format!("name=etc/{name},file={}", path.display())]);
    }
    Ok(())
}

fn name(mistake: &Mistake) -> String {
    format!("bad-input/{}", mistake.name)
}

/// Names of the tests.
pub fn names() -> Vec<String> {
    MISTAKES.iter().map(name).collect()
}

/// Runs them.
///
/// # Errors
/// None of its own; what fails is a failed test.
pub fn run(selection: &Selection, tally: &mut Tally) -> Result<()> {
    for mistake in MISTAKES {
        if !selection.wants(&name(mistake)) {
            continue;
        }
        let start = Instant::now();
        eprintln!("  {} ...", name(mistake));
        let outcome = one(selection.hypervisor(), mistake).unwrap_or_else(|e| Outcome::Failed(format!("{e:#}")));
        tally.add(&name(mistake), &outcome, start.elapsed());
    }
    Ok(())
}

fn one(hypervisor: Hypervisor, mistake: &Mistake) -> Result<Outcome> {
    let words = match hypervisor {
        Hypervisor::None => return Ok(Outcome::Skipped("needs a hypervisor".to_string())),
        Hypervisor::Xen if mistake.xen_words.is_empty() => return Ok(Outcome::Skipped("Xen says nothing".to_string())),
        Hypervisor::Xen => mistake.xen_words,
        Hypervisor::Xenolith => mistake.words,
    };
    let mut options = MachineOptions::try_parse_from(["machine"])?.run;
    options.hypervisor = hypervisor;
    // Xen resets after a panic unless told not to; Xenolith halts by itself when it could not even start dom0.
    let halt = if hypervisor == Hypervisor::Xen { " noreboot" } else { "" };
    options.xen_args = Some(format!("{}{halt}", mistake.arguments));
    let folder = host::run_folder()?;
    let log = folder.join("serial.log");
    File::create(&log)?;
    let prepared = run::prepare(&options)?;
    (mistake.make)(&mut options, &prepared, &folder)?;
    let mut dom0 = prepared.dom0;
    if let Some(kernel) = options.kernel.take() {
        dom0.kernel = kernel;
    }
    let payload = Payload { image: prepared.image.as_deref(), dom0: &dom0, grub: None };
    let mut command = machine::command(&options, &payload, &Console::Pipe { log: &log }, None);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(folder.join("qemu.log"))?);
    let mut child = command.spawn().context("cannot run QEMU")?;
    let outcome = observe(&mut child, &log, words, mistake.halts);
    child.kill().ok();
    child.wait()?;
    outcome
}

fn observe(child: &mut Child, log: &Path, words: &[&str], halts: bool) -> Result<Outcome> {
    let start = Instant::now();
    let mut found: Option<Instant> = None;
    loop {
        let gone = child.try_wait()?;
        let text = String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned();
        if found.is_none() && text.lines().any(|l| says(l, words)) {
            found = Some(Instant::now());
        }
        match found {
            Some(_) if gone.is_some() => {
                return Ok(Outcome::Failed(format!(
                    "said so, but then reset instead of halting\n{}",
                    system::last_lines(log)
                )));
            }
            Some(since) if since.elapsed() > HALT => {
                let reached = halts && text.contains("Linux version");
                let ran = || Outcome::Failed(format!("said so, but then started dom0\n{}", system::last_lines(log)));
                return Ok(if reached { ran() } else { Outcome::Passed });
            }
            None if gone.is_some() || start.elapsed() > LIMIT => {
                let how = if gone.is_some() { "the machine was reset or ended" } else { "time limit passed" };
                let words = words.join(" ");
                return Ok(Outcome::Failed(format!(
                    "{how} without a line that says: {words}\n{}",
                    system::last_lines(log)
                )));
            }
            _ => sleep(Duration::from_millis(100)),
        }
    }
}

/// Whether all words are in the line; the echo of the command line does not count.
fn says(line: &str, words: &[&str]) -> bool {
    let line = line.to_lowercase();
    !line.contains("command line") && words.iter().all(|w| w.split('|').any(|w| line.contains(w)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_echo_of_the_command_line_is_no_warning() {
        assert!(says("(XEN) Unknown option \"frobnicate\"", &["unknown", "frobnicate"]));
        assert!(!says("(XEN) Command line: unknown frobnicate=7", &["unknown", "frobnicate"]));
        assert!(says("(XEN) bad MADT", &["acpi|madt", "bad|broken"]));
        assert!(!says("(XEN) frobnicate", &["unknown", "frobnicate"]));
    }
}
