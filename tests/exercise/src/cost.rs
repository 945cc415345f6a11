//! What operations of a whole system cost: time of the kernel's monotonic clock, which counts instructions on a machine that
//! emulates so many of them in a second as the clock has nanoseconds.

use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::{CommandExt, parent_id};
use std::process::{Command, Stdio};
use std::time::Instant;

/// A program that ends at once.
const PROGRAM: &str = "/bin/true";
/// Memory that is touched: more than the allocator would keep for the next time.
const TOUCHED: usize = 40 << 20;
const PAGE: usize = 4096;
/// Bytes in one write to a connection.
const PIECE: usize = 64 << 10;

/// The least of so many averages over so many calls, after a first call to warm up, in ns.
fn least(rounds: u32, calls: u64, mut act: impl FnMut() -> Result<()>) -> Result<u64> {
    act()?;
    let mut least = u64::MAX;
    for _ in 0..rounds {
        let start = Instant::now();
        for _ in 0..calls {
            act()?;
        }
        least = least.min(u64::try_from(start.elapsed().as_nanos())? / calls);
    }
    Ok(least)
}

fn tell(name: &str, cost: u64) {
    println!("cost {name} {cost}");
}

/// Costs of the kernel's own operations.
///
/// # Errors
/// Where one of them fails.
pub fn kernel() -> Result<()> {
    let call = || {
        black_box(parent_id());
        Ok(())
    };
    tell("kernel.system-call", least(5, 2000, call)?);
    tell("kernel.fresh-page", least(5, 1, touch)? / (TOUCHED / PAGE) as u64);
    tell("kernel.fork-exec-wait", fork()?);
    tell("kernel.pipe-there-and-back", pipe()?);
    Ok(())
}

/// Touches fresh memory and gives it back.
fn touch() -> Result<()> {
    let mut memory = vec![0u8; TOUCHED];
    memory.iter_mut().step_by(PAGE).for_each(|byte| *byte = 1);
    black_box(memory);
    Ok(())
}

fn fork() -> Result<u64> {
    let user = std::fs::metadata("/proc/self").context("cannot tell the user")?.uid();
    // With a user to become, the library forks; else it would lend the child its memory.
    least(5, 20, || {
        let status = Command::new(PROGRAM).uid(user).status().with_context(|| format!("cannot run {PROGRAM}"))?;
        ensure!(status.success(), "{PROGRAM} ended with {status}");
        Ok(())
    })
}

fn pipe() -> Result<u64> {
    let myself = std::env::current_exe().context("where am I")?;
    let mut child = Command::new(myself)
        .args(["cost", "answer"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run the one that answers")?;
    let (to, from) = (child.stdin.take(), child.stdout.take());
    let (mut to, mut from) = to.zip(from).context("no pipes")?;
    let cost = least(5, 500, || {
        to.write_all(b"x")?;
        Ok(from.read_exact(&mut [0])?)
    })?;
    drop(to);
    ensure!(child.wait()?.success(), "the one that answers failed");
    Ok(cost)
}

/// Writes each byte of the standard input to the standard output.
///
/// # Errors
/// Where that fails.
pub fn answer() -> Result<()> {
    let file = |from: &dyn AsFd| from.as_fd().try_clone_to_owned().map(File::from);
    let (mut from, mut to) = (file(&std::io::stdin())?, file(&std::io::stdout())?);
    let mut byte = [0];
    while from.read(&mut byte)? == 1 {
        to.write_all(&byte)?;
    }
    Ok(())
}

/// The cost of running a command, as `name`.
///
/// # Errors
/// Where it fails; what it says about that is on the standard error.
pub fn run(name: &str, rounds: u32, command: &[String]) -> Result<()> {
    let (program, arguments) = command.split_first().context("no command")?;
    let cost = least(rounds, 1, || {
        let mut command = Command::new(program);
        let output = command.args(arguments).output().with_context(|| format!("cannot run {program}"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{program} ended with {}: {}", output.status, said.trim());
        Ok(())
    })?;
    tell(name, cost);
    Ok(())
}

/// The cost of moving `mib` MiB by TCP to `drain` at `to`, as `name`.
///
/// # Errors
/// Where a connection fails, or not all arrives.
pub fn stream(name: &str, rounds: u32, to: &str, mib: u64) -> Result<()> {
    let piece = vec![0x5a; PIECE];
    let cost = least(rounds, 1, || {
        let mut stream = TcpStream::connect(to).with_context(|| format!("cannot connect to {to}"))?;
        for _ in 0..(mib << 20) / PIECE as u64 {
            stream.write_all(&piece).context("send")?;
        }
        stream.shutdown(Shutdown::Write).context("end of the stream")?;
        let mut count = [0; 8];
        stream.read_exact(&mut count).context("answer of the receiver")?;
        let count = u64::from_le_bytes(count);
        ensure!(count == mib << 20, "{count} bytes arrived");
        Ok(())
    })?;
    tell(name, cost);
    Ok(())
}

/// Takes streams on `port`, one after the other, and answers each with its length, for ever.
///
/// # Errors
/// Where a connection fails.
pub fn drain(port: u16) -> Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", port)).with_context(|| format!("cannot listen on port {port}"))?;
    println!("listening on {}", listener.local_addr()?.port());
    loop {
        take(listener.accept().context("accept")?.0)?;
    }
}

fn take(mut stream: TcpStream) -> Result<()> {
    let mut piece = vec![0; PIECE];
    let mut bytes = 0;
    loop {
        match stream.read(&mut piece).context("receive")? {
            0 => return stream.write_all(&u64::to_le_bytes(bytes)).context("answer"),
            count => bytes += count as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_least_average_counts() {
        let mut calls = 0;
        let cost = least(3, 2, || {
            calls += 1;
            std::thread::sleep(Duration::from_millis(if calls < 6 { 60 } else { 2 }));
            Ok(())
        });
        assert!((2_000_000..60_000_000).contains(&cost.expect("a cost")) && calls == 7);
    }

    #[test]
    fn commands_have_to_succeed() {
        let command = |words: &[&str]| words.iter().map(|word| word.to_string()).collect::<Vec<_>>();
        run("work.test", 1, &command(&["true"])).expect("succeeds");
        let error =
            run("work.test", 1, &command(&["sh", "-c", "echo why >&2; exit 3"])).expect_err("fails").to_string();
        assert!(error.contains('3') && error.ends_with("why"), "{error}");
    }

    #[test]
    fn a_stream_is_answered_with_its_length() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = listener.local_addr().expect("its address").to_string();
        let taker = std::thread::spawn(move || (0..2).try_for_each(|_| take(listener.accept()?.0)));
        stream("work.test", 1, &at, 1).expect("all arrives");
        taker.join().expect("no panic").expect("taken");
    }
}
