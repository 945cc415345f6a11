//! arch-x86/hvm/save.h: records of a vCPU's model-specific registers and vector registers.

abi_constants! {
    "arch-x86/hvm/save.h";
    /// Record type of [`HvmHwCpuXsave`] and the rest of the image.
    CPU_XSAVE_CODE: u16 = 16;
    /// Record type of [`HvmVmceVcpu`].
    HVM_SAVE_CODE_VMCE_VCPU: u16 = 18 => "HVM_SAVE_CODE(VMCE_VCPU)";
    /// Record type of [`HvmTscAdjust`].
    HVM_SAVE_CODE_TSC_ADJUST: u16 = 19 => "HVM_SAVE_CODE(TSC_ADJUST)";
    /// Record type of [`HvmMsr`].
    CPU_MSR_CODE: u16 = 20;
}

abi_structs! {
    "arch-x86/hvm/save.h";
    /// What XSAVE saves, up to the end of the image's header.
    HvmHwCpuXsave = "struct hvm_hw_cpu_xsave" {
        /// Ignored.
        xfeature_mask: u64,
        xcr0: u64,
        /// All bits that XCR0 ever had.
        xcr0_accum: u64,
        save_area: [u8; 576],
    }

    /// Registers of machine checks.
    HvmVmceVcpu = "struct hvm_vmce_vcpu" {
        caps: u64,
        mci_ctl2_bank0: u64,
        mci_ctl2_bank1: u64,
        mcg_ext_ctl: u64,
    }

    /// IA32_TSC_ADJUST.
    HvmTscAdjust = "struct hvm_tsc_adjust" {
        tsc_adjust: u64,
    }

    /// One of [`HvmMsr`].
    HvmOneMsr = "struct hvm_one_msr" {
        index: u32,
        _rsvd: u32,
        val: u64,
    }
}
