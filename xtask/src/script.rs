//! Watching a machine that runs a script: its channels, its console, its time.

use anyhow::{Context, Result};
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
    },
}

/// Console lines after which nothing more will come.
const FATAL: &[&str] =
    &["Panic on CPU", "Kernel panic - not syncing", "the Xen daemons did not start", "Manual reset required"];
/// How long the console may go on after such a line, for its explanation.
const LAST_WORDS: Duration = Duration::from_millis(1500);
/// How long a machine may take to power off after its script.
const POWER_OFF: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

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
    to_out: &'a mut dyn Write,
    to_err: &'a mut dyn Write,
}

impl Watch<'_> {
    fn poll(&mut self) -> Result<()> {
        self.status_text.push_str(&String::from_utf8_lossy(&self.status.more()?));
        copy(&mut self.out, self.to_out)?;
        copy(&mut self.err, self.to_err)?;
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
                Some(("out", text)) => self.to_out.write_all(&base64(text))?,
                Some(("err", text)) => self.to_err.write_all(&base64(text))?,
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
pub fn watch(
    mut command: Command,
    folder: &Path,
    log: &Path,
    limit: Duration,
    to_out: &mut dyn Write,
    to_err: &mut dyn Write,
) -> Result<Verdict> {
    let complaints = folder.join("qemu.log");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&complaints)?);
    let mut child = command.spawn().context("cannot run QEMU")?;
    let mut watch = Watch {
        out: Tail::new(folder.join("out")),
        err: Tail::new(folder.join("err")),
        status: Tail::new(folder.join("status")),
        console: Tail::new(log.to_path_buf()),
        status_text: String::new(),
        console_text: String::new(),
        seen: 0,
        fatal: None,
        to_out,
        to_err,
    };
    let verdict = until_end(&mut child, &mut watch, limit, &complaints);
    if child.try_wait()?.is_none() {
        child.kill().ok();
        child.wait()?;
    }
    watch.poll()?;
    verdict
}

fn until_end(child: &mut Child, watch: &mut Watch, limit: Duration, complaints: &Path) -> Result<Verdict> {
    let start = Instant::now();
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
        } else if start.elapsed() > limit {
            return Ok(Verdict::TimeLimit { up: watch.up() });
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
        let verdict =
            watch(command, &folder, &folder.join("log"), Duration::from_millis(limit), &mut out, &mut err).unwrap();
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
        assert_eq!(scripted("echo up >status; exec sleep 60", 200).0, Verdict::TimeLimit { up: true });
        assert_eq!(scripted("exec sleep 60", 200).0, Verdict::TimeLimit { up: false });
    }
}
