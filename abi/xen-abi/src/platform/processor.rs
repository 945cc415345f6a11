//! Operations on processors: ACPI power data, hotplug, MSR access; the envelope.

use core::ffi::c_void;

use crate::{GuestHandle, Union};

abi_structs! {
    "platform.h";
    /// A register in ACPI's generic address format.
    PowerRegister = "struct xen_power_register" {
        space_id: u32,
        bit_width: u32,
        bit_offset: u32,
        access_size: u32,
        address: u64,
    }

    /// Dependency of a C-state (ACPI `_CSD`).
    ProcessorCsd = "struct xen_processor_csd" {
        domain: u32,
        coord_type: u32,
        num: u32,
    }

    /// A C-state (ACPI `_CST`).
    ProcessorCx = "struct xen_processor_cx" {
        reg: PowerRegister,
        r#type: u8,
        _gap0: [u8; 3],
        latency: u32,
        power: u32,
        dpcnt: u32,
        dp: GuestHandle<ProcessorCsd>,
    }

    /// Flags of a processor's power data, a bit field in C: bus-master control 0, bus-master check 1, has `_CST` 2,
    /// set up 3, bus-master reload 4.
    ProcessorFlags = "struct xen_processor_flags" {
        _gap_flags: u32,
    }

    /// C-states of a processor.
    ProcessorPower = "struct xen_processor_power" {
        count: u32,
        flags: ProcessorFlags,
        states: GuestHandle<ProcessorCx>,
    }

    /// Performance control or status register (ACPI `_PCT`).
    PctRegister = "struct xen_pct_register" {
        descriptor: u8,
        _gap0: [u8; 1],
        length: u16,
        space_id: u8,
        bit_width: u8,
        bit_offset: u8,
        reserved: u8,
        address: u64,
    }

    /// A performance state (ACPI `_PSS`).
    ProcessorPx = "struct xen_processor_px" {
        core_frequency: u64,
        power: u64,
        transition_latency: u64,
        bus_master_latency: u64,
        control: u64,
        status: u64,
    }

    /// Dependency of performance states (ACPI `_PSD`).
    PsdPackage = "struct xen_psd_package" {
        num_entries: u64,
        revision: u64,
        domain: u64,
        coord_type: u64,
        num_processors: u64,
    }

    /// Performance states of a processor.
    ProcessorPerformance = "struct xen_processor_performance" {
        flags: u32,
        platform_limit: u32,
        control_register: PctRegister,
        status_register: PctRegister,
        state_count: u32,
        _gap0: [u8; 4],
        states: GuestHandle<ProcessorPx>,
        domain_info: PsdPackage,
        shared_type: u32,
        _gap1: [u8; 4],
    }

    /// ACPI power data that dom0 found.
    SetProcessorPmInfo = "struct xenpf_set_processor_pminfo" {
        id: u32,
        r#type: u32,
        u: Union<u64, 13>,
    }

    /// State and identity of a physical CPU.
    PcpuInfo = "struct xenpf_pcpuinfo" {
        xen_cpuid: u32,
        max_present: u32,
        flags: u32,
        apic_id: u32,
        acpi_id: u32,
    }

    /// CPUID identity of a physical CPU.
    PcpuVersion = "struct xenpf_pcpu_version" {
        xen_cpuid: u32,
        max_present: u32,
        vendor_id: [u8; 12],
        family: u32,
        model: u32,
        stepping: u32,
    }

    /// A CPU to switch on or off.
    CpuOl = "struct xenpf_cpu_ol" {
        cpuid: u32,
    }

    /// A CPU that was added.
    CpuHotadd = "struct xenpf_cpu_hotadd" {
        apic_id: u32,
        acpi_id: u32,
        pxm: u32,
    }

    /// Memory that was added.
    MemHotadd = "struct xenpf_mem_hotadd" {
        spfn: u64,
        epfn: u64,
        pxm: u32,
        flags: u32,
    }

    /// Number of CPUs to leave idle.
    CoreParking = "struct xenpf_core_parking" {
        r#type: u32,
        idle_nums: u32,
    }

    /// One MSR access.
    ResourceEntry = "struct xenpf_resource_entry" {
        u: u32,
        rsvd: u32,
        idx: u64,
        val: u64,
    }

    /// MSR accesses on a CPU.
    ResourceOp = "struct xenpf_resource_op" {
        nr_entries: u32,
        cpu: u32,
        entries: GuestHandle<ResourceEntry>,
    }

    /// A symbol of the hypervisor.
    Symdata = "struct xenpf_symdata" {
        namelen: u32,
        symnum: u32,
        name: GuestHandle<u8>,
        address: u64,
        r#type: u8,
        _gap0: [u8; 7],
    }

    /// Microcode revision of a CPU.
    UcodeRevision = "struct xenpf_ucode_revision" {
        cpu: u32,
        signature: u32,
        pf: u32,
        revision: u32,
    }

    /// Microcode to load, with flags.
    MicrocodeUpdate2 = "struct xenpf_microcode_update2" {
        flags: u32,
        length: u32,
        data: GuestHandle<c_void>,
    }

    /// Envelope of `HYPERVISOR_platform_op`, 136 bytes.
    PlatformOp = "struct xen_platform_op" {
        cmd: u32,
        /// `XENPF_INTERFACE_VERSION`.
        interface_version: u32,
        /// The payload of `cmd`.
        u: Union<u64, 16>,
    }
}
