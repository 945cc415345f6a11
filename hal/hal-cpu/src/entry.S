# Entry to and exit from guests, and the stubs of all vectors. Intel syntax.
#
# GuestContext: {HOST_RSP} the hypervisor's stack pointer, {REGS} GuestRegs, whose end {CTX_END} is TSS.RSP0: the CPU itself
# pushes the guest's frame there, the stubs push the rest below it.
#
# The hypervisor's stack while the guest runs, from its stack pointer on: the function that serves system calls, the one that
# serves all else, their argument, three addresses for the page of entry points (which has other addresses than it was linked
# for), 8 bytes unused, rbp and rbx of the caller of hal_cpu_enter, its return address.

# What functions do not keep.
.macro push_others
    push rdi
    push rsi
    push rdx
    push rcx
    push rax
    push r8
    push r9
    push r10
    push r11
.endm

.macro push_registers
    push_others
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
.endm

.macro pop_registers
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    pop r11
    pop r10
    pop r9
    pop r8
    pop rax
    pop rcx
    pop rdx
    pop rsi
    pop rdi
.endm

# What functions keep, from the context at rdi and to it.
.macro load_kept
    mov r15, [rdi + {REGS} + 0x00]
    mov r14, [rdi + {REGS} + 0x08]
    mov r13, [rdi + {REGS} + 0x10]
    mov r12, [rdi + {REGS} + 0x18]
    mov rbp, [rdi + {REGS} + 0x20]
    mov rbx, [rdi + {REGS} + 0x28]
.endm

.macro store_kept
    mov [rdi + {REGS} + 0x00], r15
    mov [rdi + {REGS} + 0x08], r14
    mov [rdi + {REGS} + 0x10], r13
    mov [rdi + {REGS} + 0x18], r12
    mov [rdi + {REGS} + 0x20], rbp
    mov [rdi + {REGS} + 0x28], rbx
.endm

# The others, but rcx, r11, rdi.
.macro load_others
    mov r10, [rdi + {REGS} + 0x38]
    mov r9,  [rdi + {REGS} + 0x40]
    mov r8,  [rdi + {REGS} + 0x48]
    mov rax, [rdi + {REGS} + 0x50]
    mov rdx, [rdi + {REGS} + 0x60]
    mov rsi, [rdi + {REGS} + 0x68]
.endm

# Goes on with the guest whose context is at rdi, and whose kept registers are loaded, by SYSRET; falls through where that
# would not do.
.macro go_on_by_sysret
    cmp dword ptr [rdi + {VECTOR}], {SYSCALL}
    jne 8f
    # SYSRET restores neither TF nor RF as a guest expects, and must not be given what a guest may not have.
    mov r11d, [rdi + {RFLAGS}]
    test r11d, {NOT_FOR_SYSRET}
    jnz 8f
    or r11d, {IF}
    # Given a non-canonical address, Intel's SYSRET faults in ring 0 (SDM vol. 2, SYSRET).
    mov rcx, [rdi + {RIP}]
    mov rax, rcx
    shl rax, 16
    sar rax, 16
    cmp rax, rcx
    jne 8f
    load_others
    mov rsp, [rdi + {RSP}]
    mov rdi, [rdi + {REGS} + 0x70]
    sysretq
8:
.endm

# Makes the context at rdi the one that the guest leaves to. Clobbers rax and rcx.
.macro take_context
    mov [rdi + {HOST_RSP}], rsp
    mov rax, rsp
    and rax, -{AREA_SIZE}
    lea rcx, [rdi + {CTX_END}]
    mov [rax + {INFO} + {RSP0}], rcx
.endm

.section .text.hal_cpu_entry, "ax", @progbits

# Runs the guest whose context is at rdi. What it leaves for by SYSCALL of 64-bit code is given to the function at rsi, all else
# to that at rdx, with rcx as their first argument and the exit's code as the second one: they give the context that counts from
# then on, with the bit {LEAVES} set where the guest does not go on and this returns. Clobbers all but rbx, rbp, rsp.
.balign 64
.global hal_cpu_enter
hal_cpu_enter:
    push rbx
    push rbp
    lea rax, [rip + serve_exit]
    lea rbx, [rip + leave_guest]
    lea rbp, [rip + go_on_by_iret]
    sub rsp, 8
    push rax
    push rbx
    push rbp
    push rcx
    push rdx
    push rsi
    take_context
go_on:
    load_kept
    go_on_by_sysret
    # The frame goes to the hypervisor's stack, so that a fault of IRETQ leaves the context intact.
go_on_by_iret:
    mov eax, [rdi + {SS}]
    or eax, [rdi + {RING}]
    push rax
    push qword ptr [rdi + {RSP}]
    mov eax, [rdi + {RFLAGS}]
    and eax, {USER_FLAGS}
    or eax, {IF} | 2
    push rax
    mov eax, [rdi + {CS}]
    or eax, [rdi + {RING}]
    push rax
    push qword ptr [rdi + {RIP}]
    load_others
    mov r11, [rdi + {REGS} + 0x30]
    mov rcx, [rdi + {REGS} + 0x58]
    mov rdi, [rdi + {REGS} + 0x70]
3:
    iretq

    # IRETQ faulted: rax is vector and error code, all else is the guest's. Of that, what functions keep may have been in
    # registers only.
4:
    mov rdi, rsp
    and rdi, -{AREA_SIZE}
    mov rdi, [rdi + {INFO} + {RSP0}]
    sub rdi, {CTX_END}
    store_kept
    mov rsp, [rdi + {HOST_RSP}]
    mov esi, {BAD_FRAME}
    or rsi, rax
    jmp serve_exit

    expect_fault 3b, 4b

# A trap or interrupt, its error code and vector pushed.
.balign 64
trap:
    test byte ptr [rsp + 16], 3
    jz trap_in_hypervisor
trap_in_guest:
    push_registers
    cld
    mov esi, [rsp + {VECTOR} - {REGS}]
    test byte ptr [rsp + {RFLAGS} - {REGS} + 2], 4
    mov rsp, [rsp + {HOST_RSP} - {REGS}]
    jnz 2f
serve_exit:
    mov rdi, [rsp + 16]
    call [rsp + 8]
    mov rdi, rax
    test al, {LEAVES}
    jnz leave_guest
    take_context
    jmp go_on
    # The guest ran with AC, which would lift SMAP here. (CLAC does not exist on every CPU.)
2:
    pushfq
    and dword ptr [rsp], ~0x40000
    popfq
    jmp serve_exit

leave_guest:
    add rsp, 56
    pop rbp
    pop rbx
    ret

trap_in_hypervisor:
    push_registers
    cld
    mov rdi, rsp
    sub rsp, 8
    call {host_trap}
    add rsp, 8
    pop_registers
    add rsp, 8
    iretq

# The same on a stack of its own. From a guest, the frame moves to the context.
.balign 16
trap_on_own_stack:
    test byte ptr [rsp + 16], 3
    jz trap_in_hypervisor
    push rax
    push rcx
    mov rax, rsp
    and rax, -{AREA_SIZE}
    mov rax, [rax + {INFO} + {RSP0}]
    .irp offset, 8, 16, 24, 32, 40, 48
    mov rcx, [rsp + 64 - \offset]
    mov [rax - \offset], rcx
    .endr
    sub rax, 48
    pop rcx
    xchg rax, [rsp]
    pop rsp
    jmp trap_in_guest

# One stub for each vector, 16 bytes apart.
.balign 16
.global hal_cpu_stubs
hal_cpu_stubs:
.set vector, 0
.rept 256
    .balign 16
    .if (vector >= 32) || ((({WITH_ERROR_CODE} >> vector) & 1) == 0)
    push 0
    .endif
    mov dword ptr [rsp + 4], vector
    .if (vector == 1) || (vector == 2) || (vector == 8) || (vector == 18)
    jmp trap_on_own_stack
    .else
    jmp trap
    .endif
    .set vector, vector + 1
.endr

# Entry points of SYSCALL and SYSENTER. Each CPU maps this page in its own area, right below its CpuInfo page, hence reaches
# its own data by addresses relative to rip. Nothing here may refer to code outside the page.
.section .text.hal_cpu_page, "ax", @progbits
.balign 4096
.global hal_cpu_page
hal_cpu_page:
    mov [rip + hal_cpu_page + {INFO}], rsp
    mov rsp, [rip + hal_cpu_page + {INFO} + {RSP0}]
    push {SS64}
    push qword ptr [rip + hal_cpu_page + {INFO}]
    push r11
    push {CS64}
    push rcx
    push qword ptr [rip + 7f]
    push_others
    mov rsp, [rsp + {HOST_RSP} - {REGS} - 0x30]
    mov rdi, [rsp + 16]
    call [rsp]
    mov rdi, rax
    test al, {LEAVES}
    jnz 9f
    mov [rdi + {HOST_RSP}], rsp
    lea rax, [rdi + {CTX_END}]
    mov [rip + hal_cpu_page + {INFO} + {RSP0}], rax
    go_on_by_sysret
    jmp [rsp + 24]
9:
    xor rdi, {LEAVES}
    store_kept
    jmp [rsp + 32]
.balign 8
7:  .quad {SYSCALL} << 32

# From 32-bit code (AMD).
.balign 64
.global hal_cpu_syscall32
hal_cpu_syscall32:
    mov [rip + hal_cpu_page + {INFO}], rsp
    mov rsp, [rip + hal_cpu_page + {INFO} + {RSP0}]
    push {SS64}
    push qword ptr [rip + hal_cpu_page + {INFO}]
    push r11
    push {CS32}
    push rcx
    push qword ptr [rip + 7f]
    push_registers
    mov esi, {SYSCALL32}
    mov rsp, [rsp + {HOST_RSP} - {REGS}]
    jmp [rsp + 40]
.balign 8
7:  .quad {SYSCALL32} << 32

# SYSENTER tells neither rip nor rsp, and of the flags clears IF only.
.balign 64
.global hal_cpu_sysenter
hal_cpu_sysenter:
    mov rsp, [rip + hal_cpu_page + {INFO} + {RSP0}]
    push 2
    popfq
    push {SS64}
    push 0
    push {IF} | 2
    push {CS32}
    push 0
    push qword ptr [rip + 7f]
    push_registers
    mov esi, {SYSENTER}
    mov rsp, [rsp + {HOST_RSP} - {REGS}]
    jmp [rsp + 40]
.balign 8
7:  .quad {SYSENTER} << 32
.balign 4096
