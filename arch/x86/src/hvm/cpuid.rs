//! CPUID of HVM guests.

use super::VcpuState;
use crate::current::Current;
use crate::facts;
use cpu_policy::{Guest, Tsc};
use x86_defs::control::Cr4;
use xen_abi::cpuid::*;

/// Leaves of APIC ids: the old one, and the x2APIC's.
const APIC_ID: u32 = 1;
const X2APIC_ID: u32 = 0xb;
/// The leaf of what only HVM guests have.
const HVM: u32 = XEN_CPUID_FIRST_LEAF + 4;

/// What CPUID answers: eax, ebx, ecx, edx.
pub fn answer(current: &Current<'_, VcpuState>, leaf: u32, subleaf: u32) -> [u32; 4] {
    let guest = Guest {
        is_kernel: false,
        is_control: current.domain.is_privileged(),
        osxsave: current.state.engine.control().cr4 & Cr4::OSXSAVE.bits() != 0,
        xcr0: current.state.vectors.xcr0,
        tsc: if leaf == Tsc::LEAF { facts::tsc(&current.domain.arch) } else { Tsc::default() },
    };
    let [a, b, c, d] = current.domain.arch.policy.read().answer(leaf, subleaf, &guest, &facts::policies().host);
    let id = current.state.lapic.apic_id();
    match leaf {
        APIC_ID => [a, b & 0x00ff_ffff | id << 24, c, d],
        X2APIC_ID => [a, b, c, id],
        HVM if subleaf == 0 => {
            let flags = XEN_HVM_CPUID_VCPU_ID_PRESENT | XEN_HVM_CPUID_DOMID_PRESENT;
            [flags, current.vcpu.id.0, current.domain.id.0.into(), 0]
        }
        _ => [a, b, c, d],
    }
}
