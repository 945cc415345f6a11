//! arch-x86/hvm/start_info.h: what a PVH kernel is told when it begins.

abi_constants! {
    "arch-x86/hvm/start_info.h";
    XEN_HVM_START_MAGIC_VALUE: u32 = 0x336e_c578;
    XEN_HVM_MEMMAP_TYPE_RAM: u32 = 1;
}

abi_structs! {
    "arch-x86/hvm/start_info.h";
    /// What `%ebx` points to. Addresses are physical.
    HvmStartInfo = "struct hvm_start_info" {
        /// `XEN_HVM_START_MAGIC_VALUE`.
        magic: u32,
        version: u32,
        flags: u32,
        nr_modules: u32,
        modlist_paddr: u64,
        cmdline_paddr: u64,
        rsdp_paddr: u64,
        memmap_paddr: u64,
        memmap_entries: u32,
        reserved: u32,
    }

    /// One of `nr_modules`.
    HvmModlistEntry = "struct hvm_modlist_entry" {
        paddr: u64,
        size: u64,
        cmdline_paddr: u64,
        reserved: u64,
    }

    /// One range of the memory map.
    HvmMemmapTableEntry = "struct hvm_memmap_table_entry" {
        addr: u64,
        size: u64,
        /// `XEN_HVM_MEMMAP_TYPE_*`.
        r#type: u32,
        reserved: u32,
    }
}
