//! hvm/hvm_op.h: `HYPERVISOR_hvm_op`.

use crate::{GuestHandle, Union};

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
    HVMOP_SET_MEM_ACCESS: u32 = 12 => "HVMOP_set_mem_access";
    HVMOP_GET_MEM_ACCESS: u32 = 13 => "HVMOP_get_mem_access";

    HVMMEM_RAM_RW: u16 = 0 => "HVMMEM_ram_rw";
    HVMMEM_RAM_RO: u16 = 1 => "HVMMEM_ram_ro";
    HVMMEM_MMIO_DM: u16 = 2 => "HVMMEM_mmio_dm";
    HVMMEM_UNUSED: u16 = 3 => "HVMMEM_unused";
    HVMMEM_IOREQ_SERVER: u16 = 4 => "HVMMEM_ioreq_server";

    HVM_IOREQSRV_BUFIOREQ_OFF: u8 = 0;
    HVM_IOREQSRV_BUFIOREQ_LEGACY: u8 = 1;
    HVM_IOREQSRV_BUFIOREQ_ATOMIC: u8 = 2;

    HVMOP_ALTP2M_INTERFACE_VERSION: u32 = 1;
    HVMOP_ALTP2M_GET_DOMAIN_STATE: u32 = 1 => "HVMOP_altp2m_get_domain_state";
    HVMOP_ALTP2M_SET_DOMAIN_STATE: u32 = 2 => "HVMOP_altp2m_set_domain_state";
    HVMOP_ALTP2M_VCPU_ENABLE_NOTIFY: u32 = 3 => "HVMOP_altp2m_vcpu_enable_notify";
    HVMOP_ALTP2M_CREATE_P2M: u32 = 4 => "HVMOP_altp2m_create_p2m";
    HVMOP_ALTP2M_DESTROY_P2M: u32 = 5 => "HVMOP_altp2m_destroy_p2m";
    HVMOP_ALTP2M_SWITCH_P2M: u32 = 6 => "HVMOP_altp2m_switch_p2m";
    HVMOP_ALTP2M_SET_MEM_ACCESS: u32 = 7 => "HVMOP_altp2m_set_mem_access";
    HVMOP_ALTP2M_CHANGE_GFN: u32 = 8 => "HVMOP_altp2m_change_gfn";
    HVMOP_ALTP2M_SET_MEM_ACCESS_MULTI: u32 = 9 => "HVMOP_altp2m_set_mem_access_multi";
    HVMOP_ALTP2M_SET_SUPPRESS_VE: u32 = 10 => "HVMOP_altp2m_set_suppress_ve";
    HVMOP_ALTP2M_GET_SUPPRESS_VE: u32 = 11 => "HVMOP_altp2m_get_suppress_ve";
    HVMOP_ALTP2M_GET_MEM_ACCESS: u32 = 12 => "HVMOP_altp2m_get_mem_access";
    HVMOP_ALTP2M_VCPU_DISABLE_NOTIFY: u32 = 13 => "HVMOP_altp2m_vcpu_disable_notify";
    HVMOP_ALTP2M_GET_P2M_IDX: u32 = 14 => "HVMOP_altp2m_get_p2m_idx";
    HVMOP_ALTP2M_SET_SUPPRESS_VE_MULTI: u32 = 15 => "HVMOP_altp2m_set_suppress_ve_multi";
    HVMOP_ALTP2M_SET_VISIBILITY: u32 = 16 => "HVMOP_altp2m_set_visibility";
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

    /// The vector by which a vCPU hears of events, instead of the domain's.
    HvmEvtchnUpcallVector = "struct xen_hvm_evtchn_upcall_vector" {
        vcpu: u32,
        vector: u8,
        _gap0: [u8; 3],
    }

    /// Whether alternative views of memory are on.
    HvmAltp2mDomainState = "struct xen_hvm_altp2m_domain_state" {
        state: u8,
    }

    /// Where a vCPU gets #VE information.
    HvmAltp2mVcpuEnableNotify = "struct xen_hvm_altp2m_vcpu_enable_notify" {
        vcpu_id: u32,
        pad: u32,
        gfn: u64,
    }

    /// Ends that.
    HvmAltp2mVcpuDisableNotify = "struct xen_hvm_altp2m_vcpu_disable_notify" {
        vcpu_id: u32,
    }

    /// A view.
    HvmAltp2mView = "struct xen_hvm_altp2m_view" {
        view: u16,
        hvmmem_default_access: u16,
    }

    /// Rights of a page in a view.
    HvmAltp2mMemAccess = "struct xen_hvm_altp2m_mem_access" {
        view: u16,
        access: u16,
        pad: u32,
        gfn: u64,
    }

    /// Rights of several pages in a view.
    HvmAltp2mSetMemAccessMulti = "struct xen_hvm_altp2m_set_mem_access_multi" {
        view: u16,
        pad: u16,
        nr: u32,
        opaque: u64,
        pfn_list: GuestHandle<u64>,
        access_list: GuestHandle<u8>,
    }

    /// Another frame for a page in a view.
    HvmAltp2mChangeGfn = "struct xen_hvm_altp2m_change_gfn" {
        view: u16,
        pad1: u16,
        pad2: u32,
        old_gfn: u64,
        new_gfn: u64,
    }

    /// Whether a page's violations are #VE.
    HvmAltp2mSuppressVe = "struct xen_hvm_altp2m_suppress_ve" {
        view: u16,
        suppress_ve: u8,
        pad1: u8,
        pad2: u32,
        gfn: u64,
    }

    /// The same for several pages.
    HvmAltp2mSuppressVeMulti = "struct xen_hvm_altp2m_suppress_ve_multi" {
        view: u16,
        suppress_ve: u8,
        pad1: u8,
        first_error: i32,
        first_gfn: u64,
        last_gfn: u64,
        first_error_gfn: u64,
    }

    /// The view that a vCPU uses.
    HvmAltp2mGetVcpuP2mIdx = "struct xen_hvm_altp2m_get_vcpu_p2m_idx" {
        vcpu_id: u32,
        altp2m_idx: u16,
        _gap0: [u8; 2],
    }

    /// Whether guests may switch to a view.
    HvmAltp2mSetVisibility = "struct xen_hvm_altp2m_set_visibility" {
        altp2m_idx: u16,
        visible: u8,
        pad: u8,
    }

    /// An operation on alternative views.
    HvmAltp2mOp = "struct xen_hvm_altp2m_op" {
        version: u32,
        cmd: u32,
        domain: u16,
        pad1: u16,
        pad2: u32,
        u: Union<u64, 8>,
    }
}
