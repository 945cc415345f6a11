//! Devices and what only toolstacks, device models and hardware domains may ask for.

use super::values::{Kind::*, Value, Value::*};
use super::{At, Field, LIST, LONGEST, Op, Part, op, plain};
use crate::call::op as issue;
use xen_abi::hvm_op::*;
use xen_abi::physdev::*;
use xen_abi::xen::*;

const NUMBER: u32 = HYPERVISOR_PHYSDEV_OP;
const SELF: Value = Is(DOMID_SELF as u64);

const fn command(command: u32) -> [Value; 5] {
    [Is(command as u64), Is(0), Is(0), Is(0), Is(0)]
}

fn no_ports(_: &[u8; LONGEST]) {
    issue(NUMBER, PHYSDEVOP_SET_IOPL, &mut SetIopl { iopl: 0 });
    let none = xen_abi::GuestHandle::new(0);
    issue(NUMBER, PHYSDEVOP_SET_IOBITMAP, &mut SetIobitmap { bitmap: none, nr_ports: 0, _gap0: [0; 4] });
}

/// The common head of control structures: what to do, in which version of the interface, to which domain.
#[repr(C)]
struct Control {
    command: u32,
    version: u32,
    domain: u16,
    rest: [u8; 118],
}

/// Commands up to the last that there is.
const CONTROLS: &[(&str, Value)] = &[
    ("0", Is(0)),
    ("1", Is(1)),
    ("2", Is(2)),
    ("5", Is(5)),
    ("8", Is(8)),
    ("10", Is(10)),
    ("16", Is(16)),
    ("25", Is(25)),
    ("35", Is(35)),
    ("44", Is(44)),
    ("58", Is(58)),
    ("63", Is(63)),
    ("64", Is(64)),
    ("65", Is(65)),
    ("66", Is(66)),
    ("71", Is(71)),
    ("85", Is(85)),
    ("89", Is(89)),
    ("90", Is(90)),
    ("1000", Is(1000)),
    ("max", Is(!0)),
];

pub const OPS: &[Op] = &[
    plain!("physdev.command", NUMBER, { "number" @ 0: Command => Is(33), "structure" @ 1: Pointer => Page(LIST) }),
    op!("physdev.eoi", NUMBER, command(PHYSDEVOP_EOI), 1, Eoi, { irq: Number => Is(0) }),
    op!("physdev.irq_status_query", NUMBER, command(PHYSDEVOP_IRQ_STATUS_QUERY), 1, IrqStatusQuery, { irq: Number => Is(0) }),
    op!("physdev.pirq_eoi_gmfn_v1", NUMBER, command(PHYSDEVOP_PIRQ_EOI_GMFN_V1), 1, PirqEoiGmfn, { gmfn: Frame => Is(1) }),
    op!("physdev.pirq_eoi_gmfn_v2", NUMBER, command(PHYSDEVOP_PIRQ_EOI_GMFN_V2), 1, PirqEoiGmfn, { gmfn: Frame => Is(1) }),
    op!("physdev.set_iopl", NUMBER, command(PHYSDEVOP_SET_IOPL), 1, SetIopl, { iopl: Number => Is(0) }, undo no_ports),
    op!("physdev.set_iobitmap", NUMBER, command(PHYSDEVOP_SET_IOBITMAP), 1, SetIobitmap,
        { bitmap: Pointer => Is(0), nr_ports: Count => Is(0) }, undo no_ports),
    op!("physdev.apic_read", NUMBER, command(PHYSDEVOP_APIC_READ), 1, Apic, { apic_physbase: Address => Is(0xfec0_0000), reg: Number => Is(0) }),
    op!("physdev.apic_write", NUMBER, command(PHYSDEVOP_APIC_WRITE), 1, Apic,
        { apic_physbase: Address => Is(0xfec0_0000), reg: Number => Is(0), value: Number => Is(0) }),
    op!("physdev.alloc_irq_vector", NUMBER, command(PHYSDEVOP_ALLOC_IRQ_VECTOR), 1, Irq, { irq: Number => Is(0) }),
    op!("physdev.map_pirq", NUMBER, command(PHYSDEVOP_MAP_PIRQ), 1, MapPirq, {
        domid: Domain => SELF,
        r#type: Number => Is(1),
        index: Number => Is(1),
        pirq: Number => Is(!0),
        bus: Number => Is(0),
        entry_nr: Number => Is(0),
        table_base: Address => Is(0),
    }),
    op!("physdev.unmap_pirq", NUMBER, command(PHYSDEVOP_UNMAP_PIRQ), 1, UnmapPirq, { domid: Domain => SELF, pirq: Number => Is(1) }),
    op!("physdev.manage_pci_add", NUMBER, command(PHYSDEVOP_MANAGE_PCI_ADD), 1, ManagePci, { bus: Number => Is(0), devfn: Number => Is(0) }),
    op!("physdev.manage_pci_remove", NUMBER, command(PHYSDEVOP_MANAGE_PCI_REMOVE), 1, ManagePci, { bus: Number => Is(0) }),
    op!("physdev.manage_pci_add_ext", NUMBER, command(PHYSDEVOP_MANAGE_PCI_ADD_EXT), 1, ManagePciExt, { bus: Number => Is(0), is_virtfn: Number => Is(0) }),
    op!("physdev.restore_msi", NUMBER, command(PHYSDEVOP_RESTORE_MSI), 1, RestoreMsi, { bus: Number => Is(0) }),
    op!("physdev.setup_gsi", NUMBER, command(PHYSDEVOP_SETUP_GSI), 1, SetupGsi,
        { gsi: Number => Is(1), triggering: Number => Is(0), polarity: Number => Is(0) }),
    op!("physdev.get_free_pirq", NUMBER, command(PHYSDEVOP_GET_FREE_PIRQ), 1, GetFreePirq, { r#type: Number => Is(1) }),
    op!("physdev.pci_mmcfg_reserved", NUMBER, command(PHYSDEVOP_PCI_MMCFG_RESERVED), 1, PciMmcfgReserved,
        { address: Address => Is(0), segment: Number => Is(0), flags: Number => Is(0) }),
    op!("physdev.pci_device_add", NUMBER, command(PHYSDEVOP_PCI_DEVICE_ADD), 1, PciDeviceAdd,
        { seg: Number => Is(0), bus: Number => Is(0), flags: Number => Is(0) }),
    op!("physdev.pci_device_remove", NUMBER, command(PHYSDEVOP_PCI_DEVICE_REMOVE), 1, PciDevice, { seg: Number => Is(0) }),
    op!("physdev.restore_msi_ext", NUMBER, command(PHYSDEVOP_RESTORE_MSI_EXT), 1, PciDevice, { seg: Number => Is(0) }),
    op!("physdev.prepare_msix", NUMBER, command(PHYSDEVOP_PREPARE_MSIX), 1, PciDevice, { seg: Number => Is(0) }),
    op!("physdev.release_msix", NUMBER, command(PHYSDEVOP_RELEASE_MSIX), 1, PciDevice, { seg: Number => Is(0) }),
    op!("physdev.dbgp_op", NUMBER, command(PHYSDEVOP_DBGP_OP), 1, DbgpOp, { op: Number => Is(0), bus: Number => Is(0) }),
    plain!("hvm.command", HYPERVISOR_HVM_OP, { "number" @ 0: Command => Is(26), "structure" @ 1: Pointer => Page(LIST) }),
    op!("hvm.set_param", HYPERVISOR_HVM_OP, command(HVMOP_SET_PARAM), 1, HvmParam,
        { domid: Domain => SELF, index: Number => Is(0), value: Number => Is(0) }),
    op!("hvm.get_param", HYPERVISOR_HVM_OP, command(HVMOP_GET_PARAM), 1, HvmParam, { domid: Domain => SELF, index: Number => Is(0) }),
    plain!("dm_op", HYPERVISOR_DM_OP, { "domain" @ 0: Domain => SELF, "buffers" @ 1: Count => Is(0), "list" @ 2: Pointer => Page(LIST) }),
    op!("domctl", HYPERVISOR_DOMCTL, [Is(0); 5], 0, Control,
        { command: Values(CONTROLS) => Is(5), version: Values(&[("0", Is(0)), ("22", Is(22)), ("24", Is(24)), ("max", Is(!0))]) => Is(0x17), domain: Domain => SELF }),
    op!("sysctl", HYPERVISOR_SYSCTL, [Is(0); 5], 0, Control,
        { command: Values(CONTROLS) => Is(3), version: Values(&[("0", Is(0)), ("20", Is(20)), ("22", Is(22)), ("max", Is(!0))]) => Is(0x15) }),
    op!("platform_op", HYPERVISOR_PLATFORM_OP, [Is(0); 5], 0, Control,
        { command: Values(CONTROLS) => Is(17), version: Values(&[("0", Is(0)), ("max", Is(!0))]) => Is(0x0300_0001) }),
];
