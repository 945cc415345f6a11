//! Device assignment, interrupts, mappings and the extended vCPU context.

use crate::{GuestHandle, Union};

abi_structs! {
    "domctl.h";
    /// Saved state of an HVM domain.
    HvmContext = "struct xen_domctl_hvmcontext" {
        size: u32,
        _gap0: [u8; 4],
        buffer: GuestHandle<u8>,
    }

    /// Guest address size: 32 or 64 bits.
    AddressSize = "struct xen_domctl_address_size" {
        size: u32,
    }

    /// An event such as NMI, reset or power button for a vCPU.
    SendTrigger = "struct xen_domctl_sendtrigger" {
        trigger: u32,
        vcpu: u32,
    }

    /// A PCI device to assign.
    AssignDevicePci = "__typeof__(((struct xen_domctl_assign_device *)0)->u.pci)" {
        machine_sbdf: u32,
    }

    /// A device-tree node to assign.
    AssignDeviceDt = "__typeof__(((struct xen_domctl_assign_device *)0)->u.dt)" {
        size: u32,
        _gap0: [u8; 4],
        path: GuestHandle<u8>,
    }

    /// A device to assign to a domain.
    AssignDevice = "struct xen_domctl_assign_device" {
        dev: u32,
        flags: u32,
        u: Union<u64, 2>,
    }

    /// Devices that can only be assigned together.
    GetDeviceGroup = "struct xen_domctl_get_device_group" {
        machine_sbdf: u32,
        max_sdevs: u32,
        num_sdevs: u32,
        _gap0: [u8; 4],
        sdev_array: GuestHandle<u32>,
    }

    /// A guest's ISA interrupt.
    BindPtIrqIsa = "__typeof__(((struct xen_domctl_bind_pt_irq *)0)->u.isa)" {
        isa_irq: u8,
    }

    /// A guest's PCI interrupt line.
    BindPtIrqPci = "__typeof__(((struct xen_domctl_bind_pt_irq *)0)->u.pci)" {
        bus: u8,
        device: u8,
        intx: u8,
    }

    /// A guest's message-signalled interrupt.
    BindPtIrqMsi = "__typeof__(((struct xen_domctl_bind_pt_irq *)0)->u.msi)" {
        gvec: u8,
        _gap0: [u8; 3],
        gflags: u32,
        gtable: u64,
    }

    /// A guest's shared peripheral interrupt (Arm).
    BindPtIrqSpi = "__typeof__(((struct xen_domctl_bind_pt_irq *)0)->u.spi)" {
        spi: u16,
    }

    /// Binds a host interrupt to a guest's.
    BindPtIrq = "struct xen_domctl_bind_pt_irq" {
        machine_irq: u32,
        irq_type: u32,
        u: Union<u64, 2>,
    }

    /// Device memory to map into or out of a guest.
    MemoryMapping = "struct xen_domctl_memory_mapping" {
        first_gfn: u64,
        first_mfn: u64,
        nr_mfns: u64,
        add_mapping: u32,
        padding: u32,
    }

    /// I/O ports to map into or out of a guest.
    IoPortMapping = "struct xen_domctl_ioport_mapping" {
        first_gport: u32,
        first_mport: u32,
        nr_ports: u32,
        add_mapping: u32,
    }

    /// What `VcpuGuestContext` has no room for.
    ExtVcpuContext = "struct xen_domctl_ext_vcpucontext" {
        vcpu: u32,
        size: u32,
        syscall32_callback_eip: u64,
        sysenter_callback_eip: u64,
        syscall32_callback_cs: u16,
        sysenter_callback_cs: u16,
        syscall32_disables_events: u8,
        sysenter_disables_events: u8,
        _gap0: [u8; 2],
        mcg_cap: u64,
        _gap1: [u8; 24],
    }

    /// The domain that a stub domain may control.
    SetTarget = "struct xen_domctl_set_target" {
        target: u16,
    }
}
