//! What has to end the domain, and only the domain. Each runs in a domain of its own.

use super::Case;
use crate::call::{call1, call3, mmu_update, mmuext, op, shutdown, update_va};
use crate::memory::page;
use crate::report::Outcome;
use core::arch::asm;
use xen_abi::sched::*;
use xen_abi::xen::*;

/// A page for stacks.
const PLAY: usize = 30;

/// No handler is there any more.
fn forget_traps() {
    call1(HYPERVISOR_SET_TRAP_TABLE, 0);
}

/// Traps with the stack pointer at `stack`.
fn trap_with_stack(stack: u64) -> Outcome {
    // SAFETY: ends the domain, or comes out of the trap handler as a crash.
    unsafe { asm!("mov rsp, {}", "ud2", in(reg) stack, options(noreturn)) }
}

/// Asks for an IRET with the frame at `stack`.
fn iret_with_stack(stack: u64) -> Outcome {
    // SAFETY: ends the domain.
    unsafe { asm!("mov rsp, {}", "mov eax, 23", "syscall", "ud2", in(reg) stack, options(noreturn)) }
}

/// Asks for an IRET to what the arguments say.
fn iret_to(rip: u64, cs: u64, rflags: u64, ss: u64) -> Outcome {
    // SAFETY: ends the domain.
    unsafe {
        asm!(
            "push {ss}", "push {rsp}", "push {rflags}", "push {cs}", "push {rip}", "push 0", "push 0", "push 0", "push 0",
            "mov eax, 23", "syscall", "ud2",
            ss = in(reg) ss, rsp = in(reg) page(PLAY) + 2048, rflags = in(reg) rflags, cs = in(reg) cs, rip = in(reg) rip,
            options(noreturn)
        )
    }
}

/// Ends the domain if a case came back to kernel code that it must not reach.
extern "C" fn landed() -> ! {
    crate::say!("crash: landed");
    shutdown(SHUTDOWN_POWEROFF)
}

/// The cases.
pub const CASES: &[Case] = &[
    ("reported", |_| shutdown(SHUTDOWN_CRASH)),
    ("reason-unknown", |_| {
        op(HYPERVISOR_SCHED_OP, SCHEDOP_SHUTDOWN, &mut Shutdown { reason: 99 });
        Outcome::Text("nothing")
    }),
    ("panic", |_| panic!("as asked")),
    ("trap-without-handler", |_| {
        forget_traps();
        trap_with_stack(page(PLAY) + 2048)
    }),
    ("page-fault-without-handler", |_| {
        forget_traps();
        // SAFETY: ends the domain.
        unsafe { asm!("mov [rax], rax", in("rax") 0x7000_0000_0000u64) };
        Outcome::Text("nothing")
    }),
    ("stack-unmapped", |_| trap_with_stack(0x7000_0000_0000)),
    ("stack-none", |_| trap_with_stack(0)),
    ("stack-hypervisor", |_| trap_with_stack(0xffff_82d0_8020_0000)),
    ("stack-all-memory", |_| trap_with_stack(0xffff_8300_0100_0000)),
    ("stack-non-canonical", |_| trap_with_stack(1 << 63)),
    ("stack-below-hypervisor", |_| trap_with_stack(0xffff_8800_0000_0000)),
    ("stack-read-only", |g| {
        let (table, _) = g.table(page(PLAY), 1);
        trap_with_stack(table + 2048)
    }),
    ("iret-stack-unmapped", |_| iret_with_stack(0x7000_0000_0000)),
    ("iret-stack-hypervisor", |_| iret_with_stack(0xffff_82d0_8020_0000)),
    ("iret-stack-non-canonical", |_| iret_with_stack(1 << 63)),
    ("iret-selector-bad", |_| iret_to(landed as *const () as u64, 0x1230, 0x202, 0xe02b)),
    ("iret-selector-hypervisor", |_| iret_to(landed as *const () as u64, 0xe008, 0x202, 0xe02b)),
    ("iret-stack-selector-bad", |_| iret_to(landed as *const () as u64, 0xe030, 0x202, 0x1233)),
    ("iret-address-non-canonical", |_| iret_to(1 << 63, 0xe030, 0x202, 0xe02b)),
    ("iret-flags-all", |_| iret_to(landed as *const () as u64, 0xe030, !0, 0xe02b)),
    ("iret-to-user-without-table", |_| iret_to(landed as *const () as u64, 0x33, 0x202, 0x2b)),
    ("handler-unmapped", |g| {
        let handler = crate::entry::stub(6) & !0xfff;
        let entry = g.entry(handler, 1);
        // The page with the handlers goes away, so each fault makes another one until the stack is used up.
        mmu_update(entry, 0);
        mmuext(MMUEXT_TLB_FLUSH_LOCAL, 0, 0);
        trap_with_stack(page(PLAY) + 2048)
    }),
    ("own-code-unmapped", |g| {
        // All of the kernel that is in the initial mapping.
        let (table, frame) = g.table(page(PLAY), 2);
        let _ = table;
        for slot in 0..8 {
            mmu_update((frame << 12) + 8 * slot, 0);
        }
        mmuext(MMUEXT_TLB_FLUSH_LOCAL, 0, 0);
        Outcome::Text("nothing")
    }),
    ("top-slot-cleared", |g| {
        let (_, frame) = g.table(page(PLAY), 4);
        mmu_update((frame << 12) + 8 * 511, 0);
        mmuext(MMUEXT_TLB_FLUSH_LOCAL, 0, 0);
        Outcome::Text("nothing")
    }),
    ("events-nowhere", |_| {
        call3(HYPERVISOR_SET_CALLBACKS, 0, 0, 0);
        let port = crate::shared::ipi_port();
        crate::shared::mask_events(false);
        crate::shared::event_op(xen_abi::event_channel::EVTCHNOP_SEND, &mut xen_abi::event_channel::Send { port });
        Outcome::Text("nothing")
    }),
    ("stack-pages-given-back", |g| {
        update_va(page(PLAY), 0, UVMF_INVLPG);
        let _ = g;
        trap_with_stack(page(PLAY) + 2048)
    }),
    ("last-processor-down", |_| {
        call3(HYPERVISOR_VCPU_OP, u64::from(xen_abi::vcpu::VCPUOP_DOWN), 0, 0);
        Outcome::Text("nothing")
    }),
    ("watchdog-at-once", |_| watchdog(0)),
    ("watchdog", |_| watchdog(1)),
];

/// Sets a watchdog of so many seconds and never feeds it.
fn watchdog(timeout: u32) -> Outcome {
    op(HYPERVISOR_SCHED_OP, SCHEDOP_WATCHDOG, &mut Watchdog { id: 0, timeout });
    loop {
        core::hint::spin_loop();
    }
}
