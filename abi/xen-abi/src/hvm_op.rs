//! hvm/hvm_op.h and hvm/dm_op.h: `HYPERVISOR_hvm_op`, and the envelope of `HYPERVISOR_dm_op`.

abi_constants! {
    "hvm/hvm_op.h";
    HVMOP_SET_PARAM: u32 = 0 => "HVMOP_set_param";
    HVMOP_GET_PARAM: u32 = 1 => "HVMOP_get_param";
    HVMOP_FLUSH_TLBS: u32 = 5 => "HVMOP_flush_tlbs";
    HVMOP_PAGETABLE_DYING: u32 = 9 => "HVMOP_pagetable_dying";
    HVMOP_GET_TIME: u32 = 10 => "HVMOP_get_time";
    HVMOP_XENTRACE: u32 = 11 => "HVMOP_xentrace";
    HVMOP_GET_MEM_TYPE: u32 = 15 => "HVMOP_get_mem_type";
    HVMOP_SET_EVTCHN_UPCALL_VECTOR: u32 = 23 => "HVMOP_set_evtchn_upcall_vector";
    HVMOP_GUEST_REQUEST_VM_EVENT: u32 = 24 => "HVMOP_guest_request_vm_event";
    HVMOP_ALTP2M: u32 = 25 => "HVMOP_altp2m";
}

abi_structs! {
    "hvm/hvm_op.h";
    /// One of an HVM guest's parameters (`HVM_PARAM_*`).
    HvmParam = "struct xen_hvm_param" {
        domid: u16,
        pad: u16,
        index: u32,
        value: u64,
    }

    /// A page table that an HVM guest is about to give up.
    HvmPagetableDying = "struct xen_hvm_pagetable_dying" {
        domid: u16,
        pad: [u16; 3],
        gpa: u64,
    }

    /// System time.
    HvmGetTime = "struct xen_hvm_get_time" {
        /// Nanoseconds.
        now: u64,
    }

    /// A record for the trace buffers.
    HvmXentrace = "struct xen_hvm_xentrace" {
        event: u16,
        /// Bytes of `extra` that are used.
        extra_bytes: u16,
        extra: [u8; 28],
    }

    /// What a page of an HVM guest is.
    HvmGetMemType = "struct xen_hvm_get_mem_type" {
        domid: u16,
        mem_type: u16,
        pad: [u16; 2],
        pfn: u64,
    }

    /// A buffer of the caller's.
    DmOpBuf = "struct xen_dm_op_buf" {
        h: crate::GuestHandle<u8>,
        size: u64,
    }
}
