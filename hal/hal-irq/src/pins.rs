//! The machine's interrupt pins, by global number (GSI), over all I/O APICs.

use crate::acpi::Madt;
use crate::ioapic::IoApic;
use crate::{cpus, pic};
use alloc::vec::Vec;
use hal::io::{IoRegion, map_io};
use platform::sync::Mutex;
use spin::Once;
use types::{CpuId, Errno, Result};
use x86_defs::apic::{Polarity, RedirectionEntry, Trigger};

struct Pins {
    madt: Madt,
    apics: Vec<Mutex<IoApic<IoRegion>>>,
    count: u32,
}

static PINS: Once<Pins> = Once::new();

/// Takes over the I/O APICs and masks them, and the 8259s. Returns how many pins there are. Once, on the boot CPU.
pub fn init(madt: &Madt) -> u32 {
    pic::mask_all();
    let pins = PINS.call_once(|| {
        let mut apics = Vec::new();
        let mut count = 0;
        for entry in &madt.io_apics {
            let apic = map_io(entry.address, 0x1000, true).ok().and_then(|region| IoApic::new(*entry, region));
            let Some(apic) = apic else {
                log::warn!("I/O APIC {} at {:#x} does not answer; its interrupts are lost", entry.id, entry.address);
                continue;
            };
            let end = entry.gsi_base.saturating_add(apic.pins());
            log::info!("I/O APIC {} at {:#x}: GSI {} to {}", entry.id, entry.address, entry.gsi_base, end - 1);
            count = count.max(end);
            apics.push(Mutex::new(apic));
        }
        Pins { madt: madt.clone(), apics, count }
    });
    pins.count
}

fn with<T>(gsi: u32, act: impl FnOnce(&IoApic<IoRegion>, u32) -> T) -> Result<T> {
    let pins = PINS.get().ok_or(Errno::NXIO)?;
    for apic in &pins.apics {
        let apic = apic.lock();
        if let Some(pin) = apic.pin(gsi) {
            return Ok(act(&apic, pin));
        }
    }
    Err(Errno::NXIO)
}

/// One more than the highest GSI.
pub fn count() -> u32 {
    PINS.get().map_or(0, |pins| pins.count)
}

/// Whether the machine has that pin.
pub fn exists(gsi: u32) -> bool {
    with(gsi, |_, _| ()).is_ok()
}

/// Points a pin at a vector of a CPU. `NXIO` if there is no such pin, `ENODEV` if no such CPU, `ERANGE` if its APIC id does not
/// fit into 8 bits.
pub fn route(gsi: u32, vector: u8, cpu: CpuId, trigger: Trigger, polarity: Polarity, masked: bool) -> Result<()> {
    let apic_id = cpus::apic_id(cpu).ok_or(Errno::NODEV)?;
    let apic_id = u8::try_from(apic_id).map_err(|_| Errno::RANGE)?;
    with(gsi, |apic, pin| apic.route(pin, vector, apic_id, trigger, polarity, masked))
}

/// Masks or unmasks a pin; `NXIO`.
pub fn set_mask(gsi: u32, masked: bool) -> Result<()> {
    with(gsi, |apic, pin| apic.set_mask(pin, masked))
}

/// Ends a level interrupt at its I/O APIC, where the local APIC's EOI did not (it was for another vector, or came before the
/// pin was rerouted); `NXIO`.
pub fn end(gsi: u32) -> Result<()> {
    with(gsi, IoApic::end)
}

/// A pin's entry; `NXIO`.
pub fn entry(gsi: u32) -> Result<RedirectionEntry> {
    with(gsi, IoApic::entry)
}

/// Reads a register of the I/O APIC at that physical address (`PHYSDEVOP_apic_read`); `EINVAL` if there is none.
pub fn read_register(address: u64, index: u8) -> Result<u32> {
    let pins = PINS.get().ok_or(Errno::INVAL)?;
    let found = pins.apics.iter().map(|apic| apic.lock()).find(|apic| apic.description().address == address);
    found.map(|apic| apic.read(index)).ok_or(Errno::INVAL)
}

/// Where an ISA interrupt arrives: GSI, trigger, polarity.
pub fn isa_irq(irq: u8) -> (u32, Trigger, Polarity) {
    PINS.get().map_or((irq.into(), Trigger::Edge, Polarity::ActiveHigh), |pins| pins.madt.isa_irq(irq))
}

/// Trigger and polarity of a pin unless dom0 says otherwise.
pub fn default_mode(gsi: u32) -> (Trigger, Polarity) {
    PINS.get().map_or((Trigger::Level, Polarity::ActiveLow), |pins| pins.madt.default_mode(gsi))
}

/// Masks every pin, for a reset.
pub fn mask_all() {
    for gsi in 0..count() {
        let _ = set_mask(gsi, true);
    }
}
