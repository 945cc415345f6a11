//! hvm/dm_op.h: `HYPERVISOR_dm_op`, what a device emulator asks for.

use crate::{GuestHandle, Union};

abi_constants! {
    "hvm/dm_op.h";
    XEN_DMOP_CREATE_IOREQ_SERVER: u32 = 1 => "XEN_DMOP_create_ioreq_server";
    XEN_DMOP_GET_IOREQ_SERVER_INFO: u32 = 2 => "XEN_DMOP_get_ioreq_server_info";
    XEN_DMOP_MAP_IO_RANGE_TO_IOREQ_SERVER: u32 = 3 => "XEN_DMOP_map_io_range_to_ioreq_server";
    XEN_DMOP_UNMAP_IO_RANGE_FROM_IOREQ_SERVER: u32 = 4 => "XEN_DMOP_unmap_io_range_from_ioreq_server";
    XEN_DMOP_SET_IOREQ_SERVER_STATE: u32 = 5 => "XEN_DMOP_set_ioreq_server_state";
    XEN_DMOP_DESTROY_IOREQ_SERVER: u32 = 6 => "XEN_DMOP_destroy_ioreq_server";
    XEN_DMOP_TRACK_DIRTY_VRAM: u32 = 7 => "XEN_DMOP_track_dirty_vram";
    XEN_DMOP_SET_PCI_INTX_LEVEL: u32 = 8 => "XEN_DMOP_set_pci_intx_level";
    XEN_DMOP_SET_ISA_IRQ_LEVEL: u32 = 9 => "XEN_DMOP_set_isa_irq_level";
    XEN_DMOP_SET_PCI_LINK_ROUTE: u32 = 10 => "XEN_DMOP_set_pci_link_route";
    XEN_DMOP_MODIFIED_MEMORY: u32 = 11 => "XEN_DMOP_modified_memory";
    XEN_DMOP_SET_MEM_TYPE: u32 = 12 => "XEN_DMOP_set_mem_type";
    XEN_DMOP_INJECT_EVENT: u32 = 13 => "XEN_DMOP_inject_event";
    XEN_DMOP_INJECT_MSI: u32 = 14 => "XEN_DMOP_inject_msi";
    XEN_DMOP_MAP_MEM_TYPE_TO_IOREQ_SERVER: u32 = 15 => "XEN_DMOP_map_mem_type_to_ioreq_server";
    XEN_DMOP_REMOTE_SHUTDOWN: u32 = 16 => "XEN_DMOP_remote_shutdown";
    XEN_DMOP_RELOCATE_MEMORY: u32 = 17 => "XEN_DMOP_relocate_memory";
    XEN_DMOP_PIN_MEMORY_CACHEATTR: u32 = 18 => "XEN_DMOP_pin_memory_cacheattr";
    XEN_DMOP_SET_IRQ_LEVEL: u32 = 19 => "XEN_DMOP_set_irq_level";
    XEN_DMOP_NR_VCPUS: u32 = 20 => "XEN_DMOP_nr_vcpus";

    XEN_DMOP_NO_GFNS: u16 = 1 => "XEN_DMOP_no_gfns";

    XEN_DMOP_IO_RANGE_PORT: u32 = 0;
    XEN_DMOP_IO_RANGE_MEMORY: u32 = 1;
    XEN_DMOP_IO_RANGE_PCI: u32 = 2;

    XEN_DMOP_EVENT_EXT_INT: u8 = 0 => "XEN_DMOP_EVENT_ext_int";
    XEN_DMOP_EVENT_NMI: u8 = 2 => "XEN_DMOP_EVENT_nmi";
    XEN_DMOP_EVENT_HW_EXC: u8 = 3 => "XEN_DMOP_EVENT_hw_exc";
    XEN_DMOP_EVENT_SW_INT: u8 = 4 => "XEN_DMOP_EVENT_sw_int";
    XEN_DMOP_EVENT_PRI_SW_EXC: u8 = 5 => "XEN_DMOP_EVENT_pri_sw_exc";
    XEN_DMOP_EVENT_SW_EXC: u8 = 6 => "XEN_DMOP_EVENT_sw_exc";

    XEN_DMOP_IOREQ_MEM_ACCESS_READ: u32 = 1;
    XEN_DMOP_IOREQ_MEM_ACCESS_WRITE: u32 = 2;

    XEN_DMOP_MEM_CACHEATTR_UC: u32 = 0;
    XEN_DMOP_MEM_CACHEATTR_WC: u32 = 1;
    XEN_DMOP_MEM_CACHEATTR_WT: u32 = 4;
    XEN_DMOP_MEM_CACHEATTR_WP: u32 = 5;
    XEN_DMOP_MEM_CACHEATTR_WB: u32 = 6;
    XEN_DMOP_MEM_CACHEATTR_UCM: u32 = 7;
    XEN_DMOP_DELETE_MEM_CACHEATTR: u32 = !0;
}

abi_structs! {
    "hvm/dm_op.h";
    /// Makes a server.
    CreateIoreqServer = "struct xen_dm_op_create_ioreq_server" {
        /// `HVM_IOREQSRV_BUFIOREQ_*`.
        handle_bufioreq: u8,
        pad: [u8; 3],
        id: u16,
    }

    /// Asks where a server's requests are.
    GetIoreqServerInfo = "struct xen_dm_op_get_ioreq_server_info" {
        id: u16,
        /// [`XEN_DMOP_NO_GFNS`].
        flags: u16,
        bufioreq_port: u32,
        ioreq_gfn: u64,
        bufioreq_gfn: u64,
    }

    /// A range of ports, addresses or devices, both ends included.
    IoreqServerRange = "struct xen_dm_op_ioreq_server_range" {
        id: u16,
        pad: u16,
        r#type: u32,
        start: u64,
        end: u64,
    }

    /// Turns a server on or off.
    SetIoreqServerState = "struct xen_dm_op_set_ioreq_server_state" {
        id: u16,
        enabled: u8,
        pad: u8,
    }

    /// Ends a server.
    DestroyIoreqServer = "struct xen_dm_op_destroy_ioreq_server" {
        id: u16,
        pad: u16,
    }

    /// Asks which frames of the video memory were written since the last call.
    TrackDirtyVram = "struct xen_dm_op_track_dirty_vram" {
        nr: u32,
        pad: u32,
        first_pfn: u64,
    }

    /// Sets a PCI interrupt wire.
    SetPciIntxLevel = "struct xen_dm_op_set_pci_intx_level" {
        domain: u16,
        bus: u8,
        device: u8,
        intx: u8,
        level: u8,
    }

    /// Sets an ISA interrupt wire.
    SetIsaIrqLevel = "struct xen_dm_op_set_isa_irq_level" {
        isa_irq: u8,
        level: u8,
    }

    /// Routes a PCI link to an ISA interrupt.
    SetPciLinkRoute = "struct xen_dm_op_set_pci_link_route" {
        link: u8,
        isa_irq: u8,
    }

    /// Says that the emulator wrote to the guest's memory; the second buffer has the extents.
    ModifiedMemory = "struct xen_dm_op_modified_memory" {
        nr_extents: u32,
        opaque: u32,
    }

    /// Frames that were written.
    ModifiedMemoryExtent = "struct xen_dm_op_modified_memory_extent" {
        nr: u32,
        pad: u32,
        first_pfn: u64,
    }

    /// Changes what frames are (`HVMMEM_*`).
    SetMemType = "struct xen_dm_op_set_mem_type" {
        nr: u32,
        mem_type: u16,
        pad: u16,
        first_pfn: u64,
    }

    /// Raises an exception or interrupt in a vCPU.
    InjectEvent = "struct xen_dm_op_inject_event" {
        vcpuid: u32,
        vector: u8,
        /// `XEN_DMOP_EVENT_*`.
        r#type: u8,
        insn_len: u8,
        pad0: u8,
        error_code: u32,
        pad1: u32,
        cr2: u64,
    }

    /// Sends a message-signalled interrupt.
    InjectMsi = "struct xen_dm_op_inject_msi" {
        data: u32,
        pad: u32,
        addr: u64,
    }

    /// Claims a kind of memory for a server.
    MapMemTypeToIoreqServer = "struct xen_dm_op_map_mem_type_to_ioreq_server" {
        id: u16,
        r#type: u16,
        /// `XEN_DMOP_IOREQ_MEM_ACCESS_*`; 0 ends the claim.
        flags: u32,
        opaque: u64,
    }

    /// Shuts the guest down.
    RemoteShutdown = "struct xen_dm_op_remote_shutdown" {
        reason: u32,
    }

    /// Moves frames within the guest's address space.
    RelocateMemory = "struct xen_dm_op_relocate_memory" {
        size: u32,
        pad: u32,
        src_gfn: u64,
        dst_gfn: u64,
    }

    /// Sets how a range of frames is cached.
    PinMemoryCacheattr = "struct xen_dm_op_pin_memory_cacheattr" {
        start: u64,
        end: u64,
        r#type: u32,
        pad: u32,
    }

    /// Sets an interrupt line (Arm).
    SetIrqLevel = "struct xen_dm_op_set_irq_level" {
        irq: u32,
        level: u8,
        pad: [u8; 3],
    }

    /// Asks how many vCPUs the guest has.
    NrVcpus = "struct xen_dm_op_nr_vcpus" {
        vcpus: u32,
    }

    /// An operation of a device emulator: the first buffer of the call.
    DmOp = "struct xen_dm_op" {
        op: u32,
        pad: u32,
        u: Union<u64, 3>,
    }

    /// A buffer of the caller's.
    DmOpBuf = "struct xen_dm_op_buf" {
        h: GuestHandle<u8>,
        size: u64,
    }
}
