//! CPUID of PV guests.

use crate::current::Current;
use crate::facts;
use cpu_policy::{Guest, TscMode};
use x86_defs::control::Cr4;

/// What CPUID answers: eax, ebx, ecx, edx.
pub fn answer(current: &Current<'_>, leaf: u32, subleaf: u32) -> [u32; 4] {
    let scale = hal_irq::time::scale();
    let guest = Guest {
        is_kernel: current.state.kernel_mode,
        is_control: current.domain.is_privileged(),
        osxsave: current.state.cr4 & Cr4::OSXSAVE.bits() != 0,
        xcr0: current.state.xcr0,
        tsc_mode: TscMode::Default,
        tsc_khz: u32::try_from(hal_irq::time::tsc_hz() / 1000).unwrap_or(u32::MAX),
        tsc_scale: (scale.shift, scale.mul),
        incarnation: 0,
        tsc_reliable: !hal_irq::time::skewed(),
    };
    current.domain.arch.policy.read().answer(leaf, subleaf, &guest, &facts::policies().host)
}
