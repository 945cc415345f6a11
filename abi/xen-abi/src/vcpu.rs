//! vcpu.h: `HYPERVISOR_vcpu_op`.

abi_constants! {
    "vcpu.h";
    VCPUOP_INITIALISE: u32 = 0 => "VCPUOP_initialise";
    VCPUOP_UP: u32 = 1 => "VCPUOP_up";
    VCPUOP_DOWN: u32 = 2 => "VCPUOP_down";
    VCPUOP_IS_UP: u32 = 3 => "VCPUOP_is_up";
    VCPUOP_GET_RUNSTATE_INFO: u32 = 4 => "VCPUOP_get_runstate_info";

    /// In `state_entry_time`: an update is in progress.
    XEN_RUNSTATE_UPDATE: u64 = 0x8000000000000000;

    RUNSTATE_RUNNING: i32 = 0 => "RUNSTATE_running";
    RUNSTATE_RUNNABLE: i32 = 1 => "RUNSTATE_runnable";
    RUNSTATE_BLOCKED: i32 = 2 => "RUNSTATE_blocked";
    RUNSTATE_OFFLINE: i32 = 3 => "RUNSTATE_offline";

    VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA: u32 = 5 => "VCPUOP_register_runstate_memory_area";
    VCPUOP_SET_PERIODIC_TIMER: u32 = 6 => "VCPUOP_set_periodic_timer";
    VCPUOP_STOP_PERIODIC_TIMER: u32 = 7 => "VCPUOP_stop_periodic_timer";
    VCPUOP_SET_SINGLESHOT_TIMER: u32 = 8 => "VCPUOP_set_singleshot_timer";
    VCPUOP_STOP_SINGLESHOT_TIMER: u32 = 9 => "VCPUOP_stop_singleshot_timer";

    VCPU_SSHOTTMR_FUTURE: u32 = 1 => "VCPU_SSHOTTMR_future";

    VCPUOP_REGISTER_VCPU_INFO: u32 = 10 => "VCPUOP_register_vcpu_info";
    VCPUOP_SEND_NMI: u32 = 11 => "VCPUOP_send_nmi";
    VCPUOP_GET_PHYSID: u32 = 12 => "VCPUOP_get_physid";
    VCPUOP_REGISTER_VCPU_TIME_MEMORY_AREA: u32 = 13 => "VCPUOP_register_vcpu_time_memory_area";
    VCPUOP_REGISTER_RUNSTATE_PHYS_AREA: u32 = 14 => "VCPUOP_register_runstate_phys_area";
    VCPUOP_REGISTER_VCPU_TIME_PHYS_AREA: u32 = 15 => "VCPUOP_register_vcpu_time_phys_area";
}

abi_structs! {
    "vcpu.h";
    /// How long a vCPU has been in each state.
    RunstateInfo = "struct vcpu_runstate_info" {
        /// `RUNSTATE_*`.
        state: i32,
        _gap0: [u8; 4],
        /// System time when the state began, in nanoseconds; `XEN_RUNSTATE_UPDATE` set during an update.
        state_entry_time: u64,
        /// Nanoseconds in each `RUNSTATE_*`.
        time: [u64; 4],
    }

    /// Where the hypervisor shall keep a copy of `RunstateInfo`.
    RegisterRunstateMemoryArea = "struct vcpu_register_runstate_memory_area" {
        /// Guest virtual address (or guest-physical, for `VCPUOP_register_runstate_phys_area`).
        addr: u64,
    }

    /// Starts a vCPU's periodic timer.
    SetPeriodicTimer = "struct vcpu_set_periodic_timer" {
        period_ns: u64,
    }

    /// Sets a vCPU's single-shot timer.
    SetSingleshotTimer = "struct vcpu_set_singleshot_timer" {
        /// System time in nanoseconds.
        timeout_abs_ns: u64,
        /// `VCPU_SSHOTTMR_*`.
        flags: u32,
        _gap0: [u8; 4],
    }

    /// Where a vCPU's `VcpuInfo` shall live from now on.
    RegisterVcpuInfo = "struct vcpu_register_vcpu_info" {
        /// Frame, as the guest numbers frames in page tables.
        mfn: u64,
        /// Offset in the frame, in bytes.
        offset: u32,
        rsvd: u32,
    }

    /// Physical identity of the CPU that a pinned vCPU runs on.
    GetPhysId = "struct vcpu_get_physid" {
        /// APIC ID in the lower half, ACPI ID in the upper.
        phys_id: u64,
    }

    /// Where the hypervisor shall keep a copy of `VcpuTimeInfo`.
    RegisterTimeMemoryArea = "struct vcpu_register_time_memory_area" {
        /// Guest virtual address (or guest-physical, for `VCPUOP_register_vcpu_time_phys_area`).
        addr: u64,
    }
}

impl GetPhysId {
    /// The identity of a CPU with the given APIC and ACPI numbers.
    pub const fn new(apic_id: u32, acpi_id: u32) -> Self {
        Self { phys_id: apic_id as u64 | (acpi_id as u64) << 32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn physical_identity_has_two_halves() {
        assert_eq!(GetPhysId::new(0x8000_0001, 2).phys_id, 0x2_8000_0001);
    }
}
