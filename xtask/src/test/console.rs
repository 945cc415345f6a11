//! The serial line as a person uses it: Ctrl-a three times, a debug key, Ctrl-a three times again, a command for dom0.

use super::log::appears;
use super::{Outcome, Selection, Tally, system};
use crate::cli::{Hypervisor, MachineOptions};
use crate::machine::{self, Console, Payload};
use crate::{host, run};
use anyhow::{Context, Result};
use clap::Parser;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const NAME: &str = "console/switch";
/// What dom0's shell says when it waits for a command.
const PROMPT: &str = "dom0:~# ";
/// How long the machine may take until dom0's shell prompts.
const BOOT: Duration = Duration::from_secs(120);
/// How long each answer may take.
const ANSWER: Duration = Duration::from_secs(20);

/// What is typed, and what the line has to say then, in this order.
const DIALOGUE: &[(&str, &[&str])] = &[
    ("\x01\x01\x01", &["Serial input to Xen"]),
    ("h", &["'h' pressed", "key 'h' ", "key 'q' ", "key 'r' "]),
    ("\x01\x01\x01", &["Serial input to DOM0"]),
    // The sum is the shell's, so that the line's echo is no answer.
    ("echo answer $((40 + 2))\n", &["answer 42"]),
];

/// Names of the tests.
pub fn names() -> Vec<String> {
    vec![NAME.to_string()]
}

/// Runs them.
pub fn run(selection: &Selection, tally: &mut Tally) {
    if !selection.wants(NAME) {
        return;
    }
    let start = Instant::now();
    eprintln!("  {NAME} ...");
    let outcome = switch(selection.hypervisor()).unwrap_or_else(|e| Outcome::Failed(format!("{e:#}")));
    tally.add(NAME, &outcome, start.elapsed());
}

fn switch(hypervisor: Hypervisor) -> Result<Outcome> {
    if hypervisor == Hypervisor::None {
        return Ok(Outcome::Skipped("needs a hypervisor".to_string()));
    }
    let mut options = MachineOptions::try_parse_from(["machine"])?.run;
    options.hypervisor = hypervisor;
    let folder = host::run_folder()?;
    let log = folder.join("serial.log");
    File::create(&log)?;
    let prepared = run::prepare(&options)?;
    let payload = Payload { image: prepared.image.as_deref(), dom0: &prepared.dom0, grub: None };
    let mut command = machine::command(&options, &payload, &Console::Pipe { log: &log }, None);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(File::create(folder.join("qemu.log"))?);
    let mut child = command.spawn().context("cannot run QEMU")?;
    let wrong = talk(&mut child, &log);
    child.kill().ok();
    child.wait()?;
    Ok(match wrong? {
        None => Outcome::Passed,
        Some(wrong) => Outcome::Failed(format!("{wrong}\n{}", system::last_lines(&log))),
    })
}

/// Types the dialogue; gives what is wrong with the answers.
fn talk(child: &mut Child, log: &Path) -> Result<Option<String>> {
    let Some(mut seen) = appears(child, log, 0, PROMPT, BOOT)? else {
        return Ok(Some("dom0's shell did not prompt".to_string()));
    };
    for (typed, answers) in DIALOGUE {
        let line = child.stdin.as_mut().context("the serial line is a pipe")?;
        line.write_all(typed.as_bytes())?;
        line.flush()?;
        for answer in *answers {
            let Some(end) = appears(child, log, seen, answer, ANSWER)? else {
                return Ok(Some(format!("after {typed:?} the console does not say, in its place: {answer}")));
            };
            seen = end;
        }
    }
    Ok(None)
}
