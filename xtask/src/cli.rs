//! The command line.

use crate::guests::Kind;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Xenolith: a type-1 hypervisor in Rust that runs what runs on Xen.
#[derive(Parser)]
#[command(name = "x", bin_name = "./x", version, arg_required_else_help = true)]
#[command(after_help = "\
First steps:
  ./x run                                 boot to a root prompt in dom0 (leave: Ctrl-\\ then x)
  ./x run --exec 'xl info; xl list'       boot, run commands in dom0, print their output
  ./x run --hypervisor xen                the same on Debian's own Xen, to compare
  ./x test                                all tests
  ./x bench                               what operations cost, beside Xen

Images are cached in $XENOLITH_CACHE, else in ~/.cache/xenolith; build results go to target/.")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Action,
}

/// The subcommands.
#[derive(Subcommand)]
pub enum Action {
    /// Build the hypervisor
    Build(BuildOptions),
    /// Boot the hypervisor in QEMU with Debian 13 as its dom0
    Run(Box<RunOptions>),
    /// Run the tests; ends with the line `N passed, N failed, N skipped`
    Test(TestOptions),
    /// Count what operations cost, on Xenolith and on Debian's Xen
    Bench(BenchOptions),
    /// Check formatting, lints, layers, unsafe code and sizes
    Check,
    /// Format the sources
    Fmt,
    /// Make the dom0 images without booting them
    Images,
    /// Remove the cached dom0 images
    CleanCache,
}

/// Options of `build`.
#[derive(Args)]
pub struct BuildOptions {
    /// Build with debug assertions and overflow checks instead of for speed
    #[arg(long)]
    pub debug: bool,
}

/// Which hypervisor to boot.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
pub enum Hypervisor {
    /// This project's
    Xenolith,
    /// Debian's own Xen, the reference
    Xen,
    /// None: the kernel alone, to tell its faults from the hypervisor's
    None,
}

/// Which dom0 to boot.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
pub enum Dom0Kind {
    /// Debian's binaries in an initial RAM file system, no systemd: quick
    Mini,
    /// Debian with systemd on a disk; apt works
    Full,
}

/// What loads the hypervisor.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
pub enum Boot {
    /// QEMU itself, by multiboot 1
    Direct,
    /// GRUB on a BIOS, by multiboot 2, from the image that machines get
    Grub,
    /// The same on UEFI
    GrubEfi,
}

/// QEMU's accelerator.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
pub enum Accel {
    /// Emulation, works everywhere
    Tcg,
    /// Hardware, needs nested virtualisation
    Kvm,
}

/// Which XenStore daemon dom0 runs.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
pub enum Store {
    /// Debian's default, in OCaml
    Oxenstored,
    /// The one in C
    Xenstored,
    /// None at all (small dom0 only): to look at a hypervisor on which they do not start
    None,
}

impl Store {
    /// The program's name.
    pub fn name(self) -> &'static str {
        match self {
            Store::Oxenstored => "oxenstored",
            Store::Xenstored => "xenstored",
            Store::None => "none",
        }
    }
}

/// Options of `run`.
#[derive(Args, Clone)]
#[command(after_help = "\
Without --script or --exec the serial console is on the terminal. Ctrl-\\ then x leaves, Ctrl-\\ then c is QEMU's
monitor and back. Ctrl-a goes to the hypervisor: three times switches between its console and dom0's.

With a script, stdout and stderr are exactly the script's, and so is the exit status, but for:
  97  dom0 never came up, or was lost before the script ended
  98  the time limit passed while the script ran")]
pub struct RunOptions {
    /// Run this file as root in dom0, then power off
    #[arg(long, value_name = "FILE", conflicts_with = "exec")]
    pub script: Option<PathBuf>,
    /// Run these shell commands as root in dom0, then power off
    #[arg(long, value_name = "COMMANDS")]
    pub exec: Option<String>,
    /// Put this folder into dom0 at /root/files
    #[arg(long, value_name = "DIR")]
    pub files: Option<PathBuf>,
    /// Hypervisor to boot
    #[arg(long, value_enum, default_value_t = Hypervisor::Xenolith)]
    pub hypervisor: Hypervisor,
    /// dom0 to boot
    #[arg(long, value_enum, default_value_t = Dom0Kind::Mini)]
    pub dom0: Dom0Kind,
    /// What loads the hypervisor
    #[arg(long, value_enum, default_value_t = Boot::Direct)]
    pub boot: Boot,
    /// Number of CPUs of the machine
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub smp: u32,
    /// Memory of the machine
    #[arg(long, value_name = "MIB", default_value_t = 4096)]
    pub mem: u32,
    /// Memory of dom0
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    pub dom0_mem: u32,
    /// CPU model, as QEMU's -cpu takes it
    #[arg(long, value_name = "MODEL")]
    pub cpu: Option<String>,
    /// Accelerator
    #[arg(long, value_enum, default_value_t = Accel::Tcg)]
    pub accel: Accel,
    /// Deterministic: one thread, time counts instructions
    #[arg(long)]
    pub icount: bool,
    /// Count instructions by function between the lines `profile: begin` and `profile: end`, which the script writes to
    /// /dev/console, or of the whole run; shown at the end. Implies --icount
    #[arg(long, conflicts_with = "accel")]
    pub profile: bool,
    /// Time limit of a script, in seconds
    #[arg(long, value_name = "S", default_value_t = 300)]
    pub timeout: u64,
    /// Keep the serial log in this file
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// More arguments for the hypervisor
    #[arg(long, value_name = "ARGUMENTS", allow_hyphen_values = true)]
    pub xen_args: Option<String>,
    /// More arguments for dom0's kernel
    #[arg(long, value_name = "ARGUMENTS", allow_hyphen_values = true)]
    pub dom0_args: Option<String>,
    /// XenStore daemon in dom0
    #[arg(long, value_enum, default_value_t = Store::Oxenstored)]
    pub store: Store,
    /// Also give dom0 what HVM guests of other kinds need, on disks: kernels for 32-bit PCs, UEFI and a disk for it (fetched once)
    #[arg(long)]
    pub more_guests: bool,
    /// Wait for a debugger at 127.0.0.1:1234 before the first instruction
    #[arg(long)]
    pub gdb: bool,
    /// Build the hypervisor with debug assertions
    #[arg(long)]
    pub debug: bool,
    /// Build the hypervisor in a few seconds, without optimising across crates: it needs twice the instructions
    #[arg(long, conflicts_with = "debug")]
    pub quick: bool,
    /// Boot this hypervisor image instead of a built one (ELF32 with a multiboot header)
    #[arg(long, value_name = "FILE")]
    pub image: Option<PathBuf>,
    /// Boot this kernel in dom0 instead of Debian's
    #[arg(long, value_name = "FILE")]
    pub kernel: Option<PathBuf>,
    /// Give the hypervisor no modules at all
    #[arg(long, hide = true)]
    pub no_modules: bool,
    /// More arguments for QEMU, after `--`
    #[arg(last = true, value_name = "QEMU ARGUMENTS")]
    pub qemu_args: Vec<String>,
}

/// The options of `run` alone, for tests that say what machine they want.
#[derive(Parser)]
pub struct MachineOptions {
    /// They.
    #[command(flatten)]
    pub run: RunOptions,
}

/// Options of `test`.
#[derive(Args)]
pub struct TestOptions {
    /// Only tests whose name contains one of these words (`host`, `system` select a kind)
    pub filter: Vec<String>,
    /// Also the tests that take long
    #[arg(long)]
    pub all: bool,
    /// Run the system tests on this hypervisor
    #[arg(long, value_enum, default_value_t = Hypervisor::Xenolith)]
    pub hypervisor: Hypervisor,
    /// List the tests instead
    #[arg(long)]
    pub list: bool,
}

/// Which hypervisors to measure.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
pub enum Against {
    /// This project's
    Xenolith,
    /// Debian's own Xen
    Xen,
    /// One after the other
    Both,
}

/// Options of `bench`.
#[derive(Args)]
#[command(after_help = "\
A figure is the number of instructions that one operation takes, in the hypervisor and in the
shortest guest code that asks for it, less the loop around it: the least of 5 averages over some 2000
calls. The machine has one CPU whose clock counts instructions (QEMU's icount), so that the same
binary has the same figures everywhere. Caches, TLBs and the price of a real VM exit are not in them.
Figures in memory/ are KiB; start/boot.entry-to-dom0 counts from the image's entry to dom0's first
instruction. Figures in system-dom0/, system-pv/ and system-pvh/ are what Debian's kernel and all that
it needs of other domains take for a system call, a compilation, a disk, a stream by TCP; a second
table compares them with the same kernel on the bare machine.

A table goes to stdout; bench.json, bench.md and a plot of each group go to the folder.

  ./x bench                                            all of it, on both; takes some minutes
  ./x bench --hypervisor xenolith --kind pv --short    PV operations alone
  ./x bench --systems                                  whole systems alone
  ./x bench --hypervisor xenolith --against OLD.json   exit status 1, and a line for each count that
                                                       has grown by more than 3 %
  ./x bench --kind pv --short --scale                  also with 1, 4 and 8 virtual processors, and among
                                                       10 and 100 domains; figures pv@vcpus-4/...
  ./x bench --profile pv/timer.set_singleshot          where its instructions are spent")]
pub struct BenchOptions {
    /// Hypervisors to measure
    #[arg(long, value_enum, default_value_t = Against::Both)]
    pub hypervisor: Against,
    /// Kinds of guest in which to measure
    #[arg(long, value_enum, value_name = "KIND", default_values_t = Kind::ALL)]
    pub kind: Vec<Kind>,
    /// Leave out start-up, memory, the image's size and whole systems
    #[arg(long)]
    pub short: bool,
    /// Also with other numbers of virtual processors and of domains: do costs depend on them?
    #[arg(long)]
    pub scale: bool,
    /// Measure nothing but whole systems: Debian's kernel and programs as dom0, as a guest, and with no hypervisor
    #[arg(long, conflicts_with_all = ["short", "kind", "scale", "profile"])]
    pub systems: bool,
    /// Compare with this earlier bench.json; exit status 1 where a count has grown by more than 3 % or is missing
    #[arg(long, value_name = "FILE")]
    pub against: Option<PathBuf>,
    /// Carry out this one operation for long instead, and print the hypervisor's functions with the most instructions
    #[arg(long, value_name = "KIND/GROUP.NAME")]
    pub profile: Option<String>,
    /// Folder of the results [default: target/bench]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Hypervisor built in a few seconds, for a first look: its counts are no results
    #[arg(long)]
    pub quick: bool,
}
