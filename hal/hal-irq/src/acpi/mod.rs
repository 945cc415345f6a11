//! ACPI's static tables (ACPI 6.5, chapter 5). AML is left to dom0.
//!
//! Parsing is safe code over bytes that were copied out of physical memory; nothing in a table can make it panic.

mod bytes;
mod error;
mod fadt;
mod madt;
mod misc;
mod proximity;
mod tables;

pub use error::AcpiError;
pub use fadt::{Fadt, GenericAddress, Space};
pub use madt::{IoApicEntry, LocalApic, LocalNmi, Madt, NmiSource, Override};
pub use misc::{Hpet, McfgEntry, parse_hpet, parse_mcfg};
pub use proximity::{Proximity, Slit, Srat, SratCpu, SratMemory};
pub use tables::{PhysicalMemory, TableEntry, Tables};

/// Name of a table: four ASCII letters.
pub type Signature = [u8; 4];
