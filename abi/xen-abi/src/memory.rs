//! memory.h: `HYPERVISOR_memory_op`.
//!
//! The lower 6 bits of the first argument are the `XENMEM_*` operation; Xen keeps continuation state in the others.

use core::ffi::c_void;

use crate::{GuestHandle, Union};

abi_constants! {
    "memory.h";
    XENMEM_INCREASE_RESERVATION: u32 = 0 => "XENMEM_increase_reservation";
    XENMEM_DECREASE_RESERVATION: u32 = 1 => "XENMEM_decrease_reservation";
    XENMEM_POPULATE_PHYSMAP: u32 = 6 => "XENMEM_populate_physmap";

    XENMEMF_POPULATE_ON_DEMAND: u32 = 0x10000 => "XENMEMF_populate_on_demand";
    XENMEMF_EXACT_NODE_REQUEST: u32 = 0x20000 => "XENMEMF_exact_node_request";
    XENMEMF_VNODE: u32 = 0x40000 => "XENMEMF_vnode";

    XENMEM_EXCHANGE: u32 = 11 => "XENMEM_exchange";
    XENMEM_MAXIMUM_RAM_PAGE: u32 = 2 => "XENMEM_maximum_ram_page";
    XENMEM_CURRENT_RESERVATION: u32 = 3 => "XENMEM_current_reservation";
    XENMEM_MAXIMUM_RESERVATION: u32 = 4 => "XENMEM_maximum_reservation";
    XENMEM_MAXIMUM_GPFN: u32 = 14 => "XENMEM_maximum_gpfn";
    XENMEM_MACHPHYS_MFN_LIST: u32 = 5 => "XENMEM_machphys_mfn_list";
    XENMEM_MACHPHYS_COMPAT_MFN_LIST: u32 = 25 => "XENMEM_machphys_compat_mfn_list";
    XENMEM_MACHPHYS_MAPPING: u32 = 12 => "XENMEM_machphys_mapping";

    XENMAPSPACE_SHARED_INFO: u32 = 0 => "XENMAPSPACE_shared_info";
    XENMAPSPACE_GRANT_TABLE: u32 = 1 => "XENMAPSPACE_grant_table";
    XENMAPSPACE_GMFN: u32 = 2 => "XENMAPSPACE_gmfn";
    XENMAPSPACE_GMFN_RANGE: u32 = 3 => "XENMAPSPACE_gmfn_range";
    XENMAPSPACE_GMFN_FOREIGN: u32 = 4 => "XENMAPSPACE_gmfn_foreign";
    XENMAPSPACE_DEV_MMIO: u32 = 5 => "XENMAPSPACE_dev_mmio";

    XENMEM_ADD_TO_PHYSMAP: u32 = 7 => "XENMEM_add_to_physmap";

    XENMAPIDX_GRANT_TABLE_STATUS: u32 = 0x80000000 => "XENMAPIDX_grant_table_status";

    XENMEM_ADD_TO_PHYSMAP_BATCH: u32 = 23 => "XENMEM_add_to_physmap_batch";
    XENMEM_REMOVE_FROM_PHYSMAP: u32 = 15 => "XENMEM_remove_from_physmap";
    XENMEM_MEMORY_MAP: u32 = 9 => "XENMEM_memory_map";
    XENMEM_MACHINE_MEMORY_MAP: u32 = 10 => "XENMEM_machine_memory_map";
    XENMEM_SET_MEMORY_MAP: u32 = 13 => "XENMEM_set_memory_map";
    XENMEM_SET_POD_TARGET: u32 = 16 => "XENMEM_set_pod_target";
    XENMEM_GET_POD_TARGET: u32 = 17 => "XENMEM_get_pod_target";
    XENMEM_GET_SHARING_FREED_PAGES: u32 = 18 => "XENMEM_get_sharing_freed_pages";
    XENMEM_GET_SHARING_SHARED_PAGES: u32 = 19 => "XENMEM_get_sharing_shared_pages";
    XENMEM_PAGING_OP: u32 = 20 => "XENMEM_paging_op";
    XENMEM_PAGING_OP_NOMINATE: u32 = 0 => "XENMEM_paging_op_nominate";
    XENMEM_PAGING_OP_EVICT: u32 = 1 => "XENMEM_paging_op_evict";
    XENMEM_PAGING_OP_PREP: u32 = 2 => "XENMEM_paging_op_prep";
    XENMEM_ACCESS_OP: u32 = 21 => "XENMEM_access_op";
    XENMEM_ACCESS_OP_SET_ACCESS: u32 = 0 => "XENMEM_access_op_set_access";
    XENMEM_ACCESS_OP_GET_ACCESS: u32 = 1 => "XENMEM_access_op_get_access";
    XENMEM_ACCESS_OP_SET_ACCESS_MULTI: u32 = 4 => "XENMEM_access_op_set_access_multi";
    XENMEM_SHARING_OP: u32 = 22 => "XENMEM_sharing_op";
    XENMEM_SHARING_OP_NOMINATE_GFN: u32 = 0 => "XENMEM_sharing_op_nominate_gfn";
    XENMEM_SHARING_OP_NOMINATE_GREF: u32 = 1 => "XENMEM_sharing_op_nominate_gref";
    XENMEM_SHARING_OP_SHARE: u32 = 2 => "XENMEM_sharing_op_share";
    XENMEM_SHARING_OP_DEBUG_GFN: u32 = 3 => "XENMEM_sharing_op_debug_gfn";
    XENMEM_SHARING_OP_DEBUG_MFN: u32 = 4 => "XENMEM_sharing_op_debug_mfn";
    XENMEM_SHARING_OP_DEBUG_GREF: u32 = 5 => "XENMEM_sharing_op_debug_gref";
    XENMEM_SHARING_OP_ADD_PHYSMAP: u32 = 6 => "XENMEM_sharing_op_add_physmap";
    XENMEM_SHARING_OP_AUDIT: u32 = 7 => "XENMEM_sharing_op_audit";
    XENMEM_SHARING_OP_RANGE_SHARE: u32 = 8 => "XENMEM_sharing_op_range_share";
    XENMEM_SHARING_OP_FORK: u32 = 9 => "XENMEM_sharing_op_fork";
    XENMEM_SHARING_OP_FORK_RESET: u32 = 10 => "XENMEM_sharing_op_fork_reset";
    XENMEM_SHARING_OP_S_HANDLE_INVALID: i32 = -10;
    XENMEM_SHARING_OP_C_HANDLE_INVALID: i32 = -9;
    XENMEM_SHARING_OP_FIELD_IS_GREF_FLAG: u64 = 0x4000_0000_0000_0000;
    XENMEM_FORK_WITH_IOMMU_ALLOWED: u32 = 1;
    XENMEM_FORK_BLOCK_INTERRUPTS: u32 = 2;
    XENMEM_FORK_RESET_STATE: u32 = 4;
    XENMEM_FORK_RESET_MEMORY: u32 = 8;
    XENMEM_CLAIM_PAGES: u32 = 24 => "XENMEM_claim_pages";
    XENMEM_RESERVED_DEVICE_MEMORY_MAP: u32 = 27 => "XENMEM_reserved_device_memory_map";
    XENMEM_RDM_ALL: u32 = 1;
    XENMEM_ACQUIRE_RESOURCE: u32 = 28 => "XENMEM_acquire_resource";
    XENMEM_RESOURCE_IOREQ_SERVER: u32 = 0 => "XENMEM_resource_ioreq_server";
    XENMEM_RESOURCE_GRANT_TABLE: u32 = 1 => "XENMEM_resource_grant_table";
    XENMEM_RESOURCE_VMTRACE_BUF: u32 = 2 => "XENMEM_resource_vmtrace_buf";
    XENMEM_RESOURCE_GRANT_TABLE_ID_SHARED: u32 = 0 => "XENMEM_resource_grant_table_id_shared";
    XENMEM_RESOURCE_GRANT_TABLE_ID_STATUS: u32 = 1 => "XENMEM_resource_grant_table_id_status";
    XENMEM_RESOURCE_IOREQ_SERVER_FRAME_BUFIOREQ: u32 = 0 => "XENMEM_resource_ioreq_server_frame_bufioreq";
    XENMEM_GET_VNUMAINFO: u32 = 26 => "XENMEM_get_vnumainfo";
    XENMEM_ACCESS_N: u32 = 0 => "XENMEM_access_n";
    XENMEM_ACCESS_R: u32 = 1 => "XENMEM_access_r";
    XENMEM_ACCESS_W: u32 = 2 => "XENMEM_access_w";
    XENMEM_ACCESS_RW: u32 = 3 => "XENMEM_access_rw";
    XENMEM_ACCESS_X: u32 = 4 => "XENMEM_access_x";
    XENMEM_ACCESS_RX: u32 = 5 => "XENMEM_access_rx";
    XENMEM_ACCESS_WX: u32 = 6 => "XENMEM_access_wx";
    XENMEM_ACCESS_RWX: u32 = 7 => "XENMEM_access_rwx";
    XENMEM_ACCESS_RX2RW: u32 = 8 => "XENMEM_access_rx2rw";
    XENMEM_ACCESS_N2RWX: u32 = 9 => "XENMEM_access_n2rwx";
    XENMEM_ACCESS_R_PW: u32 = 10 => "XENMEM_access_r_pw";
    XENMEM_ACCESS_DEFAULT: u32 = 11 => "XENMEM_access_default";
}

abi_structs! {
    "memory.h";
    /// Extents of memory to allocate, free or populate.
    MemoryReservation = "struct xen_memory_reservation" {
        /// Frame numbers, one per extent.
        extent_start: GuestHandle<u64>,
        nr_extents: u64,
        /// Each extent has 2^n pages.
        extent_order: u32,
        /// `XENMEMF_*`, address width and node.
        mem_flags: u32,
        domid: u16,
        _gap0: [u8; 6],
    }

    /// Extents to trade for others of the same total size.
    MemoryExchange = "struct xen_memory_exchange" {
        r#in: MemoryReservation,
        out: MemoryReservation,
        /// IN: zero. OUT: input extents done.
        nr_exchanged: u64,
    }

    /// The domain that a size query is about.
    MemoryDomain = "struct xen_memory_domain" {
        domid: u16,
    }

    /// Where to put the frames that hold the machine-to-physical table.
    MachphysMfnList = "struct xen_machphys_mfn_list" {
        max_extents: u32,
        _gap0: [u8; 4],
        extent_start: GuestHandle<u64>,
        nr_extents: u32,
        _gap1: [u8; 4],
    }

    /// Where the machine-to-physical table is mapped.
    MachphysMapping = "struct xen_machphys_mapping" {
        /// OUT: first virtual address.
        v_start: u64,
        /// OUT: address past the end.
        v_end: u64,
        /// OUT: highest machine frame that can be looked up.
        max_mfn: u64,
    }

    /// One page or range to enter into a domain's physical map.
    AddToPhysmap = "struct xen_add_to_physmap" {
        domid: u16,
        /// Number of pages for `XENMAPSPACE_gmfn_range`.
        size: u16,
        /// `XENMAPSPACE_*`.
        space: u32,
        idx: u64,
        gpfn: u64,
    }

    /// Several pages to enter into a domain's physical map.
    AddToPhysmapBatch = "struct xen_add_to_physmap_batch" {
        domid: u16,
        /// `XENMAPSPACE_*`.
        space: u16,
        size: u16,
        /// The foreign domain for `XENMAPSPACE_gmfn_foreign`, else zero.
        u: u16,
        idxs: GuestHandle<u64>,
        gpfns: GuestHandle<u64>,
        /// OUT: negative error number or 0 per page.
        errs: GuestHandle<i32>,
    }

    /// One page to take out of a domain's physical map.
    RemoveFromPhysmap = "struct xen_remove_from_physmap" {
        domid: u16,
        _gap0: [u8; 6],
        gpfn: u64,
    }

    /// Where to put the (pseudo-physical or machine) memory map.
    MemoryMap = "struct xen_memory_map" {
        /// IN: room in the buffer, in entries. OUT: entries written.
        nr_entries: u32,
        _gap0: [u8; 4],
        /// Array of `E820Entry`.
        buffer: GuestHandle<c_void>,
    }

    /// The memory map that another domain shall see.
    ForeignMemoryMap = "struct xen_foreign_memory_map" {
        domid: u16,
        _gap0: [u8; 6],
        map: MemoryMap,
    }

    /// Populate-on-demand target and figures of a domain.
    PodTarget = "struct xen_pod_target" {
        target_pages: u64,
        tot_pages: u64,
        pod_cache_pages: u64,
        pod_entries: u64,
        domid: u16,
        _gap0: [u8; 6],
    }

    /// Paging of a domain's memory.
    MemPagingOp = "struct xen_mem_paging_op" {
        op: u8,
        _gap0: [u8; 1],
        domain: u16,
        _gap1: [u8; 4],
        buffer: GuestHandle<u8>,
        gfn: u64,
    }

    /// Access rights of a domain's pages.
    MemAccessOp = "struct xen_mem_access_op" {
        op: u8,
        access: u8,
        domid: u16,
        nr: u32,
        pfn: u64,
        pfn_list: GuestHandle<u64>,
        access_list: GuestHandle<u8>,
    }

    /// A page that may be shared.
    MemSharingOpNominate = "struct mem_sharing_op_nominate" {
        u: u64,
        handle: u64,
    }

    /// Two pages to share.
    MemSharingOpShare = "struct mem_sharing_op_share" {
        source_gfn: u64,
        source_handle: u64,
        client_gfn: u64,
        client_handle: u64,
        client_domain: u16,
        _gap0: [u8; 6],
    }

    /// Ranges to share.
    MemSharingOpRange = "struct mem_sharing_op_range" {
        first_gfn: u64,
        last_gfn: u64,
        opaque: u64,
        client_domain: u16,
        _pad: [u16; 3],
    }

    /// A page to dump.
    MemSharingOpDebug = "struct mem_sharing_op_debug" {
        u: u64,
    }

    /// A domain to fork.
    MemSharingOpFork = "struct mem_sharing_op_fork" {
        parent_domain: u16,
        flags: u16,
        pad: u32,
    }

    /// Sharing of identical pages, and forks.
    MemSharingOp = "struct xen_mem_sharing_op" {
        op: u8,
        _gap0: [u8; 1],
        domain: u16,
        _gap1: [u8; 4],
        u: Union<u64, 5>,
    }

    /// A range that firmware reserves for a device.
    ReservedDeviceMemory = "struct xen_reserved_device_memory" {
        start_pfn: u64,
        nr_pages: u64,
    }

    /// Query for such ranges.
    ReservedDeviceMemoryMap = "struct xen_reserved_device_memory_map" {
        flags: u32,
        nr_entries: u32,
        buffer: GuestHandle<ReservedDeviceMemory>,
        dev: Union<u16, 2>,
        _gap0: [u8; 4],
    }

    /// Frames of a domain's resource to map.
    MemAcquireResource = "struct xen_mem_acquire_resource" {
        domid: u16,
        /// `XENMEM_resource_*`.
        r#type: u16,
        id: u32,
        /// IN: number of frames wanted; 0 with a null list asks for the size. OUT: size.
        nr_frames: u32,
        pad: u32,
        /// First frame of the resource.
        frame: u64,
        /// PV: OUT: machine frames. HVM: IN: frames to map at.
        frame_list: GuestHandle<u64>,
    }

    /// A memory range on a virtual NUMA node.
    Vmemrange = "struct xen_vmemrange" {
        start: u64,
        end: u64,
        flags: u32,
        nid: u32,
    }

    /// Virtual NUMA topology of a guest.
    VnumaTopologyInfo = "struct xen_vnuma_topology_info" {
        domid: u16,
        pad: u16,
        nr_vnodes: u32,
        nr_vcpus: u32,
        nr_vmemranges: u32,
        vdistance: u64,
        vcpu_to_vnode: u64,
        vmemrange: u64,
    }
}

/// Width of the machine addresses that `mem_flags` asks for, in bits; 0 means any.
pub const fn mem_flags_address_bits(mem_flags: u32) -> u32 {
    mem_flags & 0xff
}

/// NUMA node that `mem_flags` asks for, if it does.
pub const fn mem_flags_node(mem_flags: u32) -> Option<u8> {
    match (mem_flags >> 8) as u8 {
        0 => None,
        node => Some(node - 1),
    }
}

/// Usable memory, in [`E820Entry::kind`] (ACPI specification, 15).
pub const E820_RAM: u32 = 1;
/// Reserved memory.
pub const E820_RESERVED: u32 = 2;
/// ACPI tables, reclaimable.
pub const E820_ACPI: u32 = 3;
/// ACPI memory to preserve over sleep.
pub const E820_NVS: u32 = 4;
/// Defective memory.
pub const E820_UNUSABLE: u32 = 5;

/// One range of a memory map, in the 20-byte format of BIOS INT 15h, AX=E820h.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout,
)]
#[repr(C, packed)]
pub struct E820Entry {
    /// First address.
    pub addr: u64,
    /// Size in bytes.
    pub size: u64,
    /// `E820_*`.
    pub kind: u32,
}

const _: () = assert!(core::mem::size_of::<E820Entry>() == 20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mem_flags_hold_width_and_node() {
        assert_eq!(mem_flags_address_bits(32 | XENMEMF_VNODE), 32);
        assert_eq!(mem_flags_node(32), None);
        assert_eq!(mem_flags_node((1 << 8) | 32), Some(0));
        assert_eq!(mem_flags_node(XENMEMF_EXACT_NODE_REQUEST | (4 << 8)), Some(3));
    }
}
