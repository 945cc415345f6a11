//! What tests need inside of guests and dom0, and Debian's small tools do not do: a load on a disk or a network that
//! verifies each byte, a look at a screen over VNC, and what the kernel's operations cost.

#![forbid(unsafe_code)]

mod cost;
mod disk;
mod net;
mod noise;
mod text;
mod vnc;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use std::path::PathBuf;

#[derive(Parser)]
#[command(about = "Exercises a guest's disk, network and screen, and measures its kernel")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Writes and reads random parts of a disk, past the page cache; what it held is lost
    Disk {
        /// Block device or file
        path: PathBuf,
        /// How much of it is used
        #[arg(long, default_value_t = 32)]
        mib: u64,
        /// How long
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// Chooses what is written and where
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Sends a stream by TCP; prints how much and its checksum, and fails where the receiver's is another
    Send {
        /// Receiver's address and port
        to: String,
        /// How much
        #[arg(long, default_value_t = 64)]
        mib: u64,
        /// Chooses what is sent
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Takes one such stream, and tells the sender the checksum of what came
    Receive {
        /// Port to listen on
        port: u16,
    },
    /// Fetches a screen over VNC, after typing on it where there is something to type
    Screen {
        /// Server's address and port
        at: String,
        /// Gets the pixels, 4 bytes each: blue, green, red, nothing
        #[arg(long)]
        picture: Option<PathBuf>,
        /// A video BIOS with the font of the screen, which is in text mode: what it says is printed
        #[arg(long, value_name = "ROM")]
        font: Option<PathBuf>,
        /// This is typed, and a return
        #[arg(long = "type")]
        text: Option<String>,
        /// QEMU first switches to this one of its consoles, for this and all later visits
        #[arg(long, value_parser = clap::value_parser!(u8).range(1..=9))]
        console: Option<u8>,
    },
    /// Prints what operations cost, in ns of the monotonic clock: the least of some averages, as lines `cost GROUP.NAME NS`
    Cost {
        #[command(subcommand)]
        what: Cost,
    },
}

#[derive(Subcommand)]
enum Cost {
    /// System calls, fresh pages, new processes, pipes
    Kernel,
    /// A command
    Run {
        /// Name of the figure
        name: String,
        /// The least of so many runs after the first
        #[arg(long, default_value_t = 3)]
        rounds: u32,
        /// The command
        #[arg(last = true)]
        command: Vec<String>,
    },
    /// A stream by TCP, until the receiver has said how long it was
    Stream {
        /// Name of the figure
        name: String,
        /// Address and port of `cost drain`
        to: String,
        /// How much
        #[arg(long, default_value_t = 16)]
        mib: u64,
        /// The least of so many streams after the first
        #[arg(long, default_value_t = 3)]
        rounds: u32,
    },
    /// Takes such streams
    Drain {
        /// Port to listen on
        port: u16,
    },
    /// The other end of pipes
    #[command(hide = true)]
    Answer,
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Disk { path, mib, seconds, seed } => disk::exercise(&path, mib, seconds, seed),
        Command::Send { to, mib, seed } => net::send(&to, mib, seed),
        Command::Receive { port } => net::receive(port),
        Command::Screen { at, picture, font, text, console } => {
            console.map_or(Ok(()), |console| vnc::switch(&at, console))?;
            let seen = vnc::visit(&at, text.as_deref())?;
            if let Some(path) = picture {
                std::fs::write(&path, &seen.pixels).with_context(|| format!("cannot write {}", path.display()))?;
            }
            if let Some(path) = font {
                let rom = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
                let lines = text::lines(&seen.pixels, seen.width, &text::Font::find(&rom)?)?;
                lines.iter().for_each(|line| println!("{line}"));
            }
            Ok(())
        }
        Command::Cost { what } => match what {
            Cost::Kernel => cost::kernel(),
            Cost::Run { name, rounds, command } => cost::run(&name, rounds, &command),
            Cost::Stream { name, to, mib, rounds } => cost::stream(&name, rounds, &to, mib),
            Cost::Drain { port } => cost::drain(port),
            Cost::Answer => cost::answer(),
        },
    }
}
