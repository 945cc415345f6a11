//! CPUID, model-specific registers, control registers and ports as a translated guest finds them.

use super::{Case, table, with_value};
use crate::cases::privileged::{PORTS, REGISTERS};
use crate::memory::{Guest, page};
use crate::pvh::cpuid;
use crate::report::Outcome;
use crate::{attempt, say, value, with_rax};
use xen_abi::cpuid::{XEN_CPUID_FIRST_LEAF, xen_cpuid_leaf};

/// A page for operands.
const PLAY: usize = 12;
const TSC: u32 = 0x10;
/// FS, GS and kernel GS: any value goes.
const BASES: core::ops::RangeInclusive<u32> = 0xc000_0100..=0xc000_0102;
/// The hypervisor's own, beside those of the table.
const MORE: [u32; 4] = [0x1b, 0x4000_0001, 0x4000_0200, 0xc001_011f];

/// Runs the group.
pub fn run(guest: &Guest) {
    leaves();
    table(guest, "registers", CASES);
    for register in REGISTERS.iter().chain(&MORE).copied() {
        let (mut low, mut high) = (0u64, 0u64);
        let read = attempt!("rdmsr"; in("ecx") register, inout("rax") low, inout("rdx") high);
        say!("registers.rdmsr-{register:#x}: {read}");
        if BASES.contains(&register) || register == TSC {
            continue;
        }
        if read == Outcome::Code(0) {
            let same = attempt!("wrmsr"; in("ecx") register, in("rax") low, in("rdx") high);
            say!("registers.wrmsr-{register:#x}-same: {same}");
        }
        let ones = attempt!("wrmsr"; in("ecx") register, in("rax") !0u64, in("rdx") !0u64);
        say!("registers.wrmsr-{register:#x}-ones: {ones}");
        if ones == Outcome::Code(0) && read == Outcome::Code(0) {
            attempt!("wrmsr"; in("ecx") register, in("rax") low, in("rdx") high);
        }
    }
    for port in PORTS.iter().copied() {
        let mut value = 0u64;
        let read = attempt!("in al, dx"; in("dx") port, inout("rax") value);
        say!("registers.in-{port:#x}: {}", with_value(read, value & 0xff));
        let read = attempt!("in eax, dx"; in("dx") port, inout("rax") value);
        say!("registers.in-wide-{port:#x}: {}", with_value(read, value & 0xffff_ffff));
        let written = attempt!("out dx, al"; in("dx") port, in("rax") 0u64);
        say!("registers.out-{port:#x}: {written}");
    }
}

/// All leaves of CPUID, but for what differs from run to run: the clock's rate, and the domain's number.
fn leaves() {
    let ranges = [(0, 0x1f), (XEN_CPUID_FIRST_LEAF, XEN_CPUID_FIRST_LEAF + 7), (0x8000_0000, 0x8000_0022)];
    for leaf in ranges.into_iter().flat_map(|(first, last)| first..=last) {
        let subleaves = if matches!(leaf, 4 | 7 | 0xb | 0xd | 0x10 | 0x8000_001d) { 3 } else { 1 };
        for subleaf in 0..subleaves {
            let [a, b, mut c, d] = cpuid(leaf, subleaf);
            if leaf == xen_cpuid_leaf(3) {
                continue;
            }
            if leaf == xen_cpuid_leaf(4) {
                c = 0;
            }
            say!("registers.cpuid-{leaf:#x}.{subleaf}: {a:#x} {b:#x} {c:#x} {d:#x}");
        }
    }
}

/// Writes CR0 with bits of it changed, and then as it was.
macro_rules! changed_cr0 {
    ($change:literal) => {
        attempt!("mov r14, cr0", "mov rax, r14", $change, "mov cr0, rax", "mov cr0, r14"; out("rax") _, out("r14") _)
    };
}

/// The same with CR4.
macro_rules! changed_cr4 {
    ($change:literal) => {
        attempt!("mov r14, cr4", "mov rax, r14", $change, "mov cr4, rax", "mov cr4, r14"; out("rax") _, out("r14") _)
    };
}

const CASES: &[Case] = &[
    ("read-cr0", |_| value!("mov rax, cr0")),
    ("read-cr4", |_| value!("mov rax, cr4")),
    ("read-cr8", |_| value!("mov rax, cr8")),
    ("write-cr0-high", |_| with_rax!("mov cr0, rax", 1 << 32 | 0x8001_0033)),
    ("write-cr0-paging-without-protection", |_| changed_cr0!("btr rax, 0")),
    ("write-cr0-cache-disable", |_| changed_cr0!("bts rax, 30")),
    ("write-cr0-reserved", |_| changed_cr0!("bts rax, 8")),
    ("write-cr3-high", |_| attempt!("mov rax, cr3", "bts rax, 55", "mov cr3, rax"; out("rax") _)),
    ("write-cr4-ones", |_| with_rax!("mov cr4, rax", !0)),
    ("write-cr4-no-pae", |_| changed_cr4!("btr rax, 5")),
    ("write-cr4-vmx", |_| changed_cr4!("bts rax, 13")),
    ("write-cr4-pcid", |_| changed_cr4!("bts rax, 17")),
    ("write-cr4-global", |_| changed_cr4!("bts rax, 7")),
    ("write-cr4-smep", |_| changed_cr4!("bts rax, 20")),
    ("write-cr4-smap", |_| changed_cr4!("bts rax, 21")),
    ("write-cr4-umip", |_| changed_cr4!("bts rax, 11")),
    ("write-cr4-five-levels", |_| changed_cr4!("bts rax, 12")),
    ("write-cr4-keys", |_| changed_cr4!("bts rax, 22")),
    ("write-cr4-osxsave", |_| changed_cr4!("bts rax, 18")),
    ("write-cr4-machine-checks", |_| changed_cr4!("bts rax, 6")),
    ("cr4-machine-checks-kept", |_| {
        let mut value = 0u64;
        let outcome = attempt!("mov r14, cr4", "mov rax, r14", "bts rax, 6", "mov cr4, rax", "mov rax, cr4", "mov cr4, r14";
            inout("rax") value, out("r14") _);
        with_value(outcome, value)
    }),
    ("write-cr8", |_| {
        let mut value = 5u64;
        let outcome = attempt!("mov cr8, rax", "xor eax, eax", "mov rax, cr8", "mov r14d, 0", "mov cr8, r14";
            inout("rax") value, out("r14") _);
        with_value(outcome, value)
    }),
    ("write-cr8-16", |_| with_rax!("mov cr8, rax", 16)),
    (
        "write-efer-no-long-mode",
        |_| attempt!("rdmsr", "btr eax, 8", "wrmsr"; in("ecx") 0xc000_0080u32, out("rax") _, out("rdx") _),
    ),
    (
        "write-efer-svm",
        |_| attempt!("rdmsr", "bts eax, 12", "wrmsr"; in("ecx") 0xc000_0080u32, out("rax") _, out("rdx") _),
    ),
    ("smsw", |_| value!("smsw rax")),
    ("lmsw", |_| attempt!("smsw rax", "lmsw ax"; out("rax") _)),
    ("invd", |_| attempt!("invd")),
    ("wbinvd", |_| attempt!("wbinvd")),
    ("invlpg", |_| with_rax!("invlpg [rax]", page(PLAY))),
    ("invpcid", |_| attempt!("invpcid rax, [rdi]"; in("rax") 0u64, in("rdi") page(PLAY))),
    ("invlpga", |_| attempt!(".byte 0x0f, 0x01, 0xdf"; in("rax") 0u64, in("rcx") 0u64)),
    ("rdpmc", |_| attempt!("rdpmc"; in("rcx") 0u64, out("rax") _, out("rdx") _)),
    ("rdtsc", |_| attempt!("rdtsc"; out("rax") _, out("rdx") _)),
    ("rdtscp", |_| attempt!("rdtscp"; out("rax") _, out("rdx") _, out("rcx") _)),
    ("rdrand", |_| attempt!("rdrand rax"; out("rax") _)),
    ("xgetbv-off", |_| attempt!("xgetbv"; in("rcx") 0u64, out("rax") _, out("rdx") _)),
    ("xsetbv-off", |_| attempt!("xsetbv"; in("rcx") 0u64, in("rax") 1u64, in("rdx") 0u64)),
    ("xsetbv-none", |_| xsetbv(0, 0)),
    ("xsetbv-vectors-without-sse", |_| xsetbv(0, 5)),
    ("xsetbv-vectors", |_| xsetbv(0, 7)),
    ("xsetbv-ones", |_| xsetbv(0, !0)),
    ("xsetbv-register-1", |_| xsetbv(1, 3)),
    ("xsetbv-x87", |_| xsetbv(0, 1)),
    ("monitor", |_| attempt!("monitor"; in("rax") page(PLAY), in("rcx") 0u64, in("rdx") 0u64)),
    ("mwait", |_| attempt!("mwait"; in("rax") 0u64, in("rcx") 0u64)),
    ("pause", |_| attempt!("pause")),
    ("vmcall", |_| with_rax!("vmcall", 17)),
    ("vmmcall-unknown", |_| value!("mov eax, 99; vmmcall")),
    ("vmrun", |_| with_rax!("vmrun rax", page(PLAY))),
    ("vmload", |_| with_rax!("vmload rax", page(PLAY))),
    ("vmsave", |_| with_rax!("vmsave rax", page(PLAY))),
    ("stgi", |_| attempt!("stgi")),
    ("clgi", |_| attempt!("clgi")),
    ("skinit", |_| with_rax!("skinit eax", page(PLAY))),
    ("syscall-off", |_| attempt!("syscall"; out("rcx") _, out("r11") _)),
    ("swapgs", |_| attempt!("swapgs", "swapgs")),
    ("rsm", |_| attempt!("rsm")),
    ("clac", |_| attempt!("clac")),
    ("rdfsbase-off", |_| with_rax!("rdfsbase rax", 0)),
    ("sgdt", |_| attempt!("sgdt [rdi]"; in("rdi") page(PLAY))),
    ("str", |_| with_rax!("str ax", 0)),
    ("ltr-none", |_| with_rax!("ltr ax", 0)),
    ("lldt-none", |_| with_rax!("lldt ax", 0)),
    ("forced-cpuid", |_| {
        attempt!("push rbx", ".byte 0x0f, 0x0b, 0x78, 0x65, 0x6e, 0x0f, 0xa2", "pop rbx";
            inout("rax") 0x4000_0000u64 => _, out("rcx") _, out("rdx") _)
    }),
    ("cpuid-beyond", |_| {
        let [a, b, c, d] = cpuid(0x7fff_0000, 0);
        Outcome::Hex(u64::from(a | b | c | d))
    }),
];

/// XSETBV with extended states allowed; they are as before afterwards.
fn xsetbv(register: u64, value: u64) -> Outcome {
    attempt!("mov r14, cr4", "bts r14, 18", "mov cr4, r14"; out("r14") _);
    let outcome = attempt!("xsetbv"; in("rcx") register, in("rax") value, in("rdx") 0u64);
    attempt!("xsetbv"; in("rcx") 0u64, in("rax") 1u64, in("rdx") 0u64);
    attempt!("mov r14, cr4", "btr r14, 18", "mov cr4, r14"; out("r14") _);
    outcome
}
