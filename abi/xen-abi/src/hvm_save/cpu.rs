//! The header of a saved state, and the records of vCPUs.

abi_constants! {
    "hvm/save.h";
    /// What the header begins with.
    HVM_FILE_MAGIC: u32 = 0x5438_1286;
    /// Version of the format.
    HVM_FILE_VERSION: u32 = 1;
    HVM_SAVE_CODE_END: u16 = 0 => "HVM_SAVE_CODE(END)";
    HVM_SAVE_CODE_HEADER: u16 = 1 => "HVM_SAVE_CODE(HEADER)";
    /// The instance is the vCPU, here and below.
    HVM_SAVE_CODE_CPU: u16 = 2 => "HVM_SAVE_CODE(CPU)";
    HVM_SAVE_CODE_MTRR: u16 = 14 => "HVM_SAVE_CODE(MTRR)";
    /// In `HwCpu::flags`: `fpu_regs` holds something.
    XEN_X86_FPU_INITIALISED: u32 = 1;
}

abi_structs! {
    "hvm/save.h";
    /// What is before each record.
    SaveDescriptor = "struct hvm_save_descriptor" {
        /// `HVM_SAVE_CODE_*`.
        typecode: u16,
        instance: u16,
        /// Bytes of the record without this.
        length: u32,
    }

    /// The first record.
    SaveHeader = "struct hvm_save_header" {
        magic: u32,
        version: u32,
        /// Version of the hypervisor.
        changeset: u64,
        /// CPUID leaf 1, eax, of the machine that saved.
        cpuid: u32,
        /// Frequency of the guest's time-stamp counter.
        gtsc_khz: u32,
    }

    /// A vCPU's registers.
    HwCpu = "struct hvm_hw_cpu" {
        /// As FXSAVE writes them.
        fpu_regs: [u8; 512],
        rax: u64,
        rbx: u64,
        rcx: u64,
        rdx: u64,
        rbp: u64,
        rsi: u64,
        rdi: u64,
        rsp: u64,
        r8: u64,
        r9: u64,
        r10: u64,
        r11: u64,
        r12: u64,
        r13: u64,
        r14: u64,
        r15: u64,
        rip: u64,
        rflags: u64,
        cr0: u64,
        cr2: u64,
        cr3: u64,
        cr4: u64,
        dr0: u64,
        dr1: u64,
        dr2: u64,
        dr3: u64,
        dr6: u64,
        dr7: u64,
        cs_sel: u32,
        ds_sel: u32,
        es_sel: u32,
        fs_sel: u32,
        gs_sel: u32,
        ss_sel: u32,
        tr_sel: u32,
        ldtr_sel: u32,
        cs_limit: u32,
        ds_limit: u32,
        es_limit: u32,
        fs_limit: u32,
        gs_limit: u32,
        ss_limit: u32,
        tr_limit: u32,
        ldtr_limit: u32,
        idtr_limit: u32,
        gdtr_limit: u32,
        cs_base: u64,
        ds_base: u64,
        es_base: u64,
        fs_base: u64,
        gs_base: u64,
        ss_base: u64,
        tr_base: u64,
        ldtr_base: u64,
        idtr_base: u64,
        gdtr_base: u64,
        cs_arbytes: u32,
        ds_arbytes: u32,
        es_arbytes: u32,
        fs_arbytes: u32,
        gs_arbytes: u32,
        ss_arbytes: u32,
        tr_arbytes: u32,
        ldtr_arbytes: u32,
        sysenter_cs: u64,
        sysenter_esp: u64,
        sysenter_eip: u64,
        /// KERNEL_GS_BASE.
        shadow_gs: u64,
        /// Of no use.
        msr_flags: u64,
        msr_lstar: u64,
        msr_star: u64,
        msr_cstar: u64,
        msr_syscall_mask: u64,
        msr_efer: u64,
        msr_tsc_aux: u64,
        /// The time-stamp counter as the guest reads it.
        tsc: u64,
        /// An event that was not delivered yet: as a VMCB's EVENTINJ, low half.
        pending_event: u32,
        /// Its error code.
        error_code: u32,
        /// `XEN_X86_FPU_*`.
        flags: u32,
        pad0: u32,
    }

    /// A vCPU's memory type range registers.
    HwMtrr = "struct hvm_hw_mtrr" {
        msr_pat_cr: u64,
        /// Bases and masks by turns.
        msr_mtrr_var: [u64; 16],
        msr_mtrr_fixed: [u64; 11],
        msr_mtrr_cap: u64,
        msr_mtrr_def_type: u64,
    }
}
