//! Platform-wide operations: time, MTRRs, microcode, firmware.

use core::ffi::c_void;

use crate::{GuestHandle, Union};

abi_structs! {
    "platform.h";
    /// Sets the wall clock, with 32-bit seconds.
    SetTime32 = "struct xenpf_settime32" {
        secs: u32,
        nsecs: u32,
        /// System time in nanoseconds.
        system_time: u64,
    }

    /// Sets the wall clock.
    SetTime64 = "struct xenpf_settime64" {
        /// Unix time at `system_time`.
        secs: u64,
        nsecs: u32,
        mbz: u32,
        /// System time in nanoseconds.
        system_time: u64,
    }

    /// Adds an MTRR range.
    AddMemtype = "struct xenpf_add_memtype" {
        mfn: u64,
        nr_mfns: u64,
        r#type: u32,
        handle: u32,
        reg: u32,
        _gap0: [u8; 4],
    }

    /// Removes an MTRR range.
    DelMemtype = "struct xenpf_del_memtype" {
        handle: u32,
        reg: u32,
    }

    /// Reads an MTRR range.
    ReadMemtype = "struct xenpf_read_memtype" {
        reg: u32,
        _gap0: [u8; 4],
        mfn: u64,
        nr_mfns: u64,
        r#type: u32,
        _gap1: [u8; 4],
    }

    /// Microcode to load.
    MicrocodeUpdate = "struct xenpf_microcode_update" {
        data: GuestHandle<c_void>,
        length: u32,
        _gap0: [u8; 4],
    }

    /// A quirk that dom0 found.
    PlatformQuirk = "struct xenpf_platform_quirk" {
        quirk_id: u32,
    }

    /// Time as EFI keeps it.
    EfiTime = "struct xenpf_efi_time" {
        year: u16,
        month: u8,
        day: u8,
        hour: u8,
        min: u8,
        sec: u8,
        _gap0: [u8; 1],
        ns: u32,
        tz: i16,
        daylight: u8,
        _gap1: [u8; 1],
    }

    /// GUID as EFI keeps it.
    EfiGuid = "struct xenpf_efi_guid" {
        data1: u32,
        data2: u16,
        data3: u16,
        data4: [u8; 8],
    }

    EfiRuntimeCallGetTime = "__typeof__(((struct xenpf_efi_runtime_call *)0)->u.get_time)" {
        time: EfiTime,
        resolution: u32,
        accuracy: u32,
    }

    EfiRuntimeCallGetVariable = "__typeof__(((struct xenpf_efi_runtime_call *)0)->u.get_variable)" {
        name: GuestHandle<c_void>,
        size: u64,
        data: GuestHandle<c_void>,
        vendor_guid: EfiGuid,
    }

    EfiRuntimeCallSetVariable = "__typeof__(((struct xenpf_efi_runtime_call *)0)->u.set_variable)" {
        name: GuestHandle<c_void>,
        size: u64,
        data: GuestHandle<c_void>,
        vendor_guid: EfiGuid,
    }

    EfiRuntimeCallGetNextVariableName = "__typeof__(((struct xenpf_efi_runtime_call *)0)->u.get_next_variable_name)" {
        size: u64,
        name: GuestHandle<c_void>,
        vendor_guid: EfiGuid,
    }

    EfiRuntimeCallQueryVariableInfo = "__typeof__(((struct xenpf_efi_runtime_call *)0)->u.query_variable_info)" {
        attr: u32,
        _gap0: [u8; 4],
        max_store_size: u64,
        remain_store_size: u64,
        max_size: u64,
    }

    EfiRuntimeCallQueryCapsuleCapabilities = "__typeof__(((struct xenpf_efi_runtime_call *)0)->u.query_capsule_capabilities)" {
        capsule_header_array: GuestHandle<c_void>,
        capsule_count: u64,
        max_capsule_size: u64,
        reset_type: u32,
        _gap0: [u8; 4],
    }

    EfiRuntimeCallUpdateCapsule = "__typeof__(((struct xenpf_efi_runtime_call *)0)->u.update_capsule)" {
        capsule_header_array: GuestHandle<c_void>,
        capsule_count: u64,
        sg_list: u64,
    }

    /// A call of an EFI runtime service.
    EfiRuntimeCall = "struct xenpf_efi_runtime_call" {
        function: u32,
        misc: u32,
        status: u64,
        u: Union<u64, 5>,
    }

    FirmwareInfoDiskInfo = "__typeof__(((struct xenpf_firmware_info *)0)->u.disk_info)" {
        device: u8,
        version: u8,
        interface_support: u16,
        legacy_max_cylinder: u16,
        legacy_max_head: u8,
        legacy_sectors_per_track: u8,
        edd_params: GuestHandle<c_void>,
    }

    FirmwareInfoDiskMbrSignature = "__typeof__(((struct xenpf_firmware_info *)0)->u.disk_mbr_signature)" {
        device: u8,
        _gap0: [u8; 3],
        mbr_signature: u32,
    }

    FirmwareInfoVbeddcInfo = "__typeof__(((struct xenpf_firmware_info *)0)->u.vbeddc_info)" {
        capabilities: u8,
        edid_transfer_time: u8,
        _gap0: [u8; 6],
        edid: GuestHandle<u8>,
    }

    FirmwareInfoEfiInfoCfg = "__typeof__(((struct xenpf_firmware_info *)0)->u.efi_info.cfg)" {
        addr: u64,
        nent: u32,
        _gap0: [u8; 4],
    }

    FirmwareInfoEfiInfoVendor = "__typeof__(((struct xenpf_firmware_info *)0)->u.efi_info.vendor)" {
        revision: u32,
        bufsz: u32,
        name: GuestHandle<c_void>,
    }

    FirmwareInfoEfiInfoMem = "__typeof__(((struct xenpf_firmware_info *)0)->u.efi_info.mem)" {
        addr: u64,
        size: u64,
        attr: u64,
        r#type: u32,
        _gap0: [u8; 4],
    }

    FirmwareInfoEfiInfoPciRom = "__typeof__(((struct xenpf_firmware_info *)0)->u.efi_info.pci_rom)" {
        segment: u16,
        bus: u8,
        devfn: u8,
        vendor: u16,
        devid: u16,
        address: u64,
        size: u64,
    }

    FirmwareInfoEfiInfoAppleProperties = "__typeof__(((struct xenpf_firmware_info *)0)->u.efi_info.apple_properties)" {
        address: u64,
        size: u64,
    }

    /// A piece of information from the firmware.
    FirmwareInfo = "struct xenpf_firmware_info" {
        /// `XEN_FW_*`.
        r#type: u32,
        index: u32,
        u: Union<u64, 4>,
    }

    /// The values that put the machine to sleep or switch it off.
    EnterAcpiSleep = "struct xenpf_enter_acpi_sleep" {
        val_a: u16,
        val_b: u16,
        sleep_state: u32,
        flags: u32,
    }

    /// Tells that a CPU's frequency has changed.
    ChangeFreq = "struct xenpf_change_freq" {
        flags: u32,
        cpu: u32,
        freq: u64,
    }

    /// Idle times of CPUs.
    GetIdleTime = "struct xenpf_getidletime" {
        cpumap_bitmap: GuestHandle<u8>,
        cpumap_nr_cpus: u32,
        _gap0: [u8; 4],
        idletime: GuestHandle<u64>,
        now: u64,
    }
}
