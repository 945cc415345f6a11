//! How the kernel begins as a translated guest: 32-bit code without paging, then long mode on tables of its own.
//!
//! The tables map the first GiB of physical memory where a paravirtualised guest has its pages, the first 4 MiB of it by entries
//! of their own, which cases change; and the fourth GiB, where devices and special pages are, behind it.

#[cfg(target_os = "none")]
mod bare {
    use core::arch::global_asm;

    global_asm!(
        r#"
        .set BASE, 0xffffffff80000000

        .pushsection .text.pvh, "ax", @progbits
        .code32
        .globl pvh_start
        pvh_start:
        cld
        movl $0x620, %eax
        movl %eax, %cr4
        movl $(top_table - BASE), %eax
        movl %eax, %cr3
        movl $0xc0000080, %ecx
        rdmsr
        orl $0x900, %eax
        wrmsr
        movl %cr0, %eax
        andl $0x9fffffff, %eax
        orl $0x80010022, %eax
        movl %eax, %cr0
        lgdt (low_descriptors - BASE)
        ljmpl $8, $(pvh_long - BASE)

        .code64
        pvh_long:
        movabsq $pvh_high, %rax
        jmpq *%rax
        pvh_high:
        lgdt high_descriptors(%rip)
        movl $16, %eax
        movl %eax, %ds
        movl %eax, %es
        movl %eax, %ss
        xorl %eax, %eax
        movl %eax, %fs
        movl %eax, %gs
        # The mapping at address 0 was for the way here.
        movq $0, top_table(%rip)
        movq %cr3, %rax
        movq %rax, %cr3
        leaq boot_stack_top(%rip), %rsp
        movl %ebx, %edi
        xorl %ebp, %ebp
        callq translated_main
        ud2
        .popsection

        .pushsection .data.pvh, "aw", @progbits
        .balign 8
        descriptors:
        .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
        low_descriptors:
        .word . - descriptors - 1
        .long descriptors - BASE
        .long 0
        high_descriptors:
        .word low_descriptors - descriptors - 1
        .quad descriptors

        .balign 4096
        .globl top_table
        top_table:
        .quad gigabytes - BASE + 0x63
        .fill 510, 8, 0
        .quad gigabytes - BASE + 0x63
        gigabytes:
        .quad first_gigabyte - BASE + 0x63
        .fill 509, 8, 0
        .quad first_gigabyte - BASE + 0x63
        .quad fourth_gigabyte - BASE + 0x63
        first_gigabyte:
        .quad first_pages - BASE + 0x63
        .quad first_pages - BASE + 0x1063
        .set at, 0x4000e3
        .rept 510
        .quad at
        .set at, at + 0x200000
        .endr
        fourth_gigabyte:
        .set at, 0xc00000f3
        .rept 512
        .quad at
        .set at, at + 0x200000
        .endr
        first_pages:
        .set at, 0x63
        .rept 1024
        .quad at
        .set at, at + 0x1000
        .endr
        .popsection
        "#,
        options(att_syntax)
    );

    unsafe extern "C" {
        /// The table of level 4.
        pub static top_table: [u64; 512];
    }
}

#[cfg(not(target_os = "none"))]
mod bare {
    #![allow(non_upper_case_globals)]
    pub static top_table: [u64; 512] = [0; 512];
}

/// Address of the table of level 4.
pub fn top_table() -> u64 {
    (&raw const bare::top_table) as u64
}
