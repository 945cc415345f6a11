//! hvm/hvm_vcpu.h: the registers that VCPUOP_initialise gives a vCPU of an HVM guest.

use crate::Union;

abi_constants! {
    "hvm/hvm_vcpu.h";
    VCPU_HVM_MODE_32B: u32 = 0;
    VCPU_HVM_MODE_64B: u32 = 1;
}

abi_structs! {
    "hvm/hvm_vcpu.h";
    /// Registers of a vCPU that begins in real, protected or compatibility mode. Attributes of segments are those of their
    /// descriptors, without the limit's upper bits.
    VcpuHvm32 = "struct vcpu_hvm_x86_32" {
        eax: u32,
        ecx: u32,
        edx: u32,
        ebx: u32,
        esp: u32,
        ebp: u32,
        esi: u32,
        edi: u32,
        eip: u32,
        eflags: u32,
        cr0: u32,
        cr3: u32,
        cr4: u32,
        pad1: u32,
        efer: u64,
        cs_base: u32,
        ds_base: u32,
        ss_base: u32,
        es_base: u32,
        tr_base: u32,
        cs_limit: u32,
        ds_limit: u32,
        ss_limit: u32,
        es_limit: u32,
        tr_limit: u32,
        cs_ar: u16,
        ds_ar: u16,
        ss_ar: u16,
        es_ar: u16,
        tr_ar: u16,
        pad2: [u16; 3],
    }

    /// Registers of a vCPU that begins in 64-bit mode, with segments as they are there.
    VcpuHvm64 = "struct vcpu_hvm_x86_64" {
        rax: u64,
        rcx: u64,
        rdx: u64,
        rbx: u64,
        rsp: u64,
        rbp: u64,
        rsi: u64,
        rdi: u64,
        rip: u64,
        rflags: u64,
        cr0: u64,
        cr3: u64,
        cr4: u64,
        efer: u64,
    }

    /// One of the two.
    VcpuHvmContext = "struct vcpu_hvm_context" {
        /// `VCPU_HVM_MODE_*`.
        mode: u32,
        pad: u32,
        /// [`VcpuHvm32`] or [`VcpuHvm64`].
        cpu_regs: Union<u64, 15>,
    }
}
