# Into guest mode and back. Intel syntax.

.section .text.hal_cpu_entry, "ax", @progbits

# Runs the guest whose registers are at rdi and whose control block is at physical address rsi, until #VMEXIT; the hypervisor's
# own part of what VMLOAD loads is at physical address rdx. VMRUN itself switches rax, rsp, rip, rflags, and what the manual
# lists (APM vol. 2, 15.5.1).
#
# The global interrupt flag (15.17) is clear from before the guest's part is loaded until the hypervisor's is back: an NMI between
# would find a foreign TR, hence no stack. VMRUN sets it for the guest, #VMEXIT clears it. The interrupt flag has to be set at
# VMRUN: it is what masks the machine's interrupts while the guest runs (V_INTR_MASKING, 15.21.1).
.balign 64
.global hal_cpu_svm_enter
hal_cpu_svm_enter:
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    push rdx
    push rdi
    clgi
    sti
    mov rax, rsi
    vmload rax
    mov r15, [rdi + {R15}]
    mov r14, [rdi + {R14}]
    mov r13, [rdi + {R13}]
    mov r12, [rdi + {R12}]
    mov rbp, [rdi + {RBP}]
    mov rbx, [rdi + {RBX}]
    mov r11, [rdi + {R11}]
    mov r10, [rdi + {R10}]
    mov r9,  [rdi + {R9}]
    mov r8,  [rdi + {R8}]
    mov rcx, [rdi + {RCX}]
    mov rdx, [rdi + {RDX}]
    mov rsi, [rdi + {RSI}]
    mov rdi, [rdi + {RDI}]
    vmrun rax

    # rax, rsp and rflags are as before; all else is the guest's.
    vmsave rax
    pop rax
    mov [rax + {R15}], r15
    mov [rax + {R14}], r14
    mov [rax + {R13}], r13
    mov [rax + {R12}], r12
    mov [rax + {RBP}], rbp
    mov [rax + {RBX}], rbx
    mov [rax + {R11}], r11
    mov [rax + {R10}], r10
    mov [rax + {R9}],  r9
    mov [rax + {R8}],  r8
    mov [rax + {RCX}], rcx
    mov [rax + {RDX}], rdx
    mov [rax + {RSI}], rsi
    mov [rax + {RDI}], rdi
    pop rax
    vmload rax
    cli
    stgi

    # Nothing of the guest's stays in a register that code might use on a wrong path.
    xor eax, eax
    xor ecx, ecx
    xor edx, edx
    xor esi, esi
    xor edi, edi
    xor r8d, r8d
    xor r9d, r9d
    xor r10d, r10d
    xor r11d, r11d
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret
