//! vm_event.h: events of a guest for whoever watches it, and the ring in which they travel.

use crate::Union;

abi_constants! {
    "vm_event.h";
    VM_EVENT_INTERFACE_VERSION: u32 = 7;

    VM_EVENT_FLAG_VCPU_PAUSED: u32 = 1 << 0;
    VM_EVENT_FLAG_FOREIGN: u32 = 1 << 1;
    VM_EVENT_FLAG_EMULATE: u32 = 1 << 2;
    VM_EVENT_FLAG_EMULATE_NOWRITE: u32 = 1 << 3;
    VM_EVENT_FLAG_TOGGLE_SINGLESTEP: u32 = 1 << 4;
    VM_EVENT_FLAG_SET_EMUL_READ_DATA: u32 = 1 << 5;
    VM_EVENT_FLAG_DENY: u32 = 1 << 6;
    VM_EVENT_FLAG_ALTERNATE_P2M: u32 = 1 << 7;
    VM_EVENT_FLAG_SET_REGISTERS: u32 = 1 << 8;
    VM_EVENT_FLAG_SET_EMUL_INSN_DATA: u32 = 1 << 9;
    VM_EVENT_FLAG_GET_NEXT_INTERRUPT: u32 = 1 << 10;
    VM_EVENT_FLAG_FAST_SINGLESTEP: u32 = 1 << 11;
    VM_EVENT_FLAG_NESTED_P2M: u32 = 1 << 12;
    VM_EVENT_FLAG_RESET_VMTRACE: u32 = 1 << 13;
    VM_EVENT_FLAG_RESET_FORK_STATE: u32 = 1 << 14;
    VM_EVENT_FLAG_RESET_FORK_MEMORY: u32 = 1 << 15;

    VM_EVENT_REASON_UNKNOWN: u32 = 0;
    VM_EVENT_REASON_MEM_ACCESS: u32 = 1;
    VM_EVENT_REASON_MEM_SHARING: u32 = 2;
    VM_EVENT_REASON_MEM_PAGING: u32 = 3;
    VM_EVENT_REASON_WRITE_CTRLREG: u32 = 4;
    VM_EVENT_REASON_MOV_TO_MSR: u32 = 5;
    VM_EVENT_REASON_SOFTWARE_BREAKPOINT: u32 = 6;
    VM_EVENT_REASON_SINGLESTEP: u32 = 7;
    VM_EVENT_REASON_GUEST_REQUEST: u32 = 8;
    VM_EVENT_REASON_DEBUG_EXCEPTION: u32 = 9;
    VM_EVENT_REASON_CPUID: u32 = 10;
    VM_EVENT_REASON_PRIVILEGED_CALL: u32 = 11;
    VM_EVENT_REASON_INTERRUPT: u32 = 12;
    VM_EVENT_REASON_DESCRIPTOR_ACCESS: u32 = 13;
    VM_EVENT_REASON_EMUL_UNIMPLEMENTED: u32 = 14;
    VM_EVENT_REASON_VMEXIT: u32 = 15;
    VM_EVENT_REASON_IO_INSTRUCTION: u32 = 16;

    VM_EVENT_X86_CR0: u32 = 0;
    VM_EVENT_X86_CR3: u32 = 1;
    VM_EVENT_X86_CR4: u32 = 2;
    VM_EVENT_X86_XCR0: u32 = 3;

    MEM_ACCESS_R: u32 = 1 << 0;
    MEM_ACCESS_W: u32 = 1 << 1;
    MEM_ACCESS_X: u32 = 1 << 2;
    MEM_ACCESS_RWX: u32 = 7;
    MEM_ACCESS_RW: u32 = 3;
    MEM_ACCESS_RX: u32 = 5;
    MEM_ACCESS_WX: u32 = 6;
    MEM_ACCESS_GLA_VALID: u32 = 1 << 3;
    MEM_ACCESS_FAULT_WITH_GLA: u32 = 1 << 4;
    MEM_ACCESS_FAULT_IN_GPT: u32 = 1 << 5;

    VM_EVENT_DESC_IDTR: u8 = 1;
    VM_EVENT_DESC_GDTR: u8 = 2;
    VM_EVENT_DESC_LDTR: u8 = 3;
    VM_EVENT_DESC_TR: u8 = 4;

    MEM_PAGING_DROP_PAGE: u32 = 1 << 0;
    MEM_PAGING_EVICT_FAIL: u32 = 1 << 1;
}

abi_structs! {
    "vm_event.h";
    /// A segment's limit and attributes.
    VmEventX86SelectorReg = "struct vm_event_x86_selector_reg" {
        /// Bits 0 to 19 limit, in pages where the attributes say so; 20 to 31 attributes.
        _gap_fields: u32,
    }

    /// Registers of the vCPU.
    VmEventRegsX86 = "struct vm_event_regs_x86" {
        rax: u64,
        rcx: u64,
        rdx: u64,
        rbx: u64,
        rsp: u64,
        rbp: u64,
        rsi: u64,
        rdi: u64,
        r8: u64,
        r9: u64,
        r10: u64,
        r11: u64,
        r12: u64,
        r13: u64,
        r14: u64,
        r15: u64,
        rflags: u64,
        dr6: u64,
        dr7: u64,
        rip: u64,
        cr0: u64,
        cr2: u64,
        cr3: u64,
        cr4: u64,
        sysenter_cs: u64,
        sysenter_esp: u64,
        sysenter_eip: u64,
        msr_efer: u64,
        msr_star: u64,
        msr_lstar: u64,
        gdtr_base: u64,
        npt_base: u64,
        vmtrace_pos: u64,
        cs_base: u32,
        ss_base: u32,
        ds_base: u32,
        es_base: u32,
        fs_base: u64,
        gs_base: u64,
        cs: VmEventX86SelectorReg,
        ss: VmEventX86SelectorReg,
        ds: VmEventX86SelectorReg,
        es: VmEventX86SelectorReg,
        fs: VmEventX86SelectorReg,
        gs: VmEventX86SelectorReg,
        shadow_gs: u64,
        gdtr_limit: u16,
        cs_sel: u16,
        ss_sel: u16,
        ds_sel: u16,
        es_sel: u16,
        fs_sel: u16,
        gs_sel: u16,
        _pad: u16,
    }

    /// An access that the rights to a page do not allow.
    VmEventMemAccess = "struct vm_event_mem_access" {
        gfn: u64,
        offset: u64,
        /// Only with `MEM_ACCESS_GLA_VALID`.
        gla: u64,
        /// `MEM_ACCESS_*`.
        flags: u32,
        _pad: u32,
    }

    /// A request or a response; the two have one form.
    VmEvent = "struct vm_event_st" {
        /// `VM_EVENT_INTERFACE_VERSION`.
        version: u32,
        /// `VM_EVENT_FLAG_*`.
        flags: u32,
        /// `VM_EVENT_REASON_*`.
        reason: u32,
        vcpu_id: u32,
        altp2m_idx: u16,
        _pad: [u16; 3],
        u: Union<u64, 4>,
        data: Union<u64, 43>,
    }

    /// What the ring's page begins with; the slots follow.
    VmEventSring = "struct vm_event_sring" {
        req_prod: u32,
        req_event: u32,
        rsp_prod: u32,
        rsp_event: u32,
        pvt: Union<u8, 4>,
        __pad: [u8; 44],
        _gap_ring: [VmEvent; 0],
    }
}

impl VmEventX86SelectorReg {
    /// From a limit in bytes and attributes as in a save record, with bit 11 for a limit in pages.
    pub const fn new(limit: u32, attributes: u16) -> VmEventX86SelectorReg {
        let limit = if attributes & 1 << 11 != 0 { limit >> 12 } else { limit };
        VmEventX86SelectorReg { _gap_fields: limit & 0xf_ffff | (attributes as u32) << 20 }
    }
}
