//! Cases that only an HVM guest has: its board, and what its device emulator answers.

mod clocks;
mod emulator;
mod interrupts;

use super::{Case, table};
use crate::memory::Guest;
use crate::pvh::{self, cpuid};
use crate::report::Outcome;
use crate::say;
use xen_abi::cpuid::xen_cpuid_leaf;
use xen_abi::hvm_params::*;

/// Its groups.
pub const GROUPS: &[super::Group] = &[
    ("clocks", clocks::run),
    ("interrupts", interrupts::run),
    ("emulator", emulator::run),
    ("parameters", parameters),
];

fn byte(value: u8) -> Outcome {
    Outcome::Hex(value.into())
}

fn code(result: i64) -> Outcome {
    Outcome::Code(result)
}

fn get(index: u32) -> Outcome {
    match pvh::parameter(index) {
        Ok(value) => Outcome::Hex(value),
        Err(error) => code(error),
    }
}

/// The group of what the hypervisor says of itself and of the domain: CPUID's leaves but for what differs from run to run, and
/// parameters.
fn parameters(guest: &Guest) {
    for number in [0, 1, 2, 5] {
        let leaf = xen_cpuid_leaf(number);
        let [a, b, c, d] = cpuid(leaf, 0);
        say!("parameters.cpuid-{leaf:#x}: {a:#x} {b:#x} {c:#x} {d:#x}");
    }
    for index in 0..=HVM_NR_PARAMS {
        say!("parameters.get-{index}: {}", get(index));
    }
    table(guest, "parameters", PARAMETERS);
}

const PARAMETERS: &[Case] = &[
    ("set-store-frame", |_| code(pvh::set_parameter(HVM_PARAM_STORE_PFN, 5))),
    ("set-timer-mode", |_| code(pvh::set_parameter(HVM_PARAM_TIMER_MODE, 1))),
    ("set-hpet", |_| code(pvh::set_parameter(HVM_PARAM_HPET_ENABLED, 0))),
    ("set-sleep-state", |_| code(pvh::set_parameter(HVM_PARAM_ACPI_S_STATE, 3))),
    ("set-alignment", |_| code(pvh::set_parameter(HVM_PARAM_VPT_ALIGN, 1))),
    ("set-request-frame", |_| code(pvh::set_parameter(HVM_PARAM_IOREQ_SERVER_PFN, 5))),
    ("set-viridian", |_| code(pvh::set_parameter(HVM_PARAM_VIRIDIAN, 0))),
    ("set-acpi-2", |_| code(pvh::set_parameter(HVM_PARAM_ACPI_IOPORTS_LOCATION, 2))),
    ("set-acpi-1", |_| code(pvh::set_parameter(HVM_PARAM_ACPI_IOPORTS_LOCATION, 1))),
    ("acpi-is", |_| get(HVM_PARAM_ACPI_IOPORTS_LOCATION)),
    ("set-acpi-0", |_| code(pvh::set_parameter(HVM_PARAM_ACPI_IOPORTS_LOCATION, 0))),
    ("set-callback-line-64", |_| code(pvh::set_parameter(HVM_PARAM_CALLBACK_IRQ, 64))),
    ("set-callback-type-9", |_| code(pvh::set_parameter(HVM_PARAM_CALLBACK_IRQ, 9 << 56))),
    ("set-callback-vector-3", |_| code(pvh::set_parameter(HVM_PARAM_CALLBACK_IRQ, 2 << 56 | 3))),
    ("callback-is", |_| get(HVM_PARAM_CALLBACK_IRQ)),
    ("set-callback", |_| code(pvh::hear_events())),
];
