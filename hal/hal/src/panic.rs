//! The end: fatal errors of start-up, panics, and unexpected exceptions. Takes no lock and no memory.

use crate::console::Emergency;
use crate::{cpu, paging, symbols};
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};

/// A function pointer that is set once, before there is a second CPU.
struct Hook(AtomicPtr<()>);

impl Hook {
    const fn new() -> Hook {
        Hook(AtomicPtr::new(core::ptr::null_mut()))
    }
}

static STOP_OTHERS: Hook = Hook::new();
static CPU_NUMBER: Hook = Hook::new();
static NO_REBOOT: AtomicBool = AtomicBool::new(false);
/// 0, or 1 + the number of the CPU that panics.
static PANICKING: AtomicU32 = AtomicU32::new(0);

/// Deepest backtrace.
const FRAMES: usize = 32;
/// Size and alignment of the largest stack. None goes beyond, and before the end of a smaller one is a page that is not mapped.
const STACK: u64 = 64 << 10;
/// Ticks of the counter that five seconds take at 2.5 GHz: nothing calibrated can be relied on here.
const FIVE_SECONDS: u64 = 12_500_000_000;

/// Sets how a panic stops all other CPUs; it must take no lock and return soon.
pub fn set_stop_others(hook: fn()) {
    STOP_OTHERS.0.store(hook as *mut (), Ordering::Release);
}

/// Sets how a panic learns the number of this CPU; it must take no lock.
pub fn set_cpu_number(hook: fn() -> u32) {
    CPU_NUMBER.0.store(hook as *mut (), Ordering::Release);
}

/// Sets whether a panic stops the machine (`noreboot`) rather than starting it anew after five seconds.
pub fn set_noreboot(noreboot: bool) {
    NO_REBOOT.store(noreboot, Ordering::Relaxed);
}

/// Whether the machine is to stop after a fault (`noreboot`).
pub fn is_noreboot() -> bool {
    NO_REBOOT.load(Ordering::Relaxed)
}

fn cpu_number() -> u32 {
    let hook = CPU_NUMBER.0.load(Ordering::Acquire);
    if hook.is_null() {
        return 0;
    }
    // SAFETY: only `set_cpu_number` stores here, a function of this type.
    unsafe { core::mem::transmute::<*mut (), fn() -> u32>(hook)() }
}

fn stop_others() {
    let hook = STOP_OTHERS.0.load(Ordering::Acquire);
    if !hook.is_null() {
        // SAFETY: only `set_stop_others` stores here, a function of this type.
        unsafe { core::mem::transmute::<*mut (), fn()>(hook)() };
    }
}

/// Registers of a CPU, for printing.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs, reason = "the names are the registers' names")]
pub struct Registers {
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rbp: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
}

impl Registers {
    /// Whether they are a guest's, which runs in ring 3.
    fn in_guest(&self) -> bool {
        self.cs & 3 != 0
    }
}

impl fmt::Display for Registers {
    /// Several lines, in the order that Xen prints them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RIP:    {:04x}:[<{:016x}>]", self.cs, self.rip)?;
        if let Some((name, offset)) = symbols::lookup(self.rip) {
            write!(f, " {name}+{offset:#x}")?;
        }
        let context = if self.in_guest() { "guest" } else { "hypervisor" };
        writeln!(f, "\nRFLAGS: {:016x}   CONTEXT: {context}", self.rflags)?;
        let lines = [
            [("rax", self.rax), ("rbx", self.rbx), ("rcx", self.rcx)],
            [("rdx", self.rdx), ("rsi", self.rsi), ("rdi", self.rdi)],
            [("rbp", self.rbp), ("rsp", self.rsp), ("r8 ", self.r8)],
            [("r9 ", self.r9), ("r10", self.r10), ("r11", self.r11)],
            [("r12", self.r12), ("r13", self.r13), ("r14", self.r14)],
            [("r15", self.r15), ("cr0", cpu::read_cr0()), ("cr4", cpu::read_cr4())],
            [("cr3", cpu::read_cr3()), ("cr2", cpu::read_cr2()), ("ss ", self.ss)],
        ];
        for [a, b, c] in lines {
            writeln!(f, "{}: {:016x}   {}: {:016x}   {}: {:016x}", a.0, a.1, b.0, b.1, c.0, c.1)?;
        }
        Ok(())
    }
}

/// Reads a word of the hypervisor's memory, if it is mapped.
fn peek(address: u64) -> Option<u64> {
    if address % 8 != 0 {
        return None;
    }
    paging::translate(address)?;
    // SAFETY: mapped, aligned, and every bit pattern is a number; the value is only printed or checked again.
    Some(unsafe { core::ptr::with_exposed_provenance::<u64>(address as usize).read_volatile() })
}

/// The stack pointer of the function that calls this.
#[inline(always)]
fn stack_pointer() -> u64 {
    let rsp: u64;
    // SAFETY: reads a register.
    unsafe { core::arch::asm!("mov {}, rsp", out(reg) rsp, options(nomem, nostack)) };
    rsp
}

/// Whether a CALL ends at `address`, going by the bytes before it: relative, or through a register or memory (SDM vol. 2, CALL).
fn follows_call(before: [u8; 7]) -> bool {
    let indirect = |length: usize| before[7 - length] == 0xff && before[8 - length] >> 3 & 7 == 2;
    before[2] == 0xe8 || indirect(2) || indirect(3) || indirect(6) || indirect(7)
}

/// The bytes before an address of the hypervisor's code.
fn bytes_before(address: u64) -> Option<[u8; 7]> {
    let start = address - 7;
    let words = [peek(start & !7)?, peek((start & !7) + 8)?];
    let bytes = u128::from(words[0]) | u128::from(words[1]) << 64;
    let wanted = (bytes >> (start % 8 * 8)) as u64;
    wanted.to_le_bytes()[..7].try_into().ok()
}

/// Prints where the hypervisor was, if `rip` tells, and what on the stack from `stack` on looks like return addresses: there are no
/// frame pointers, so that one of a call that is over may be among them.
fn backtrace(out: &mut impl Write, rip: Option<u64>, stack: u64) -> fmt::Result {
    writeln!(out, "Xen call trace:")?;
    if let Some((rip, (name, offset))) = rip.and_then(|rip| Some((rip, symbols::lookup(rip)?))) {
        writeln!(out, "   [<{rip:016x}>] R {name}+{offset:#x}")?;
    }
    let start = stack & !7;
    let mut left = FRAMES;
    for at in (start..(start | (STACK - 1))).step_by(8) {
        let Some(word) = peek(at) else { break };
        let Some((name, offset)) = symbols::lookup(word) else { continue };
        if bytes_before(word).is_some_and(follows_call) {
            writeln!(out, "   [<{word:016x}>] S {name}+{offset:#x}")?;
            left -= 1;
            if left == 0 {
                break;
            }
        }
    }
    Ok(())
}

/// Makes sure that only one CPU reports; the others, and a panic within a panic, stop.
fn begin() -> Emergency {
    let me = 1 + cpu_number();
    if let Err(other) = PANICKING.compare_exchange(0, me, Ordering::AcqRel, Ordering::Acquire) {
        if other == me {
            let _ = writeln!(Emergency::new(), "Panic within a panic");
        }
        cpu::halt_forever();
    }
    stop_others();
    Emergency::new()
}

fn end(mut out: Emergency) -> ! {
    if is_noreboot() {
        let _ = writeln!(out, "Manual reset required ('noreboot' specified)");
        cpu::halt_forever();
    }
    let _ = writeln!(out, "Reboot in five seconds...");
    let start = cpu::rdtsc();
    while cpu::rdtsc().wrapping_sub(start) < FIVE_SECONDS {
        cpu::pause();
    }
    cpu::reset_machine()
}

fn block(out: &mut Emergency, words: fmt::Arguments<'_>) {
    let rule = "****************************************";
    // The emergency writer never fails.
    let _ = writeln!(out, "\n{rule}\nPanic on CPU {}:\n{words}\n{rule}\n", cpu_number());
}

/// Reports an exception that nothing handles, with the registers at its time, and stops the machine or starts it anew.
pub fn unexpected_exception(vector: u64, error: u64, registers: &Registers) -> ! {
    let mut out = begin();
    // The emergency writer never fails.
    let _ = writeln!(out, "----[ Xenolith-{}  x86_64 ]----\nCPU:    {}", env!("CARGO_PKG_VERSION"), cpu_number());
    let _ = write!(out, "{registers}");
    // A guest's frames are its own affair: those of the hypervisor that ran it are shown.
    let (rip, stack) =
        if registers.in_guest() { (None, stack_pointer()) } else { (Some(registers.rip), registers.rsp) };
    let _ = backtrace(&mut out, rip, stack);
    block(&mut out, format_args!("FATAL TRAP: vector = {vector} ({})\n[error_code={error:04x}]", name(vector)));
    end(out)
}

/// Name of an exception (SDM vol. 3, 6.15).
fn name(vector: u64) -> &'static str {
    const NAMES: [&str; 22] = [
        "divide error",
        "debug",
        "nmi",
        "breakpoint",
        "overflow",
        "bounds",
        "invalid opcode",
        "device not available",
        "double fault",
        "coprocessor segment",
        "invalid tss",
        "segment not present",
        "stack error",
        "general protection",
        "page fault",
        "reserved",
        "coprocessor error",
        "alignment check",
        "machine check",
        "simd error",
        "virtualisation exception",
        "control protection",
    ];
    NAMES.get(vector as usize).copied().unwrap_or("reserved")
}

/// Stops over an error of start-up: one line that says what is wrong and what to do. The machine is not started anew.
pub fn fatal(message: fmt::Arguments<'_>) -> ! {
    let mut out = begin();
    let _ = writeln!(out, "{message}");
    cpu::halt_forever()
}

/// Stops over an error of start-up, as [`panic::fatal`](fatal) does, with a format string.
#[macro_export]
macro_rules! fatal {
    ($($part:tt)*) => { $crate::panic::fatal(::core::format_args!($($part)*)) };
}

#[cfg(target_os = "none")]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    let stack = stack_pointer();
    let mut out = begin();
    let _ = backtrace(&mut out, None, stack);
    match info.location() {
        Some(place) => {
            block(&mut out, format_args!("{} ({}:{})", info.message(), place.file(), place.line()));
        }
        None => block(&mut out, format_args!("{}", info.message())),
    }
    end(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_known_by_their_bytes() {
        // call rel32; call rax; call r9; call [rax+8]; call [rip+x]; call [rsp+x]
        for bytes in [
            [0, 0, 0xe8, 1, 2, 3, 4],
            [0, 0, 0, 0, 0, 0xff, 0xd0],
            [0, 0, 0, 0, 0x41, 0xff, 0xd1],
            [0, 0, 0, 0, 0xff, 0x50, 8],
            [0, 0xff, 0x15, 1, 2, 3, 4],
            [0xff, 0x94, 0x24, 1, 2, 3, 4],
        ] {
            assert!(follows_call(bytes), "{bytes:x?}");
        }
        // jmp rel32; jmp rax; push [rax+8]; nothing of the kind
        for bytes in [[0, 0, 0xe9, 1, 2, 3, 4], [0, 0, 0, 0, 0, 0xff, 0xe0], [0, 0, 0, 0, 0xff, 0x70, 8], [0x90; 7]] {
            assert!(!follows_call(bytes), "{bytes:x?}");
        }
    }
}
