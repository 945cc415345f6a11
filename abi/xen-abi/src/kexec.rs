//! kexec.h: numbers of `HYPERVISOR_kexec_op`.

abi_constants! {
    "kexec.h";
    KEXEC_XEN_NO_PAGES: u32 = 17;
    KEXEC_TYPE_DEFAULT: u32 = 0;
    KEXEC_TYPE_CRASH: u32 = 1;
    KEXEC_CMD_KEXEC: u32 = 0 => "KEXEC_CMD_kexec";
    KEXEC_CMD_KEXEC_LOAD_V1: u32 = 1 => "KEXEC_CMD_kexec_load_v1";
    KEXEC_CMD_KEXEC_UNLOAD_V1: u32 = 2 => "KEXEC_CMD_kexec_unload_v1";
    KEXEC_RANGE_MA_CRASH: u32 = 0;
    KEXEC_RANGE_MA_XEN: u32 = 1;
    KEXEC_RANGE_MA_CPU: u32 = 2;
    KEXEC_RANGE_MA_XENHEAP: u32 = 3;
    KEXEC_RANGE_MA_BOOT_PARAM: u32 = 4;
    KEXEC_RANGE_MA_EFI_MEMMAP: u32 = 5;
    KEXEC_RANGE_MA_VMCOREINFO: u32 = 6;
    KEXEC_CMD_KEXEC_GET_RANGE: u32 = 3 => "KEXEC_CMD_kexec_get_range";
    KEXEC_CMD_KEXEC_LOAD: u32 = 4 => "KEXEC_CMD_kexec_load";
    KEXEC_CMD_KEXEC_UNLOAD: u32 = 5 => "KEXEC_CMD_kexec_unload";
    KEXEC_CMD_KEXEC_STATUS: u32 = 6 => "KEXEC_CMD_kexec_status";
}
