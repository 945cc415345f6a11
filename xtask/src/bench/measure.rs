//! The measurement: a boot in which the test kernel counts, one that ends at dom0's first instruction, and the size of the image.

use super::scale;
use crate::cli::{Hypervisor, MachineOptions, RunOptions};
use crate::guests::{self, Kind};
use crate::machine::{self, Console, Payload};
use crate::run::Prepared;
use crate::script::{self, Verdict, Watched};
use crate::{host, profile, run};
use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use object::Endianness;
use object::elf::FileHeader32;
use object::read::elf::FileHeader;
use std::borrow::Borrow;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a boot with all its guests may take, in seconds.
const TIME_LIMIT: u64 = 600;
/// How much longer for each other domain.
const OTHER_LIMIT: u64 = 20;
/// The figure of the way to dom0's first instruction.
const START: &str = "start/boot.entry-to-dom0";
/// How long that way may take.
const START_LIMIT: Duration = Duration::from_secs(300);

/// What is to be measured.
pub struct Wanted {
    /// As which guests the test kernel runs.
    pub kinds: Vec<Kind>,
    /// Also memory, start-up and the image's size.
    pub whole: bool,
    /// Also with other numbers of virtual processors and domains.
    pub scale: bool,
    /// With a hypervisor that was built quickly.
    pub quick: bool,
}

/// What was measured on one hypervisor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// How it names itself.
    pub version: String,
    /// Instructions of an operation, by `KIND/GROUP.NAME`; of those in `memory/`, KiB.
    pub costs: BTreeMap<String, u64>,
}

/// A machine with what is measured in dom0.
pub struct Bench {
    /// Options of the machine.
    pub options: RunOptions,
    prepared: Prepared,
    folder: PathBuf,
}

impl Bench {
    /// One with the test kernel.
    fn new(hypervisor: Hypervisor, quick: bool) -> Result<Self> {
        Self::with_files(hypervisor, quick, guests::put_bench_kernel)
    }

    /// One with the files that `put` puts into a folder.
    ///
    /// # Errors
    /// Where they or the machine cannot be made.
    pub fn with_files(hypervisor: Hypervisor, quick: bool, put: impl FnOnce(&Path) -> Result<()>) -> Result<Self> {
        let mut options = MachineOptions::try_parse_from(["machine", "--icount", "--smp", "1"])?.run;
        options.hypervisor = hypervisor;
        options.quick = quick;
        let folder = host::run_folder()?;
        let files = folder.join("files");
        put(&files)?;
        options.files = Some(files);
        let prepared = run::prepare(&options)?;
        Ok(Self { options, prepared, folder })
    }

    /// The log of its console.
    pub fn log(&self) -> PathBuf {
        self.folder.join("serial.log")
    }

    /// Boots, and runs the test kernel's script; gives what it printed.
    fn run(&self, arguments: &[String], limit: u64) -> Result<String> {
        self.run_script("run.sh", arguments, limit)
    }

    /// Boots, and runs this script of tests/bench; gives what it printed.
    ///
    /// # Errors
    /// Where the machine does not start, or the script fails.
    pub fn run_script(&self, script: &str, arguments: &[impl Borrow<str>], limit: u64) -> Result<String> {
        let log = self.log();
        eprintln!("boots {:?} to count; serial log: {}", self.options.hypervisor, log.display());
        let path = host::workspace().join("tests/bench").join(script);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let script = text.replacen("#!/bin/sh\n", &format!("#!/bin/sh\nset -- {}\n", arguments.join(" ")), 1);
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let script = script.as_bytes();
        let deadline = Cell::new(script::after(limit));
        let watched = Watched { folder: &self.folder, log: &log, out: &mut out, err: &mut err, deadline: &deadline };
        match run::scripted(&self.options, &self.prepared, script, watched)? {
            Verdict::Exited(0) => Ok(String::from_utf8_lossy(&out).into_owned()),
            Verdict::Exited(_) => bail!("{}; see {}", String::from_utf8_lossy(&err).trim(), log.display()),
            Verdict::NoDom0(reason) => bail!("{reason}; see {}", log.display()),
            Verdict::TimeLimit { .. } => bail!("the time limit of {limit} s passed; see {}", log.display()),
        }
    }
}

/// Boots the hypervisor and measures.
///
/// # Errors
/// Where the machine does not start, or a guest does not end.
pub fn measure(hypervisor: Hypervisor, wanted: &Wanted) -> Result<Measured> {
    let bench = Bench::new(hypervisor, wanted.quick)?;
    let mut arguments: Vec<String> = wanted.kinds.iter().map(|kind| kind.name().to_string()).collect();
    arguments.extend(wanted.whole.then(|| "memory".to_string()));
    let mut limit = TIME_LIMIT;
    if wanted.scale {
        arguments.extend(scale::arguments(&wanted.kinds));
        limit += TIME_LIMIT + scale::most_domains() * OTHER_LIMIT;
    }
    let mut costs = costs(&bench.run(&arguments, limit)?);
    ensure!(!costs.is_empty(), "nothing was measured; see {}", bench.log().display());
    if wanted.whole {
        let image = bench.prepared.image.as_deref().context("no hypervisor, nothing to measure")?;
        costs.insert(START.to_string(), start_up(&bench, image)?);
        costs.insert("memory/image.file".to_string(), fs::metadata(image)?.len() / 1024);
    }
    Ok(Measured { version: version(&String::from_utf8_lossy(&fs::read(bench.log())?)), costs })
}

/// Has one operation carried out for long, and says in which functions its instructions are.
///
/// # Errors
/// As for `measure`.
pub fn profile(hypervisor: Hypervisor, name: &str, quick: bool) -> Result<String> {
    if name == START {
        let bench = Bench::new(hypervisor, quick)?;
        start_up(&bench, bench.prepared.image.as_deref().context("no hypervisor, nothing to measure")?)?;
        return profile::report(&bench.folder, bench.prepared.symbols.as_deref());
    }
    let kind = name.split_once('/').and_then(|(kind, _)| Kind::ALL.into_iter().find(|k| k.name() == kind));
    ensure!(kind.is_some(), "{name} is no KIND/GROUP.NAME of the table that ./x bench prints");
    let mut bench = Bench::new(hypervisor, quick)?;
    bench.options.profile = true;
    bench.run(&[name.to_string()], TIME_LIMIT)?;
    profile::report(&bench.folder, bench.prepared.symbols.as_deref())
}

/// The lines `cost NAME COUNT`.
pub fn costs(text: &str) -> BTreeMap<String, u64> {
    let one = |line: &str| {
        let (name, count) = line.strip_prefix("cost ")?.rsplit_once(' ')?;
        Some((name.to_string(), count.parse().ok()?))
    };
    text.lines().filter_map(one).collect()
}

/// What the first line of the hypervisor's log says that has its version.
pub fn version(log: &str) -> String {
    let line = log.lines().find(|line| line.contains("(XEN) Xen") && line.contains(" version "));
    let text = line.and_then(|line| line.split_once("(XEN) ")).map_or("unknown", |(_, text)| text).trim();
    // When and by whom Debian's was built does not matter.
    text.split(" (Debian").next().map_or_else(String::new, |version| match text.split_once("(Debian ") {
        Some((_, rest)) => format!("{version} (Debian {}", rest.split_inclusive(')').next().unwrap_or("")),
        None => version.to_string(),
    })
}

/// Instructions from the image's entry to dom0's first.
fn start_up(bench: &Bench, image: &Path) -> Result<u64> {
    let Bench { options, prepared, folder } = bench;
    eprintln!("boots {:?} to dom0's first instruction", options.hypervisor);
    let data = fs::read(image).with_context(|| format!("cannot read {}", image.display()))?;
    let header = FileHeader32::<Endianness>::parse(&*data).context("the image is no ELF32 file")?;
    let entry = header.e_entry(header.endian()?).into();
    let count = folder.join("start");
    let log = folder.join("start.log");
    let payload = Payload { image: Some(image), dom0: &prepared.dom0, grub: None };
    let mut command = machine::command(options, &payload, &Console::Pipe { log: &log }, None);
    command.args(profile::start_arguments(folder, entry, &count)?);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(folder.join("start-qemu.log"))?);
    let mut child = command.spawn().context("cannot run QEMU")?;
    let start = Instant::now();
    while child.try_wait()?.is_none() {
        if start.elapsed() > START_LIMIT {
            child.kill().ok();
            child.wait()?;
            bail!("dom0 did not begin within {} s; see {}", START_LIMIT.as_secs(), log.display());
        }
        sleep(Duration::from_millis(50));
    }
    let text = fs::read_to_string(&count).with_context(|| format!("dom0 did not begin; see {}", log.display()))?;
    Ok(text.trim().parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_read_from_among_other_lines() {
        let found = costs("noise\ncost pv/event.send-masked 17\ncost broken\ncost memory/x 4096\n");
        let found: Vec<_> = found.iter().map(|(name, count)| (name.as_str(), *count)).collect();
        assert_eq!(found, [("memory/x", 4096), ("pv/event.send-masked", 17)]);
    }

    #[test]
    fn versions_are_read_from_the_log() {
        let ours = "SeaBIOS\n(XEN) Xenolith version 4.20.0-xenolith (0.1.0, rustc 1.85.1)\n";
        assert_eq!(version(ours), "Xenolith version 4.20.0-xenolith (0.1.0, rustc 1.85.1)");
        let theirs = "(XEN) Xen version 4.20.3 (Debian 4.20.3-1) (someone@example.org) (gcc 14) debug=n today\n";
        assert_eq!(version(theirs), "Xen version 4.20.3 (Debian 4.20.3-1)");
        assert_eq!(version(""), "unknown");
    }
}
