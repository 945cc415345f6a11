//! CPUID of PV guests.

use crate::current::Current;
use crate::facts;
use cpu_policy::{Guest, Tsc};
use x86_defs::control::Cr4;

/// What CPUID answers: eax, ebx, ecx, edx.
pub fn answer(current: &Current<'_>, leaf: u32, subleaf: u32) -> [u32; 4] {
    let guest = Guest {
        is_pv: true,
        is_kernel: current.state.kernel_mode,
        is_control: current.domain.is_privileged(),
        osxsave: current.state.cr4 & Cr4::OSXSAVE.bits() != 0,
        xcr0: current.state.vectors.xcr0,
        tsc: if leaf == Tsc::LEAF { facts::tsc(&current.domain.arch) } else { Tsc::default() },
    };
    current.domain.arch.policy.read().answer(leaf, subleaf, &guest, &facts::policies().host)
}
