//! Exceptions that instructions raise, with and without the hypervisor's part in it; accesses to where there is nothing.

use super::{Case, NOWHERE, table, with_value};
use crate::attempt;
use crate::call::update_va;
use crate::memory::{Guest, READ_ONLY, WRITABLE, page};
use crate::memory::{peek, poke};
use crate::report::Outcome;
use core::arch::asm;
use xen_abi::xen::UVMF_INVLPG;

/// A page for code and data.
const PLAY: usize = 12;
/// No page of the guest's has this address.
const UNMAPPED: u64 = 0x7000_0000_0000;
const NON_CANONICAL: u64 = 1 << 63;
/// In a page-table entry: no code.
const NO_CODE: u64 = 1 << 63;
const BREAK_ON_WRITE: u64 = 0xd0401;
const BREAK_ON_EXECUTION: u64 = 0x401;

/// Runs the group.
pub fn run(guest: &Guest) {
    table(guest, "exceptions", CASES);
}

/// Runs the group of accesses to where there is nothing.
pub fn run_nothing(guest: &Guest) {
    table(guest, "nothing", NOTHING);
}

/// Runs a case with the page's entry changed.
fn with_entry(guest: &Guest, flags: u64, case: impl FnOnce() -> Outcome) -> Outcome {
    let entry = guest.entry_value(page(PLAY), 1);
    update_va(page(PLAY), guest.page_frame(PLAY) << 12 | flags, UVMF_INVLPG);
    let outcome = case();
    update_va(page(PLAY), entry, UVMF_INVLPG);
    outcome
}

/// Where the last page fault was.
fn fault_address() -> u64 {
    let address;
    // SAFETY: reading has no effect.
    unsafe { asm!("mov {}, cr2", out(reg) address) };
    address
}

/// Runs a case with debug registers 0 and 7 set; what debug register 6 says then, without its reserved bits.
fn with_breakpoint(address: u64, control: u64, case: impl FnOnce() -> Outcome) -> Outcome {
    let status: u64;
    // SAFETY: a breakpoint ends in the trap handler, and goes on with the case.
    let outcome = unsafe {
        asm!("mov dr6, {}", "mov dr0, {}", "mov dr7, {}", in(reg) 0xffff_0ff0_u64, in(reg) address, in(reg) control);
        let outcome = case();
        asm!("mov dr7, {}", "mov {}, dr6", in(reg) 0x400_u64, out(reg) status);
        outcome
    };
    if outcome == Outcome::Fault(1, 0) { Outcome::Hex(status & 0xe00f) } else { outcome }
}

/// The page full of INT3.
fn breakpoints() {
    (0..512).for_each(|word| poke(PLAY, word, 0xcccc_cccc_cccc_cccc));
}

const CASES: &[Case] = &[
    ("invalid-opcode", |_| attempt!("ud2")),
    ("divide", |_| attempt!("div ecx"; in("rcx") 0u64, inout("rax") 0u64 => _, inout("rdx") 0u64 => _)),
    ("int3", |_| attempt!("int3")),
    ("int-3", |_| attempt!(".byte 0xcd, 3")),
    ("int1", |_| attempt!(".byte 0xf1")),
    ("read-unmapped", |_| attempt!("mov rax, [rax]"; inout("rax") UNMAPPED => _)),
    ("fault-address", |_| {
        attempt!("mov rax, [rax + 0x123]"; inout("rax") UNMAPPED => _);
        Outcome::Hex(fault_address())
    }),
    ("write-unmapped", |_| attempt!("mov [rax], rax"; in("rax") UNMAPPED)),
    ("jump-unmapped", |_| attempt!("jmp rax"; in("rax") UNMAPPED)),
    ("write-read-only", |g| with_entry(g, READ_ONLY, || attempt!("mov [rax], rax"; in("rax") page(PLAY)))),
    ("jump-to-data", |g| with_entry(g, WRITABLE | NO_CODE, || attempt!("jmp rax"; in("rax") page(PLAY)))),
    ("reserved-bits", |g| {
        with_entry(g, WRITABLE | 1 << 51, || attempt!("mov rax, [rax]"; inout("rax") page(PLAY) => _))
    }),
    ("accessed-and-dirty", |g| {
        with_entry(g, 3, || {
            attempt!("mov [rax], rax"; in("rax") page(PLAY));
            Outcome::Hex(g.entry_value(page(PLAY), 1) & 0x60)
        })
    }),
    ("read-non-canonical", |_| attempt!("mov rax, [rax]"; inout("rax") NON_CANONICAL => _)),
    ("jump-non-canonical", |_| attempt!("jmp rax"; in("rax") NON_CANONICAL)),
    ("stack-non-canonical", |_| attempt!("mov rax, [rsp + rax]"; inout("rax") NON_CANONICAL => _)),
    ("load-bad-selector", |_| attempt!("mov ds, eax"; in("rax") 0x1230u64)),
    ("load-no-stack", |_| attempt!("mov ss, eax"; in("rax") 3u64)),
    ("far-return-to-data", |_| attempt!("push 16", "lea rax, [rip]", "push rax", "retfq"; out("rax") _)),
    ("single-step", |_| attempt!("pushfq", "or qword ptr [rsp], 0x100", "popfq", "nop")),
    ("single-step-over-rdmsr", |_| {
        attempt!("pushfq", "or qword ptr [rsp], 0x100", "popfq", "rdmsr", "ud2";
            in("ecx") 0x1bu32, out("rax") _, out("rdx") _)
    }),
    (
        "single-step-over-read-of-nothing",
        |_| attempt!("pushfq", "or qword ptr [rsp], 0x100", "popfq", "mov rax, [rax]", "ud2"; inout("rax") NOWHERE => _),
    ),
    ("break-on-write", |_| {
        with_breakpoint(page(PLAY), BREAK_ON_WRITE, || attempt!("mov [rax], rax", "ud2"; in("rax") page(PLAY)))
    }),
    ("break-on-execution", |_| {
        breakpoints();
        with_breakpoint(page(PLAY), BREAK_ON_EXECUTION, || attempt!("jmp rax"; in("rax") page(PLAY)))
    }),
    ("debug-status-after-step", |_| {
        with_breakpoint(0, 0x400, || attempt!("pushfq", "or qword ptr [rsp], 0x100", "popfq", "nop"))
    }),
    ("debug-registers-detected", |_| with_breakpoint(0, 0x2400, || attempt!("mov rax, dr0"; out("rax") _))),
    ("debug-register-high", |_| attempt!("mov dr7, rax"; in("rax") 1u64 << 32)),
    ("debug-register-4", |_| attempt!(".byte 0x0f, 0x21, 0xe0"; out("rax") _)),
    ("interrupt-of-no-descriptor", |_| {
        // Beyond the table's end, which is cut short for the while.
        let mut kept = [0u64; 2];
        let at = (&raw mut kept) as u64 + 6;
        attempt!("sidt [rdi]", "mov word ptr [rdi], 0x1ff", "lidt [rdi]", "int 0x80"; in("rdi") at);
        let outcome = crate::trap::outcome();
        attempt!("mov word ptr [rdi], 0xfff", "lidt [rdi]"; in("rdi") at);
        outcome
    }),
    ("no-floating-point", |_| {
        let outcome = attempt!("mov rax, cr0", "or rax, 8", "mov cr0, rax", "fnop"; out("rax") _);
        attempt!("clts");
        outcome
    }),
];

/// Accesses to a physical address with nothing behind it.
const NOTHING: &[Case] = &[
    ("read-nothing-1", |_| {
        let mut value = 0u64;
        let outcome = attempt!("mov al, [rdi]"; in("rdi") NOWHERE, inout("rax") value);
        with_value(outcome, value)
    }),
    ("read-nothing-2", |_| {
        let mut value = 0u64;
        let outcome = attempt!("mov ax, [rdi]"; in("rdi") NOWHERE + 1, inout("rax") value);
        with_value(outcome, value)
    }),
    ("read-nothing-4", |_| {
        let mut value = 0u64;
        let outcome = attempt!("mov eax, [rdi]"; in("rdi") NOWHERE, inout("rax") value);
        with_value(outcome, value)
    }),
    ("read-nothing-8", |_| {
        let mut value = 0u64;
        let outcome = attempt!("mov rax, [rdi]"; in("rdi") NOWHERE, inout("rax") value);
        with_value(outcome, value)
    }),
    ("read-nothing-over-pages", |_| {
        let mut value = 0u64;
        let outcome = attempt!("mov rax, [rdi]"; in("rdi") NOWHERE + 0xffc, inout("rax") value);
        with_value(outcome, value)
    }),
    ("extend-nothing", |_| {
        let mut value = 0u64;
        let outcome = attempt!("movsx rax, byte ptr [rdi]"; in("rdi") NOWHERE, inout("rax") value);
        with_value(outcome, value)
    }),
    ("add-nothing", |_| {
        let mut value = 2u64;
        let outcome = attempt!("add rax, [rdi]"; in("rdi") NOWHERE, inout("rax") value);
        with_value(outcome, value)
    }),
    ("add-to-nothing", |_| attempt!("add [rdi], rax"; in("rdi") NOWHERE, in("rax") 5u64)),
    ("exchange-nothing", |_| {
        let mut value = 2u64;
        let outcome = attempt!("xchg [rdi], rax"; in("rdi") NOWHERE, inout("rax") value);
        with_value(outcome, value)
    }),
    ("locked-add-to-nothing", |_| attempt!("lock add [rdi], rax"; in("rdi") NOWHERE, in("rax") 5u64)),
    ("push-nothing", |_| {
        let mut value = 0u64;
        let outcome = attempt!("push [rdi]", "pop rax"; in("rdi") NOWHERE, inout("rax") value);
        with_value(outcome, value)
    }),
    ("copy-nothing", |_| {
        poke(PLAY, 0, 0);
        let outcome =
            attempt!("rep movsb"; inout("rsi") NOWHERE => _, inout("rdi") page(PLAY) => _, inout("rcx") 5u64 => _);
        with_value(outcome, peek(PLAY, 0))
    }),
    ("fill-nothing", |_| {
        let mut count = 0x2000u64;
        let outcome = attempt!("rep stosd"; inout("rdi") NOWHERE => _, inout("rcx") count, in("rax") 0u64);
        with_value(outcome, count)
    }),
    ("jump-through-nothing", |_| attempt!("jmp [rdi]"; in("rdi") NOWHERE)),
    ("far-jump-through-nothing", |_| attempt!(".byte 0xff, 0x2f"; in("rdi") NOWHERE)),
    ("shift-nothing", |_| attempt!("shl qword ptr [rdi], 3"; in("rdi") NOWHERE)),
    ("divide-by-nothing", |_| {
        let mut value = 7u64;
        let outcome = attempt!("div qword ptr [rdi]"; in("rdi") NOWHERE, inout("rax") value, inout("rdx") 0u64 => _);
        with_value(outcome, value)
    }),
    (
        "port-to-nothing",
        |_| attempt!("rep insb"; inout("rdi") NOWHERE => _, inout("rcx") 3u64 => _, in("rdx") 0x1234u64),
    ),
    ("fence-and-flush-nothing", |_| attempt!("mfence", "clflush [rdi]"; in("rdi") NOWHERE)),
];
