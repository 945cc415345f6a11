//! NUMA, CPU pools, schedulers, resource control, live patching; the envelope.

use crate::arch_x86::{CpuidLeaf, MsrEntry};
use crate::physdev::PciDevice;
use crate::xen::Bitmap;
use crate::{GuestHandle, Union};

abi_structs! {
    "sysctl.h";
    /// Takes faulty pages out of use.
    PageOfflineOp = "struct xen_sysctl_page_offline_op" {
        cmd: u32,
        start: u32,
        end: u32,
        _gap0: [u8; 4],
        status: GuestHandle<u32>,
    }

    /// Figures of one lock.
    LockprofData = "struct xen_sysctl_lockprof_data" {
        name: [u8; 40],
        r#type: i32,
        idx: i32,
        lock_cnt: u64,
        block_cnt: u64,
        lock_time: u64,
        block_time: u64,
    }

    /// Figures of all locks.
    LockprofOp = "struct xen_sysctl_lockprof_op" {
        cmd: u32,
        max_elem: u32,
        nr_elem: u32,
        _gap0: [u8; 4],
        time: u64,
        data: GuestHandle<LockprofData>,
    }

    /// Place of one CPU; `!0` in a field means no such CPU.
    CpuTopo = "struct xen_sysctl_cputopo" {
        core: u32,
        socket: u32,
        node: u32,
    }

    /// Places of all CPUs.
    CpuTopoInfo = "struct xen_sysctl_cputopoinfo" {
        num_cpus: u32,
        _gap0: [u8; 4],
        cputopo: GuestHandle<CpuTopo>,
    }

    /// Memory of one NUMA node, in bytes.
    MemInfo = "struct xen_sysctl_meminfo" {
        memsize: u64,
        memfree: u64,
    }

    /// Memory and distances of the NUMA nodes.
    NumaInfo = "struct xen_sysctl_numainfo" {
        num_nodes: u32,
        _gap0: [u8; 4],
        meminfo: GuestHandle<MemInfo>,
        distance: GuestHandle<u32>,
    }

    /// CPU pools.
    CpupoolOp = "struct xen_sysctl_cpupool_op" {
        /// `XEN_SYSCTL_CPUPOOL_OP_*`.
        op: u32,
        cpupool_id: u32,
        sched_id: u32,
        domid: u32,
        cpu: u32,
        n_dom: u32,
        cpumap: Bitmap,
    }

    /// One slot of an ARINC653 schedule.
    Arinc653ScheduleSchedEntries = "__typeof__(((struct xen_sysctl_arinc653_schedule *)0)->sched_entries[0])" {
        dom_handle: [u8; 16],
        vcpu_id: u32,
        _gap0: [u8; 4],
        runtime: u64,
    }

    /// A schedule of the ARINC653 scheduler.
    Arinc653Schedule = "struct xen_sysctl_arinc653_schedule" {
        major_frame: u64,
        num_sched_entries: u8,
        _gap0: [u8; 7],
        sched_entries: [Arinc653ScheduleSchedEntries; 64],
    }

    /// Parameters of the credit scheduler of a pool.
    CreditSchedule = "struct xen_sysctl_credit_schedule" {
        tslice_ms: u32,
        ratelimit_us: u32,
        vcpu_migr_delay_us: u32,
    }

    /// Parameters of the credit2 scheduler of a pool.
    Credit2Schedule = "struct xen_sysctl_credit2_schedule" {
        ratelimit_us: u32,
    }

    /// Where the ARINC653 schedule is.
    SchedArinc653 = "struct xen_sysctl_sched_arinc653" {
        schedule: GuestHandle<Arinc653Schedule>,
    }

    /// Scheduler parameters of a CPU pool.
    SchedulerOp = "struct xen_sysctl_scheduler_op" {
        cpupool_id: u32,
        /// `XEN_SCHEDULER_*`.
        sched_id: u32,
        cmd: u32,
        _gap0: [u8; 4],
        u: Union<u64, 2>,
    }

    /// Code coverage data.
    CoverageOp = "struct xen_sysctl_coverage_op" {
        cmd: u32,
        size: u32,
        buffer: GuestHandle<u8>,
    }

    PsrCmtOpL3Cache = "__typeof__(((struct xen_sysctl_psr_cmt_op *)0)->u.l3_cache)" {
        cpu: u32,
        rsvd: u32,
    }

    /// Cache monitoring.
    PsrCmtOp = "struct xen_sysctl_psr_cmt_op" {
        cmd: u32,
        flags: u32,
        u: Union<u64, 1>,
    }

    /// NUMA nodes of PCI devices.
    PciTopoInfo = "struct xen_sysctl_pcitopoinfo" {
        num_devs: u32,
        _gap0: [u8; 4],
        devs: GuestHandle<PciDevice>,
        nodes: GuestHandle<u32>,
    }

    PsrAllocCatInfo = "__typeof__(((struct xen_sysctl_psr_alloc *)0)->u.cat_info)" {
        cbm_len: u32,
        cos_max: u32,
        flags: u32,
    }

    PsrAllocMbaInfo = "__typeof__(((struct xen_sysctl_psr_alloc *)0)->u.mba_info)" {
        thrtl_max: u32,
        cos_max: u32,
        flags: u32,
    }

    /// Cache and memory-bandwidth allocation.
    PsrAlloc = "struct xen_sysctl_psr_alloc" {
        cmd: u32,
        target: u32,
        u: Union<u32, 3>,
    }

    /// What feature masking the CPUs support.
    CpuLevellingCaps = "struct xen_sysctl_cpu_levelling_caps" {
        caps: u32,
    }

    /// A featureset of the host.
    CpuFeatureset = "struct xen_sysctl_cpu_featureset" {
        /// `XEN_SYSCTL_cpu_featureset_*`.
        index: u32,
        nr_features: u32,
        features: GuestHandle<u32>,
    }

    LivepatchName = "struct xen_livepatch_name" {
        name: GuestHandle<u8>,
        size: u16,
        pad: [u16; 3],
    }

    LivepatchUpload = "struct xen_sysctl_livepatch_upload" {
        name: LivepatchName,
        size: u64,
        payload: GuestHandle<u8>,
    }

    LivepatchStatus = "struct xen_livepatch_status" {
        state: u32,
        rc: i32,
    }

    LivepatchGet = "struct xen_sysctl_livepatch_get" {
        name: LivepatchName,
        status: LivepatchStatus,
    }

    LivepatchList = "struct xen_sysctl_livepatch_list" {
        version: u32,
        idx: u32,
        nr: u32,
        pad: u32,
        name_total_size: u32,
        metadata_total_size: u32,
        status: GuestHandle<LivepatchStatus>,
        name: GuestHandle<u8>,
        len: GuestHandle<u32>,
        metadata: GuestHandle<u8>,
        metadata_len: GuestHandle<u32>,
    }

    LivepatchAction = "struct xen_sysctl_livepatch_action" {
        name: LivepatchName,
        cmd: u32,
        timeout: u32,
        flags: u32,
        pad: u32,
    }

    /// Live patching.
    LivepatchOp = "struct xen_sysctl_livepatch_op" {
        cmd: u32,
        flags: u32,
        u: Union<u64, 8>,
    }

    /// A CPU policy of the host.
    CpuPolicy = "struct xen_sysctl_cpu_policy" {
        index: u32,
        nr_leaves: u32,
        nr_msrs: u32,
        _rsvd: u32,
        leaves: GuestHandle<CpuidLeaf>,
        msrs: GuestHandle<MsrEntry>,
    }

    /// Envelope of `HYPERVISOR_sysctl`, 136 bytes.
    Sysctl = "struct xen_sysctl" {
        cmd: u32,
        /// `XEN_SYSCTL_INTERFACE_VERSION`.
        interface_version: u32,
        /// The payload of `cmd`.
        u: Union<u64, 16>,
    }
}
