//! The first Rust code, and exceptions until there are proper handlers.
#![cfg(target_os = "none")]

use super::Handoff;
use crate::console;
use crate::panic::{Registers, unexpected_exception};
use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicU64, Ordering};

global_asm!(include_str!("entry.S"), options(att_syntax));

/// Exceptions of the CPU.
const VECTORS: usize = 32;

unsafe extern "C" {
    static early_exception_stubs: u8;
}

unsafe extern "Rust" {
    /// The binary's main function, which the macro [`entry`](crate::entry) makes.
    safe fn xenolith_main(handoff: Handoff) -> !;
}

/// Two words for each gate.
static GATES: [AtomicU64; 2 * VECTORS] = [const { AtomicU64::new(0) }; 2 * VECTORS];

/// Called by the entry code, once, on the boot CPU.
#[unsafe(no_mangle)]
extern "C" fn hal_start(magic: u32, information: u32) -> ! {
    console::early_init();
    load_gates();
    xenolith_main(Handoff { magic, information })
}

/// Makes every exception a report (SDM vol. 3, 6.14.1).
fn load_gates() {
    for vector in 0..VECTORS {
        let stub = (&raw const early_exception_stubs).addr() as u64 + 16 * vector as u64;
        let low = stub & 0xffff | 0x08 << 16 | 0x8e00 << 32 | (stub >> 16 & 0xffff) << 48;
        GATES[2 * vector].store(low, Ordering::Relaxed);
        GATES[2 * vector + 1].store(stub >> 32, Ordering::Relaxed);
    }
    let mut pointer = [0u8; 10];
    pointer[..2].copy_from_slice(&(size_of_val(&GATES) as u16 - 1).to_le_bytes());
    pointer[2..].copy_from_slice(&(GATES.as_ptr().addr() as u64).to_le_bytes());
    // SAFETY: the gates lead to the stubs, which never return.
    unsafe { asm!("lidt [{}]", in(reg) pointer.as_ptr(), options(nostack, readonly)) };
}

/// What the stubs push, lowest address first.
#[repr(C)]
struct Pushed {
    r15: u64,
    r14: u64,
    r13: u64,
    r12: u64,
    r11: u64,
    r10: u64,
    r9: u64,
    r8: u64,
    rbp: u64,
    rdi: u64,
    rsi: u64,
    rdx: u64,
    rcx: u64,
    rbx: u64,
    rax: u64,
    vector: u64,
    error: u64,
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

/// Called by the stubs.
#[unsafe(no_mangle)]
extern "C" fn hal_early_exception(pushed: &Pushed) -> ! {
    let Pushed { rip, cs, rflags, rsp, ss, rax, rbx, rcx, rdx, rsi, rdi, rbp, .. } = *pushed;
    let Pushed { r8, r9, r10, r11, r12, r13, r14, r15, .. } = *pushed;
    let registers =
        Registers { rip, cs, rflags, rsp, ss, rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15 };
    unexpected_exception(pushed.vector, pushed.error, &registers)
}
