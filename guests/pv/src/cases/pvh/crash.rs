//! What has to end a translated domain, and only it. Each runs in a domain of its own.

use super::physmap::{give, remove};
use super::{Case, NOWHERE};
use crate::call::{call3, op, shutdown};
use crate::memory::{Guest, VIRT_BASE, write};
use crate::pvh::{physical, set_parameter, top_table};
use crate::report::Outcome;
use core::arch::asm;
use xen_abi::hvm_params::*;
use xen_abi::sched::*;
use xen_abi::vcpu::VCPUOP_DOWN;
use xen_abi::xen::*;

const UNMAPPED: u64 = 0x7000_0000_0000;

/// An exception with the stack pointer at `stack`.
fn trap_with_stack(stack: u64) -> Outcome {
    // SAFETY: ends the domain.
    unsafe { asm!("mov rsp, {}", "ud2", in(reg) stack, options(noreturn)) }
}

/// An exception with no descriptors, or with those at `table`.
fn trap_with_gates(table: u64, limit: u64) -> Outcome {
    let descriptor = [limit << 48, table];
    // SAFETY: ends the domain.
    unsafe { asm!("lidt [{}]", "ud2", in(reg) (&raw const descriptor) as u64 + 6, options(noreturn)) }
}

/// Goes on with page tables at physical address `at`.
fn with_tables(at: u64) -> Outcome {
    // SAFETY: ends the domain.
    unsafe { asm!("mov cr3, {}", "ud2", in(reg) at, options(noreturn)) }
}

fn nothing() -> Outcome {
    Outcome::Text("nothing")
}

/// Sets a watchdog of so many seconds and never feeds it.
fn watchdog(timeout: u32) -> Outcome {
    op(HYPERVISOR_SCHED_OP, SCHEDOP_WATCHDOG, &mut Watchdog { id: 0, timeout });
    loop {
        core::hint::spin_loop();
    }
}

/// The frame of this function's code.
fn own_frame(guest: &Guest) -> u64 {
    guest.frame_at(own_frame as *const () as u64)
}

/// The cases.
pub const CASES: &[Case] = &[
    ("reported", |_| shutdown(SHUTDOWN_CRASH)),
    ("reason-unknown", |_| {
        op(HYPERVISOR_SCHED_OP, SCHEDOP_SHUTDOWN, &mut Shutdown { reason: 99 });
        nothing()
    }),
    ("panic", |_| panic!("as asked")),
    ("no-gates", |_| trap_with_gates(0, 0)),
    ("gates-unmapped", |_| trap_with_gates(UNMAPPED, 0xfff)),
    ("gates-in-nothing", |_| trap_with_gates(NOWHERE, 0xfff)),
    ("stack-unmapped", |_| trap_with_stack(UNMAPPED)),
    ("stack-in-nothing", |_| trap_with_stack(NOWHERE + 0x800)),
    ("stack-non-canonical", |_| trap_with_stack(1 << 63)),
    ("jump-into-nothing", |_| crate::attempt!("jmp rax"; in("rax") NOWHERE)),
    ("jump-into-local-apic", |_| crate::attempt!("jmp rax"; in("rax") VIRT_BASE | 0xfee0_0000)),
    ("tables-in-nothing", |_| with_tables(NOWHERE & 0xffff_ffff)),
    ("tables-beyond-memory", |_| with_tables(1 << 44)),
    ("table-in-nothing", |_| {
        // The table of level 3 behind the kernel's own addresses.
        // SAFETY: ends the domain.
        unsafe {
            write(top_table() + 8 * 511, NOWHERE & 0xffff_f000 | 0x63);
        }
        with_tables(physical(top_table()))
    }),
    ("top-slot-cleared", |_| {
        // SAFETY: ends the domain.
        unsafe { write(top_table() + 8 * 511, 0) };
        with_tables(physical(top_table()))
    }),
    ("own-code-given-back", |g| {
        give(own_frame(g));
        crate::attempt!("call rax"; in("rax") own_frame as *const () as u64, out("rcx") _, out("rdx") _)
    }),
    ("own-tables-removed", |_| {
        remove(physical(top_table()) >> 12);
        nothing()
    }),
    ("halted-for-good", |_| {
        // SAFETY: nothing wakes it.
        unsafe { asm!("cli", "hlt") };
        nothing()
    }),
    ("last-processor-down", |_| {
        call3(HYPERVISOR_VCPU_OP, VCPUOP_DOWN.into(), 0, 0);
        nothing()
    }),
    ("task-state-for-real-mode", |_| Outcome::Code(set_parameter(HVM_PARAM_VM86_TSS, !0))),
    ("watchdog-at-once", |_| watchdog(0)),
    ("watchdog", |_| watchdog(1)),
];
