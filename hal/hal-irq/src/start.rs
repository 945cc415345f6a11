//! Taking the machine over, in order.

use crate::acpi::{AcpiError, Fadt, Hpet, Madt, McfgEntry, Proximity, Tables};
use crate::firmware::Firmware;
use crate::time::Reference;
use crate::{cpus, ipi, lapic, pins, power, time};
use alloc::vec::Vec;
use core::fmt;
use types::{CpuId, Errno};

/// What the command line decides.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Use x2APIC mode where the CPU has it (`x2apic=`).
    pub x2apic: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options { x2apic: true }
    }
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Machine {
    /// All tables.
    pub tables: Tables,
    /// CPUs and interrupt controllers.
    pub madt: Madt,
    /// Fixed hardware; all absent if the table is.
    pub fadt: Fadt,
    /// The HPET.
    pub hpet: Option<Hpet>,
    /// Where firmware says that PCI configuration space is mapped; not used before `pci::config().announce(..)`.
    pub mcfg: Vec<McfgEntry>,
    /// Which CPUs and memory are near to each other.
    pub proximity: Proximity,
    /// An IOMMU is described (DMAR or IVRS).
    pub has_iommu: bool,
    /// Number of interrupt pins (GSIs).
    pub gsis: u32,
    /// Frequency of the TSC, in Hz.
    pub tsc_hz: u64,
}

/// Why the machine cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StartError {
    /// A table that cannot be done without is missing or damaged.
    Acpi(AcpiError),
    /// The local APIC cannot be mapped.
    Lapic(Errno),
    /// No clock to measure the TSC with.
    Clock(Errno),
}

impl From<AcpiError> for StartError {
    fn from(error: AcpiError) -> StartError {
        StartError::Acpi(error)
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Acpi(error) => error.fmt(f),
            StartError::Lapic(error) => write!(f, "local APIC: {}; turn the APIC on in firmware setup", error.text()),
            StartError::Clock(error) => {
                write!(
                    f,
                    "no clock (HPET, PM timer or PIT) to measure the TSC with: {}; turn the HPET on",
                    error.text()
                )
            }
        }
    }
}

/// A table that can be done without: damage is logged, absence is not.
fn optional<T>(table: Result<T, AcpiError>) -> Option<T> {
    if let Err(error) = &table {
        if !matches!(error, AcpiError::Missing(_)) {
            log::warn!("{error}");
        }
    }
    table.ok()
}

/// The nodes that SRAT and SLIT describe; one node without SRAT, or with one that is damaged.
fn proximity(tables: &Tables) -> Proximity {
    let Some(srat) = optional(tables.srat(&Firmware)) else {
        return Proximity::ONE;
    };
    let slit = optional(tables.slit(&Firmware));
    let found = optional(Proximity::new(&srat, slit.as_ref())).unwrap_or(Proximity::ONE);
    for memory in found.nodes.memory() {
        let (first, last) = (memory.first.address(), memory.end.address() - 1);
        log::info!("NUMA: node {}: [{first:016x}, {last:016x}]", memory.node);
    }
    found
}

/// Takes over the boot CPU's local APIC, the I/O APICs, the 8259s and the clock, and notes the power registers. `rsdp` is the
/// root pointer as the boot loader passed it; without it the BIOS areas are searched. Takes about 30 ms. Once, on the boot
/// CPU, with interrupts off.
///
/// # Errors
/// No usable root table or MADT, no local APIC, or no clock.
pub fn init(rsdp: Option<&[u8]>, options: Options) -> Result<Machine, StartError> {
    let memory = Firmware;
    let tables = match rsdp {
        Some(pointer) => Tables::from_root_pointer(&memory, pointer)?,
        None => Tables::discover(&memory, None)?,
    };
    let madt = tables.madt(&memory)?;
    let fadt = optional(tables.fadt(&memory)).unwrap_or_default();
    let hpet = optional(tables.hpet(&memory));
    let mcfg = optional(tables.mcfg(&memory)).unwrap_or_default();
    let proximity = proximity(&tables);
    let has_iommu = tables.has(*b"DMAR") || tables.has(*b"IVRS");
    power::init(&fadt);
    lapic::init_bsp(madt.lapic_address, options.x2apic).map_err(StartError::Lapic)?;
    cpus::set_apic_id(CpuId(0), lapic::id());
    cpus::set_online(CpuId(0));
    ipi::init();
    let gsis = pins::init(&madt);
    let reference = Reference::choose(hpet, Some(&fadt));
    let (tsc_hz, timer_hz) = time::init(reference).map_err(StartError::Clock)?;
    log::info!(
        "APIC {}, {} pins; TSC {}.{:03} MHz by {}, timer {}",
        if lapic::is_x2apic() { "x2APIC" } else { "xAPIC" },
        gsis,
        tsc_hz / 1_000_000,
        tsc_hz / 1000 % 1000,
        reference.name(),
        if timer_hz == 0 { "by TSC deadline" } else { "of its own" },
    );
    Ok(Machine { tables, madt, fadt, hpet, mcfg, proximity, has_iommu, gsis, tsc_hz })
}
