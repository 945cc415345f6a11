//! physdev.h: `HYPERVISOR_physdev_op`: interrupts, I/O privilege and PCI devices of the hardware domain.

use crate::{GuestHandle, Union};

abi_constants! {
    "physdev.h";
    PHYSDEVOP_EOI: u32 = 12 => "PHYSDEVOP_eoi";
    PHYSDEVOP_PIRQ_EOI_GMFN_V1: u32 = 17 => "PHYSDEVOP_pirq_eoi_gmfn_v1";
    PHYSDEVOP_PIRQ_EOI_GMFN_V2: u32 = 28 => "PHYSDEVOP_pirq_eoi_gmfn_v2";
    PHYSDEVOP_IRQ_STATUS_QUERY: u32 = 5 => "PHYSDEVOP_irq_status_query";

    XENIRQSTAT_NEEDS_EOI: u32 = 1 => "XENIRQSTAT_needs_eoi";
    XENIRQSTAT_SHARED: u32 = 2 => "XENIRQSTAT_shared";

    PHYSDEVOP_SET_IOPL: u32 = 6 => "PHYSDEVOP_set_iopl";
    PHYSDEVOP_SET_IOBITMAP: u32 = 7 => "PHYSDEVOP_set_iobitmap";
    PHYSDEVOP_APIC_READ: u32 = 8 => "PHYSDEVOP_apic_read";
    PHYSDEVOP_APIC_WRITE: u32 = 9 => "PHYSDEVOP_apic_write";
    PHYSDEVOP_ALLOC_IRQ_VECTOR: u32 = 10 => "PHYSDEVOP_alloc_irq_vector";
    PHYSDEVOP_FREE_IRQ_VECTOR: u32 = 11 => "PHYSDEVOP_free_irq_vector";

    MAP_PIRQ_TYPE_MSI: i32 = 0;
    MAP_PIRQ_TYPE_GSI: i32 = 1;
    MAP_PIRQ_TYPE_UNKNOWN: i32 = 2;
    MAP_PIRQ_TYPE_MSI_SEG: i32 = 3;
    MAP_PIRQ_TYPE_MULTI_MSI: i32 = 4;

    PHYSDEVOP_MAP_PIRQ: u32 = 13 => "PHYSDEVOP_map_pirq";
    PHYSDEVOP_UNMAP_PIRQ: u32 = 14 => "PHYSDEVOP_unmap_pirq";
    PHYSDEVOP_MANAGE_PCI_ADD: u32 = 15 => "PHYSDEVOP_manage_pci_add";
    PHYSDEVOP_MANAGE_PCI_REMOVE: u32 = 16 => "PHYSDEVOP_manage_pci_remove";
    PHYSDEVOP_RESTORE_MSI: u32 = 19 => "PHYSDEVOP_restore_msi";
    PHYSDEVOP_MANAGE_PCI_ADD_EXT: u32 = 20 => "PHYSDEVOP_manage_pci_add_ext";
    PHYSDEVOP_SETUP_GSI: u32 = 21 => "PHYSDEVOP_setup_gsi";
    PHYSDEVOP_GET_FREE_PIRQ: u32 = 23 => "PHYSDEVOP_get_free_pirq";

    XEN_PCI_MMCFG_RESERVED: u32 = 1;

    PHYSDEVOP_PCI_MMCFG_RESERVED: u32 = 24 => "PHYSDEVOP_pci_mmcfg_reserved";

    XEN_PCI_DEV_EXTFN: u32 = 1;
    XEN_PCI_DEV_VIRTFN: u32 = 2;
    XEN_PCI_DEV_PXM: u32 = 4;

    PHYSDEVOP_PCI_DEVICE_ADD: u32 = 25 => "PHYSDEVOP_pci_device_add";
    PHYSDEVOP_PCI_DEVICE_REMOVE: u32 = 26 => "PHYSDEVOP_pci_device_remove";
    PHYSDEVOP_RESTORE_MSI_EXT: u32 = 27 => "PHYSDEVOP_restore_msi_ext";
    PHYSDEVOP_PREPARE_MSIX: u32 = 30 => "PHYSDEVOP_prepare_msix";
    PHYSDEVOP_RELEASE_MSIX: u32 = 31 => "PHYSDEVOP_release_msix";
    PHYSDEVOP_PCI_DEVICE_RESET: u32 = 32 => "PHYSDEVOP_pci_device_reset";

    PCI_DEVICE_RESET_COLD: u32 = 0;
    PCI_DEVICE_RESET_WARM: u32 = 1;
    PCI_DEVICE_RESET_HOT: u32 = 2;
    PCI_DEVICE_RESET_FLR: u32 = 3;
    PCI_DEVICE_RESET_MASK: u32 = 3;

    PHYSDEVOP_DBGP_RESET_PREPARE: u32 = 1;
    PHYSDEVOP_DBGP_RESET_DONE: u32 = 2;
    PHYSDEVOP_DBGP_BUS_UNKNOWN: u32 = 0;
    PHYSDEVOP_DBGP_BUS_PCI: u32 = 1;
    PHYSDEVOP_DBGP_OP: u32 = 29 => "PHYSDEVOP_dbgp_op";
    PHYSDEVOP_IRQ_UNMASK_NOTIFY: u32 = 4;
    PHYSDEVOP_PIRQ_EOI_GMFN: u32 = 28 => "PHYSDEVOP_pirq_eoi_gmfn";
}

abi_structs! {
    "physdev.h";
    /// Ends the interrupt of a physical IRQ.
    Eoi = "struct physdev_eoi" {
        irq: u32,
    }

    /// A page for the bitmap of interrupts that need no end-of-interrupt call.
    PirqEoiGmfn = "struct physdev_pirq_eoi_gmfn" {
        gmfn: u64,
    }

    /// Asks whether an interrupt needs an end-of-interrupt call.
    IrqStatusQuery = "struct physdev_irq_status_query" {
        irq: u32,
        flags: u32,
    }

    /// Sets the I/O privilege level of the calling vCPU.
    SetIopl = "struct physdev_set_iopl" {
        iopl: u32,
    }

    /// Sets the I/O permission bitmap of the calling vCPU.
    SetIobitmap = "struct physdev_set_iobitmap" {
        bitmap: GuestHandle<u8>,
        nr_ports: u32,
        _gap0: [u8; 4],
    }

    /// Reads or writes an I/O APIC register.
    Apic = "struct physdev_apic" {
        apic_physbase: u64,
        reg: u32,
        value: u32,
    }

    /// An interrupt and its vector.
    Irq = "struct physdev_irq" {
        irq: u32,
        vector: u32,
    }

    /// Maps a GSI or MSI to a physical interrupt number.
    MapPirq = "struct physdev_map_pirq" {
        domid: u16,
        _gap0: [u8; 2],
        /// `MAP_PIRQ_TYPE_*`.
        r#type: i32,
        index: i32,
        /// IN: wanted number or negative for any. OUT: number.
        pirq: i32,
        bus: i32,
        devfn: i32,
        entry_nr: i32,
        _gap1: [u8; 4],
        table_base: u64,
    }

    /// Frees a physical interrupt number.
    UnmapPirq = "struct physdev_unmap_pirq" {
        domid: u16,
        _gap0: [u8; 2],
        pirq: i32,
    }

    /// A PCI function on segment 0.
    ManagePci = "struct physdev_manage_pci" {
        bus: u8,
        devfn: u8,
    }

    /// A PCI function whose MSI state shall be restored.
    RestoreMsi = "struct physdev_restore_msi" {
        bus: u8,
        devfn: u8,
    }

    /// The physical function behind a virtual one.
    ManagePciExtPhysfn = "__typeof__(((struct physdev_manage_pci_ext *)0)->physfn)" {
        bus: u8,
        devfn: u8,
    }

    /// A PCI function on segment 0, with SR-IOV details.
    ManagePciExt = "struct physdev_manage_pci_ext" {
        bus: u8,
        devfn: u8,
        _gap0: [u8; 2],
        is_extfn: u32,
        is_virtfn: u32,
        physfn: ManagePciExtPhysfn,
        _gap1: [u8; 2],
    }

    /// Envelope of the old `HYPERVISOR_physdev_op_compat`.
    PhysdevOp = "struct physdev_op" {
        cmd: u32,
        _gap0: [u8; 4],
        u: Union<u64, 2>,
    }

    /// Trigger mode and polarity of a GSI.
    SetupGsi = "struct physdev_setup_gsi" {
        gsi: i32,
        triggering: u8,
        polarity: u8,
        _gap0: [u8; 2],
    }

    /// Asks for an unused physical interrupt number.
    GetFreePirq = "struct physdev_get_free_pirq" {
        r#type: i32,
        pirq: u32,
    }

    /// A memory-mapped configuration area that firmware reserves.
    PciMmcfgReserved = "struct physdev_pci_mmcfg_reserved" {
        address: u64,
        segment: u16,
        start_bus: u8,
        end_bus: u8,
        flags: u32,
    }

    /// The physical function behind a virtual one.
    PciDeviceAddPhysfn = "__typeof__(((struct physdev_pci_device_add *)0)->physfn)" {
        bus: u8,
        devfn: u8,
    }

    /// A PCI function that dom0 found; an optional proximity domain (`u32`) follows if `XEN_PCI_DEV_PXM` is set.
    PciDeviceAdd = "struct physdev_pci_device_add" {
        seg: u16,
        bus: u8,
        devfn: u8,
        flags: u32,
        physfn: PciDeviceAddPhysfn,
        _gap0: [u8; 2],
    }

    /// A PCI function.
    PciDevice = "struct physdev_pci_device" {
        seg: u16,
        bus: u8,
        devfn: u8,
    }

    /// A PCI function and the kind of reset that it had.
    PciDeviceReset = "struct pci_device_reset" {
        dev: PciDevice,
        flags: u32,
    }

    /// Tells about a reset of the USB debug port's controller.
    DbgpOp = "struct physdev_dbgp_op" {
        op: u8,
        bus: u8,
        u: Union<u16, 2>,
    }
}
