//! `./x run`: boots the machine, with a person at its console or a script in its dom0.

use crate::cli::{Boot, Dom0Kind, Hypervisor, RunOptions};
use crate::image::cpio::Archive;
use crate::image::{self, Dom0};
use crate::machine::{self, Channels, Console, Payload};
use crate::script::{self, Verdict, Watched};
use crate::{grub, host, hypervisor, profile};
use anyhow::{Context, Result, bail};
use std::cell::Cell;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Exit status where dom0 never came up.
pub const NO_DOM0: u8 = 97;
/// Exit status where the time limit passed.
pub const TIME_LIMIT: u8 = 98;

/// Everything that a run boots.
pub struct Prepared {
    /// The hypervisor; `None` boots the kernel alone.
    pub image: Option<PathBuf>,
    /// The hypervisor's file with its symbols, where it was built here.
    pub symbols: Option<PathBuf>,
    /// dom0's files.
    pub dom0: Dom0,
}

/// Builds or fetches from the cache what `options` name.
///
/// # Errors
/// Where that fails.
pub fn prepare(options: &RunOptions) -> Result<Prepared> {
    let mut symbols = None;
    let image = match (&options.image, options.hypervisor) {
        (Some(path), _) => Some(path.clone()),
        (None, Hypervisor::Xenolith) => {
            let profile = match options {
                RunOptions { debug: true, .. } => "dev",
                RunOptions { quick: true, .. } => "quick",
                _ => "release",
            };
            let image = hypervisor::build(profile).context("cannot build the hypervisor")?;
            symbols = Some(image.elf64);
            Some(if options.boot == Boot::Direct { image.elf32 } else { image.gz })
        }
        (None, Hypervisor::Xen) => Some(image::debian_xen()?),
        (None, Hypervisor::None) => None,
    };
    let mut dom0 = match options.dom0 {
        Dom0Kind::Mini => image::mini()?,
        Dom0Kind::Full => image::full()?,
    };
    if options.more_guests {
        dom0.disks.extend(image::more_guests()?);
    }
    if let Some(kernel) = &options.kernel {
        dom0.kernel.clone_from(kernel);
    }
    Ok(Prepared { image, symbols, dom0 })
}

/// Carries out `./x run`.
///
/// # Errors
/// Where the machine cannot be started.
pub fn run(options: &RunOptions) -> Result<ExitCode> {
    let script = match (&options.script, &options.exec) {
        (Some(path), _) => Some(fs::read(path).with_context(|| format!("cannot read {}", path.display()))?),
        (None, Some(commands)) => Some(format!("#!/bin/sh\n{commands}\n").into_bytes()),
        (None, None) => None,
    };
    let prepared = prepare(options)?;
    let folder = host::run_folder()?;
    let log = options.log.clone().unwrap_or_else(|| folder.join("serial.log"));
    File::create(&log).with_context(|| format!("cannot make {}", log.display()))?;
    let Some(script) = script else {
        return interactive(options, &prepared, &folder, &log);
    };
    eprintln!("serial log: {}", log.display());
    let watched = Watched {
        folder: &folder,
        log: &log,
        out: &mut io::stdout(),
        err: &mut io::stderr(),
        deadline: &Cell::new(script::after(options.timeout)),
    };
    let verdict = scripted(options, &prepared, &script, watched)?;
    match &verdict {
        Verdict::Exited(_) => {}
        Verdict::NoDom0(reason) => eprintln!("x: {reason}; see {}", log.display()),
        Verdict::TimeLimit { up, .. } => {
            let state = if *up { "while the script ran" } else { "before dom0 came up" };
            eprintln!("x: the time limit of {} s passed {state}; see {}", options.timeout, log.display());
        }
    }
    if options.profile {
        eprint!("{}", profile::report(&folder, prepared.symbols.as_deref())?);
    }
    Ok(ExitCode::from(status_of(&verdict)))
}

/// The exit status that tells of it.
fn status_of(verdict: &Verdict) -> u8 {
    match verdict {
        Verdict::Exited(status) => *status,
        Verdict::NoDom0(_) | Verdict::TimeLimit { up: false, .. } => NO_DOM0,
        Verdict::TimeLimit { up: true, .. } => TIME_LIMIT,
    }
}

/// The console on the terminal.
fn interactive(options: &RunOptions, prepared: &Prepared, folder: &Path, log: &Path) -> Result<ExitCode> {
    let dom0 = with_job(&prepared.dom0, job(options, None)?, folder)?.0;
    eprintln!("serial log: {}; Ctrl-\\ then x leaves, three times Ctrl-a switches the console", log.display());
    let image = prepared.image.as_deref();
    let grub = grub::disk(options, image, &dom0, folder)?;
    let payload = Payload { image, dom0: &dom0, grub: grub.as_ref() };
    let mut command = machine::command(options, &payload, &Console::Terminal { log }, None);
    let status = command.status().context("cannot run QEMU")?;
    if !status.success() {
        bail!("QEMU ended with {status}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Boots, runs `script` in dom0 and copies what it writes while it runs.
///
/// # Errors
/// Where the machine cannot be started.
pub fn scripted(options: &RunOptions, prepared: &Prepared, script: &[u8], watched: Watched) -> Result<Verdict> {
    let (folder, log) = (watched.folder, watched.log);
    let (dom0, disk) = with_job(&prepared.dom0, job(options, Some(script))?, folder)?;
    let channels = Channels { folder, disk: disk.as_deref() };
    let image = prepared.image.as_deref();
    let grub = grub::disk(options, image, &dom0, folder)?;
    let payload = Payload { image, dom0: &dom0, grub: grub.as_ref() };
    let mut command = machine::command(options, &payload, &Console::Pipe { log }, Some(&channels));
    if options.profile {
        command.args(profile::arguments(folder, log)?);
    }
    script::watch(command, watched)
}

/// What goes into dom0 beside its image: the script and the files.
fn job(options: &RunOptions, script: Option<&[u8]>) -> Result<Option<Archive>> {
    let mut archive = Archive::new();
    if let Some(script) = script {
        archive.file(
            "root/job/script",
            0o755,
            if script.starts_with(b"#!") { script.to_vec() } else { [b"#!/bin/sh\n", script].concat() },
        );
    }
    if let Some(files) = &options.files {
        archive.tree("root/files", files)?;
    }
    Ok((script.is_some() || options.files.is_some()).then_some(archive))
}

/// dom0 with the job in it: behind its initial RAM file system where that is all it has, else on a disk.
fn with_job(dom0: &Dom0, job: Option<Archive>, folder: &Path) -> Result<(Dom0, Option<PathBuf>)> {
    let mut dom0 = dom0.clone();
    let Some(job) = job else {
        return Ok((dom0, None));
    };
    if dom0.root.is_some() {
        let path = folder.join("job.cpio");
        job.write(&mut io::BufWriter::new(File::create(&path)?))?;
        return Ok((dom0, Some(path)));
    }
    let path = folder.join("initrd");
    fs::copy(&dom0.initrd, &path).with_context(|| format!("cannot copy {}", dom0.initrd.display()))?;
    let mut file = io::BufWriter::new(File::options().append(true).open(&path)?);
    job.write(&mut file)?;
    file.flush()?;
    dom0.initrd = path;
    Ok((dom0, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_tell_a_lost_dom0_from_a_long_script() {
        assert_eq!(status_of(&Verdict::Exited(7)), 7);
        assert_eq!(status_of(&Verdict::NoDom0("lost".to_string())), 97);
        let late = |up| status_of(&Verdict::TimeLimit { up, state: String::new() });
        assert_eq!((late(false), late(true)), (97, 98), "97 where it never came up");
    }
}
