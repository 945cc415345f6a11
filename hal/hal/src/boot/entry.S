# Entry by multiboot 1 and 2, in 32-bit protected mode without paging: eax = magic number, ebx = information structure.
# Clears .bss, maps the first 4 GiB at 0 and at the direct map, the first GiB at the image's address, and enters long mode.
.set VIRTUAL, 0xffff82d080000000
.set MAGIC1, 0x2badb002
.set MAGIC2, 0x36d76289

.section .boot.header, "a", @progbits
.balign 8
multiboot1_header:
    .long 0x1badb002
    .long 3                             # modules page aligned, memory map wanted
    .long -(0x1badb002 + 3)
.balign 8
multiboot2_header:
    .long 0xe85250d6
    .long 0                             # 32-bit protected mode
    .long multiboot2_end - multiboot2_header
    .long -(0xe85250d6 + (multiboot2_end - multiboot2_header))
    .short 1, 1                         # wanted, optional: command line, modules, memory map, UEFI, ACPI tables
    .long 32
    .long 1, 3, 6, 12, 14, 15
    .balign 8
    .short 6, 0                         # modules page aligned
    .long 8
    .short 0, 0
    .long 8
multiboot2_end:

.section .boot.text, "ax", @progbits
.code32
.global _start
_start:
    cli
    cld
    movl %eax, %esi
    movl $(__bss_start - VIRTUAL), %edi
    movl $(__bss_end - VIRTUAL), %ecx
    subl %edi, %ecx
    shrl $2, %ecx
    xorl %eax, %eax
    rep stosl
    movl $(boot_stack_top - VIRTUAL), %esp
    pushl %ebx
    pushl %esi

    movl $(text_loader - VIRTUAL), %ebp
    cmpl $MAGIC1, %esi
    je 1f
    cmpl $MAGIC2, %esi
    jne boot_failed
1:
    movl $(text_long_mode - VIRTUAL), %ebp
    movl $0x80000000, %eax
    cpuid
    cmpl $0x80000001, %eax
    jb boot_failed
    movl $0x80000001, %eax
    cpuid
    btl $29, %edx                       # long mode (APM vol. 3, appendix E.4.2)
    jnc boot_failed
    btl $20, %edx                       # no-execute
    jnc boot_failed

    movl $(boot_l2 - VIRTUAL), %edi
    movl $0x83, %eax
    movl $2048, %ecx
2:
    movl %eax, (%edi)
    addl $0x200000, %eax
    addl $8, %edi
    decl %ecx
    jnz 2b
    movl $(boot_l2 - VIRTUAL + 0x0003), (boot_l3_low - VIRTUAL)
    movl $(boot_l2 - VIRTUAL + 0x1003), (boot_l3_low - VIRTUAL + 8)
    movl $(boot_l2 - VIRTUAL + 0x2003), (boot_l3_low - VIRTUAL + 16)
    movl $(boot_l2 - VIRTUAL + 0x3003), (boot_l3_low - VIRTUAL + 24)
    movl $(boot_l2 - VIRTUAL + 0x0003), (boot_l3_image - VIRTUAL + 322 * 8)
    movl $(boot_l3_low - VIRTUAL + 3), (boot_l4 - VIRTUAL)
    movl $(boot_l3_image - VIRTUAL + 3), (boot_l4 - VIRTUAL + 261 * 8)
    movl $(boot_l3_low - VIRTUAL + 3), (boot_l4 - VIRTUAL + 262 * 8)

    movl %cr4, %eax
    orl $0x20, %eax                     # PAE
    movl %eax, %cr4
    movl $(boot_l4 - VIRTUAL), %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x900, %eax                    # EFER: LME, NXE
    wrmsr
    popl %esi
    popl %ebx
    movl %cr0, %eax
    andl $0x9fffffff, %eax              # caches on
    orl $0x80010001, %eax               # PG, WP, PE
    movl %eax, %cr0
    lgdtl (boot_gdt_pointer_low - VIRTUAL)
    ljmpl $0x08, $(boot_long - VIRTUAL)

# Prints the text at ebp on the first serial line and stops.
boot_failed:
    movl %ebp, %esi
3:
    movb (%esi), %bl
    testb %bl, %bl
    jz 5f
    movl $0x10000, %ecx
4:
    movw $0x3fd, %dx
    inb %dx, %al
    testb $0x20, %al
    loopz 4b
    movw $0x3f8, %dx
    movb %bl, %al
    outb %al, %dx
    incl %esi
    jmp 3b
5:
    cli
    hlt
    jmp 5b

.code64
boot_long:
    movabsq $boot_high, %rax
    jmpq *%rax
boot_high:
    lgdtq boot_gdt_pointer(%rip)
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    xorl %eax, %eax
    movl %eax, %fs
    movl %eax, %gs
    leaq boot_stack_top(%rip), %rsp
    movl %esi, %edi
    movl %ebx, %esi
    xorl %ebp, %ebp
    callq hal_start
    ud2

# One stub for each exception of the CPU, 16 bytes apart: pushes a vector and, where the CPU has not, an error code.
.balign 16
.global early_exception_stubs
early_exception_stubs:
.set vector, 0
.rept 32
    .balign 16
    .if (0x60227d00 >> vector) & 1
    .else
    pushq $0
    .endif
    pushq $vector
    jmp early_exception_common
    .set vector, vector + 1
.endr
early_exception_common:
    pushq %rax
    pushq %rbx
    pushq %rcx
    pushq %rdx
    pushq %rsi
    pushq %rdi
    pushq %rbp
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, %rdi
    cld
    andq $-16, %rsp
    callq hal_early_exception
    ud2

.section .rodata.boot, "a", @progbits
text_loader:
    .asciz "\r\n(XEN) Not started by a multiboot loader: load this image with GRUB's multiboot or multiboot2 command.\r\n"
text_long_mode:
    .asciz "\r\n(XEN) This CPU has no 64-bit mode with no-execute pages: Xenolith needs an x86-64 CPU with NX enabled in firmware.\r\n"
.balign 8
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff            # 0x08: 64-bit code, accessed
    .quad 0x00cf93000000ffff            # 0x10: data, accessed
boot_gdt_end:
boot_gdt_pointer_low:
    .short boot_gdt_end - boot_gdt - 1
    .long boot_gdt - VIRTUAL
boot_gdt_pointer:
    .short boot_gdt_end - boot_gdt - 1
    .quad boot_gdt

.section .bss.boot, "aw", @nobits
.balign 4096
boot_l4:
    .skip 4096
boot_l3_low:
    .skip 4096
boot_l3_image:
    .skip 4096
boot_l2:
    .skip 16384
# The guard page, then the stack: the decompressors of dom0's kernel take half of it.
.global boot_stack
boot_stack:
    .skip 4096 + 131072
.global boot_stack_top
boot_stack_top:
