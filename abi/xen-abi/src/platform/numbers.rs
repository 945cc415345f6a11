//! The numbers of platform.h.

abi_constants! {
    "platform.h";
    XENPF_INTERFACE_VERSION: u32 = 0x300_0001;
    XENPF_SETTIME32: u32 = 17 => "XENPF_settime32";
    XENPF_SETTIME64: u32 = 62 => "XENPF_settime64";
    XENPF_SETTIME: u32 = 62 => "XENPF_settime";
    XENPF_ADD_MEMTYPE: u32 = 31 => "XENPF_add_memtype";
    XENPF_DEL_MEMTYPE: u32 = 32 => "XENPF_del_memtype";
    XENPF_READ_MEMTYPE: u32 = 33 => "XENPF_read_memtype";
    XENPF_MICROCODE_UPDATE: u32 = 35 => "XENPF_microcode_update";
    XENPF_PLATFORM_QUIRK: u32 = 39 => "XENPF_platform_quirk";

    QUIRK_NOIRQBALANCING: u32 = 1;
    QUIRK_IOAPIC_BAD_REGSEL: u32 = 2;
    QUIRK_IOAPIC_GOOD_REGSEL: u32 = 3;

    XENPF_EFI_RUNTIME_CALL: u32 = 49 => "XENPF_efi_runtime_call";

    XEN_EFI_GET_TIME: u32 = 1 => "XEN_EFI_get_time";
    XEN_EFI_SET_TIME: u32 = 2 => "XEN_EFI_set_time";
    XEN_EFI_GET_WAKEUP_TIME: u32 = 3 => "XEN_EFI_get_wakeup_time";
    XEN_EFI_SET_WAKEUP_TIME: u32 = 4 => "XEN_EFI_set_wakeup_time";
    XEN_EFI_GET_NEXT_HIGH_MONOTONIC_COUNT: u32 = 5 => "XEN_EFI_get_next_high_monotonic_count";
    XEN_EFI_GET_VARIABLE: u32 = 6 => "XEN_EFI_get_variable";
    XEN_EFI_SET_VARIABLE: u32 = 7 => "XEN_EFI_set_variable";
    XEN_EFI_GET_NEXT_VARIABLE_NAME: u32 = 8 => "XEN_EFI_get_next_variable_name";
    XEN_EFI_QUERY_VARIABLE_INFO: u32 = 9 => "XEN_EFI_query_variable_info";
    XEN_EFI_QUERY_CAPSULE_CAPABILITIES: u32 = 10 => "XEN_EFI_query_capsule_capabilities";
    XEN_EFI_UPDATE_CAPSULE: u32 = 11 => "XEN_EFI_update_capsule";
    XEN_EFI_GET_TIME_SET_CLEARS_NS: u32 = 1;
    XEN_EFI_GET_WAKEUP_TIME_ENABLED: u32 = 1;
    XEN_EFI_GET_WAKEUP_TIME_PENDING: u32 = 2;
    XEN_EFI_SET_WAKEUP_TIME_ENABLE: u32 = 1;
    XEN_EFI_SET_WAKEUP_TIME_ENABLE_ONLY: u32 = 2;
    XEN_EFI_VARIABLE_NON_VOLATILE: u32 = 1;
    XEN_EFI_VARIABLE_BOOTSERVICE_ACCESS: u32 = 2;
    XEN_EFI_VARIABLE_RUNTIME_ACCESS: u32 = 4;
    XEN_EFI_VARINFO_BOOT_SNAPSHOT: u32 = 1;

    XENPF_FIRMWARE_INFO: u32 = 50 => "XENPF_firmware_info";

    XEN_FW_DISK_INFO: u32 = 1;
    XEN_FW_DISK_MBR_SIGNATURE: u32 = 2;
    XEN_FW_VBEDDC_INFO: u32 = 3;
    XEN_FW_EFI_INFO: u32 = 4;
    XEN_FW_EFI_VERSION: u32 = 0;
    XEN_FW_EFI_CONFIG_TABLE: u32 = 1;
    XEN_FW_EFI_VENDOR: u32 = 2;
    XEN_FW_EFI_MEM_INFO: u32 = 3;
    XEN_FW_EFI_RT_VERSION: u32 = 4;
    XEN_FW_EFI_PCI_ROM: u32 = 5;
    XEN_FW_EFI_APPLE_PROPERTIES: u32 = 6;
    XEN_FW_KBD_SHIFT_FLAGS: u32 = 5;

    XENPF_ENTER_ACPI_SLEEP: u32 = 51 => "XENPF_enter_acpi_sleep";
    XENPF_ACPI_SLEEP_EXTENDED: u32 = 1;
    XENPF_CHANGE_FREQ: u32 = 52 => "XENPF_change_freq";
    XENPF_GETIDLETIME: u32 = 53 => "XENPF_getidletime";
    XENPF_SET_PROCESSOR_PMINFO: u32 = 54 => "XENPF_set_processor_pminfo";

    XEN_PROCESSOR_PM_CX: u32 = 1;
    XEN_PROCESSOR_PM_PX: u32 = 2;
    XEN_PROCESSOR_PM_TX: u32 = 4;
    XEN_PM_CX: u32 = 0;
    XEN_PM_PX: u32 = 1;
    XEN_PM_TX: u32 = 2;
    XEN_PM_PDC: u32 = 3;
    XEN_PX_PCT: u32 = 1;
    XEN_PX_PSS: u32 = 2;
    XEN_PX_PPC: u32 = 4;
    XEN_PX_PSD: u32 = 8;
    XEN_CPUPERF_SHARED_TYPE_HW: u32 = 1;
    XEN_CPUPERF_SHARED_TYPE_ALL: u32 = 2;
    XEN_CPUPERF_SHARED_TYPE_ANY: u32 = 3;

    XENPF_GET_CPUINFO: u32 = 55 => "XENPF_get_cpuinfo";

    XEN_PCPU_FLAGS_ONLINE: u32 = 1;
    XEN_PCPU_FLAGS_INVALID: u32 = 2;

    XENPF_GET_CPU_VERSION: u32 = 48 => "XENPF_get_cpu_version";
    XENPF_CPU_ONLINE: u32 = 56 => "XENPF_cpu_online";
    XENPF_CPU_OFFLINE: u32 = 57 => "XENPF_cpu_offline";
    XENPF_CPU_HOTADD: u32 = 58 => "XENPF_cpu_hotadd";
    XENPF_MEM_HOTADD: u32 = 59 => "XENPF_mem_hotadd";
    XENPF_CORE_PARKING: u32 = 60 => "XENPF_core_parking";

    XEN_CORE_PARKING_SET: u32 = 1;
    XEN_CORE_PARKING_GET: u32 = 2;

    XENPF_RESOURCE_OP: u32 = 61 => "XENPF_resource_op";

    XEN_RESOURCE_OP_MSR_READ: u32 = 0;
    XEN_RESOURCE_OP_MSR_WRITE: u32 = 1;

    XENPF_GET_SYMBOL: u32 = 63 => "XENPF_get_symbol";
    XENPF_GET_DOM0_CONSOLE: u32 = 64 => "XENPF_get_dom0_console";
    XENPF_GET_UCODE_REVISION: u32 = 65 => "XENPF_get_ucode_revision";
    XENPF_MICROCODE_UPDATE2: u32 = 66 => "XENPF_microcode_update2";
    XENPF_UCODE_FORCE: u32 = 1;
}
