//! Traps: a case arms a place to go on, does what it should not, and asks what came of it.

use crate::report::Outcome;
use crate::{call, entry, pvh, say};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use xen_abi::arch_x86::{FLAT_KERNEL_CS, TrapInfo};
use xen_abi::sched::SHUTDOWN_CRASH;
use xen_abi::xen::{HYPERVISOR_SET_CALLBACKS, HYPERVISOR_SET_TRAP_TABLE};

/// What the entry code leaves on the stack, lowest address first.
#[repr(C)]
pub struct Frame {
    /// r15 to r12, rbp, rbx, r11 to r8, rax, rcx, rdx, rsi, rdi.
    registers: [u64; 15],
    vector: u64,
    error: u64,
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

/// Vector under which event upcalls reach `trap_main`.
const EVENT: u64 = 256;
/// Vector under which the failsafe callback does.
const FAILSAFE: u64 = 257;
/// The vector of NMIs.
const NMI: u64 = 2;
/// No trap came.
const NONE: u64 = !0;

/// Where to go on after a trap; 0 where none is expected.
pub static RESUME_RIP: AtomicU64 = AtomicU64::new(0);
/// The stack to go on with.
pub static RESUME_RSP: AtomicU64 = AtomicU64::new(0);
static VECTOR: AtomicU64 = AtomicU64::new(NONE);
static ERROR: AtomicU64 = AtomicU64::new(0);
/// Upcalls so far.
pub static UPCALLS: AtomicU64 = AtomicU64::new(0);

/// Runs instructions that may trap; gives the trap, or `Code(0)`. Operands follow as for `asm!`; r15 is lost.
#[macro_export]
macro_rules! attempt {
    ($($text:literal),+ $(; $($operand:tt)*)?) => {{
        $crate::trap::forget();
        // SAFETY: a trap goes on behind the instructions with the stack of before; what they change is declared.
        unsafe {
            core::arch::asm!(
                "lea r15, [rip + 22f]",
                "mov [rip + {resume_rsp}], rsp",
                "mov [rip + {resume_rip}], r15",
                $($text,)+
                "22:",
                "mov qword ptr [rip + {resume_rip}], 0",
                resume_rip = sym $crate::trap::RESUME_RIP,
                resume_rsp = sym $crate::trap::RESUME_RSP,
                out("r15") _,
                $($($operand)*)?
            );
        }
        $crate::trap::outcome()
    }};
}

/// Runs instructions that leave a value in rax; gives the trap, or the value.
#[macro_export]
macro_rules! value {
    ($text:literal) => {{
        let mut value = 0u64;
        let outcome = $crate::attempt!($text; inout("rax") value);
        $crate::trap::with_value(outcome, value)
    }};
}

/// Runs instructions that find a value in rax and may change it.
#[macro_export]
macro_rules! with_rax {
    ($text:literal, $value:expr) => {{
        let mut value: u64 = $value;
        let outcome = $crate::attempt!($text; inout("rax") value);
        core::hint::black_box(value);
        outcome
    }};
}

/// The outcome, or the value where it is 0.
pub fn with_value(outcome: Outcome, value: u64) -> Outcome {
    if outcome == Outcome::Code(0) { Outcome::Hex(value) } else { outcome }
}

/// Forgets the last trap.
pub fn forget() {
    VECTOR.store(NONE, Relaxed);
}

/// The trap that came since `forget`.
pub fn outcome() -> Outcome {
    match VECTOR.load(Relaxed) {
        NONE => Outcome::Code(0),
        FAILSAFE => Outcome::Text("failsafe callback"),
        vector => Outcome::Fault(vector as u32, ERROR.load(Relaxed) as u32),
    }
}

/// The trap table that this kernel uses: all exceptions, and INT 0x80 from user mode.
fn table() -> [TrapInfo; 34] {
    let none = TrapInfo { vector: 0, flags: 0, cs: 0, _gap0: [0; 4], address: 0 };
    let mut table = [none; 34];
    for vector in 0..32u8 {
        let flags = if vector == 3 || vector == 4 { 3 } else { 0 };
        table[usize::from(vector)] =
            TrapInfo { vector, flags, cs: FLAT_KERNEL_CS, address: entry::stub(vector), ..none };
    }
    table[32] = TrapInfo { vector: 0x80, flags: 3, cs: FLAT_KERNEL_CS, address: entry::soft(), ..none };
    table
}

/// Says where traps and events go.
pub fn install() {
    if pvh::is_translated() {
        pvh::install();
        return;
    }
    let table = table();
    let traps = call::call1(HYPERVISOR_SET_TRAP_TABLE, (&raw const table) as u64);
    let callbacks = call::call3(HYPERVISOR_SET_CALLBACKS, entry::event(), entry::failsafe(), entry::syscall());
    assert!(traps == 0 && callbacks == 0, "no traps: {traps}, no callbacks: {callbacks}");
}

/// Has exception `vector`, below 32, go to `handler` until `install` is called again. It finds on its stack what the hypervisor left
/// (the processor, in a translated guest), and has to leave by itself.
pub fn set_handler(vector: u8, handler: u64) {
    if pvh::is_translated() {
        pvh::set_gate(vector, handler);
        return;
    }
    let none = TrapInfo { vector: 0, flags: 0, cs: 0, _gap0: [0; 4], address: 0 };
    let table = [TrapInfo { vector, cs: FLAT_KERNEL_CS, address: handler, ..none }, none];
    let result = call::call1(HYPERVISOR_SET_TRAP_TABLE, (&raw const table) as u64);
    assert!(result == 0, "no handler: {result}");
}

/// Every trap and event comes here.
#[cfg_attr(target_os = "none", unsafe(no_mangle))]
pub extern "C" fn trap_main(frame: &mut Frame) {
    if frame.vector == EVENT {
        crate::shared::upcall();
        return;
    }
    let resume = RESUME_RIP.swap(0, Relaxed);
    if pvh::is_translated() && (frame.vector >= 32 || frame.vector == NMI && resume == 0) {
        RESUME_RIP.store(resume, Relaxed);
        pvh::interrupt(frame.vector as u8);
        return;
    }
    if resume == 0 {
        let fault = Outcome::Fault(frame.vector as u32, frame.error as u32);
        say!("unexpected: {fault}");
        call::shutdown(SHUTDOWN_CRASH);
    }
    VECTOR.store(frame.vector, Relaxed);
    ERROR.store(frame.error, Relaxed);
    frame.rip = resume;
    frame.rsp = RESUME_RSP.load(Relaxed);
    if !pvh::is_translated() {
        // Kernel mode; a selector with privilege level 3 would mean user mode.
        frame.cs = u64::from(FLAT_KERNEL_CS & !3);
    }
    // Not the trap flag, nor a changed direction or nested-task flag.
    frame.rflags &= !0x4500;
}
