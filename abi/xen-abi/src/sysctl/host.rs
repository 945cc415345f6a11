//! Host information, power management and processor hotplug.

use crate::domctl::GetDomainInfo;
use crate::xen::Bitmap;
use crate::{GuestHandle, Union};

abi_structs! {
    "sysctl.h";
    /// Reads the hypervisor's console ring.
    ReadConsole = "struct xen_sysctl_readconsole" {
        clear: u8,
        incremental: u8,
        pad0: u8,
        pad1: u8,
        index: u32,
        buffer: GuestHandle<u8>,
        /// IN: room. OUT: bytes.
        count: u32,
        _gap0: [u8; 4],
    }

    /// Trace buffers.
    TbufOp = "struct xen_sysctl_tbuf_op" {
        cmd: u32,
        _gap0: [u8; 4],
        cpu_mask: Bitmap,
        evt_mask: u32,
        _gap1: [u8; 4],
        buffer_mfn: u64,
        size: u32,
        _gap2: [u8; 4],
    }

    /// Figures of the host.
    PhysInfo = "struct xen_sysctl_physinfo" {
        threads_per_core: u32,
        cores_per_socket: u32,
        nr_cpus: u32,
        max_cpu_id: u32,
        nr_nodes: u32,
        max_node_id: u32,
        cpu_khz: u32,
        /// `XEN_SYSCTL_PHYSCAP_*`.
        capabilities: u32,
        arch_capabilities: u32,
        pad: u32,
        total_pages: u64,
        free_pages: u64,
        scrub_pages: u64,
        outstanding_pages: u64,
        /// Highest machine frame.
        max_mfn: u64,
        /// The first words of the host's featureset.
        hw_cap: [u32; 8],
    }

    /// The scheduler in use, `XEN_SCHEDULER_*`.
    SchedId = "struct xen_sysctl_sched_id" {
        sched_id: u32,
    }

    /// A performance counter.
    PerfcDesc = "struct xen_sysctl_perfc_desc" {
        name: [u8; 80],
        nr_vals: u32,
    }

    /// Performance counters.
    PerfcOp = "struct xen_sysctl_perfc_op" {
        cmd: u32,
        nr_counters: u32,
        nr_vals: u32,
        _gap0: [u8; 4],
        desc: GuestHandle<PerfcDesc>,
        val: GuestHandle<u32>,
    }

    /// Information about all domains from a number on.
    GetDomainInfoList = "struct xen_sysctl_getdomaininfolist" {
        first_domain: u16,
        _gap0: [u8; 2],
        max_domains: u32,
        buffer: GuestHandle<GetDomainInfo>,
        /// OUT: entries written.
        num_domains: u32,
        _gap1: [u8; 4],
    }

    /// Keys to act on as if typed on the serial console.
    DebugKeys = "struct xen_sysctl_debug_keys" {
        keys: GuestHandle<u8>,
        nr_keys: u32,
        _gap0: [u8; 4],
    }

    /// Idle time of one CPU.
    CpuInfo = "struct xen_sysctl_cpuinfo" {
        /// Nanoseconds.
        idletime: u64,
    }

    /// Idle times of CPUs.
    GetCpuInfo = "struct xen_sysctl_getcpuinfo" {
        max_cpus: u32,
        _gap0: [u8; 4],
        info: GuestHandle<CpuInfo>,
        nr_cpus: u32,
        _gap1: [u8; 4],
    }

    /// Free memory below an address width or on a node.
    AvailHeap = "struct xen_sysctl_availheap" {
        min_bitwidth: u32,
        max_bitwidth: u32,
        /// -1 for all.
        node: i32,
        _gap0: [u8; 4],
        /// OUT.
        avail_bytes: u64,
    }

    /// Statistics of one performance state.
    PmPxVal = "struct pm_px_val" {
        freq: u64,
        residency: u64,
        count: u64,
    }

    /// Statistics of the performance states.
    PmPxStat = "struct pm_px_stat" {
        total: u8,
        usable: u8,
        last: u8,
        cur: u8,
        _gap0: [u8; 4],
        trans_pt: GuestHandle<u64>,
        pt: GuestHandle<PmPxVal>,
    }

    /// Statistics of the C-states.
    PmCxStat = "struct pm_cx_stat" {
        nr: u32,
        last: u32,
        idle_time: u64,
        triggers: GuestHandle<u64>,
        residencies: GuestHandle<u64>,
        nr_pc: u32,
        nr_cc: u32,
        pc: GuestHandle<u64>,
        cc: GuestHandle<u64>,
    }

    /// Power-management statistics of a CPU.
    GetPmStat = "struct xen_sysctl_get_pmstat" {
        r#type: u32,
        cpuid: u32,
        u: Union<u64, 7>,
    }

    /// Switches CPUs or hyper-threads on or off.
    CpuHotplug = "struct xen_sysctl_cpu_hotplug" {
        cpu: u32,
        op: u32,
    }

    Userspace = "struct xen_userspace" {
        scaling_setspeed: u32,
    }

    Ondemand = "struct xen_ondemand" {
        sampling_rate_max: u32,
        sampling_rate_min: u32,
        sampling_rate: u32,
        up_threshold: u32,
    }

    CppcPara = "struct xen_cppc_para" {
        features: u32,
        lowest: u32,
        lowest_nonlinear: u32,
        nominal: u32,
        highest: u32,
        minimum: u32,
        maximum: u32,
        desired: u32,
        energy_perf: u32,
        activity_window: u32,
    }

    SetCppcPara = "struct xen_set_cppc_para" {
        set_params: u32,
        minimum: u32,
        maximum: u32,
        desired: u32,
        energy_perf: u32,
        activity_window: u32,
    }

    GetCpufreqParaS = "__typeof__(((struct xen_get_cpufreq_para *)0)->u.s)" {
        scaling_cur_freq: u32,
        scaling_governor: [u8; 16],
        scaling_max_freq: u32,
        scaling_min_freq: u32,
        u: Union<u32, 4>,
    }

    /// Frequency parameters.
    GetCpufreqPara = "struct xen_get_cpufreq_para" {
        cpu_num: u32,
        freq_num: u32,
        gov_num: u32,
        _gap0: [u8; 4],
        affected_cpus: GuestHandle<u32>,
        scaling_available_frequencies: GuestHandle<u32>,
        scaling_available_governors: GuestHandle<u8>,
        scaling_driver: [u8; 16],
        cpuinfo_cur_freq: u32,
        cpuinfo_max_freq: u32,
        cpuinfo_min_freq: u32,
        u: Union<u32, 11>,
        turbo_enabled: i32,
        _gap1: [u8; 4],
    }

    /// Governor to use.
    SetCpufreqGov = "struct xen_set_cpufreq_gov" {
        scaling_governor: [u8; 16],
    }

    /// A frequency parameter to set.
    SetCpufreqPara = "struct xen_set_cpufreq_para" {
        ctrl_type: u32,
        ctrl_value: u32,
    }

    /// Power-management settings.
    PmOp = "struct xen_sysctl_pm_op" {
        cmd: u32,
        cpuid: u32,
        u: Union<u64, 15>,
    }
}
