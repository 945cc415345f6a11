//! arch-x86/hvm/save.h: records of what a guest has that knows Hyper-V.

abi_constants! {
    "arch-x86/hvm/save.h";
    /// Record type of [`HvmViridianDomainContext`].
    HVM_SAVE_CODE_VIRIDIAN_DOMAIN: u16 = 15 => "HVM_SAVE_CODE(VIRIDIAN_DOMAIN)";
    /// Record type of [`HvmViridianVcpuContext`].
    HVM_SAVE_CODE_VIRIDIAN_VCPU: u16 = 17 => "HVM_SAVE_CODE(VIRIDIAN_VCPU)";
}

abi_structs! {
    "arch-x86/hvm/save.h";
    /// A domain's part.
    HvmViridianDomainContext = "struct hvm_viridian_domain_context" {
        hypercall_gpa: u64,
        guest_os_id: u64,
        time_ref_count: u64,
        reference_tsc: u64,
    }

    /// A vCPU's part.
    HvmViridianVcpuContext = "struct hvm_viridian_vcpu_context" {
        vp_assist_msr: u64,
        apic_assist_pending: u8,
        _pad: [u8; 7],
        simp_msr: u64,
        sint_msr: [u64; 16],
        stimer_config_msr: [u64; 4],
        stimer_count_msr: [u64; 4],
    }
}
