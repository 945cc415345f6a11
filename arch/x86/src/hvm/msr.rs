//! Model-specific registers of HVM guests, but for those that they reach themselves. An access that gives `None` is #GP for the
//! guest.

use super::space::Physical;
use super::{VcpuState, apic, hypercall_page};
use crate::current::Current;
use cpu_policy::FeatureSet;
use platform::Clock;
use types::PAGE_SIZE;
use x86_defs::control::{Cr0, Efer};
use x86_defs::msr::*;
use xen_abi::cpufeatureset::{XEN_X86_FEATURE_RDPID, XEN_X86_FEATURE_RDTSCP, XEN_X86_FEATURE_X2APIC};

/// Machine-check banks: four registers each, of which guests have none.
const MC_LAST: u32 = MC0_CTL + 4 * 32 - 1;
/// What is there to be read and written by kernels that look at their CPU's settings: it reads 0, and keeps nothing.
const PLAIN: [u32; 10] = [
    MCG_STATUS,
    MCG_CTL,
    AMD_SYSCFG,
    AMD_HWCR,
    AMD_NB_CFG,
    AMD_LS_CFG,
    AMD_PATCH_LOADER,
    DEBUGCTL,
    UCODE_REV,
    INTEL_MISC_FEATURES_ENABLES,
];
/// Bits of EFER that a guest sets. That long mode is active is the CPU's to say.
const EFER_BITS: Efer = Efer::SCE.union(Efer::LME).union(Efer::NXE).union(Efer::FFXSR);

/// What the guest reads.
pub fn read(current: &mut Current<'_, VcpuState>, number: u32) -> Option<u64> {
    let state = &*current.state;
    Some(match number {
        EFER => state.engine.control().efer,
        APIC_BASE => state.lapic.base(),
        X2APIC_FIRST..=X2APIC_LAST => {
            state.lapic.read_msr(&current.vcpu.arch.apic, number, current.machine().system_time()).ok()?
        }
        TSC => hal_cpu::rdtsc(),
        TSC_AUX if has_tsc_aux(current) => state.tsc_aux.into(),
        PAT => state.engine.system().pat,
        MCG_CAP | MC0_CTL..=MC_LAST => 0,
        INTEL_PLATFORM_INFO => current.domain.arch.policy.read().platform_info,
        ARCH_CAPABILITIES => Some(current.domain.arch.policy.read().arch_caps).filter(|bits| *bits != 0)?,
        HYPERVISOR_FIRST => 0,
        _ if PLAIN.contains(&number) => 0,
        _ => match state.mtrr.read(number) {
            Some(value) => value,
            None => return refuse(current, "read", number),
        },
    })
}

/// Carries out the guest's write.
pub fn write(current: &mut Current<'_, VcpuState>, number: u32, value: u64) -> Option<()> {
    match number {
        EFER => write_efer(current, value)?,
        APIC_BASE => {
            let has_x2apic = FeatureSet::of(&current.domain.arch.policy.read()).has(XEN_X86_FEATURE_X2APIC);
            current.state.lapic.set_base(&current.vcpu.arch.apic, value, has_x2apic).ok()?;
            apic::act(current, vlapic::Action::Reconfigured);
        }
        X2APIC_FIRST..=X2APIC_LAST => {
            let now = current.machine().system_time();
            let port = &current.vcpu.arch.apic;
            let action = current.state.lapic.write_msr(port, number, value, now).ok()?;
            apic::act(current, action);
        }
        TSC_AUX if value >> 32 == 0 && has_tsc_aux(current) => {
            current.state.tsc_aux = value as u32;
            hal_cpu::set_tsc_aux(value as u32);
        }
        PAT => {
            let mut system = current.state.engine.system();
            system.pat = Some(value).filter(|value| is_pat(*value))?;
            current.state.engine.set_system(&system);
        }
        HYPERVISOR_FIRST => write_hypercall_page(current, value)?,
        // Nobody counts on more than that it may be written.
        TSC | MCG_CAP | MC0_CTL..=MC_LAST => {}
        _ if PLAIN.contains(&number) => {}
        _ if current.state.mtrr.write(number, value) => {}
        _ => return refuse(current, "write", number),
    }
    Some(())
}

fn refuse<T>(current: &Current<'_, VcpuState>, what: &str, number: u32) -> Option<T> {
    log::debug!("{}v{}: {what} of MSR {number:#x}", current.domain.id, current.vcpu.id.0);
    None
}

fn has_tsc_aux(current: &Current<'_, VcpuState>) -> bool {
    let features = FeatureSet::of(&current.domain.arch.policy.read());
    features.has(XEN_X86_FEATURE_RDTSCP) || features.has(XEN_X86_FEATURE_RDPID)
}

/// Whether each byte names a memory type of the page attribute table (APM vol. 2, 7.8.1).
fn is_pat(value: u64) -> bool {
    value.to_le_bytes().into_iter().all(|ty| matches!(ty, 0 | 1 | 4..=7))
}

fn write_efer(current: &mut Current<'_, VcpuState>, value: u64) -> Option<()> {
    let mut control = current.state.engine.control();
    let (old, new) = (Efer::from_bits_retain(control.efer), Efer::from_bits_retain(value));
    let switches_mode = (old ^ new).contains(Efer::LME) && control.cr0 & Cr0::PG.bits() != 0;
    if !(EFER_BITS | Efer::LMA).contains(new) || switches_mode {
        return None;
    }
    control.efer = (new & EFER_BITS | old & Efer::LMA).bits();
    current.state.engine.set_control(&control);
    Some(())
}

/// Fills the page that the guest names with code by which it makes its calls (cpuid.h). Page 0 of them is the only one.
fn write_hypercall_page(current: &mut Current<'_, VcpuState>, value: u64) -> Option<()> {
    let page = value & !(PAGE_SIZE as u64 - 1);
    if value != page {
        log::warn!("{}: bad hypercall page {value:#x}", current.domain.id);
        return None;
    }
    let memory = Physical { machine: current.machine(), domain: current.domain };
    memory.write(page, &hypercall_page::stubs()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_attributes() {
        assert!(is_pat(0x0007_0406_0007_0406) && is_pat(0x0105_0600_0107_0406));
        assert!(!is_pat(2) && !is_pat(0x0300_0000_0000_0000) && !is_pat(8));
    }
}
