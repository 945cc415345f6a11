//! What the device emulator answers: PCI configuration, its ports and its memory.

use super::{Case, byte, code, table};
use crate::attempt;
use crate::memory::{Guest, VIRT_BASE, page, peek, poke};
use crate::pvh::board::*;
use crate::report::Outcome;
use crate::say;
use crate::trap::with_value;

const ADDRESS: u16 = 0xcf8;
const DATA: u16 = 0xcfc;
const ENABLED: u32 = 1 << 31;
/// The device by which guests find Xen, and its registers.
const PLATFORM: u32 = 2;
const COMMAND: u32 = 4;
const PORTS: u32 = 0x10;
const MEMORY: u32 = 0x14;
/// Where the cases put its memory.
const MEMORY_AT: u64 = 0xd100_0000;
/// A port of the emulator's that keeps what is written to it (the status of power management by firmware).
const KEPT: u16 = 0xb3;
/// A page for what is copied.
const PLAY: usize = 12;

/// Runs the group.
pub fn run(guest: &Guest) {
    for number in 0..32 {
        say!("emulator.pci-{number}: {:#x}", configuration(number, 0));
    }
    for register in (0..0x40).step_by(4) {
        say!("emulator.platform-{register:#x}: {:#x}", configuration(PLATFORM, register));
    }
    table(guest, "emulator", CONFIGURATION);
    for at in [0x60, 0x64, 0x80, 0x92, 0xb2, 0xb3, 0xf0, 0x1f7, 0x2f8, 0x3f8, 0x604, 0xcd8, 0x1234] {
        say!("emulator.port-{at:#x}: {:#x} {:#x}", port(at), wide_port(at));
    }
    table(guest, "emulator", ACCESSES);
}

/// Selects a register of a device on the first bus.
fn select(device: u32, register: u32) {
    set_wide_port(ADDRESS, ENABLED | device << 11 | register);
}

fn configuration(device: u32, register: u32) -> u32 {
    select(device, register);
    wide_port(DATA)
}

fn configure(device: u32, register: u32, value: u32) {
    select(device, register);
    set_wide_port(DATA, value);
}

/// What a register is after ones were written to it.
fn ones(register: u32) -> Outcome {
    let before = configuration(PLATFORM, register);
    configure(PLATFORM, register, !0);
    let value = configuration(PLATFORM, register);
    configure(PLATFORM, register, before);
    Outcome::Hex(value.into())
}

/// An address register as the emulator keeps it.
fn selected(value: u32) -> Outcome {
    set_wide_port(ADDRESS, value);
    Outcome::Hex(wide_port(ADDRESS).into())
}

const CONFIGURATION: &[Case] = &[
    ("address", |_| selected(ENABLED | 0x1234)),
    ("address-ones", |_| selected(!0)),
    ("address-byte", |_| {
        selected(ENABLED);
        set_port(ADDRESS, 0x55);
        Outcome::Hex(wide_port(ADDRESS).into())
    }),
    ("not-enabled", |_| {
        set_wide_port(ADDRESS, PLATFORM << 11);
        Outcome::Hex(wide_port(DATA).into())
    }),
    ("other-bus", |_| {
        set_wide_port(ADDRESS, ENABLED | 1 << 16 | PLATFORM << 11);
        Outcome::Hex(wide_port(DATA).into())
    }),
    ("other-function", |_| {
        set_wide_port(ADDRESS, ENABLED | PLATFORM << 11 | 3 << 8);
        Outcome::Hex(wide_port(DATA).into())
    }),
    ("by-bytes", |_| {
        select(PLATFORM, 0);
        Outcome::Hex((0..4).fold(0, |all, at| all | u64::from(port(DATA + at)) << (8 * at)))
    }),
    ("by-halves", |_| {
        select(PLATFORM, 0);
        let mut value = 0u64;
        attempt!("in ax, dx"; in("dx") DATA + 2, inout("rax") value);
        Outcome::Hex(value & 0xffff)
    }),
    ("ports-ones", |_| ones(PORTS)),
    ("memory-ones", |_| ones(MEMORY)),
    ("third-ones", |_| ones(0x18)),
    ("command-ones", |_| {
        configure(PLATFORM, COMMAND, 0xffff);
        let value = configuration(PLATFORM, COMMAND);
        configure(PLATFORM, COMMAND, 0);
        Outcome::Hex(value.into())
    }),
    ("read-only", |_| ones(0)),
    ("line-byte", |_| {
        select(PLATFORM, 0x3c);
        set_port(DATA, 0xb);
        byte(port(DATA))
    }),
    ("place-memory", |_| {
        configure(PLATFORM, MEMORY, MEMORY_AT as u32);
        configure(PLATFORM, COMMAND, 2);
        Outcome::Hex((configuration(PLATFORM, MEMORY)).into())
    }),
    ("read-memory", |_| Outcome::Hex(device(MEMORY_AT).into())),
    ("read-memory-at-its-end", |_| Outcome::Hex(device(MEMORY_AT + 0xff_fffc).into())),
    ("read-behind-memory", |_| Outcome::Hex(device(MEMORY_AT + 0x100_0000).into())),
    ("read-memory-8", |_| {
        let mut value = !0u64;
        let outcome = attempt!("mov rax, [rdi]"; in("rdi") VIRT_BASE | MEMORY_AT, inout("rax") value);
        with_value(outcome, value)
    }),
    ("read-memory-byte", |_| {
        let mut value = !0u64;
        let outcome = attempt!("mov al, [rdi]"; in("rdi") VIRT_BASE | (MEMORY_AT + 5), inout("rax") value);
        with_value(outcome, value)
    }),
    ("write-memory", |_| {
        set_device(MEMORY_AT, 0x1234);
        Outcome::Hex(device(MEMORY_AT).into())
    }),
    ("copy-memory", |_| {
        poke(PLAY, 0, !0);
        poke(PLAY, 1, !0);
        let (from, to) = (VIRT_BASE | MEMORY_AT, page(PLAY));
        let outcome = attempt!("rep movsd"; inout("rsi") from => _, inout("rdi") to => _, inout("rcx") 3u64 => _);
        with_value(outcome, peek(PLAY, 1))
    }),
    ("add-to-memory", |_| {
        let outcome = attempt!("add dword ptr [rdi], 5"; in("rdi") VIRT_BASE | MEMORY_AT);
        with_value(outcome, device(MEMORY_AT).into())
    }),
    ("take-memory-away", |_| {
        configure(PLATFORM, COMMAND, 0);
        Outcome::Hex(device(MEMORY_AT).into())
    }),
];

const ACCESSES: &[Case] = &[
    ("unplug-magic", |_| {
        let mut value = 0u64;
        attempt!("in ax, dx"; in("dx") 0x10u16, inout("rax") value);
        Outcome::Hex(value & 0xffff)
    }),
    ("unplug-version", |_| byte(port(0x12))),
    ("keyboard-status-after-test", |_| {
        set_port(0x64, 0xaa);
        let status = port(0x64);
        Outcome::Hex(u64::from(status) << 8 | u64::from(port(0x60)))
    }),
    ("kept", |_| {
        set_port(KEPT, 0x5a);
        byte(port(KEPT))
    }),
    ("string", |_| {
        poke(PLAY, 0, 0);
        let outcome = attempt!("rep insb"; inout("rdi") page(PLAY) => _, inout("rcx") 4u64 => _, in("dx") KEPT);
        with_value(outcome, peek(PLAY, 0))
    }),
    ("string-backwards", |_| {
        poke(PLAY, 0, 0);
        let to = page(PLAY) + 3;
        let outcome = attempt!("std", "rep insb", "cld"; inout("rdi") to => _, inout("rcx") 3u64 => _, in("dx") KEPT);
        with_value(outcome, peek(PLAY, 0))
    }),
    ("string-over-pages", |_| {
        poke(PLAY, 511, 0);
        poke(PLAY + 1, 0, 0);
        let to = page(PLAY) + 0xffe;
        let outcome = attempt!("rep insb"; inout("rdi") to => _, inout("rcx") 4u64 => _, in("dx") KEPT);
        with_value(outcome, peek(PLAY, 511) >> 48 | peek(PLAY + 1, 0) << 16)
    }),
    (
        "string-into-unmapped",
        |_| attempt!("rep insb"; inout("rdi") 0x7000_0000_0000u64 => _, inout("rcx") 4u64 => _, in("dx") KEPT),
    ),
    (
        "string-from-unmapped",
        |_| attempt!("rep outsb"; inout("rsi") 0x7000_0000_0000u64 => _, inout("rcx") 4u64 => _, in("dx") KEPT),
    ),
    ("string-out", |_| {
        poke(PLAY, 0, 0x33_2211);
        let mut count = 3u64;
        let outcome = attempt!("rep outsb"; inout("rsi") page(PLAY) => _, inout("rcx") count, in("dx") KEPT);
        with_value(outcome, count << 8 | u64::from(port(KEPT)))
    }),
    ("string-from-no-port", |_| {
        poke(PLAY, 0, 0);
        let outcome = attempt!("rep insd"; inout("rdi") page(PLAY) => _, inout("rcx") 2u64 => _, in("dx") 0x1234u16);
        with_value(outcome, peek(PLAY, 0))
    }),
    ("immediate-port", |_| {
        let mut value = 0u64;
        attempt!("in al, 0x64"; inout("rax") value);
        code(value as i64 & 0xc2)
    }),
];
