//! Watching a machine that runs a script: its channels, its console, its time.

use crate::machine::MONITOR;
use anyhow::{Context, Result};
use std::cell::Cell;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How a run with a script ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The script ended with this status.
    Exited(u8),
    /// dom0 never came up, or was lost; the text says how.
    NoDom0(String),
    /// The time limit passed.
    TimeLimit {
        /// Whether dom0 had come up.
        up: bool,
        /// What the machine said when it was asked for its state.
        state: String,
    },
}

/// What takes part in the watching of a machine.
pub struct Watched<'a> {
    /// The folder of its channels.
    pub folder: &'a Path,
    /// The file that its console goes to.
    pub log: &'a Path,
    /// Takes what the script writes to its standard output.
    pub out: &'a mut dyn Write,
    /// The same for standard error.
    pub err: &'a mut dyn Write,
    /// When it has to have ended; `out` may put it off.
    pub deadline: &'a Cell<Instant>,
}

/// The moment so many seconds from now.
pub fn after(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}

/// Console lines after which nothing more will come.
const FATAL: &[&str] =
    &["Panic on CPU", "Kernel panic - not syncing", "the Xen daemons did not start", "Manual reset required"];
/// How long the console may go on after such a line, for its explanation.
const LAST_WORDS: Duration = Duration::from_millis(1500);
/// How long a machine may take to power off after its script.
const POWER_OFF: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// What a machine that has not ended in time is asked on its console, and for how long it may answer: the hypervisor by
/// its debug keys (registers and stacks, run queues, domains, event channels), QEMU by its monitor: registers twice, since
/// a CPU that makes no progress shows itself only so, and the interrupts that the first CPUs and the board hold.
const QUESTIONS: &[(&str, Duration)] = &[
    ("\x01\x01\x01drqe", Duration::from_secs(6)),
    (MONITOR, Duration::from_millis(300)),
    ("info registers -a\n", Duration::from_secs(1)),
    ("info registers -a\n", Duration::from_secs(1)),
    ("info lapic 0\n", Duration::from_millis(300)),
    ("info lapic 1\n", Duration::from_millis(300)),
    ("info pic\n", Duration::from_millis(300)),
];

/// A file that another process appends to, read as it grows.
struct Tail {
    path: PathBuf,
    file: Option<File>,
}

impl Tail {
    fn new(path: PathBuf) -> Self {
        Self { path, file: None }
    }

    /// What was appended since the last call.
    fn more(&mut self) -> Result<Vec<u8>> {
        if self.file.is_none() {
            self.file = File::open(&self.path).ok();
        }
        let mut data = Vec::new();
        if let Some(file) = &mut self.file {
            file.read_to_end(&mut data).with_context(|| format!("cannot read {}", self.path.display()))?;
        }
        Ok(data)
    }
}

/// What the channels and the console have said so far.
struct Watch<'a> {
    out: Tail,
    err: Tail,
    status: Tail,
    console: Tail,
    status_text: String,
    console_text: String,
    /// Position in `console_text` up to which lines were looked at.
    seen: usize,
    fatal: Option<(String, Instant)>,
    with: Watched<'a>,
}

impl Watch<'_> {
    fn poll(&mut self) -> Result<()> {
        self.status_text.push_str(&String::from_utf8_lossy(&self.status.more()?));
        copy(&mut self.out, self.with.out)?;
        copy(&mut self.err, self.with.err)?;
        self.console_text.push_str(&String::from_utf8_lossy(&self.console.more()?));
        while let Some(length) = self.console_text[self.seen..].find('\n') {
            let line = self.console_text[self.seen..self.seen + length].trim_end().to_string();
            self.seen += length + 1;
            self.console_line(&line)?;
        }
        Ok(())
    }

    fn console_line(&mut self, line: &str) -> Result<()> {
        if let Some((_, message)) = line.split_once("@@xenolith:") {
            match message.split_once(':') {
                None => self.status_text.push_str(&format!("{message}\n")),
                Some(("exit", status)) => self.status_text.push_str(&format!("exit {status}\n")),
                Some(("out", text)) => self.with.out.write_all(&base64(text))?,
                Some(("err", text)) => self.with.err.write_all(&base64(text))?,
                Some(_) => {}
            }
        }
        // A panic of a guest's own kernel appears on dom0's console only by `xl console`, which the script reads.
        if self.fatal.is_none() && FATAL.iter().any(|f| line.contains(f)) {
            self.fatal = Some((line.to_string(), Instant::now()));
        }
        Ok(())
    }

    fn up(&self) -> bool {
        self.status_text.lines().any(|l| l == "up")
    }

    fn exit_status(&self) -> Option<u8> {
        let complete = self.status_text.rsplit_once('\n').map_or("", |(lines, _)| lines);
        complete.lines().find_map(|l| l.strip_prefix("exit ")?.parse().ok())
    }
}

fn copy(from: &mut Tail, to: &mut dyn Write) -> Result<()> {
    let data = from.more()?;
    if !data.is_empty() {
        to.write_all(&data)?;
        to.flush()?;
    }
    Ok(())
}

/// Decodes a line of base64; other characters are skipped.
fn base64(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = Vec::new();
    let (mut bits, mut count) = (0u32, 0);
    for byte in text.bytes() {
        let Some(value) = ALPHABET.iter().position(|a| *a == byte) else {
            continue;
        };
        bits = bits << 6 | value as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    out
}

/// Runs QEMU by `command` until its script has ended and it powered off, or something went wrong.
///
/// # Errors
/// Where QEMU cannot be started, or its files cannot be read.
pub fn watch(mut command: Command, with: Watched) -> Result<Verdict> {
    let folder = with.folder;
    let complaints = folder.join("qemu.log");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(File::create(&complaints)?);
    let mut child = command.spawn().context("cannot run QEMU")?;
    let mut watch = Watch {
        out: Tail::new(folder.join("out")),
        err: Tail::new(folder.join("err")),
        status: Tail::new(folder.join("status")),
        console: Tail::new(with.log.to_path_buf()),
        status_text: String::new(),
        console_text: String::new(),
        seen: 0,
        fatal: None,
        with,
    };
    let verdict = until_end(&mut child, &mut watch, &complaints);
    if child.try_wait()?.is_none() {
        child.kill().ok();
        child.wait()?;
    }
    watch.poll()?;
    verdict
}

/// Asks the machine for its state; gives what its console says from then on.
fn interrogate(child: &mut Child, watch: &mut Watch) -> Result<String> {
    let before = watch.console_text.len();
    for (keys, time) in QUESTIONS {
        // A machine that takes no more input has said all that it will.
        if child.stdin.as_mut().is_none_or(|line| line.write_all(keys.as_bytes()).is_err()) {
            break;
        }
        let asked = Instant::now();
        while asked.elapsed() < *time {
            watch.poll()?;
            sleep(POLL);
        }
    }
    Ok(watch.console_text[before..].replace('\r', ""))
}

fn until_end(child: &mut Child, watch: &mut Watch, complaints: &Path) -> Result<Verdict> {
    let mut ended: Option<Instant> = None;
    loop {
        let gone = child.try_wait()?;
        watch.poll()?;
        if let Some(status) = watch.exit_status() {
            let since = ended.get_or_insert_with(Instant::now).elapsed();
            if gone.is_some() || watch.fatal.is_some() {
                return Ok(Verdict::Exited(status));
            }
            if since > POWER_OFF {
                eprintln!("x: the machine did not power off within {} s after its script", POWER_OFF.as_secs());
                return Ok(Verdict::Exited(status));
            }
        } else if let Some(status) = gone {
            let said = fs::read_to_string(complaints).unwrap_or_default();
            let how = if watch.up() { "dom0 was lost before its script ended" } else { "dom0 never came up" };
            let said = if said.trim().is_empty() { String::new() } else { format!(": {}", said.trim()) };
            return Ok(Verdict::NoDom0(format!("{how}: QEMU ended ({status}){said}")));
        } else if let Some((line, when)) = &watch.fatal {
            if when.elapsed() > LAST_WORDS {
                let how = if watch.up() { "dom0 was lost before its script ended" } else { "dom0 never came up" };
                return Ok(Verdict::NoDom0(format!("{how}: {line}")));
            }
        } else if Instant::now() > watch.with.deadline.get() {
            return Ok(Verdict::TimeLimit { up: watch.up(), state: interrogate(child, watch)? });
        }
        sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scripted(shell: &str, limit: u64) -> (Verdict, String) {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("xenolith-script-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let mut command = Command::new("sh");
        command.current_dir(&folder).arg("-c").arg(shell);
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let deadline = Cell::new(Instant::now() + Duration::from_millis(limit));
        let log = folder.join("log");
        let with = Watched { folder: &folder, log: &log, out: &mut out, err: &mut err, deadline: &deadline };
        let verdict = watch(command, with).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        (verdict, String::from_utf8(out).unwrap() + &String::from_utf8(err).unwrap())
    }

    #[test]
    fn status_and_output_come_through() {
        let (verdict, text) =
            scripted("echo up >status; printf 'a\\nb' >out; printf c >err; echo exit 3 >>status", 5000);
        assert_eq!((verdict, text.as_str()), (Verdict::Exited(3), "a\nbc"));
    }

    #[test]
    fn console_channel_comes_through_between_other_lines() {
        let (verdict, text) =
            scripted("printf '@@xenolith:up\\n(XEN) x\\n@@xenolith:out:aGVsbG8K\\n@@xenolith:exit:4\\n' >log", 5000);
        assert_eq!((verdict, text.as_str()), (Verdict::Exited(4), "hello\n"));
    }

    #[test]
    fn end_without_status_is_no_dom0() {
        let (verdict, _) = scripted("echo complaint >&2", 5000);
        let Verdict::NoDom0(reason) = verdict else { panic!("{verdict:?}") };
        assert!(reason.contains("never came up") && reason.contains("complaint"), "{reason}");
    }

    #[test]
    fn panic_on_the_console_ends_the_run() {
        let (verdict, _) = scripted("echo up >status; echo '(XEN) Panic on CPU 0:' >log; exec sleep 60", 50_000);
        let Verdict::NoDom0(reason) = verdict else { panic!("{verdict:?}") };
        assert!(reason.contains("was lost") && reason.contains("Panic on CPU 0"), "{reason}");
    }

    #[test]
    fn time_limit_kills() {
        assert!(matches!(scripted("exec sleep 60", 200).0, Verdict::TimeLimit { up: false, .. }));
    }

    #[test]
    fn a_machine_that_did_not_end_in_time_is_asked_for_its_state() {
        let (verdict, _) = scripted("echo up >status; read keys; echo it said $keys >log; exec sleep 60", 200);
        let Verdict::TimeLimit { up: true, state } = verdict else { panic!("{verdict:?}") };
        assert!(state.contains("it said") && state.contains("drqe"), "{state}");
    }
}
