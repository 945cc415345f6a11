//! The hypervisor's own end. A machine check, which QEMU's monitor makes, has to lead to a report, then to a new start or,
//! with `noreboot`, to a halt. dom0 takes the machine with it when it crashes or restarts, which keys make it do.

use super::log::{appears, read};
use super::{Outcome, Selection, Tally, system};
use crate::cli::{Hypervisor, MachineOptions};
use crate::machine::{self, Console, Payload};
use crate::{host, run};
use anyhow::{Context, Result};
use clap::Parser;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long the machine may take until dom0 is so far.
const BOOT: Duration = Duration::from_secs(120);
/// After what it has to say dom0 comes to rest, or polls, within this time.
const SETTLE: Duration = Duration::from_secs(2);
/// How long the report may take; and how long the new start may take to come, which is due after five seconds.
const REPORT: Duration = Duration::from_secs(20);
/// How often chance may find the CPU elsewhere.
const MISSES: usize = 4;
/// For so long a machine that halts must still be there.
const HALT: Duration = Duration::from_secs(8);

/// An uncorrected error that has corrupted the processor's state, on CPU 1, in bank 4 (SDM vol. 3, 16.3.2).
const IDLE_MACHINE_CHECK: &str = "mce 1 4 0xbe00000000000000 0x5 0x1000 0\n";
/// The same on CPU 0.
const BUSY_MACHINE_CHECK: &str = "mce 0 4 0xbe00000000000000 0x5 0x1000 0\n";

/// What makes it end.
struct Cause {
    /// dom0's console says this before it can.
    when: &'static str,
    /// More for dom0's command line.
    dom0: &'static str,
    /// The monitor's command.
    command: &'static str,
    /// What is then said, in this order.
    words: &'static [&'static str],
    /// The same where Debian's Xen says it.
    xen_words: &'static [&'static str],
    /// Where the report says this, chance has found the CPU elsewhere, and the case is tried again.
    missed: Option<&'static str>,
}

const MACHINE_ERROR: Cause = Cause {
    when: "Linux version",
    dom0: "",
    command: IDLE_MACHINE_CHECK,
    words: &[
        "CPU:    1",
        "RIP:    ",
        "CONTEXT: hypervisor",
        "rax: ",
        "cr3: ",
        "Xen call trace:",
        "x86::run::",
        "Panic on CPU 1:",
        "FATAL TRAP: vector = 18 (machine check)",
    ],
    xen_words: &["Panic on CPU 1:"],
    missed: None,
};
/// dom0 never lets go of its CPU, which is in the hypervisor for but a small part of the time.
const MACHINE_ERROR_IN_GUEST: Cause = Cause {
    when: "dom0: ready",
    dom0: "idle=poll",
    command: BUSY_MACHINE_CHECK,
    words: &["CPU:    0", "CONTEXT: guest", "Xen call trace:", "x86::run::", "Panic on CPU 0:"],
    xen_words: &["Panic on CPU 0:"],
    missed: Some("CONTEXT: hypervisor"),
};
const DOM0_CRASH: Cause = Cause {
    when: "dom0: ready",
    dom0: "",
    command: "sendkey alt-sysrq-c\n",
    words: &["Kernel panic", "Hardware Dom0 crashed"],
    xen_words: &["Kernel panic", "Hardware Dom0 crashed"],
    missed: None,
};
const DOM0_RESTART: Cause = Cause {
    when: "dom0: ready",
    dom0: "",
    command: "sendkey ctrl-alt-delete\n",
    words: &["reboot: Restarting system", "Hardware Dom0 shutdown"],
    xen_words: &["reboot: Restarting system", "Hardware Dom0 shutdown"],
    missed: None,
};

/// One way to end.
struct Case {
    name: &'static str,
    arguments: &'static str,
    cause: Cause,
    last_line: &'static str,
    restarts: bool,
}

/// dom0 stays on CPU 0, so that CPU 1 is idle.
const PINNED: &str = "dom0_max_vcpus=1 dom0_vcpus_pin";
const CASES: &[Case] = &[
    Case {
        name: "machine-check",
        arguments: PINNED,
        cause: MACHINE_ERROR,
        last_line: "Reboot in five seconds...",
        restarts: true,
    },
    Case {
        name: "machine-check-noreboot",
        arguments: "noreboot dom0_max_vcpus=1 dom0_vcpus_pin",
        cause: MACHINE_ERROR,
        last_line: "Manual reset required ('noreboot' specified)",
        restarts: false,
    },
    Case {
        name: "machine-check-in-guest",
        arguments: PINNED,
        cause: MACHINE_ERROR_IN_GUEST,
        last_line: "Reboot in five seconds...",
        restarts: true,
    },
    Case {
        name: "dom0-crash",
        arguments: "",
        cause: DOM0_CRASH,
        last_line: "rebooting machine in 5 seconds.",
        restarts: true,
    },
    Case {
        name: "dom0-crash-noreboot",
        arguments: "noreboot",
        cause: DOM0_CRASH,
        last_line: "'noreboot' set - not rebooting.",
        restarts: false,
    },
    Case {
        name: "dom0-restart",
        arguments: "noreboot",
        cause: DOM0_RESTART,
        last_line: "rebooting machine",
        restarts: true,
    },
];

fn name(case: &Case) -> String {
    format!("panic/{}", case.name)
}

/// Names of the tests.
pub fn names() -> Vec<String> {
    CASES.iter().map(name).collect()
}

/// Runs them.
pub fn run(selection: &Selection, tally: &mut Tally) {
    for case in CASES.iter().filter(|case| selection.wants(&name(case))) {
        let start = Instant::now();
        eprintln!("  {} ...", name(case));
        let outcome = one(selection.hypervisor(), case).unwrap_or_else(|e| Outcome::Failed(format!("{e:#}")));
        tally.add(&name(case), &outcome, start.elapsed());
    }
}

fn one(hypervisor: Hypervisor, case: &Case) -> Result<Outcome> {
    let words = match hypervisor {
        Hypervisor::None => return Ok(Outcome::Skipped("needs a hypervisor".to_string())),
        Hypervisor::Xen => case.cause.xen_words,
        Hypervisor::Xenolith => case.cause.words,
    };
    for _ in 0..MISSES {
        let (wrong, log) = attempt(hypervisor, case, words)?;
        let Some(wrong) = wrong else { return Ok(Outcome::Passed) };
        if !case.cause.missed.is_some_and(|missed| read(&log).contains(missed)) {
            return Ok(Outcome::Failed(format!("{wrong}\n{}", system::last_lines(&log))));
        }
    }
    Ok(Outcome::Failed(format!("the CPU was found elsewhere {MISSES} times")))
}

/// Boots the machine and provokes its end; gives what is wrong, and the file with what it said.
fn attempt(hypervisor: Hypervisor, case: &Case, words: &[&str]) -> Result<(Option<String>, PathBuf)> {
    let mut options = MachineOptions::try_parse_from(["machine"])?.run;
    options.hypervisor = hypervisor;
    options.xen_args = Some(case.arguments.to_string());
    options.dom0_args = Some(format!("sysrq_always_enabled {}", case.cause.dom0));
    let folder = host::run_folder()?;
    let log = folder.join("serial.log");
    File::create(&log)?;
    let prepared = run::prepare(&options)?;
    let payload = Payload { image: prepared.image.as_deref(), dom0: &prepared.dom0, grub: None };
    let mut command = machine::command(&options, &payload, &Console::Pipe { log: &log }, None);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(File::create(folder.join("qemu.log"))?);
    let mut child = command.spawn().context("cannot run QEMU")?;
    let wrong = provoke(&mut child, &log, case, words);
    child.kill().ok();
    child.wait()?;
    Ok((wrong?, log))
}

/// Provokes the end; gives what is wrong with what follows.
fn provoke(child: &mut Child, log: &Path, case: &Case, words: &[&str]) -> Result<Option<String>> {
    if appears(child, log, 0, case.cause.when, BOOT)?.is_none() {
        return Ok(Some(format!("dom0 did not say: {}", case.cause.when)));
    }
    sleep(SETTLE);
    let monitor = child.stdin.as_mut().context("the monitor is a pipe")?;
    monitor.write_all(machine::MONITOR.as_bytes())?;
    monitor.write_all(case.cause.command.as_bytes())?;
    monitor.flush()?;
    if appears(child, log, 0, case.last_line, REPORT)?.is_none() {
        return Ok(Some(format!("no line that says: {}", case.last_line)));
    }
    if let Some(missing) = first_missing(&read(log), words) {
        return Ok(Some(format!("the report does not say, in its place: {missing}")));
    }
    Ok(match (gone_within(child, if case.restarts { REPORT } else { HALT })?, case.restarts) {
        (true, true) | (false, false) => None,
        (false, true) => Some("no new start".to_string()),
        (true, false) => Some("a new start in spite of noreboot".to_string()),
    })
}

/// Whether QEMU ends in this time, as it does when its machine is reset.
fn gone_within(child: &mut Child, limit: Duration) -> Result<bool> {
    let start = Instant::now();
    while start.elapsed() < limit {
        if child.try_wait()?.is_some() {
            return Ok(true);
        }
        sleep(Duration::from_millis(100));
    }
    Ok(false)
}

/// The first of `words` that does not follow its predecessor somewhere.
fn first_missing<'a>(mut text: &str, words: &[&'a str]) -> Option<&'a str> {
    for word in words {
        match text.find(word) {
            Some(at) => text = &text[at + word.len()..],
            None => return Some(word),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_a_report_counts() {
        assert_eq!(first_missing("a b c", &["a", "c"]), None);
        assert_eq!(first_missing("a b c", &["c", "a"]), Some("a"));
        assert_eq!(first_missing("a", &["a", "a"]), Some("a"));
    }
}
