//! arch-x86/xen.h and xen-x86_64.h: selectors, registers, trap tables, and the x86 part of the shared page.

abi_constants! {
    "arch-x86/xen.h";
    FIRST_RESERVED_GDT_PAGE: u32 = 14;
    FIRST_RESERVED_GDT_BYTE: u32 = 0xe000;
    /// First GDT entry that is the hypervisor's.
    FIRST_RESERVED_GDT_ENTRY: u32 = 0x1c00;

    XEN_LEGACY_MAX_VCPUS: u32 = 32;

    VGCF_I387_VALID: u64 = 1;
    VGCF_IN_KERNEL: u64 = 4;
    VGCF_FAILSAFE_DISABLES_EVENTS: u64 = 8 => "VGCF_failsafe_disables_events";
    VGCF_SYSCALL_DISABLES_EVENTS: u64 = 0x10 => "VGCF_syscall_disables_events";
    VGCF_ONLINE: u64 = 0x20 => "VGCF_online";

    XEN_X86_EMU_LAPIC: u32 = 1;
    XEN_X86_EMU_HPET: u32 = 2;
    XEN_X86_EMU_PM: u32 = 4;
    XEN_X86_EMU_RTC: u32 = 8;
    XEN_X86_EMU_IOAPIC: u32 = 0x10;
    XEN_X86_EMU_PIC: u32 = 0x20;
    XEN_X86_EMU_VGA: u32 = 0x40;
    XEN_X86_EMU_IOMMU: u32 = 0x80;
    XEN_X86_EMU_PIT: u32 = 0x100;
    XEN_X86_EMU_USE_PIRQ: u32 = 0x200;
    XEN_X86_EMU_VPCI: u32 = 0x400;
    XEN_X86_EMU_ALL: u32 = 2047;
    XEN_X86_MSR_RELAXED: u32 = 1;
    XEN_X86_MISC_FLAGS_MAX: u32 = 1;
    XEN_CPUID_NO_SUBLEAF: u32 = 0xffff_ffff;
    XEN_HVM_DEBUGCONS_IOPORT: u32 = 233;

    FLAT_RING3_CS32: u16 = 0xe023;
    FLAT_RING3_CS64: u16 = 0xe033;
    FLAT_RING3_DS32: u16 = 0xe02b;
    FLAT_RING3_DS64: u16 = 0;
    FLAT_RING3_SS32: u16 = 0xe02b;
    FLAT_RING3_SS64: u16 = 0xe02b;
    FLAT_KERNEL_DS64: u16 = 0;
    FLAT_KERNEL_DS32: u16 = 0xe02b;
    FLAT_KERNEL_DS: u16 = 0;
    FLAT_KERNEL_CS64: u16 = 0xe033;
    FLAT_KERNEL_CS32: u16 = 0xe023;
    FLAT_KERNEL_CS: u16 = 0xe033;
    FLAT_KERNEL_SS64: u16 = 0xe02b;
    FLAT_KERNEL_SS32: u16 = 0xe02b;
    FLAT_KERNEL_SS: u16 = 0xe02b;
    FLAT_USER_DS64: u16 = 0;
    FLAT_USER_DS32: u16 = 0xe02b;
    FLAT_USER_DS: u16 = 0;
    FLAT_USER_CS64: u16 = 0xe033;
    FLAT_USER_CS32: u16 = 0xe023;
    FLAT_USER_CS: u16 = 0xe033;
    FLAT_USER_SS64: u16 = 0xe02b;
    FLAT_USER_SS32: u16 = 0xe02b;
    FLAT_USER_SS: u16 = 0xe02b;

    HYPERVISOR_VIRT_START: u64 = 0xffff_8000_0000_0000;
    HYPERVISOR_VIRT_END: u64 = 0xffff_8800_0000_0000;

    MACH2PHYS_VIRT_START: u64 = 0xffff_8000_0000_0000;
    MACH2PHYS_VIRT_END: u64 = 0xffff_8040_0000_0000;
    MACH2PHYS_NR_ENTRIES: u64 = 0x8_0000_0000;

    SEGBASE_FS: u32 = 0;
    SEGBASE_GS_USER: u32 = 1;
    SEGBASE_GS_KERNEL: u32 = 2;
    SEGBASE_GS_USER_SEL: u32 = 3;

    VGCF_IN_SYSCALL: u64 = 0x100 => "VGCF_in_syscall";
}

abi_structs! {
    "arch-x86/xen-x86_64.h";
    /// What `HYPERVISOR_iret` finds on the guest's kernel stack.
    IretContext = "struct iret_context" {
        rax: u64,
        r11: u64,
        rcx: u64,
        /// `VGCF_IN_SYSCALL` for a return with SYSRET.
        flags: u64,
        rip: u64,
        cs: u64,
        rflags: u64,
        rsp: u64,
        ss: u64,
    }

    /// Registers of a vCPU as the tools see them.
    CpuUserRegs = "struct cpu_user_regs" {
        r15: u64,
        r14: u64,
        r13: u64,
        r12: u64,
        rbp: u64,
        rbx: u64,
        r11: u64,
        r10: u64,
        r9: u64,
        r8: u64,
        rax: u64,
        rcx: u64,
        rdx: u64,
        rsi: u64,
        rdi: u64,
        error_code: u32,
        entry_vector: u32,
        rip: u64,
        cs: u16,
        _pad0: [u16; 1],
        /// The vCPU's event mask; the inverse of RFLAGS.IF.
        saved_upcall_mask: u8,
        _pad1: [u8; 3],
        rflags: u64,
        rsp: u64,
        ss: u16,
        _pad2: [u16; 3],
        es: u16,
        _pad3: [u16; 3],
        ds: u16,
        _pad4: [u16; 3],
        fs: u16,
        _pad5: [u16; 3],
        gs: u16,
        _pad6: [u16; 3],
    }

    /// The x86 part of `VcpuInfo`.
    ArchVcpuInfo = "struct arch_vcpu_info" {
        cr2: u64,
        pad: u64,
    }

    /// One entry of a PV guest's virtual interrupt descriptor table; a zero address ends a table given to
    /// `HYPERVISOR_set_trap_table`.
    TrapInfo = "struct trap_info" {
        /// Exception vector.
        vector: u8,
        /// Bits 1:0: lowest privilege that may raise it with INT; bit 2: mask events on delivery.
        flags: u8,
        /// Selector of the handler.
        cs: u16,
        _gap0: [u8; 4],
        /// Address of the handler.
        address: u64,
    }

    /// An FXSAVE image.
    VcpuGuestContextFpuCtxt = "__typeof__(((struct vcpu_guest_context *)0)->fpu_ctxt)" {
        x: [u8; 512],
    }

    /// Complete initial or saved state of a PV vCPU.
    VcpuGuestContext = "struct vcpu_guest_context" {
        fpu_ctxt: VcpuGuestContextFpuCtxt,
        /// `VGCF_*`.
        flags: u64,
        user_regs: CpuUserRegs,
        trap_ctxt: [TrapInfo; 256],
        /// Linear address of the LDT.
        ldt_base: u64,
        ldt_ents: u64,
        /// Machine frames of the GDT.
        gdt_frames: [u64; 16],
        /// Entries of the GDT.
        gdt_ents: u64,
        kernel_ss: u64,
        kernel_sp: u64,
        /// CR0 to CR7; CR3 is the kernel page table as `pfn_to_cr3` makes it, element 1 the user page table.
        ctrlreg: [u64; 8],
        debugreg: [u64; 8],
        event_callback_eip: u64,
        failsafe_callback_eip: u64,
        syscall_callback_eip: u64,
        vm_assist: u64,
        fs_base: u64,
        gs_base_kernel: u64,
        gs_base_user: u64,
    }

    /// The x86 part of the shared page.
    ArchSharedInfo = "struct arch_shared_info" {
        /// Number of entries in the physical-to-machine table.
        max_pfn: u64,
        /// Frame of the three-level list of the physical-to-machine table; 0 not set up, `!0` not used.
        pfn_to_mfn_frame_list_list: u64,
        /// `XEN_NMIREASON_*`.
        nmi_reason: u64,
        p2m_cr3: u64,
        p2m_vaddr: u64,
        p2m_generation: u64,
    }

    /// The x86 part of a domain's configuration.
    ArchDomainConfig = "struct xen_arch_domainconfig" {
        /// `XEN_X86_EMU_*`; 0 for PV.
        emulation_flags: u32,
        /// `XEN_X86_MSR_RELAXED`.
        misc_flags: u32,
    }

    /// One CPUID leaf of a policy.
    CpuidLeaf = "struct xen_cpuid_leaf" {
        leaf: u32,
        /// `XEN_CPUID_NO_SUBLEAF` if the leaf has none.
        subleaf: u32,
        a: u32,
        b: u32,
        c: u32,
        d: u32,
    }

    /// One MSR of a policy.
    MsrEntry = "struct xen_msr_entry" {
        idx: u32,
        /// Must be zero.
        flags: u32,
        val: u64,
    }
}

/// CR3 for a page table in frame `frame`; on x86-64 a plain shift.
pub const fn pfn_to_cr3(frame: u64) -> u64 {
    frame << 12
}

/// Frame of the page table that `cr3` names.
pub const fn cr3_to_pfn(cr3: u64) -> u64 {
    cr3 >> 12
}

impl TrapInfo {
    /// Lowest privilege level (0 most privileged, 3 least) that may raise the trap with an INT instruction.
    pub const fn dpl(&self) -> u8 {
        self.flags & 3
    }

    /// Whether delivery masks events.
    pub const fn masks_events(&self) -> bool {
        self.flags & 4 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trap_flags_split() {
        let trap = TrapInfo { vector: 3, flags: 7, cs: 0, _gap0: [0; 4], address: 0 };
        assert_eq!((trap.dpl(), trap.masks_events()), (3, true));
        let trap = TrapInfo { flags: 1, ..trap };
        assert_eq!((trap.dpl(), trap.masks_events()), (1, false));
    }

    #[test]
    fn cr3_holds_the_frame() {
        assert_eq!(pfn_to_cr3(0x1234), 0x123_4000);
        assert_eq!(cr3_to_pfn(0x123_4fff), 0x1234);
    }
}
