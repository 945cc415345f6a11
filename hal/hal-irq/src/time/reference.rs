//! Counters of known frequency: HPET, ACPI power-management timer, PIT.

use crate::acpi::{Fadt, Hpet};
use hal::io::{IoRegion, map_io};
use hal::ports;
use platform::sync::Mutex;

/// Frequency of the PIT, in Hz (8254 in a PC).
const PIT_HZ: u64 = 1_193_182;
/// Frequency of the power-management timer, in Hz (ACPI 6.5, 4.8.2.1).
const PM_TIMER_HZ: u64 = 3_579_545;
/// HPET registers: capabilities and period (HPET 1.0a, 2.3).
const HPET_CAPABILITIES: usize = 0x000;
const HPET_CONFIGURATION: usize = 0x010;
const HPET_COUNTER: usize = 0x0f0;
const FEMTOSECONDS: u64 = 1_000_000_000_000_000;

/// A counter of known frequency.
#[derive(Clone, Copy, Debug)]
pub enum Reference {
    /// The HPET's main counter.
    Hpet {
        /// Its registers.
        region: IoRegion,
        /// Frequency, in Hz.
        hz: u64,
        /// 64 or 32.
        bits: u32,
    },
    /// The power-management timer.
    PmTimer {
        /// Its port.
        port: u16,
        /// 32 or 24.
        bits: u32,
    },
    /// Channel 2 of the PIT, counting through 65536 again and again.
    Pit,
}

/// Held between latching the PIT and reading it.
static PIT: Mutex<()> = Mutex::new(());

impl Reference {
    /// The best that the machine has and that runs.
    pub fn choose(hpet: Option<Hpet>, fadt: Option<&Fadt>) -> Reference {
        let found = hpet.and_then(Reference::hpet).or_else(|| fadt.and_then(Reference::pm_timer));
        found.unwrap_or_else(|| {
            start_pit();
            Reference::Pit
        })
    }

    fn hpet(hpet: Hpet) -> Option<Reference> {
        let region = map_io(hpet.address, 0x400, true).ok()?;
        let capabilities = region.read64(HPET_CAPABILITIES);
        let period = capabilities >> 32;
        // The specification allows up to 100 ns.
        if !(100_000..=100_000_000).contains(&period) {
            return None;
        }
        // On, no legacy replacement of the PIT's and the RTC's interrupts.
        let configuration = region.read64(HPET_CONFIGURATION);
        region.write64(HPET_CONFIGURATION, configuration & !2 | 1);
        let bits = if capabilities >> 13 & 1 != 0 { 64 } else { 32 };
        let counter = Reference::Hpet { region, hz: (FEMTOSECONDS + period / 2) / period, bits };
        counter.runs().then_some(counter)
    }

    fn pm_timer(fadt: &Fadt) -> Option<Reference> {
        let port = fadt.pm_timer?.as_port()?;
        let counter = Reference::PmTimer { port, bits: if fadt.pm_timer_32_bit { 32 } else { 24 } };
        counter.runs().then_some(counter)
    }

    fn runs(&self) -> bool {
        let first = self.read();
        (0..100_000).any(|_| self.read() != first)
    }

    /// Frequency, in Hz.
    pub fn hz(&self) -> u64 {
        match self {
            Reference::Hpet { hz, .. } => *hz,
            Reference::PmTimer { .. } => PM_TIMER_HZ,
            Reference::Pit => PIT_HZ,
        }
    }

    /// Bits of the counter.
    pub fn bits(&self) -> u32 {
        match self {
            Reference::Hpet { bits, .. } | Reference::PmTimer { bits, .. } => *bits,
            Reference::Pit => 16,
        }
    }

    /// Its name in log lines and in `XENPF`'s and `xl`'s answers.
    pub fn name(&self) -> &'static str {
        match self {
            Reference::Hpet { .. } => "HPET",
            Reference::PmTimer { .. } => "ACPI PM timer",
            Reference::Pit => "PIT",
        }
    }

    /// What it reads now; it counts up.
    pub fn read(&self) -> u64 {
        match self {
            Reference::Hpet { region, bits: 64, .. } => region.read64(HPET_COUNTER),
            Reference::Hpet { region, .. } => region.read32(HPET_COUNTER).into(),
            Reference::PmTimer { port, .. } => ports::read32(*port).into(),
            Reference::Pit => read_pit(),
        }
    }
}

/// Channel 2, gate on, speaker off; mode 2, 16-bit count of 65536 (8254 datasheet).
fn start_pit() {
    let _guard = PIT.lock();
    ports::write8(0x61, ports::read8(0x61) & !2 | 1);
    ports::write8(0x43, 0b1011_0100);
    ports::write8(0x42, 0);
    ports::write8(0x42, 0);
}

fn read_pit() -> u64 {
    let _guard = PIT.lock();
    ports::write8(0x43, 0b1000_0000);
    let low = ports::read8(0x42);
    let high = ports::read8(0x42);
    u64::from(0u16.wrapping_sub(u16::from_le_bytes([low, high])))
}
