//! The machine that xtask runs on: where things are, and how programs are run on it.

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use std::env;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The root of the workspace.
pub fn workspace() -> PathBuf {
    let manifest = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&manifest).parent().expect("xtask is a folder of the workspace").to_path_buf()
}

/// The folder for build results of this clone.
pub fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

/// The folder for what every clone of one user shares: the dom0 images.
///
/// # Errors
/// Where neither `XENOLITH_CACHE`, `XDG_CACHE_HOME` nor `HOME` is set.
pub fn cache() -> Result<PathBuf> {
    let set = |name| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(path) = set("XENOLITH_CACHE") {
        return Ok(path);
    }
    let base = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|h| h.join(".cache")));
    Ok(base
        .context("neither XDG_CACHE_HOME nor HOME is set: set XENOLITH_CACHE to a folder for the images")?
        .join("xenolith"))
}

/// A new folder of this run under target/, for its files; the 20 newest are kept.
///
/// # Errors
/// Where it cannot be made.
pub fn run_folder() -> Result<PathBuf> {
    let runs = target().join("runs");
    fs::create_dir_all(&runs).with_context(|| format!("cannot make {}", runs.display()))?;
    let mut old: Vec<PathBuf> = fs::read_dir(&runs)?.filter_map(|e| Some(e.ok()?.path())).collect();
    old.sort_by_key(|p| fs::metadata(p).and_then(|m| m.modified()).ok());
    let stale = Duration::from_secs(3600);
    for path in old.iter().take(old.len().saturating_sub(20)) {
        let age = fs::metadata(path).and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
        if age.is_some_and(|a| a > stale) {
            fs::remove_dir_all(path).ok();
        }
    }
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let folder = runs.join(format!("{}-{}", since_epoch.as_millis(), std::process::id()));
    fs::create_dir(&folder)?;
    Ok(folder)
}

/// Whether this process is root.
pub fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

/// `program`, run as root: directly, or by sudo where this process is not root.
pub fn as_root(program: &str) -> Command {
    if is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.arg(program);
    command
}

/// An exclusive lock on a file, held until dropped; says so where it has to wait.
///
/// # Errors
/// Where the file cannot be made or locked.
pub fn lock(path: &Path, what: &str) -> Result<File> {
    use rustix::fs::{FlockOperation, flock};
    let file = File::create(path).with_context(|| format!("cannot make {}", path.display()))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        eprintln!("waiting for another run that works on {what} ...");
        flock(&file, FlockOperation::LockExclusive).with_context(|| format!("cannot lock {}", path.display()))?;
    }
    Ok(file)
}

/// Runs `command`; its output goes to `log`, its last line is shown as progress.
///
/// # Errors
/// Where it cannot be started or fails: the last lines of its output are in the error.
pub fn run_with_progress(mut command: Command, label: &str, log: &Path) -> Result<()> {
    let mut log_file = File::create(log).with_context(|| format!("cannot make {}", log.display()))?;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log_file.try_clone()?);
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command.spawn().with_context(|| format!("cannot run {name}"))?;
    let progress = Progress::new(label);
    for line in BufReader::new(child.stdout.take().expect("is piped")).split(b'\n') {
        let line = line?;
        log_file.write_all(&line)?;
        log_file.write_all(b"\n")?;
        progress.step(&String::from_utf8_lossy(&line));
    }
    let status = child.wait()?;
    if !status.success() {
        let text = fs::read_to_string(log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(12)..].join("\n  ");
        bail!("{name} failed ({status}); all of its output is in {}, the end is:\n  {tail}", log.display());
    }
    progress.done();
    Ok(())
}

/// Progress of one long step on stderr: a spinner on a terminal, else a line every ten seconds.
pub struct Progress {
    label: String,
    bar: Option<ProgressBar>,
    start: Instant,
    last_line: std::cell::Cell<Instant>,
}

impl Progress {
    /// Begins a step, named `label`.
    pub fn new(label: &str) -> Self {
        let now = Instant::now();
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} [{elapsed}] {wide_msg}") {
                bar.set_style(style);
            }
            bar.set_prefix(label.to_string());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        if bar.is_none() {
            eprintln!("{label} ...");
        }
        Self { label: label.to_string(), bar, start: now, last_line: std::cell::Cell::new(now) }
    }

    /// Shows what the step is doing now.
    pub fn step(&self, message: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(message.to_string());
        } else if self.last_line.get().elapsed() > Duration::from_secs(10) {
            self.last_line.set(Instant::now());
            eprintln!("{} ... {} s: {message}", self.label, self.start.elapsed().as_secs());
        }
    }

    /// Ends the step.
    pub fn done(self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        eprintln!("{}: done in {:.0} s", self.label, self.start.elapsed().as_secs_f32());
    }
}
