//! The assembly: notes for the domain builder, the first instructions, and the stubs through which traps come in.

#[cfg(target_os = "none")]
mod bare {
    use core::alloc::{GlobalAlloc, Layout};
    use core::arch::global_asm;

    /// Nothing here allocates, but a crate below links to `alloc`.
    struct Nothing;

    // SAFETY: it gives no memory.
    unsafe impl GlobalAlloc for Nothing {
        unsafe fn alloc(&self, _: Layout) -> *mut u8 {
            core::ptr::null_mut()
        }

        unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
    }

    #[global_allocator]
    static NOTHING: Nothing = Nothing;

    global_asm!(
        r#"
        .macro note kind
        .long 4, 9f - 8f, \kind
        .asciz "Xen"
        8:
        .endm
        .macro end_note
        9:
        .balign 4
        .endm

        .pushsection .note.Xen, "a", @note
        note 1
        .quad guest_start
        end_note
        note 2
        .quad hypercall_page
        end_note
        note 3
        .quad 0xffffffff80000000
        end_note
        note 4
        .quad 0
        end_note
        note 5
        .asciz "xen-3.0"
        end_note
        note 6
        .asciz "pv-guest"
        end_note
        note 8
        .asciz "generic"
        end_note
        note 9
        .asciz "yes"
        end_note
        note 18
        .quad pvh_start - 0xffffffff80000000
        end_note
        .popsection

        .pushsection .text.entry, "ax", @progbits
        .globl guest_start
        guest_start:
        cld
        leaq boot_stack_top(%rip), %rsp
        movq %rsi, %rdi
        xorl %ebp, %ebp
        callq guest_main
        ud2

        # A second processor starts here, on the stack that it was given.
        .globl second_start
        second_start:
        cld
        xorl %ebp, %ebp
        callq second_main
        ud2
        .popsection

        .pushsection .bss.stack, "aw", @nobits
        .balign 4096
        .skip 0x20000
        .globl boot_stack_top
        boot_stack_top:
        .globl second_stack
        .skip 0x8000
        second_stack:
        .popsection

        .pushsection .text.page, "ax", @progbits
        .balign 4096
        .globl hypercall_page
        hypercall_page:
        .skip 4096
        .popsection
        "#,
        options(att_syntax)
    );

    // The hypervisor leaves: rcx, r11, the error code of those vectors that have one, then what IRET takes.
    global_asm!(
        r#"
        .pushsection .text.traps, "ax", @progbits
        .set vector, 0
        .balign 32
        .globl trap_stubs
        trap_stubs:
        .rept 32
        .balign 32
        popq %rcx
        popq %r11
        .if (vector == 8) || ((vector >= 10) && (vector <= 14)) || (vector == 17) || (vector == 21)
        .else
        pushq $0
        .endif
        pushq $vector
        jmp trap_common
        .set vector, vector + 1
        .endr

        .globl trap_soft
        trap_soft:
        popq %rcx
        popq %r11
        pushq $0
        pushq $0x80
        jmp trap_common

        .globl event_entry
        event_entry:
        popq %rcx
        popq %r11
        pushq $0
        pushq $256
        jmp trap_common

        # Between r11 and what IRET takes are ds, es, fs and gs.
        .globl failsafe_entry
        failsafe_entry:
        popq %rcx
        popq %r11
        addq $32, %rsp
        pushq $0
        pushq $257
        jmp trap_common

        .globl syscall_entry
        syscall_entry:
        popq %rcx
        popq %r11
        pushq $0
        pushq $258
        jmp trap_common

        # Calls trap_main with all registers on the stack, the vector and the error code behind them.
        .macro handle_trap
        pushq %rdi
        pushq %rsi
        pushq %rdx
        pushq %rcx
        pushq %rax
        pushq %r8
        pushq %r9
        pushq %r10
        pushq %r11
        pushq %rbx
        pushq %rbp
        pushq %r12
        pushq %r13
        pushq %r14
        pushq %r15
        cld
        movq %rsp, %rdi
        movq %rsp, %rbx
        andq $-16, %rsp
        callq trap_main
        movq %rbx, %rsp
        popq %r15
        popq %r14
        popq %r13
        popq %r12
        popq %rbp
        popq %rbx
        popq %r11
        popq %r10
        popq %r9
        popq %r8
        popq %rax
        popq %rcx
        popq %rdx
        popq %rsi
        popq %rdi
        addq $16, %rsp
        .endm

        trap_common:
        handle_trap
        pushq $0
        pushq %rcx
        pushq %r11
        pushq %rax
        movl $23, %eax
        syscall
        ud2

        # Translated guests: what the processor leaves is what IRET takes, but for the error code.
        .set vector, 0
        .balign 32
        .globl interrupt_stubs
        interrupt_stubs:
        .rept 256
        .balign 32
        .if (vector == 8) || ((vector >= 10) && (vector <= 14)) || (vector == 17) || (vector == 21)
        .else
        pushq $0
        .endif
        pushq $vector
        jmp interrupt_common
        .set vector, vector + 1
        .endr

        interrupt_common:
        handle_trap
        iretq
        .popsection
        "#,
        options(att_syntax)
    );

    unsafe extern "C" {
        /// Entries of the exception vectors 0 to 31, 32 bytes apart.
        pub static trap_stubs: [[u8; 32]; 32];
        /// Entries of all vectors of a translated guest, 32 bytes apart.
        pub static interrupt_stubs: [[u8; 32]; 256];
        /// Entry of the software interrupt 0x80.
        pub static trap_soft: u8;
        /// Entry of event upcalls.
        pub static event_entry: u8;
        /// Entry of the failsafe callback.
        pub static failsafe_entry: u8;
        /// Entry of SYSCALL from user mode.
        pub static syscall_entry: u8;
        /// Where the second processor starts.
        pub static second_start: u8;
        /// Top of the second processor's stack.
        pub static second_stack: u8;
        /// The page that the domain builder fills with one stub of 32 bytes a hypercall.
        pub static hypercall_page: [[u8; 32]; 128];
    }
}

#[cfg(not(target_os = "none"))]
mod bare {
    #![allow(non_upper_case_globals)]
    pub static trap_stubs: [[u8; 32]; 32] = [[0; 32]; 32];
    pub static interrupt_stubs: [[u8; 32]; 256] = [[0; 32]; 256];
    pub static trap_soft: u8 = 0;
    pub static event_entry: u8 = 0;
    pub static failsafe_entry: u8 = 0;
    pub static syscall_entry: u8 = 0;
    pub static second_start: u8 = 0;
    pub static second_stack: u8 = 0;
    pub static hypercall_page: [[u8; 32]; 128] = [[0; 32]; 128];
}

/// Address of the entry of exception `vector`, below 32.
pub fn stub(vector: u8) -> u64 {
    (&raw const bare::trap_stubs) as u64 + 32 * u64::from(vector)
}

/// Address of the entry of `vector` in a translated guest.
pub fn interrupt_stub(vector: u8) -> u64 {
    (&raw const bare::interrupt_stubs) as u64 + 32 * u64::from(vector)
}

/// Address of the entry of the software interrupt 0x80.
pub fn soft() -> u64 {
    (&raw const bare::trap_soft) as u64
}

/// Address of the entry of event upcalls.
pub fn event() -> u64 {
    (&raw const bare::event_entry) as u64
}

/// Address of the entry of the failsafe callback.
pub fn failsafe() -> u64 {
    (&raw const bare::failsafe_entry) as u64
}

/// Address of the entry of SYSCALL from user mode.
pub fn syscall() -> u64 {
    (&raw const bare::syscall_entry) as u64
}

/// Start address and stack of the second processor.
pub fn second() -> (u64, u64) {
    ((&raw const bare::second_start) as u64, (&raw const bare::second_stack) as u64)
}

/// Address of the stub of hypercall `number` in the page that the builder filled.
pub fn hypercall_stub(number: u32) -> u64 {
    (&raw const bare::hypercall_page) as u64 + 32 * u64::from(number)
}
