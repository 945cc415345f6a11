//! HYPERVISOR_physdev_op: dom0 announces devices, names their interrupts, and may use ports (physdev.h).

use crate::current::Current;
use crate::irq;
use crate::machine::X86;
use alloc::sync::Arc;
use core::mem::offset_of;
use domain::Domain;
use hal_irq::acpi::McfgEntry;
use hal_irq::pci::Sbdf;
use hal_irq::{pci, pins};
use hypercall::{Args, Outcome};
use platform::GuestMemory;
use types::{Errno, Mfn, Result};
use x86_defs::apic::{Polarity, Trigger};
use xen_abi::GuestHandle;
use xen_abi::physdev::*;

/// Messages that one MSI capability can send.
const MAX_MESSAGES: i32 = 32;
/// I/O ports there are.
const PORTS: u32 = 0x1_0000;

/// HYPERVISOR_physdev_op.
pub fn physdev_op(current: &mut Current<'_>, args: Args) -> Outcome {
    let at = args[1];
    let result = match args[0] as u32 {
        PHYSDEVOP_IRQ_UNMASK_NOTIFY => {
            irq::done_unmasked(current.hypervisor, current.domain);
            Ok(())
        }
        PHYSDEVOP_EOI => eoi(current, GuestHandle::new(at)),
        PHYSDEVOP_IRQ_STATUS_QUERY => irq_status_query(current, GuestHandle::new(at)),
        PHYSDEVOP_PIRQ_EOI_GMFN_V1 => pirq_eoi_gmfn(current, GuestHandle::new(at), true),
        PHYSDEVOP_PIRQ_EOI_GMFN_V2 => pirq_eoi_gmfn(current, GuestHandle::new(at), false),
        PHYSDEVOP_SET_IOPL => set_iopl(current, GuestHandle::new(at)),
        PHYSDEVOP_SET_IOBITMAP => set_iobitmap(current, GuestHandle::new(at)),
        PHYSDEVOP_MAP_PIRQ => map_pirq(current, GuestHandle::new(at)),
        PHYSDEVOP_UNMAP_PIRQ => unmap_pirq(current, GuestHandle::new(at)),
        PHYSDEVOP_GET_FREE_PIRQ => get_free_pirq(current, GuestHandle::new(at)),
        command => machine_op(current, command, at),
    };
    result.into()
}

/// HYPERVISOR_physdev_op_compat, the older form: the address of an envelope with the operation and its structure.
pub fn physdev_op_compat(current: &mut Current<'_>, args: Args) -> Outcome {
    let operation = match current.caller().read(GuestHandle::<PhysdevOp>::new(args[0])) {
        Ok(envelope) => envelope.cmd,
        Err(errno) => return errno.into(),
    };
    let structure = args[0].wrapping_add(offset_of!(PhysdevOp, u) as u64);
    match operation {
        // What came later has no room in the envelope.
        PHYSDEVOP_IRQ_UNMASK_NOTIFY..=PHYSDEVOP_ALLOC_IRQ_VECTOR => {
            physdev_op(current, [operation.into(), structure, 0, 0, 0, 0])
        }
        _ => Errno::NOSYS.into(),
    }
}

/// What only who owns the machine's devices may ask for.
fn machine_op(current: &mut Current<'_>, command: u32, at: u64) -> Result<()> {
    match command {
        PHYSDEVOP_APIC_READ => apic_read(current, GuestHandle::new(at)),
        // Pins are set up by setup_gsi, and by nothing else.
        PHYSDEVOP_APIC_WRITE => read_privileged::<Apic>(current, at).and(Err(Errno::NOSYS)),
        PHYSDEVOP_ALLOC_IRQ_VECTOR => irq_vector(current, GuestHandle::new(at)),
        PHYSDEVOP_SETUP_GSI => setup_gsi(current, GuestHandle::new(at)),
        PHYSDEVOP_MANAGE_PCI_ADD => {
            let call: ManagePci = read_privileged(current, at)?;
            irq::add_device(Sbdf::from_devfn(0, call.bus, call.devfn))
        }
        PHYSDEVOP_MANAGE_PCI_REMOVE => {
            let call: ManagePci = read_privileged(current, at)?;
            irq::remove_device(Sbdf::from_devfn(0, call.bus, call.devfn))
        }
        PHYSDEVOP_MANAGE_PCI_ADD_EXT => {
            let call: ManagePciExt = current.caller().read(GuestHandle::new(at))?;
            if call.is_extfn > 1 || call.is_virtfn > 1 {
                return Err(Errno::INVAL);
            }
            current.caller().require_privilege()?;
            irq::add_device(Sbdf::from_devfn(0, call.bus, call.devfn))
        }
        PHYSDEVOP_PCI_DEVICE_ADD => {
            let call: PciDeviceAdd = read_privileged(current, at)?;
            irq::add_device(Sbdf::from_devfn(call.seg, call.bus, call.devfn))
        }
        PHYSDEVOP_PCI_DEVICE_REMOVE => irq::remove_device(device(&read_privileged(current, at)?)),
        PHYSDEVOP_RESTORE_MSI => {
            let call: RestoreMsi = current.caller().read(GuestHandle::new(at))?;
            restore_messages(current, Sbdf::from_devfn(0, call.bus, call.devfn))
        }
        PHYSDEVOP_RESTORE_MSI_EXT => {
            let call: PciDevice = current.caller().read(GuestHandle::new(at))?;
            restore_messages(current, device(&call))
        }
        PHYSDEVOP_PREPARE_MSIX => irq::prepare_messages(device(&read_privileged(current, at)?), true),
        PHYSDEVOP_RELEASE_MSIX => irq::prepare_messages(device(&read_privileged(current, at)?), false),
        // No guest has a configuration space of the hypervisor's making, which would have to follow the reset.
        PHYSDEVOP_PCI_DEVICE_RESET => irq::require_device(device(&read_privileged::<PciDeviceReset>(current, at)?.dev)),
        PHYSDEVOP_PCI_MMCFG_RESERVED => pci_mmcfg_reserved(&read_if_privileged(current, at)?),
        // No debug port is in use, so there is nothing to save over its reset.
        PHYSDEVOP_DBGP_OP => read_if_privileged::<DbgpOp>(current, at).map(|_| ()),
        _ => Err(Errno::NOSYS),
    }
}

/// Copies an operation in, and refuses callers that do not own the machine's devices.
fn read_privileged<T>(current: &Current<'_>, at: u64) -> Result<T>
where
    T: zerocopy::FromBytes + zerocopy::IntoBytes + zerocopy::FromZeros,
{
    let caller = current.caller();
    let call = caller.read(GuestHandle::new(at))?;
    caller.require_privilege()?;
    Ok(call)
}

/// The same in the other order, in which some operations are checked.
fn read_if_privileged<T>(current: &Current<'_>, at: u64) -> Result<T>
where
    T: zerocopy::FromBytes + zerocopy::IntoBytes + zerocopy::FromZeros,
{
    let caller = current.caller();
    caller.require_privilege()?;
    caller.read(GuestHandle::new(at))
}

/// Anybody may learn which devices there are; only who owns them has their messages programmed anew.
fn restore_messages(current: &Current<'_>, function: Sbdf) -> Result<()> {
    irq::require_device(function)?;
    current.caller().require_privilege()?;
    irq::restore_messages(function)
}

fn device(call: &PciDevice) -> Sbdf {
    Sbdf::from_devfn(call.seg, call.bus, call.devfn)
}

fn eoi(current: &Current<'_>, handle: GuestHandle<Eoi>) -> Result<()> {
    let call = current.caller().read(handle)?;
    let port = current.domain.evtchn.pirq_port(call.irq).filter(|_| irq::unmasks_when_done(current.domain.id));
    if let Some(port) = port {
        let raised = current.domain.evtchn.unmask(current.machine(), port)?;
        current.hypervisor.follow(current.domain, raised);
    }
    irq::done(current.domain.id, call.irq)
}

fn irq_status_query(current: &Current<'_>, handle: GuestHandle<IrqStatusQuery>) -> Result<()> {
    let caller = current.caller();
    let mut call = caller.read(handle)?;
    if call.irq >= current.domain.evtchn.pirqs() {
        return Err(Errno::INVAL);
    }
    // Linux asks before it binds; a number without a line needs nothing.
    let needs_eoi = irq::needs_eoi(current.domain.id, call.irq).unwrap_or(false);
    call.flags = if needs_eoi { XENIRQSTAT_NEEDS_EOI } else { 0 };
    caller.write(handle, &call)
}

/// With `unmasks`, PHYSDEVOP_eoi unmasks the line's port from now on.
fn pirq_eoi_gmfn(current: &Current<'_>, handle: GuestHandle<PirqEoiGmfn>, unmasks: bool) -> Result<()> {
    let call = current.caller().read(handle)?;
    irq::register_eoi_map(current.hypervisor, current.domain, Mfn(call.gmfn), unmasks)
}

fn set_iopl(current: &mut Current<'_>, handle: GuestHandle<SetIopl>) -> Result<()> {
    let call = current.caller().read(handle)?;
    if call.iopl > 3 {
        return Err(Errno::INVAL);
    }
    current.state.iopl = call.iopl as u8;
    Ok(())
}

fn set_iobitmap(current: &mut Current<'_>, handle: GuestHandle<SetIobitmap>) -> Result<()> {
    let call = current.caller().read(handle)?;
    // Whether the bitmap is mapped is seen when a port is looked up in it.
    if call.nr_ports > PORTS || !current.machine().is_guest_range(call.bitmap.address(), 0) {
        return Err(Errno::INVAL);
    }
    current.state.io_bitmap = (call.bitmap.address(), call.nr_ports);
    Ok(())
}

fn apic_read(current: &Current<'_>, handle: GuestHandle<Apic>) -> Result<()> {
    let mut call: Apic = read_privileged(current, handle.address())?;
    let register = u8::try_from(call.reg).map_err(|_| Errno::INVAL)?;
    call.value = pins::read_register(call.apic_physbase, register)?;
    current.caller().write(handle, &call)
}

/// Vectors are the hypervisor's own business: dom0 is told its interrupt's number.
fn irq_vector(current: &Current<'_>, handle: GuestHandle<Irq>) -> Result<()> {
    let mut call: Irq = read_privileged(current, handle.address())?;
    call.vector = call.irq;
    current.caller().write(handle, &call)
}

fn setup_gsi(current: &Current<'_>, handle: GuestHandle<SetupGsi>) -> Result<()> {
    let call = current.caller().read(handle)?;
    let gsi = u32::try_from(call.gsi).ok().filter(|gsi| *gsi < irq::pins()).ok_or(Errno::INVAL)?;
    current.caller().require_privilege()?;
    let trigger = if call.triggering != 0 { Trigger::Level } else { Trigger::Edge };
    let polarity = if call.polarity != 0 { Polarity::ActiveLow } else { Polarity::ActiveHigh };
    irq::set_up(gsi, trigger, polarity)
}

fn map_pirq(current: &Current<'_>, handle: GuestHandle<MapPirq>) -> Result<()> {
    let caller = current.caller();
    let mut call = caller.read(handle)?;
    if call.r#type == MAP_PIRQ_TYPE_MULTI_MSI && call.table_base != 0 {
        return Err(Errno::INVAL);
    }
    let mapped = map_line(current, &call);
    if let Ok(pirq) = mapped {
        call.pirq = pirq as i32;
    }
    // Whoever could not be told of a refusal is told of that instead.
    caller.write(handle, &call)?;
    mapped.map(|_| ())
}

/// The number that the line has now in the domain.
fn map_line(current: &Current<'_>, call: &MapPirq) -> Result<u32> {
    let caller = current.caller();
    let target = caller.any_domain(call.domid)?;
    caller.require_privilege()?;
    match call.r#type {
        MAP_PIRQ_TYPE_GSI => {
            let wanted = u32::try_from(call.pirq).ok();
            let index = u32::try_from(call.index).map_err(|_| Errno::INVAL)?;
            // The toolstack names an interrupt of another domain by its own number for it.
            let gsi = irq::gsi_of(current.domain.id, index).unwrap_or(index);
            if gsi < irq::pins() && !current.domain.rights.lock().may_bind(gsi) {
                return Err(Errno::PERM);
            }
            let pirq = irq::map_gsi(&target, gsi, wanted)?;
            target.rights.lock().change_irqs(gsi, gsi, true)?;
            Ok(pirq)
        }
        MAP_PIRQ_TYPE_MSI | MAP_PIRQ_TYPE_MSI_SEG | MAP_PIRQ_TYPE_MULTI_MSI => map_messages(call, &target),
        _ => Err(Errno::INVAL),
    }
}

fn map_messages(call: &MapPirq, target: &Arc<Domain<X86>>) -> Result<u32> {
    // Numbers for messages are ours to choose; a caller that insists on one could only be a device model.
    if call.pirq >= 0 {
        return Err(Errno::INVAL);
    }
    let segment = if call.r#type == MAP_PIRQ_TYPE_MSI { 0 } else { (call.bus >> 16) as u16 };
    let function = Sbdf::from_devfn(segment, call.bus as u8, call.devfn as u8);
    let is_multiple = call.r#type == MAP_PIRQ_TYPE_MULTI_MSI;
    if is_multiple && !(1..=MAX_MESSAGES).contains(&call.entry_nr) {
        return Err(if call.entry_nr <= 0 { Errno::INVAL } else { Errno::DOM });
    }
    let msix = if is_multiple || call.table_base == 0 {
        None
    } else {
        Some((u16::try_from(call.entry_nr).map_err(|_| Errno::INVAL)?, call.table_base))
    };
    let count = if is_multiple { call.entry_nr as u32 } else { 1 };
    irq::map_messages(target, irq::Wanted { function, msix, count })
}

fn unmap_pirq(current: &Current<'_>, handle: GuestHandle<UnmapPirq>) -> Result<()> {
    let caller = current.caller();
    let call = caller.read(handle)?;
    let target = caller.any_domain(call.domid)?;
    caller.require_privilege()?;
    let pirq = u32::try_from(call.pirq).map_err(|_| Errno::INVAL)?;
    let gsi = irq::gsi_of(target.id, pirq);
    irq::unmap(target.id, pirq)?;
    // The right came with the number; the caller keeps its own, from which it gives.
    match gsi.filter(|_| target.id != current.domain.id) {
        Some(gsi) => target.rights.lock().change_irqs(gsi, gsi, false),
        None => Ok(()),
    }
}

fn get_free_pirq(current: &Current<'_>, handle: GuestHandle<GetFreePirq>) -> Result<()> {
    let mut call = current.caller().read(handle)?;
    call.pirq = irq::reserve_number(current.domain, call.r#type == MAP_PIRQ_TYPE_GSI)?;
    current.caller().write(handle, &call)
}

fn pci_mmcfg_reserved(call: &PciMmcfgReserved) -> Result<()> {
    if call.flags & XEN_PCI_MMCFG_RESERVED == 0 {
        return match pci::config().withdraw(call.segment, call.address) {
            Err(Errno::NOENT) => Err(Errno::NODEV),
            result => result,
        };
    }
    let entry =
        McfgEntry { address: call.address, segment: call.segment, first_bus: call.start_bus, last_bus: call.end_bus };
    match pci::config().announce(entry) {
        Err(Errno::EXIST) => Ok(()),
        result => result,
    }
}
