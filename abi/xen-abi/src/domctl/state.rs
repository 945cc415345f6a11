//! CPU policy, extended vCPU state, monitoring and tracing; the envelope.

use crate::arch_x86::{CpuidLeaf, MsrEntry};
use crate::memory::Vmemrange;
use crate::{GuestHandle, Union};

abi_structs! {
    "domctl.h";
    /// CPUID leaves and MSRs that a guest or the host has.
    CpuPolicy = "struct xen_domctl_cpu_policy" {
        nr_leaves: u32,
        nr_msrs: u32,
        leaves: GuestHandle<CpuidLeaf>,
        msrs: GuestHandle<MsrEntry>,
        err_leaf: u32,
        err_subleaf: u32,
        err_msr: u32,
        _gap0: [u8; 4],
    }

    /// A port to notify of a vCPU's events.
    Subscribe = "struct xen_domctl_subscribe" {
        port: u32,
    }

    /// Single-stepping of a vCPU.
    DebugOp = "struct xen_domctl_debug_op" {
        op: u32,
        vcpu: u32,
    }

    /// One record of an HVM domain's saved state.
    HvmContextPartial = "struct xen_domctl_hvmcontext_partial" {
        r#type: u32,
        instance: u32,
        bufsz: u64,
        buffer: GuestHandle<u8>,
    }

    /// How a domain sees the TSC.
    TscInfo = "struct xen_domctl_tsc_info" {
        tsc_mode: u32,
        /// Guest TSC frequency.
        gtsc_khz: u32,
        incarnation: u32,
        pad: u32,
        /// Guest time so far.
        elapsed_nsec: u64,
    }

    /// Memory access by the gdbsx debugger.
    GdbsxMemIo = "struct xen_domctl_gdbsx_memio" {
        pgd3val: u64,
        gva: u64,
        uva: u64,
        len: u32,
        gwr: u8,
        _gap0: [u8; 3],
        remain: u32,
        _gap1: [u8; 4],
    }

    /// A vCPU to pause or go on for gdbsx.
    GdbsxPauseUnpVcpu = "struct xen_domctl_gdbsx_pauseunp_vcpu" {
        vcpu: u32,
    }

    /// Whether gdbsx has paused the domain, and why.
    GdbsxDomStatus = "struct xen_domctl_gdbsx_domstatus" {
        paused: u8,
        _gap0: [u8; 3],
        vcpu_id: u32,
        vcpu_ev: u32,
    }

    /// The port of a newly enabled ring.
    VmEventOpEnable = "__typeof__(((struct xen_domctl_vm_event_op *)0)->u.enable)" {
        port: u32,
    }

    /// Rings for events about a guest's memory and registers.
    VmEventOp = "struct xen_domctl_vm_event_op" {
        op: u32,
        mode: u32,
        u: Union<u32, 1>,
    }

    /// Whether a domain may share pages.
    MemSharingOp = "struct xen_domctl_mem_sharing_op" {
        op: u8,
        u: u8,
    }

    /// Findings of a check of the physical map.
    AuditP2m = "struct xen_domctl_audit_p2m" {
        orphans: u64,
        m2p_bad: u64,
        p2m_bad: u64,
    }

    /// The virtual interrupt that the domain is to receive.
    SetVirqHandler = "struct xen_domctl_set_virq_handler" {
        virq: u32,
    }

    /// Extended FPU state (XSAVE) of a vCPU.
    VcpuExtState = "struct xen_domctl_vcpuextstate" {
        vcpu: u32,
        _gap0: [u8; 4],
        xfeature_mask: u64,
        size: u64,
        buffer: GuestHandle<u64>,
    }

    /// Whether a memory-access listener is required.
    SetAccessRequired = "struct xen_domctl_set_access_required" {
        access_required: u8,
    }

    /// A page to mark as broken.
    SetBrokenPageP2m = "struct xen_domctl_set_broken_page_p2m" {
        pfn: u64,
    }

    /// Pages whose cache lines shall be cleaned.
    Cacheflush = "struct xen_domctl_cacheflush" {
        start_pfn: u64,
        nr_pfns: u64,
    }

    /// Size of the pool for a domain's page tables.
    PagingMempool = "struct xen_domctl_paging_mempool" {
        /// Bytes.
        size: u64,
    }

    /// One MSR of a vCPU.
    VcpuMsr = "struct xen_domctl_vcpu_msr" {
        index: u32,
        reserved: u32,
        value: u64,
    }

    /// MSRs of a vCPU.
    VcpuMsrs = "struct xen_domctl_vcpu_msrs" {
        vcpu: u32,
        msr_count: u32,
        msrs: GuestHandle<VcpuMsr>,
    }

    /// Virtual NUMA topology for a domain.
    Vnuma = "struct xen_domctl_vnuma" {
        nr_vnodes: u32,
        nr_vmemranges: u32,
        nr_vcpus: u32,
        pad: u32,
        vdistance: GuestHandle<u32>,
        vcpu_to_vnode: GuestHandle<u32>,
        vnode_to_pnode: GuestHandle<u32>,
        vmemrange: GuestHandle<Vmemrange>,
    }

    /// Cache monitoring.
    PsrCmtOp = "struct xen_domctl_psr_cmt_op" {
        cmd: u32,
        data: u32,
    }

    MonitorOpMovToCr = "__typeof__(((struct xen_domctl_monitor_op *)0)->u.mov_to_cr)" {
        index: u8,
        sync: u8,
        onchangeonly: u8,
        pad1: u8,
        pad2: u32,
        bitmask: u64,
    }

    MonitorOpMovToMsr = "__typeof__(((struct xen_domctl_monitor_op *)0)->u.mov_to_msr)" {
        msr: u32,
        onchangeonly: u8,
        _gap0: [u8; 3],
    }

    MonitorOpGuestRequest = "__typeof__(((struct xen_domctl_monitor_op *)0)->u.guest_request)" {
        sync: u8,
        allow_userspace: u8,
    }

    MonitorOpDebugException = "__typeof__(((struct xen_domctl_monitor_op *)0)->u.debug_exception)" {
        sync: u8,
    }

    MonitorOpVmexit = "__typeof__(((struct xen_domctl_monitor_op *)0)->u.vmexit)" {
        sync: u8,
    }

    /// Which events of a guest to report.
    MonitorOp = "struct xen_domctl_monitor_op" {
        op: u32,
        event: u32,
        u: Union<u64, 2>,
    }

    /// Cache and memory-bandwidth allocation.
    PsrAlloc = "struct xen_domctl_psr_alloc" {
        cmd: u32,
        target: u32,
        data: u64,
    }

    /// A virtual UART for a domain (Arm).
    VuartOp = "struct xen_domctl_vuart_op" {
        cmd: u32,
        r#type: u32,
        gfn: u64,
        console_domid: u16,
        pad: [u8; 2],
        evtchn: u32,
    }

    /// Processor trace of a vCPU.
    VmtraceOp = "struct xen_domctl_vmtrace_op" {
        cmd: u32,
        vcpu: u32,
        key: u64,
        value: u64,
    }

    /// Last-level cache colours of a domain.
    SetLlcColors = "struct xen_domctl_set_llc_colors" {
        num_llc_colors: u32,
        pad: u32,
        llc_colors: GuestHandle<u32>,
    }

    /// Envelope of `HYPERVISOR_domctl`, 144 bytes.
    Domctl = "struct xen_domctl" {
        cmd: u32,
        /// `XEN_DOMCTL_INTERFACE_VERSION`.
        interface_version: u32,
        domain: u16,
        _pad: [u16; 3],
        /// The payload of `cmd`.
        u: Union<u64, 16>,
    }
}
