//! Model-specific registers of HVM guests, but for those that they reach themselves. An access that gives `None` is #GP for the
//! guest.

use super::space::Physical;
use super::{VcpuState, apic, enlightened, hypercall_page, layout};
use crate::current::Current;
use cpu_policy::{CPUID_FAULTING, FeatureSet, Policy};
use platform::Clock;
use types::PAGE_SIZE;
use viridian::{END_OF_MSRS, FIRST_MSR};
use x86_defs::control::{Cr0, Efer};
use x86_defs::msr::*;
use xen_abi::cpufeatureset::*;

/// Machine-check banks: four registers each, of which guests have none.
const MC_LAST: u32 = MC0_CTL + 4 * 32 - 1;
/// What is there to be read and written by kernels that look at their CPU's settings: it reads 0, and keeps nothing.
const PLAIN: [u32; 9] =
    [MCG_STATUS, MCG_CTL, AMD_SYSCFG, AMD_HWCR, AMD_NB_CFG, AMD_LS_CFG, AMD_PATCH_LOADER, DEBUGCTL, UCODE_REV];
/// In MISC_FEATURES_ENABLES: CPUID faults outside of the kernel (SDM vol. 4).
pub const FAULT_CPUID: u64 = 1;
/// In VIRT_SPEC_CTRL: speculative stores are held back.
pub const HOLD_BACK_STORES: u64 = 1 << 2;
/// Bits of EFER that a guest sets. That long mode is active is the CPU's to say.
const EFER_BITS: Efer = Efer::SCE.union(Efer::LME).union(Efer::NXE).union(Efer::FFXSR);

/// A deadline that is farther away, in ticks of the counter, is as good as this one: centuries.
const MOST_TICKS: u64 = u64::MAX >> 8;

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
        TSC_DEADLINE if has(current, XEN_X86_FEATURE_TSC_DEADLINE) => {
            state.lapic.tsc_deadline(current.machine().system_time())
        }
        TSC_AUX if has_tsc_aux(current) => state.tsc_aux.into(),
        PAT => state.engine.system().pat,
        MCG_CAP | MC0_CTL..=MC_LAST => 0,
        INTEL_PLATFORM_INFO => current.domain.arch.policy.read().platform_info,
        INTEL_MISC_FEATURES_ENABLES => u64::from(state.faults_cpuid) * FAULT_CPUID,
        VIRT_SPEC_CTRL if has(current, XEN_X86_FEATURE_VIRT_SSBD) => {
            u64::from(state.holds_back_stores) * HOLD_BACK_STORES
        }
        ARCH_CAPABILITIES => Some(current.domain.arch.policy.read().arch_caps).filter(|bits| *bits != 0)?,
        FIRST_MSR..END_OF_MSRS if enlightened::is_on(current.domain) => enlightened::read_msr(current, number)?,
        _ if number == hypercall_msr(current) => 0,
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
            let has_x2apic = has(current, XEN_X86_FEATURE_X2APIC);
            current.state.lapic.set_base(&current.vcpu.arch.apic, value, has_x2apic).ok()?;
            apic::act(current, vlapic::Action::Reconfigured);
        }
        X2APIC_FIRST..=X2APIC_LAST => {
            let now = current.machine().system_time();
            let port = &current.vcpu.arch.apic;
            let action = current.state.lapic.write_msr(port, number, value, now).ok()?;
            apic::act(current, action);
            apic::written(current, (number - X2APIC_FIRST) << 4);
        }
        TSC_DEADLINE if has(current, XEN_X86_FEATURE_TSC_DEADLINE) => {
            let ticks = value.saturating_sub(hal_cpu::rdtsc()).min(MOST_TICKS);
            let at = current.machine().system_time().saturating_add(hal_irq::time::scale().nanoseconds(ticks));
            current.state.lapic.set_tsc_deadline(value, at);
            apic::set_timer(current);
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
        INTEL_MISC_FEATURES_ENABLES => {
            let settable = faultable_cpuid(&current.domain.arch.policy.read());
            current.state.faults_cpuid = Some(value).filter(|value| value & !settable == 0)? != 0;
        }
        VIRT_SPEC_CTRL if has(current, XEN_X86_FEATURE_VIRT_SSBD) => {
            current.state.holds_back_stores = value & HOLD_BACK_STORES != 0;
            if current.state.holds_back_stores {
                hal_cpu::hold_back_stores();
            }
        }
        FIRST_MSR..END_OF_MSRS if enlightened::is_on(current.domain) => enlightened::write_msr(current, number, value)?,
        _ if number == hypercall_msr(current) => write_hypercall_page(current, value)?,
        // Nobody counts on more than that it may be written.
        TSC | MCG_CAP | MC0_CTL..=MC_LAST => {}
        _ if PLAIN.contains(&number) => {}
        _ if current.state.mtrr.write(number, value) => {}
        _ => return refuse(current, "write", number),
    }
    Some(())
}

/// What of MISC_FEATURES_ENABLES a guest with this policy may set.
pub fn faultable_cpuid(policy: &Policy) -> u64 {
    if policy.platform_info & CPUID_FAULTING != 0 { FAULT_CPUID } else { 0 }
}

/// Where the guest places the hypercall page: behind Hyper-V's MSRs, if it has those.
fn hypercall_msr(current: &Current<'_, VcpuState>) -> u32 {
    if enlightened::is_on(current.domain) { END_OF_MSRS } else { HYPERVISOR_FIRST }
}

fn refuse<T>(current: &Current<'_, VcpuState>, what: &str, number: u32) -> Option<T> {
    log::debug!("{}v{}: {what} of MSR {number:#x}", current.domain.id, current.vcpu.id.0);
    None
}

/// Whether the guest is told that it has a feature.
fn has(current: &Current<'_, VcpuState>, feature: u32) -> bool {
    FeatureSet::of(&current.domain.arch.policy.read()).has(feature)
}

fn has_tsc_aux(current: &Current<'_, VcpuState>) -> bool {
    has(current, XEN_X86_FEATURE_RDTSCP) || has(current, XEN_X86_FEATURE_RDPID)
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
    layout::follow(current);
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
