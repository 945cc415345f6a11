//! grant_table.h: `HYPERVISOR_grant_table_op` and the grant entries of both versions.

use crate::GuestHandle;

abi_constants! {
    "grant_table.h";
    GNTTAB_NR_RESERVED_ENTRIES: u32 = 8;
    GNTTAB_RESERVED_CONSOLE: u32 = 0;
    GNTTAB_RESERVED_XENSTORE: u32 = 1;

    GTF_INVALID: u16 = 0 => "GTF_invalid";
    GTF_PERMIT_ACCESS: u16 = 1 => "GTF_permit_access";
    GTF_ACCEPT_TRANSFER: u16 = 2 => "GTF_accept_transfer";
    GTF_TRANSITIVE: u16 = 3 => "GTF_transitive";
    GTF_TYPE_MASK: u16 = 3 => "GTF_type_mask";
    GTF_READONLY: u16 = 4 => "GTF_readonly";
    GTF_READING: u16 = 8 => "GTF_reading";
    GTF_WRITING: u16 = 0x10 => "GTF_writing";
    GTF_PWT: u16 = 0x20;
    GTF_PCD: u16 = 0x40;
    GTF_PAT: u16 = 0x80;
    GTF_SUB_PAGE: u16 = 0x100 => "GTF_sub_page";
    GTF_TRANSFER_COMMITTED: u16 = 4 => "GTF_transfer_committed";
    GTF_TRANSFER_COMPLETED: u16 = 8 => "GTF_transfer_completed";

    GNTTABOP_MAP_GRANT_REF: u32 = 0 => "GNTTABOP_map_grant_ref";
    GNTTABOP_UNMAP_GRANT_REF: u32 = 1 => "GNTTABOP_unmap_grant_ref";
    GNTTABOP_SETUP_TABLE: u32 = 2 => "GNTTABOP_setup_table";
    GNTTABOP_DUMP_TABLE: u32 = 3 => "GNTTABOP_dump_table";
    GNTTABOP_TRANSFER: u32 = 4 => "GNTTABOP_transfer";
    GNTTABOP_COPY: u32 = 5 => "GNTTABOP_copy";
    GNTTABOP_QUERY_SIZE: u32 = 6 => "GNTTABOP_query_size";
    GNTTABOP_UNMAP_AND_REPLACE: u32 = 7 => "GNTTABOP_unmap_and_replace";
    GNTTABOP_SET_VERSION: u32 = 8 => "GNTTABOP_set_version";
    GNTTABOP_GET_STATUS_FRAMES: u32 = 9 => "GNTTABOP_get_status_frames";
    GNTTABOP_GET_VERSION: u32 = 10 => "GNTTABOP_get_version";
    GNTTABOP_SWAP_GRANT_REF: u32 = 11 => "GNTTABOP_swap_grant_ref";
    GNTTABOP_CACHE_FLUSH: u32 = 12 => "GNTTABOP_cache_flush";

    GNTCOPY_SOURCE_GREF: u16 = 1 => "GNTCOPY_source_gref";
    GNTCOPY_DEST_GREF: u16 = 2 => "GNTCOPY_dest_gref";

    GNTTAB_CACHE_CLEAN: u32 = 1;
    GNTTAB_CACHE_INVAL: u32 = 2;
    GNTTAB_CACHE_SOURCE_GREF: u32 = 0x80000000;

    GNTMAP_DEVICE_MAP: u32 = 1 => "GNTMAP_device_map";
    GNTMAP_HOST_MAP: u32 = 2 => "GNTMAP_host_map";
    GNTMAP_READONLY: u32 = 4 => "GNTMAP_readonly";
    GNTMAP_APPLICATION_MAP: u32 = 8 => "GNTMAP_application_map";
    GNTMAP_CONTAINS_PTE: u32 = 0x10 => "GNTMAP_contains_pte";
    GNTMAP_GUEST_AVAIL_MASK: u32 = 0xffff_0000 => "GNTMAP_guest_avail_mask";

    GNTST_OKAY: i16 = 0 => "GNTST_okay";
    GNTST_GENERAL_ERROR: i16 = -1 => "GNTST_general_error";
    GNTST_BAD_DOMAIN: i16 = -2 => "GNTST_bad_domain";
    GNTST_BAD_GNTREF: i16 = -3 => "GNTST_bad_gntref";
    GNTST_BAD_HANDLE: i16 = -4 => "GNTST_bad_handle";
    GNTST_BAD_VIRT_ADDR: i16 = -5 => "GNTST_bad_virt_addr";
    GNTST_BAD_DEV_ADDR: i16 = -6 => "GNTST_bad_dev_addr";
    GNTST_NO_DEVICE_SPACE: i16 = -7 => "GNTST_no_device_space";
    GNTST_PERMISSION_DENIED: i16 = -8 => "GNTST_permission_denied";
    GNTST_BAD_PAGE: i16 = -9 => "GNTST_bad_page";
    GNTST_BAD_COPY_ARG: i16 = -10 => "GNTST_bad_copy_arg";
    GNTST_ADDRESS_TOO_BIG: i16 = -11 => "GNTST_address_too_big";
    GNTST_EAGAIN: i16 = -12 => "GNTST_eagain";
    GNTST_NO_SPACE: i16 = -13 => "GNTST_no_space";
}

abi_structs! {
    "grant_table.h";
    /// A grant entry of version 1.
    GrantEntryV1 = "struct grant_entry_v1" {
        /// `GTF_*`.
        flags: u16,
        domid: u16,
        frame: u32,
    }

    /// What all grant entries of version 2 begin with.
    GrantEntryHeader = "struct grant_entry_header" {
        /// `GTF_*`.
        flags: u16,
        domid: u16,
    }

    /// A grant entry of version 2 for a whole page.
    GrantEntryV2FullPage = "__typeof__(((union grant_entry_v2 *)0)->full_page)" {
        hdr: GrantEntryHeader,
        pad0: u32,
        frame: u64,
    }

    /// A grant entry of version 2 for part of a page, for copies only.
    GrantEntryV2SubPage = "__typeof__(((union grant_entry_v2 *)0)->sub_page)" {
        hdr: GrantEntryHeader,
        page_off: u16,
        length: u16,
        frame: u64,
    }

    /// A grant entry of version 2 that passes on another domain's grant, for copies only.
    GrantEntryV2Transitive = "__typeof__(((union grant_entry_v2 *)0)->transitive)" {
        hdr: GrantEntryHeader,
        trans_domid: u16,
        pad0: u16,
        gref: u32,
    }

    /// Maps a granted frame.
    MapGrantRef = "struct gnttab_map_grant_ref" {
        /// Virtual address to map at, or machine address of the entry if `GNTMAP_contains_pte` is set.
        host_addr: u64,
        /// `GNTMAP_*`.
        flags: u32,
        r#ref: u32,
        /// Domain that grants.
        dom: u16,
        /// OUT: `GNTST_*`.
        status: i16,
        /// OUT: number of the mapping.
        handle: u32,
        /// OUT: bus address for devices.
        dev_bus_addr: u64,
    }

    /// Unmaps a granted frame.
    UnmapGrantRef = "struct gnttab_unmap_grant_ref" {
        host_addr: u64,
        dev_bus_addr: u64,
        handle: u32,
        /// OUT: `GNTST_*`.
        status: i16,
        _gap0: [u8; 2],
    }

    /// Sizes a domain's grant table and lists its frames.
    SetupTable = "struct gnttab_setup_table" {
        dom: u16,
        _gap0: [u8; 2],
        nr_frames: u32,
        /// OUT: `GNTST_*`.
        status: i16,
        _gap1: [u8; 6],
        /// OUT: frames of the table.
        frame_list: GuestHandle<u64>,
    }

    /// Prints a grant table to the console.
    DumpTable = "struct gnttab_dump_table" {
        dom: u16,
        status: i16,
    }

    /// Gives a frame away.
    Transfer = "struct gnttab_transfer" {
        mfn: u64,
        domid: u16,
        _gap0: [u8; 2],
        r#ref: u32,
        /// OUT: `GNTST_*`.
        status: i16,
        _gap1: [u8; 6],
    }

    /// One end of a copy.
    CopyPtr = "struct gnttab_copy_ptr" {
        /// Grant reference in the lower 32 bits, or frame number.
        u: u64,
        domid: u16,
        offset: u16,
        _gap0: [u8; 4],
    }

    /// Copies between granted or own memory.
    Copy = "struct gnttab_copy" {
        source: CopyPtr,
        dest: CopyPtr,
        len: u16,
        /// `GNTCOPY_*`.
        flags: u16,
        /// OUT: `GNTST_*`.
        status: i16,
        _gap0: [u8; 2],
    }

    /// Asks for the size of a grant table.
    QuerySize = "struct gnttab_query_size" {
        dom: u16,
        _gap0: [u8; 2],
        nr_frames: u32,
        max_nr_frames: u32,
        status: i16,
        _gap1: [u8; 2],
    }

    /// Unmaps a granted frame and puts another mapping in its place.
    UnmapAndReplace = "struct gnttab_unmap_and_replace" {
        host_addr: u64,
        new_addr: u64,
        handle: u32,
        status: i16,
        _gap0: [u8; 2],
    }

    /// Chooses the grant entries' version.
    SetVersion = "struct gnttab_set_version" {
        version: u32,
    }

    /// Lists the frames of the version 2 status words.
    GetStatusFrames = "struct gnttab_get_status_frames" {
        nr_frames: u32,
        dom: u16,
        status: i16,
        frame_list: GuestHandle<u64>,
    }

    /// Asks for the grant entries' version.
    GetVersion = "struct gnttab_get_version" {
        dom: u16,
        pad: u16,
        version: u32,
    }

    /// Swaps two grant entries.
    SwapGrantRef = "struct gnttab_swap_grant_ref" {
        ref_a: u32,
        ref_b: u32,
        status: i16,
        _gap0: [u8; 2],
    }

    /// Cleans or invalidates the cache of a grant.
    CacheFlush = "struct gnttab_cache_flush" {
        a: u64,
        offset: u16,
        length: u16,
        op: u32,
    }
}

/// Size of a version 2 grant entry in bytes, whichever variant it is (C: `union grant_entry_v2`).
pub const GRANT_ENTRY_V2_SIZE: usize = core::mem::size_of::<GrantEntryV2FullPage>();
