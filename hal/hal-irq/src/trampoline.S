# Where another CPU starts: real mode, at the page that the start-up IPI names. Copied to that page; `ap_parameters` filled in.
.section .rodata.trampoline, "a", @progbits
.balign 16
.global ap_trampoline, ap_trampoline_end, ap_parameters
.code16
ap_trampoline:
    cli
    cld
    xorl %ebx, %ebx
    movw %cs, %bx
    movw %bx, %ds
    shll $4, %ebx
    leal (ap_gdt - ap_trampoline)(%ebx), %eax
    movl %eax, (ap_gdt_pointer - ap_trampoline + 2)
    leal (ap_protected - ap_trampoline)(%ebx), %eax
    movl %eax, (ap_far - ap_trampoline)
    lgdtl (ap_gdt_pointer - ap_trampoline)
    movl %cr0, %eax
    orb $1, %al
    movl %eax, %cr0
    ljmpl *(ap_far - ap_trampoline)

.code32
ap_protected:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    xorl %eax, %eax
    movl %eax, %fs
    movl %eax, %gs
    movl %cr4, %eax
    orl $0x20, %eax                     # PAE
    movl %eax, %cr4
    movl (ap_parameters - ap_trampoline)(%ebx), %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x900, %eax                    # EFER: LME, NXE
    wrmsr
    movl %cr0, %eax
    andl $0x9fffffff, %eax              # caches on
    orl $0x80010001, %eax               # PG, WP, PE
    movl %eax, %cr0
    leal (ap_long - ap_trampoline)(%ebx), %eax
    movl %eax, (ap_far - ap_trampoline)(%ebx)
    movw $0x18, (ap_far - ap_trampoline + 4)(%ebx)
    ljmpl *(ap_far - ap_trampoline)(%ebx)

.code64
ap_long:
    movl %ebx, %ebx
    movq (ap_parameters - ap_trampoline + 8)(%rbx), %rsp
    movq (ap_parameters - ap_trampoline + 16)(%rbx), %rax
    movq (ap_parameters - ap_trampoline + 24)(%rbx), %rdi
    xorl %ebp, %ebp
    callq *%rax
    ud2

.balign 8
ap_gdt:
    .quad 0
    .quad 0x00cf9b000000ffff            # 0x08: 32-bit code
    .quad 0x00cf93000000ffff            # 0x10: data
    .quad 0x00af9b000000ffff            # 0x18: 64-bit code
ap_gdt_pointer:
    .short 4 * 8 - 1
    .long 0
ap_far:
    .long 0
    .short 0x08
.balign 8
ap_parameters:
    .quad 0                             # root table
    .quad 0                             # stack
    .quad 0                             # function
    .quad 0                             # its argument
ap_trampoline_end:
.text
