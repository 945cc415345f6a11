//! Physical interrupts: from a device to the event channel that a guest has bound to it (a PIRQ), or to the hypervisor.
//!
//! Edge interrupts and messages are over once they have arrived. A level interrupt is masked at its pin until the guest says
//! that it has served the device (PHYSDEVOP_eoi); if the device still asserts it then, it comes again by itself.

mod controller;
mod devices;
mod eoi_map;
mod line;
mod lines;
mod names;
#[cfg(test)]
mod tests;

use crate::machine::X86;
use alloc::vec::Vec;
use controller::Hardware;
use devices::Devices;
pub use devices::Wanted;
use domain::{Domain, Hypervisor};
use eoi_map::EoiMaps;
use hal_irq::pci::Sbdf;
use line::{Own, User};
use lines::{Arrival, Lines, Namer};
use platform::sync::RwLock;
use spin::Once;
use types::{CpuId, DomId, Errno, Mfn, Result, VcpuId};
use x86_defs::apic::{Polarity, Trigger};

/// Numbers for lines: as many as the control domain can name.
const LINES: u32 = domain::PIRQS;
/// Numbers that a guest can have beside those of pins, as by Xen's default (`extra_guest_irqs=`).
const EXTRA: u32 = 32;

/// All that is known of physical interrupts.
struct Interrupts {
    lines: Lines<Hardware>,
    devices: Devices,
    eoi_maps: EoiMaps,
    /// Handlers inside the hypervisor; [`Own`] is the index.
    handlers: RwLock<Vec<Handler>>,
    /// APIC id and ACPI's number of each processor.
    processors: Vec<(u32, u32)>,
}

/// What the hypervisor does when a line of its own interrupts.
pub type Handler = fn(&Hypervisor<X86>);

static INTERRUPTS: Once<Interrupts> = Once::new();

/// Takes the machine's lines over, all masked. Once, before any CPU but the first runs.
pub fn init(hypervisor: &Hypervisor<X86>, machine: &hal_irq::Machine) {
    let cpus = hypervisor.cpus.len() as u32;
    INTERRUPTS.call_once(|| Interrupts {
        lines: Lines::new(Hardware, machine.gsis, LINES, cpus),
        devices: Devices::default(),
        eoi_maps: EoiMaps::default(),
        handlers: RwLock::default(),
        processors: machine.madt.cpus.iter().map(|cpu| (cpu.apic_id, cpu.acpi_id)).collect(),
    });
}

fn interrupts() -> Result<&'static Interrupts> {
    INTERRUPTS.get().ok_or(Errno::NODEV)
}

/// Handles a device's vector on the CPU on which it arrived.
pub fn handle(hypervisor: &Hypervisor<X86>, vector: u8) {
    let Some(interrupts) = INTERRUPTS.get() else {
        return hal_irq::lapic::eoi();
    };
    match interrupts.lines.arrived(hal_cpu::cpu_id(), vector) {
        Arrival::Guest { domain, pirq } => {
            if let Some(domain) = hypervisor.domains.get(domain) {
                hypervisor.follow(&domain, domain.evtchn.raise_pirq(hypervisor.machine(), pirq));
            }
        }
        Arrival::Own(Own(index)) => {
            let handler = interrupts.handlers.read().get(index as usize).copied();
            if let Some(handler) = handler {
                handler(hypervisor);
            }
        }
        Arrival::Nobody => log::debug!("CPU{}: vector {vector:#04x} is nobody's", hal_cpu::cpu_id().0),
    }
}

/// Lets the hypervisor handle an ISA interrupt itself; no guest gets it.
///
/// # Errors
/// `EINVAL`: there is no such pin. `EBUSY`, `ENOSPC`.
pub fn take_isa(irq: u8, handler: Handler) -> Result<()> {
    let interrupts = interrupts()?;
    let (gsi, trigger, polarity) = hal_irq::pins::isa_irq(irq);
    let index = {
        let mut handlers = interrupts.handlers.write();
        handlers.push(handler);
        handlers.len() as u32 - 1
    };
    interrupts.lines.take(gsi, (trigger, polarity), CpuId(0), Own(index))
}

/// Whether no guest may map a frame writably: it holds a device's table of messages.
pub fn is_read_only(mfn: Mfn) -> bool {
    INTERRUPTS.get().is_some_and(|interrupts| interrupts.devices.is_read_only(mfn))
}

/// The CPU on which a domain's interrupts are best taken: where its first vCPU runs.
fn near(domain: &Domain<X86>) -> CpuId {
    domain.vcpu(VcpuId(0)).and_then(|vcpu| vcpu.running_on()).unwrap_or(CpuId(0))
}

/// Starts a line that a domain has bound to an event channel (EVTCHNOP_bind_pirq). Sharing with other domains is not possible,
/// whether offered or not.
///
/// # Errors
/// `EPERM`: the domain has not the right to the line, or has no such line; then `EINVAL` for the control domain. `EBUSY`:
/// somebody else uses it. `ENOSPC`: no vector is left.
pub fn bound(hypervisor: &Hypervisor<X86>, domain: &Domain<X86>, pirq: u32, _share: bool) -> Result<()> {
    let interrupts = interrupts()?;
    let none = if domain.is_privileged() { Errno::INVAL } else { Errno::PERM };
    let line = interrupts.lines.number_of(domain.id, pirq).ok_or(none)?;
    // A message comes from a device that was given to the domain.
    if line < interrupts.lines.pins() && !domain.rights.lock().may_bind(line) {
        return Err(Errno::PERM);
    }
    let needs_eoi = interrupts.lines.bind(domain.id, pirq, near(domain))?;
    interrupts.eoi_maps.set(hypervisor.machine(), domain.id, pirq, needs_eoi);
    Ok(())
}

/// Silences a line that a domain has bound no more.
pub fn unbound(hypervisor: &Hypervisor<X86>, domain: &Domain<X86>, pirq: u32) {
    if let Ok(interrupts) = interrupts() {
        interrupts.lines.unbind(domain.id, pirq);
        interrupts.eoi_maps.set(hypervisor.machine(), domain.id, pirq, false);
    }
}

/// A guest has unmasked the port of a line. That is not yet the end of an interrupt: who has to tell of one does so by
/// PHYSDEVOP_eoi, as `needs_eoi` and the page of pirq_eoi_gmfn say.
pub fn unmasked(_hypervisor: &Hypervisor<X86>, _domain: &Domain<X86>, _pirq: u32) {}

/// The vCPU that a line's port belongs to has changed: its interrupts go to where that one runs.
pub fn moved(domain: &Domain<X86>, pirq: u32, vcpu: VcpuId) {
    let cpu = domain.vcpu(vcpu).and_then(|vcpu| vcpu.running_on());
    if let (Ok(interrupts), Some(cpu)) = (interrupts(), cpu) {
        interrupts.lines.move_to(domain.id, pirq, cpu);
    }
}

/// A guest is done with an interrupt (PHYSDEVOP_eoi).
///
/// # Errors
/// `EINVAL`: it has no such line.
pub fn done(domain: DomId, pirq: u32) -> Result<()> {
    interrupts()?.lines.done(domain, pirq)
}

/// Ends all of a domain's level interrupts whose ports are not masked (PHYSDEVOP_IRQ_UNMASK_NOTIFY).
pub fn done_unmasked(hypervisor: &Hypervisor<X86>, domain: &Domain<X86>) {
    let Ok(interrupts) = interrupts() else { return };
    for number in 0..interrupts.lines.count() {
        let Some(pirq) = interrupts.lines.name_of(number, domain.id) else {
            continue;
        };
        let port = domain.evtchn.pirq_port(pirq);
        if port.is_some_and(|port| !domain.evtchn.is_masked(hypervisor.machine(), port)) {
            // The name was there a moment ago; without it there is nothing to end.
            let _ = interrupts.lines.done(domain.id, pirq);
        }
    }
}

/// Whether a guest has to say when it is done with an interrupt of a line.
///
/// # Errors
/// `EINVAL`: it has no such line.
pub fn needs_eoi(domain: DomId, pirq: u32) -> Result<bool> {
    interrupts()?.lines.needs_done(domain, pirq)
}

/// Sets a pin's mode (PHYSDEVOP_setup_gsi).
///
/// # Errors
/// `EINVAL`: no such pin. `EEXIST`: it was set, or is in use.
pub fn set_up(gsi: u32, trigger: Trigger, polarity: Polarity) -> Result<()> {
    interrupts()?.lines.set_up(gsi, trigger, polarity)
}

/// Number of pins: their lines come first.
pub fn pins() -> u32 {
    interrupts().map_or(0, |interrupts| interrupts.lines.pins())
}

/// How many numbers for lines a domain can have.
pub fn numbers(privileged: bool) -> u32 {
    if privileged { LINES } else { (pins() + EXTRA).min(LINES) }
}

/// Gives a pin a number in a domain (PHYSDEVOP_map_pirq): the one wanted, else the one it has, else its own.
///
/// # Errors
/// `EINVAL`: no such pin or number. `EEXIST`: it has another number. `ENOMEM`.
pub fn map_gsi(domain: &Domain<X86>, gsi: u32, wanted: Option<u32>) -> Result<u32> {
    let (domain, limit) = (domain.id, domain.evtchn.pirqs());
    let lines = &interrupts()?.lines;
    if gsi == 0 || gsi >= lines.pins() {
        return Err(Errno::INVAL);
    }
    let has = lines.name_of(gsi, domain);
    let pirq = match (wanted, has) {
        (Some(wanted), Some(has)) if wanted != has => return Err(Errno::EXIST),
        (Some(wanted), _) => wanted,
        (None, has) => has.unwrap_or(gsi),
    };
    if pirq >= limit {
        return Err(Errno::INVAL);
    }
    if lines.number_of(domain, pirq).is_some_and(|number| number != gsi) {
        return Err(Errno::EXIST);
    }
    lines.name_pin(gsi, domain, pirq)?;
    Ok(pirq)
}

/// The pin that a domain calls `pirq`; `None` for messages and unknown numbers.
pub fn gsi_of(domain: DomId, pirq: u32) -> Option<u32> {
    let lines = &interrupts().ok()?.lines;
    lines.number_of(domain, pirq).filter(|number| *number < lines.pins())
}

/// Makes a device send messages to a domain (PHYSDEVOP_map_pirq); the domain's number for the first.
///
/// # Errors
/// See [`Devices::map`].
pub fn map_messages(domain: &Domain<X86>, wanted: Wanted) -> Result<u32> {
    let interrupts = interrupts()?;
    let namer = Namer { domain: domain.id, limit: domain.evtchn.pirqs() };
    interrupts.devices.map(&interrupts.lines, namer, near(domain), wanted)
}

/// Takes a domain's number for a line away (PHYSDEVOP_unmap_pirq).
///
/// # Errors
/// `EINVAL`: there is no such number.
pub fn unmap(domain: DomId, pirq: u32) -> Result<()> {
    let interrupts = interrupts()?;
    let number = interrupts.lines.number_of(domain, pirq).ok_or(Errno::INVAL)?;
    interrupts.lines.remove_name(domain, pirq)?;
    if number >= interrupts.lines.pins() {
        interrupts.devices.collect(&interrupts.lines);
    }
    Ok(())
}

/// Puts a number aside that a domain has for no line yet, one for a pin or for a message (PHYSDEVOP_get_free_pirq).
///
/// # Errors
/// `ENOSPC`, `ENOMEM`.
pub fn reserve_number(domain: &Domain<X86>, for_pin: bool) -> Result<u32> {
    interrupts()?.lines.reserve(domain.id, domain.evtchn.pirqs(), for_pin)
}

/// Notes a PCI function.
///
/// # Errors
/// `ENODEV` before start-up has come so far.
pub fn add_device(function: Sbdf) -> Result<()> {
    interrupts()?.devices.add(function);
    Ok(())
}

/// Refuses PCI functions that nobody has announced.
///
/// # Errors
/// `ENODEV`.
pub fn require_device(function: Sbdf) -> Result<()> {
    if interrupts()?.devices.is_present(function) { Ok(()) } else { Err(Errno::NODEV) }
}

/// Forgets a PCI function.
///
/// # Errors
/// `ENODEV` if it is not known.
pub fn remove_device(function: Sbdf) -> Result<()> {
    let interrupts = interrupts()?;
    interrupts.devices.remove(&interrupts.lines, function)
}

/// Programs a function's messages anew.
///
/// # Errors
/// `ENODEV` if it is not known.
pub fn restore_messages(function: Sbdf) -> Result<()> {
    let interrupts = interrupts()?;
    interrupts.devices.restore(&interrupts.lines, function)
}

/// Protects a function's table of messages for another domain, or ends that.
///
/// # Errors
/// See [`Devices::prepare`].
pub fn prepare_messages(function: Sbdf, on: bool) -> Result<()> {
    interrupts()?.devices.prepare(function, on)
}

/// Registers the page in which a domain sees which of its lines need PHYSDEVOP_eoi (PHYSDEVOP_pirq_eoi_gmfn_v2). With
/// `unmasks` that call unmasks the line's port too (PHYSDEVOP_pirq_eoi_gmfn_v1).
///
/// # Errors
/// `EBUSY`: it has one. `EINVAL`: the frame is not the domain's, or in another use.
pub fn register_eoi_map(hypervisor: &Hypervisor<X86>, domain: &Domain<X86>, mfn: Mfn, unmasks: bool) -> Result<()> {
    let interrupts = interrupts()?;
    interrupts.eoi_maps.register(hypervisor, domain.id, mfn, unmasks)?;
    for number in 0..interrupts.lines.count() {
        if let Some(pirq) = interrupts.lines.name_of(number, domain.id) {
            let needed = interrupts.lines.needs_done(domain.id, pirq).unwrap_or(false);
            interrupts.eoi_maps.set(hypervisor.machine(), domain.id, pirq, needed);
        }
    }
    Ok(())
}

/// Whether PHYSDEVOP_eoi is to unmask the line's port too.
pub fn unmasks_when_done(domain: DomId) -> bool {
    interrupts().is_ok_and(|interrupts| interrupts.eoi_maps.unmasks(domain))
}

/// Takes everything back from a dying domain: its lines, and the page it has registered.
pub fn release(hypervisor: &Hypervisor<X86>, domain: DomId) {
    if let Ok(interrupts) = interrupts() {
        interrupts.lines.remove_domain(domain);
        interrupts.devices.collect(&interrupts.lines);
        interrupts.eoi_maps.release(hypervisor, domain);
    }
}

/// ACPI's number of the processor with an APIC id.
pub fn acpi_id(apic_id: u32) -> Option<u32> {
    let processors = &interrupts().ok()?.processors;
    processors.iter().find(|(id, _)| *id == apic_id).map(|(_, acpi_id)| *acpi_id)
}

/// Logs all lines in use, for the debug key `i`.
pub fn dump() {
    let Ok(interrupts) = interrupts() else { return };
    for number in 0..interrupts.lines.count() {
        let Some(line) = interrupts.lines.summary(number).filter(|line| line.vector.is_some()) else {
            continue;
        };
        let kind = match (line.is_pin, line.is_level) {
            (true, true) => "level",
            (true, false) => "edge",
            (false, _) => "message",
        };
        let (cpu, vector) = line.vector.map_or((0, 0), |(cpu, vector)| (cpu.0, vector));
        let waits = if line.waits { ", waits for the guest" } else { "" };
        match line.user {
            User::None => log::info!("IRQ {number}: {kind}, CPU{cpu} vector {vector:#04x}, unused"),
            User::Own(_) => log::info!("IRQ {number}: {kind}, CPU{cpu} vector {vector:#04x}, the hypervisor's"),
            User::Guest { domain, pirq } => {
                log::info!("IRQ {number}: {kind}, CPU{cpu} vector {vector:#04x}, {domain} pirq {pirq}{waits}");
            }
        }
    }
}
