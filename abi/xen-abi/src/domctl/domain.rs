//! Life cycle, information, scheduling and permissions of a domain.

use crate::arch_x86::{ArchDomainConfig, VcpuGuestContext};
use crate::xen::Bitmap;
use crate::{GuestHandle, Union};

abi_structs! {
    "domctl.h";
    /// A new domain's configuration.
    CreateDomain = "struct xen_domctl_createdomain" {
        ssidref: u32,
        /// UUID.
        handle: [u8; 16],
        /// `XEN_DOMCTL_CDF_*`.
        flags: u32,
        /// `XEN_DOMCTL_IOMMU_*`.
        iommu_opts: u32,
        max_vcpus: u32,
        max_evtchn_port: u32,
        /// Negative for the default.
        max_grant_frames: i32,
        /// Negative for the default.
        max_maptrack_frames: i32,
        /// Highest grant version in bits 3:0.
        grant_opts: u32,
        altp2m_opts: u32,
        /// Trace buffer per vCPU in bytes.
        vmtrace_size: u32,
        cpupool_id: u32,
        arch: ArchDomainConfig,
    }

    /// State and figures of a domain.
    GetDomainInfo = "struct xen_domctl_getdomaininfo" {
        domain: u16,
        pad1: u16,
        /// `XEN_DOMINF_*`.
        flags: u32,
        /// Pages that the domain has.
        tot_pages: u64,
        /// Pages that the domain may have.
        max_pages: u64,
        outstanding_pages: u64,
        shr_pages: u64,
        paged_pages: u64,
        /// Guest frame of the shared page.
        shared_info_frame: u64,
        /// Nanoseconds that the vCPUs have run.
        cpu_time: u64,
        nr_online_vcpus: u32,
        /// `XEN_INVALID_MAX_VCPU_ID` without vCPUs.
        max_vcpu_id: u32,
        ssidref: u32,
        handle: [u8; 16],
        cpupool: u32,
        gpaddr_bits: u8,
        pad2: [u8; 7],
        arch_config: ArchDomainConfig,
    }

    /// Types of a list of frames.
    GetPageFrameInfo3 = "struct xen_domctl_getpageframeinfo3" {
        num: u64,
        /// IN: frame numbers. OUT: `XEN_DOMCTL_PFINFO_*`.
        array: GuestHandle<u64>,
    }

    /// Figures of dirty-page logging.
    ShadowOpStats = "struct xen_domctl_shadow_op_stats" {
        fault_count: u32,
        dirty_count: u32,
    }

    /// Shadow paging and dirty-page logging.
    ShadowOp = "struct xen_domctl_shadow_op" {
        op: u32,
        mode: u32,
        mb: u32,
        _gap0: [u8; 4],
        dirty_bitmap: GuestHandle<u8>,
        pages: u64,
        stats: ShadowOpStats,
    }

    /// Limit of a domain's memory.
    MaxMem = "struct xen_domctl_max_mem" {
        /// KiB.
        max_memkb: u64,
    }

    /// Where a vCPU's context is or shall go.
    VcpuContext = "struct xen_domctl_vcpucontext" {
        vcpu: u32,
        _gap0: [u8; 4],
        ctxt: GuestHandle<VcpuGuestContext>,
    }

    /// State of a vCPU.
    GetVcpuInfo = "struct xen_domctl_getvcpuinfo" {
        vcpu: u32,
        online: u8,
        blocked: u8,
        running: u8,
        _gap0: [u8; 1],
        /// Nanoseconds.
        cpu_time: u64,
        cpu: u32,
        _gap1: [u8; 4],
    }

    /// NUMA nodes that a domain prefers.
    NodeAffinity = "struct xen_domctl_nodeaffinity" {
        nodemap: Bitmap,
    }

    /// Physical CPUs that a vCPU may or should run on.
    VcpuAffinity = "struct xen_domctl_vcpuaffinity" {
        vcpu: u32,
        /// `XEN_VCPUAFFINITY_*`.
        flags: u32,
        cpumap_hard: Bitmap,
        cpumap_soft: Bitmap,
    }

    /// Number of vCPUs of a domain.
    MaxVcpus = "struct xen_domctl_max_vcpus" {
        max: u32,
    }

    /// Parameters of the credit scheduler.
    SchedCredit = "struct xen_domctl_sched_credit" {
        weight: u16,
        cap: u16,
    }

    /// Parameters of the credit2 scheduler.
    SchedCredit2 = "struct xen_domctl_sched_credit2" {
        weight: u16,
        cap: u16,
    }

    /// Parameters of the real-time scheduler.
    SchedRtds = "struct xen_domctl_sched_rtds" {
        /// Microseconds.
        period: u32,
        /// Microseconds.
        budget: u32,
        flags: u32,
    }

    /// Scheduler parameters of one vCPU.
    SchedparamVcpu = "struct xen_domctl_schedparam_vcpu" {
        u: Union<u32, 3>,
        vcpuid: u32,
    }

    /// A list of per-vCPU scheduler parameters.
    SchedulerOpV = "__typeof__(((struct xen_domctl_scheduler_op *)0)->u.v)" {
        vcpus: GuestHandle<SchedparamVcpu>,
        nr_vcpus: u32,
        padding: u32,
    }

    /// Scheduler parameters of a domain or its vCPUs.
    SchedulerOp = "struct xen_domctl_scheduler_op" {
        /// `XEN_SCHEDULER_*`.
        sched_id: u32,
        cmd: u32,
        u: Union<u64, 2>,
    }

    /// The UUID by which tools know a domain.
    SetDomainHandle = "struct xen_domctl_setdomainhandle" {
        handle: [u8; 16],
    }

    /// Whether a debugger controls the domain.
    SetDebugging = "struct xen_domctl_setdebugging" {
        enable: u8,
    }

    /// Access to a physical interrupt.
    IrqPermission = "struct xen_domctl_irq_permission" {
        pirq: u32,
        allow_access: u8,
        pad: [u8; 3],
    }

    /// Access to a GSI.
    GsiPermission = "struct xen_domctl_gsi_permission" {
        gsi: u32,
        flags: u32,
    }

    /// Access to device memory.
    IoMemPermission = "struct xen_domctl_iomem_permission" {
        first_mfn: u64,
        nr_mfns: u64,
        allow_access: u8,
        _gap0: [u8; 7],
    }

    /// Access to I/O ports.
    IoPortPermission = "struct xen_domctl_ioport_permission" {
        first_port: u32,
        nr_ports: u32,
        allow_access: u8,
        _gap0: [u8; 3],
    }

    /// A page to fill with the hypercall stubs.
    HypercallInit = "struct xen_domctl_hypercall_init" {
        gmfn: u64,
    }

    /// Offset of a domain's wall clock.
    SetTimeOffset = "struct xen_domctl_settimeoffset" {
        /// Seconds.
        time_offset_seconds: i64,
    }
}
