//! Turning the machine off and starting it anew (ACPI 6.5, 4.8.3).

use crate::acpi::{Fadt, Space};
use crate::pci::{ConfigSpace, Sbdf, config};
use crate::time;
use hal::io::{IoRegion, map_io};
use hal::ports;
use spin::Once;
use types::{Errno, Result};

/// PM1 control: sleep type in bits 10 to 12, sleep enable.
const SLEEP_TYPE: u16 = 7 << 10;
const SLEEP_ENABLE: u16 = 1 << 13;

struct Power {
    fadt: Fadt,
    /// The reset register, if it is in memory.
    reset: Option<IoRegion>,
}

static POWER: Once<Power> = Once::new();

/// Notes the registers. Once, on the boot CPU.
pub fn init(fadt: &Fadt) {
    let in_memory = fadt.reset.filter(|(register, _)| register.space == Space::Memory);
    let reset = in_memory.and_then(|(register, _)| map_io(register.address, 1, true).ok());
    POWER.call_once(|| Power { fadt: *fadt, reset });
}

/// Starts the machine anew: ACPI's reset register, then keyboard controller, chipset, triple fault.
pub fn reboot() -> ! {
    if let Some(power) = POWER.get() {
        acpi_reset(power);
        time::delay(50_000_000);
    }
    hal::cpu::reset_machine()
}

fn acpi_reset(power: &Power) {
    let Some((register, value)) = power.fadt.reset else {
        return;
    };
    match (register.space, register.as_port(), power.reset) {
        (Space::Memory, _, Some(region)) => region.write8(0, value),
        (Space::Port, Some(port), _) => ports::write8(port, value),
        (Space::PciConfig, ..) => {
            let (device, function) = ((register.address >> 32) as u8, (register.address >> 16) as u8);
            config().write(Sbdf::new(0, 0, device, function), register.address as u16, 1, value.into());
        }
        _ => (),
    }
}

/// Enters a sleep state, S5 that is: the values of PM1 control a and b come from dom0, which reads them from AML
/// (`XENPF_enter_acpi_sleep`). Does not return if it works.
///
/// # Errors
/// `ENODEV` without such registers, `EIO` if the machine is still on after a second.
pub fn power_off(pm1a_value: u16, pm1b_value: u16) -> Result<()> {
    let fadt = &POWER.get().ok_or(Errno::NODEV)?.fadt;
    let port_a = fadt.pm1a_control.and_then(|register| register.as_port()).ok_or(Errno::NODEV)?;
    let port_b = fadt.pm1b_control.and_then(|register| register.as_port());
    let keep = |port, value: u16| ports::read16(port) & !(SLEEP_TYPE | SLEEP_ENABLE) | value & SLEEP_TYPE;
    let (value_a, value_b) = (keep(port_a, pm1a_value), port_b.map(|port| (port, keep(port, pm1b_value))));
    // Type first, then type and enable, as ACPI 6.5, 16.1.7 has it.
    for enable in [0, SLEEP_ENABLE] {
        ports::write16(port_a, value_a | enable);
        if let Some((port, value)) = value_b {
            ports::write16(port, value | enable);
        }
    }
    time::delay(time::SECOND);
    Err(Errno::IO)
}

/// Fixed hardware as firmware describes it; `None` before [`init`].
pub fn fadt() -> Option<&'static Fadt> {
    POWER.get().map(|power| &power.fadt)
}
