//! The general registers of a vCPU in the structure by which the toolstack knows them (`struct cpu_user_regs`, arch-x86/xen.h).

use hal_cpu::GuestRegs;
use xen_abi::arch_x86::CpuUserRegs;

/// Registers with these values of what every kind of guest keeps there; flags and selectors are 0.
pub fn from_tools(from: &CpuUserRegs) -> GuestRegs {
    GuestRegs {
        r15: from.r15,
        r14: from.r14,
        r13: from.r13,
        r12: from.r12,
        rbp: from.rbp,
        rbx: from.rbx,
        r11: from.r11,
        r10: from.r10,
        r9: from.r9,
        r8: from.r8,
        rax: from.rax,
        rcx: from.rcx,
        rdx: from.rdx,
        rsi: from.rsi,
        rdi: from.rdi,
        rip: from.rip,
        rsp: from.rsp,
        ..GuestRegs::default()
    }
}

/// Writes the same registers.
pub fn to_tools(from: &GuestRegs, to: &mut CpuUserRegs) {
    (to.r15, to.r14, to.r13, to.r12) = (from.r15, from.r14, from.r13, from.r12);
    (to.r11, to.r10, to.r9, to.r8) = (from.r11, from.r10, from.r9, from.r8);
    (to.rax, to.rbx, to.rcx, to.rdx) = (from.rax, from.rbx, from.rcx, from.rdx);
    (to.rsi, to.rdi, to.rbp) = (from.rsi, from.rdi, from.rbp);
    (to.rip, to.rsp) = (from.rip, from.rsp);
}
