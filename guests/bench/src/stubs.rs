//! The shortest handlers that there can be, so that what is measured is the hypervisor's part of a trap, an event or a system call.

#[cfg(target_os = "none")]
mod bare {
    use core::arch::global_asm;

    global_asm!(
        r#"
        # Goes back by the hypercall iret; before this the stack has what IRET takes.
        .macro go_back flags
        pushq $\flags
        pushq %rcx
        pushq %r11
        pushq %rax
        movl $23, %eax
        syscall
        ud2
        .endm

        # Takes all events of the first 64 ports.
        .macro take_events
        pushq %rax
        movq bench_shared(%rip), %rax
        movb $0, (%rax)
        movq $0, 8(%rax)
        movq $0, 0x800(%rax)
        popq %rax
        .endm

        .pushsection .text.stubs, "ax", @progbits
        # UD2, which is 2 bytes long.
        .globl bench_undefined
        bench_undefined:
        popq %rcx
        popq %r11
        addq $2, (%rsp)
        go_back 0

        # A store of 3 bytes' length, that comes with an error code.
        .globl bench_page_fault
        bench_page_fault:
        popq %rcx
        popq %r11
        addq $8, %rsp
        addq $3, (%rsp)
        go_back 0

        .globl bench_upcall
        bench_upcall:
        popq %rcx
        popq %r11
        take_events
        go_back 0

        # System calls: 0 goes back at once, 1 ends bench_user.
        .globl bench_syscall
        bench_syscall:
        popq %rcx
        popq %r11
        testl %eax, %eax
        jnz 1f
        go_back 0x100
        1:
        movq bench_stack(%rip), %rsp
        popq %r15
        popq %r14
        popq %r13
        popq %r12
        popq %rbp
        popq %rbx
        retq

        # Goes to user mode and makes as many system calls there as RDI says.
        .globl bench_user
        bench_user:
        pushq %rbx
        pushq %rbp
        pushq %r12
        pushq %r13
        pushq %r14
        pushq %r15
        movq %rsp, bench_stack(%rip)
        movq %rdi, %rbx
        movq %rsp, %rax
        leaq 2f(%rip), %rcx
        pushq $0xe02b
        pushq %rax
        pushq $2
        pushq $0xe033
        pushq %rcx
        go_back 0
        2:
        xorl %eax, %eax
        syscall
        decq %rbx
        jnz 2b
        movl $1, %eax
        syscall
        ud2

        # The same of a translated guest.
        .globl bench_own_undefined
        bench_own_undefined:
        addq $2, (%rsp)
        iretq

        .globl bench_own_page_fault
        bench_own_page_fault:
        addq $8, %rsp
        addq $3, (%rsp)
        iretq

        .globl bench_own_upcall
        bench_own_upcall:
        take_events
        iretq

        # An interrupt of the local APIC, which has to be told of its end.
        .globl bench_message
        bench_message:
        pushq %rax
        movq $0xfffffffffee000b0, %rax
        movl $0, (%rax)
        popq %rax
        iretq

        # A processor that waits for ever: by SCHEDOP_block.
        .globl bench_wait
        bench_wait:
        movl $29, %eax
        movl $1, %edi
        xorl %esi, %esi
        syscall
        jmp bench_wait

        # The same of a translated guest.
        .globl bench_own_wait
        bench_own_wait:
        sti
        hlt
        jmp bench_own_wait
        .popsection

        .pushsection .bss.stubs, "aw", @nobits
        .balign 8
        bench_stack:
        .skip 8
        .globl bench_shared
        bench_shared:
        .skip 8
        .popsection
        "#,
        options(att_syntax)
    );

    unsafe extern "C" {
        pub static bench_undefined: u8;
        pub static bench_page_fault: u8;
        pub static bench_upcall: u8;
        pub static bench_syscall: u8;
        pub static bench_own_undefined: u8;
        pub static bench_own_page_fault: u8;
        pub static bench_own_upcall: u8;
        pub static bench_message: u8;
        pub static bench_wait: u8;
        pub static bench_own_wait: u8;
        pub safe static bench_shared: core::sync::atomic::AtomicU64;
        pub fn bench_user(calls: u64);
    }
}

#[cfg(not(target_os = "none"))]
mod bare {
    #![allow(non_upper_case_globals)]
    pub static bench_undefined: u8 = 0;
    pub static bench_page_fault: u8 = 0;
    pub static bench_upcall: u8 = 0;
    pub static bench_syscall: u8 = 0;
    pub static bench_own_undefined: u8 = 0;
    pub static bench_own_page_fault: u8 = 0;
    pub static bench_own_upcall: u8 = 0;
    pub static bench_message: u8 = 0;
    pub static bench_wait: u8 = 0;
    pub static bench_own_wait: u8 = 0;
    pub static bench_shared: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(0);

    /// There is no kernel on the host.
    pub unsafe extern "C" fn bench_user(_: u64) {}
}

use core::sync::atomic::Ordering::SeqCst;
use guest_kernel::pvh::is_translated;
use guest_kernel::shared;

/// Handler of UD2.
pub fn undefined() -> u64 {
    if is_translated() {
        (&raw const bare::bench_own_undefined) as u64
    } else {
        (&raw const bare::bench_undefined) as u64
    }
}

/// Handler of page faults by a store of 3 bytes' length.
pub fn page_fault() -> u64 {
    if is_translated() {
        (&raw const bare::bench_own_page_fault) as u64
    } else {
        (&raw const bare::bench_page_fault) as u64
    }
}

/// Handler of events, which takes them all.
pub fn upcall() -> u64 {
    bare::bench_shared.store(shared::shared(0), SeqCst);
    if is_translated() { (&raw const bare::bench_own_upcall) as u64 } else { (&raw const bare::bench_upcall) as u64 }
}

/// Handler of system calls, for [`user`].
pub fn syscall() -> u64 {
    (&raw const bare::bench_syscall) as u64
}

/// Handler of an interrupt by the local APIC.
pub fn message() -> u64 {
    (&raw const bare::bench_message) as u64
}

/// Where a processor begins that only waits.
pub fn wait() -> u64 {
    if is_translated() { (&raw const bare::bench_own_wait) as u64 } else { (&raw const bare::bench_wait) as u64 }
}

/// Makes so many system calls in user mode.
///
/// # Safety
/// [`syscall`] has to be the handler, on a stack of its own, and the user's tables have to map this kernel.
pub unsafe fn user(calls: u64) {
    // SAFETY: the caller's promise; it keeps the registers that a function keeps.
    unsafe { bare::bench_user(calls) }
}
