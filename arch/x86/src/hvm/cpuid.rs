//! CPUID of HVM guests.

use super::{VcpuState, enlightened};
use crate::current::Current;
use crate::facts;
use cpu_policy::{Guest, SECOND_LEAF, Tsc};
use x86_defs::control::Cr4;
use xen_abi::cpuid::*;

/// Leaves of APIC ids: the old one, and the x2APIC's.
const APIC_ID: u32 = 1;
const X2APIC_ID: u32 = 0xb;
/// The leaf of what only HVM guests have, among Xen's.
const HVM: u32 = 4;

/// What guests are told there, all of them and by Xen as well: numbers of vCPU and domain, and that devices reach memory that was
/// granted or mapped (no device is a guest's own). That each vCPU can have an interrupt of its own for events is true, and not told:
/// it makes for more exits, and of these a CPU of QEMU's does not survive all (SUPPORT.md).
const HVM_FLAGS: u32 = XEN_HVM_CPUID_IOMMU_MAPPINGS | XEN_HVM_CPUID_VCPU_ID_PRESENT | XEN_HVM_CPUID_DOMID_PRESENT;

/// What CPUID answers: eax, ebx, ecx, edx; `None` is #GP for the guest, outside of its kernel if that wants it so.
pub fn answer(current: &Current<'_, VcpuState>, leaf: u32, subleaf: u32) -> Option<[u32; 4]> {
    if current.state.faults_cpuid && current.state.engine.level() > 0 {
        return None;
    }
    let is_enlightened = enlightened::is_on(current.domain);
    if is_enlightened && matches!(leaf, XEN_CPUID_FIRST_LEAF..SECOND_LEAF) {
        return Some(enlightened::leaf(current.domain, leaf));
    }
    let first = if is_enlightened { SECOND_LEAF } else { XEN_CPUID_FIRST_LEAF };
    let guest = Guest {
        is_pv: false,
        is_kernel: false,
        is_control: current.domain.is_privileged(),
        osxsave: current.state.engine.control().cr4 & Cr4::OSXSAVE.bits() != 0,
        xcr0: current.state.vectors.xcr0,
        tsc: if leaf == first + Tsc::INDEX { facts::tsc(&current.domain.arch) } else { Tsc::default() },
    };
    let (policy, host) = (current.domain.arch.policy.read(), &facts::policies().host);
    let [a, b, c, d] = if is_enlightened {
        policy.answer_behind_viridian(leaf, subleaf, &guest, host)
    } else {
        policy.answer(leaf, subleaf, &guest, host)
    };
    let id = current.state.lapic.apic_id();
    Some(match leaf {
        APIC_ID => [a, b & 0x00ff_ffff | id << 24, c, d],
        X2APIC_ID => [a, b, c, id],
        _ if leaf == first + HVM && subleaf == 0 => [HVM_FLAGS, current.vcpu.id.0, current.domain.id.0.into(), 0],
        _ => [a, b, c, d],
    })
}
