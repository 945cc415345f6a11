//! CPUID of PV guests.

use crate::current::Current;
use crate::facts;
use cpu_policy::{Guest, Tsc};
use x86_defs::control::Cr4;

/// What CPUID answers: eax, ebx, ecx, edx.
pub fn answer(current: &Current<'_>, leaf: u32, subleaf: u32) -> [u32; 4] {
    let guest = Guest {
        is_kernel: current.state.kernel_mode,
        is_control: current.domain.is_privileged(),
        osxsave: current.state.cr4 & Cr4::OSXSAVE.bits() != 0,
        xcr0: current.state.xcr0,
        tsc: if leaf == Tsc::LEAF { tsc(current) } else { Tsc::default() },
    };
    current.domain.arch.policy.read().answer(leaf, subleaf, &guest, &facts::policies().host)
}

fn tsc(current: &Current<'_>) -> Tsc {
    let wanted = *current.domain.arch.tsc.lock();
    let scale = hal_irq::time::scale();
    let host_khz = u32::try_from(hal_irq::time::tsc_hz() / 1000).unwrap_or(u32::MAX);
    Tsc {
        mode: wanted.mode,
        // Nothing scales the counter: every guest sees the host's.
        khz: host_khz,
        host_khz,
        shift: scale.shift,
        multiplier: scale.mul,
        incarnation: wanted.incarnation,
        is_reliable: !hal_irq::time::skewed(),
    }
}
