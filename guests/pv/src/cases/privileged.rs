//! Privileged instructions: each is emulated or faults.

use super::{Case, table};
use crate::memory::{Guest, page};
use crate::report::Outcome;
use crate::trap::with_value;
use crate::{attempt, say, value, with_rax};

/// A page for operands.
const PLAY: usize = 12;

/// Model-specific registers that are read, and written with what was read and with ones.
pub const REGISTERS: &[u32] = &[
    0x0,
    0x10,
    0x17,
    0x1b,
    0x2a,
    0x34,
    0x3a,
    0x48,
    0x49,
    0x79,
    0x8b,
    0xce,
    0xcf,
    0xe7,
    0xfe,
    0x10a,
    0x122,
    0x140,
    0x174,
    0x175,
    0x179,
    0x186,
    0x1a0,
    0x1d9,
    0x200,
    0x277,
    0x2ff,
    0x345,
    0x38f,
    0x400,
    0x480,
    0x560,
    0x6e0,
    0x800,
    0x830,
    0xd90,
    0xda0,
    0x4000_0000,
    0x4b56_4d00,
    0xc000_0080,
    0xc000_0081,
    0xc000_0082,
    0xc000_0083,
    0xc000_0084,
    0xc000_0100,
    0xc000_0101,
    0xc000_0102,
    0xc000_0103,
    0xc000_0104,
    0xc000_0400,
    0xc001_0000,
    0xc001_0010,
    0xc001_0015,
    0xc001_001f,
    0xc001_0058,
    0xc001_0064,
    0xc001_0114,
    0xc001_0117,
    0xc001_0140,
    0xc001_1020,
    0xc001_1029,
    0xffff_ffff,
];

/// Ports that no guest has.
pub const PORTS: &[u16] =
    &[0x20, 0x21, 0x40, 0x43, 0x60, 0x61, 0x64, 0x70, 0x71, 0x80, 0xa1, 0xcf8, 0xcf9, 0xcfc, 0x3f8, 0x604, 0xffff];

/// Runs the group.
pub fn run(guest: &Guest) {
    table(guest, "privileged", CASES);
    table(guest, "privileged", MORE);
    for register in REGISTERS {
        let (mut low, mut high) = (0u64, 0u64);
        let read = attempt!("rdmsr"; in("ecx") *register, inout("rax") low, inout("rdx") high);
        say!("privileged.rdmsr-{register:#x}: {read}");
        if matches!(register, 0xc000_0100..=0xc000_0102) {
            continue;
        }
        if read == Outcome::Code(0) {
            let same = attempt!("wrmsr"; in("ecx") *register, in("rax") low, in("rdx") high);
            say!("privileged.wrmsr-{register:#x}-same: {same}");
        }
        let ones = attempt!("wrmsr"; in("ecx") *register, in("rax") !0u64, in("rdx") !0u64);
        say!("privileged.wrmsr-{register:#x}-ones: {ones}");
    }
    for port in PORTS {
        let mut value = 0u64;
        let read = attempt!("in al, dx"; in("dx") *port, inout("rax") value);
        say!("privileged.in-{port:#x}: {}", with_value(read, value & 0xff));
        let read = attempt!("in eax, dx"; in("dx") *port, inout("rax") value);
        say!("privileged.in-wide-{port:#x}: {}", with_value(read, value & 0xffff_ffff));
        let written = attempt!("out dx, al"; in("dx") *port, in("rax") 0u64);
        say!("privileged.out-{port:#x}: {written}");
    }
}

macro_rules! with_page {
    ($text:literal) => {
        attempt!($text; in("rdi") page(PLAY), inout("rax") 0u64 => _, inout("rcx") 0u64 => _, inout("rdx") 0u64 => _)
    };
}

const CASES: &[Case] = &[
    ("cli", |_| attempt!("cli")),
    ("sti", |_| attempt!("sti")),
    ("hlt", |_| attempt!("hlt")),
    ("popf-io-level", |_| {
        let mut value = 0x3202u64;
        let outcome = attempt!("push rax", "popfq", "pushfq", "pop rax"; inout("rax") value);
        with_value(outcome, value & 0x3200)
    }),
    ("popf-no-interrupts", |_| {
        let mut value = 0x2u64;
        let outcome = attempt!("push rax", "popfq", "pushfq", "pop rax"; inout("rax") value);
        with_value(outcome, value & 0x3200)
    }),
    ("read-cr0", |_| value!("mov rax, cr0")),
    ("read-cr2", |_| with_rax!("mov rax, cr2", 0)),
    ("read-cr3", |_| with_rax!("mov rax, cr3", 0)),
    ("read-cr4", |_| value!("mov rax, cr4")),
    ("read-cr8", |_| value!("mov rax, cr8")),
    ("write-cr0-same", |_| attempt!("mov rax, cr0", "mov cr0, rax"; out("rax") _)),
    ("write-cr0-none", |_| with_rax!("mov cr0, rax", 0)),
    ("write-cr0-ones", |_| with_rax!("mov cr0, rax", !0)),
    ("write-cr0-no-paging", |_| attempt!("mov rax, cr0", "btr rax, 31", "mov cr0, rax"; out("rax") _)),
    ("write-cr0-no-protection", |_| attempt!("mov rax, cr0", "btr rax, 16", "mov cr0, rax"; out("rax") _)),
    ("write-cr2", |_| with_rax!("mov cr2, rax", 0x1234)),
    ("write-cr3-same", |_| attempt!("mov rax, cr3", "mov cr3, rax"; out("rax") _)),
    ("write-cr3-none", |_| with_rax!("mov cr3, rax", 0)),
    ("write-cr3-foreign", |_| with_rax!("mov cr3, rax", 0x1000)),
    ("write-cr3-data", |g| {
        let frame = g.page_frame(PLAY);
        with_rax!("mov cr3, rax", frame << 12)
    }),
    ("write-cr3-beyond-memory", |_| with_rax!("mov cr3, rax", 1 << 44)),
    ("write-cr4-same", |_| attempt!("mov rax, cr4", "mov cr4, rax"; out("rax") _)),
    ("write-cr4-none", |_| with_rax!("mov cr4, rax", 0)),
    ("write-cr4-ones", |_| with_rax!("mov cr4, rax", !0)),
    ("write-cr8", |_| with_rax!("mov cr8, rax", 0)),
    ("clts", |_| attempt!("clts")),
    ("lmsw", |_| with_rax!("lmsw ax", 1)),
    // Without TS, which tells how the hypervisor switches vector registers.
    ("smsw", |_| value!("smsw rax; and rax, ~8")),
    ("read-dr0", |_| value!("mov rax, dr0")),
    ("read-dr4", |_| value!("mov rax, dr4")),
    ("read-dr6", |_| value!("mov rax, dr6")),
    ("read-dr7", |_| value!("mov rax, dr7")),
    ("write-dr0-own", |_| with_rax!("mov dr0, rax", page(PLAY))),
    ("write-dr0-hypervisor", |_| with_rax!("mov dr0, rax", 0xffff_82d0_8020_0000)),
    ("write-dr7-ones", |_| with_rax!("mov dr7, rax", !0)),
    ("write-dr7-general-detect", |_| with_rax!("mov dr7, rax", 0x2400)),
    ("write-dr7-none", |_| with_rax!("mov dr7, rax", 0x400)),
];

const MORE: &[Case] = &[
    ("lgdt", |_| with_page!("lgdt [rdi]")),
    ("lidt", |_| with_page!("lidt [rdi]")),
    ("lldt", |_| with_rax!("lldt ax", 0)),
    ("ltr", |_| with_rax!("ltr ax", 0)),
    ("sgdt", |_| with_page!("sgdt [rdi]")),
    ("sidt", |_| with_page!("sidt [rdi]")),
    ("sldt", |_| with_rax!("sldt ax", 0)),
    ("str", |_| with_rax!("str ax", 0)),
    ("invd", |_| attempt!("invd")),
    ("wbinvd", |_| attempt!("wbinvd")),
    ("invlpg", |_| with_page!("invlpg [rdi]")),
    ("invlpg-wild", |_| attempt!("invlpg [rdi]"; in("rdi") 0xffff_82d0_8020_0000u64)),
    ("swapgs", |_| attempt!("swapgs")),
    ("rdpmc", |_| with_page!("rdpmc")),
    ("rdtsc", |_| with_page!("rdtsc")),
    ("rdtscp", |_| with_page!("rdtscp")),
    ("xgetbv", |_| with_page!("xgetbv")),
    ("xsetbv-none", |_| with_page!("xsetbv")),
    ("xsetbv-ones", |_| attempt!("xsetbv"; in("rcx") 0u64, in("rax") !0u64, in("rdx") !0u64)),
    ("rdfsbase", |_| with_rax!("rdfsbase rax", 0)),
    ("monitor", |_| attempt!("monitor"; in("rax") page(PLAY), in("rcx") 0u64, in("rdx") 0u64)),
    ("mwait", |_| attempt!("mwait"; in("rax") 0u64, in("rcx") 0u64)),
    ("vmcall", |_| with_page!("vmcall")),
    ("vmmcall", |_| with_page!("vmmcall")),
    ("vmrun", |_| with_rax!("vmrun rax", 0)),
    ("vmload", |_| with_rax!("vmload rax", 0)),
    ("vmsave", |_| with_rax!("vmsave rax", 0)),
    ("stgi", |_| attempt!("stgi")),
    ("clgi", |_| attempt!("clgi")),
    ("skinit", |_| with_rax!("skinit eax", 0)),
    ("sysret", |_| with_page!("sysretq")),
    ("sysexit", |_| with_page!("sysexit")),
    ("rsm", |_| attempt!("rsm")),
    ("clac", |_| attempt!("clac")),
    ("stac", |_| attempt!("stac")),
    ("ud2", |_| attempt!("ud2")),
    ("int3", |_| attempt!("int3")),
    ("int1", |_| attempt!(".byte 0xf1")),
    ("int-0x80", |_| attempt!("int 0x80")),
    ("int-0x82", |_| attempt!("int 0x82")),
    ("int-0xff", |_| attempt!("int 0xff")),
    ("int-2", |_| attempt!("int 2")),
    ("int-8", |_| attempt!("int 8")),
    ("int-13", |_| attempt!("int 13")),
    ("int-14", |_| attempt!("int 14")),
    ("int-18", |_| attempt!("int 18")),
    ("divide", |_| attempt!("div ecx"; in("rcx") 0u64, inout("rax") 0u64 => _, inout("rdx") 0u64 => _)),
    ("single-step", |_| attempt!("pushfq", "or qword ptr [rsp], 0x100", "popfq", "nop")),
    ("load-bad-selector", |_| with_rax!("mov ds, eax", 0x1234)),
    ("load-hypervisor-code", |_| with_rax!("mov ds, eax", 0xe008)),
    ("load-hypervisor-data", |_| with_rax!("mov ds, eax", 0xe010)),
    ("load-task-state", |_| with_rax!("mov ds, eax", 0xe040)),
    ("far-return-to-hypervisor", |_| attempt!("push 0xe008", "lea rax, [rip]", "push rax", "retfq"; out("rax") _)),
    (
        "iret-to-ring-0",
        |_| attempt!("push 0", "push rsp", "pushfq", "push 0xe008", "lea rax, [rip]", "push rax", "iretq"; out("rax") _),
    ),
    ("jump-non-canonical", |_| attempt!("jmp rax"; in("rax") 1u64 << 63)),
    ("jump-hypervisor", |_| attempt!("jmp rax"; in("rax") 0xffff_82d0_8020_0000u64)),
    ("jump-unmapped", |_| attempt!("jmp rax"; in("rax") 0x7000_0000_0000u64)),
    ("read-hypervisor", |_| with_rax!("mov rax, [rax]", 0xffff_82d0_8020_0000)),
    ("read-all-memory", |_| with_rax!("mov rax, [rax]", 0xffff_8300_0000_0000)),
    ("read-linear-tables", |_| with_rax!("mov rax, [rax]", 0xffff_8140_0000_0000)),
    ("read-own-area", |_| with_rax!("mov rax, [rax]", 0xffff_8200_0000_0000)),
    ("read-frame-table", |_| with_rax!("mov rax, [rax]", 0xffff_82e0_0000_0000)),
    ("write-hypervisor", |_| with_rax!("mov [rax], rax", 0xffff_82d0_8020_0000)),
    ("write-all-memory", |_| with_rax!("mov [rax], rax", 0xffff_8300_0000_0000)),
    ("write-machine-to-physical", |g| {
        let frame = g.page_frame(PLAY);
        with_rax!("mov [rax], rax", 0xffff_8000_0000_0000 + 8 * frame)
    }),
    ("read-non-canonical", |_| with_rax!("mov rax, [rax]", 1 << 63)),
    ("forced-cpuid", |_| {
        attempt!("push rbx", ".byte 0x0f, 0x0b, 0x78, 0x65, 0x6e, 0x0f, 0xa2", "pop rbx";
            inout("rax") 0x4000_0000u64 => _, out("rcx") _, out("rdx") _)
    }),
    ("forced-cpuid-leaf", |_| {
        let mut leaf = 0x4000_0000u64;
        let outcome = attempt!("push rbx", ".byte 0x0f, 0x0b, 0x78, 0x65, 0x6e, 0x0f, 0xa2", "pop rbx";
            inout("rax") leaf, out("rcx") _, out("rdx") _);
        with_value(outcome, leaf)
    }),
    ("forced-nothing", |_| attempt!(".byte 0x0f, 0x0b, 0x78, 0x65, 0x6e, 0x0f, 0x0b")),
];
