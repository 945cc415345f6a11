//! Model-specific registers of PV guests. Only a guest's kernel reaches them.

use crate::current::Current;
use cpu_policy::FeatureSet;
use types::VcpuId;
use x86_defs::control::{Efer, Vector};
use x86_defs::msr::*;
use x86_emulate::{Result, Trap};
use xen_abi::cpufeatureset::{XEN_X86_FEATURE_RDPID, XEN_X86_FEATURE_RDTSCP};

/// Thermal and performance state (SDM vol. 4, APM vol. 2), which only the control domain sees as it is; others read 0.
const HOST_READABLE: [u32; 10] = [
    PERF_STATUS,
    PERF_CTL,
    THERM_STATUS,
    TEMPERATURE_TARGET,
    UCODE_REV,
    MISC_ENABLE,
    AMD_HWCR,
    AMD_NB_CFG,
    AMD_PSTATE_STATUS,
    AMD_DE_CFG,
];
/// How memory and its routing are set up: for the control domain only.
const HOST_ONLY: [u32; 3] = [AMD_SYSCFG, AMD_TOP_MEM, AMD_TOP_MEM2];
const PERF_STATUS: u32 = 0x198;
const PERF_CTL: u32 = 0x199;
const THERM_STATUS: u32 = 0x19c;
const TEMPERATURE_TARGET: u32 = 0x1a2;
const PERF_CAPABILITIES: u32 = 0x345;
const AMD_TOP_MEM: u32 = 0xc001_001a;
const AMD_TOP_MEM2: u32 = 0xc001_001d;
/// Machine-check banks: four registers each, 32 banks.
const MC_LAST: u32 = MC0_CTL + 4 * 32 - 1;
/// Address and type of the last machine check, as the first Pentium had them.
const P5_MC_ADDR: u32 = 0;
const P5_MC_TYPE: u32 = 1;
const MPERF: u32 = 0xe7;
const APERF: u32 = 0xe8;
/// AMD's performance counters and their selectors, older and newer numbers: guests have none, so they count nothing.
const AMD_COUNTERS: core::ops::RangeInclusive<u32> = 0xc001_0000..=0xc001_0007;
const AMD_CORE_COUNTERS: core::ops::RangeInclusive<u32> = 0xc001_0200..=0xc001_020b;
/// Definitions of AMD's performance states.
const AMD_PSTATE_DEFINITIONS: core::ops::RangeInclusive<u32> = 0xc001_0064..=0xc001_006b;
/// First of the numbers that hypervisors use (cpuid.h); with Viridian off it says nothing.
const HYPERVISOR_MSR: u32 = 0x4000_0000;
/// APIC_BASE: enabled, at its usual address; and the bit of the boot CPU.
const APIC_ENABLED: u64 = 0xfee0_0800;
const APIC_BOOT_CPU: u64 = 1 << 8;

/// Whether the register is one of AMD's performance counters or of their selectors.
fn is_counter(number: u32) -> bool {
    AMD_COUNTERS.contains(&number) || AMD_CORE_COUNTERS.contains(&number)
}

/// A guest that has no handler for #GP yet dies of it: then what is unknown reads as 0, and writes are lost.
fn refuse(current: &Current<'_>, what: &str, number: u32) -> Result<u64> {
    log::debug!("{}v{}: {what} of MSR {number:#x}", current.domain.id, current.vcpu.id.0);
    let gate = &current.state.traps[usize::from(Vector::GENERAL_PROTECTION)];
    if gate.handler.rip == 0 { Ok(0) } else { Err(Trap::GP) }
}

/// What the guest's kernel reads.
pub fn read(current: &mut Current<'_>, number: u32) -> Result<u64> {
    Ok(match number {
        FS_BASE => hal_cpu::read_fs_base(),
        GS_BASE => hal_cpu::read_gs_base(),
        KERNEL_GS_BASE => hal_cpu::read_gs_base_other(),
        TSC => hal_cpu::rdtsc(),
        EFER => host_efer(),
        PAT => hal::cpu::PAT,
        APIC_BASE if current.vcpu.id == VcpuId(0) => APIC_ENABLED | APIC_BOOT_CPU,
        APIC_BASE => APIC_ENABLED,
        P5_MC_ADDR | P5_MC_TYPE | PERF_CAPABILITIES | MCG_CAP | MCG_STATUS | MCG_CTL | MC0_CTL..=MC_LAST => 0,
        HYPERVISOR_MSR => 0,
        INTEL_PLATFORM_INFO => current.domain.arch.policy.read().platform_info,
        ARCH_CAPABILITIES => match current.domain.arch.policy.read().arch_caps {
            0 => return refuse(current, "read", number),
            bits => bits,
        },
        INTEL_MISC_FEATURES_ENABLES => 0,
        TSC_AUX if has_tsc_aux(current) => current.state.tsc_aux.into(),
        _ if is_counter(number) => 0,
        _ if AMD_PSTATE_DEFINITIONS.contains(&number) && !current.domain.is_privileged() => 0,
        _ if HOST_ONLY.contains(&number) || AMD_PSTATE_DEFINITIONS.contains(&number) => {
            match hal_cpu::read_msr(number) {
                Ok(value) if current.domain.is_privileged() => value,
                _ => return refuse(current, "read", number),
            }
        }
        _ if HOST_READABLE.contains(&number) => match hal_cpu::read_msr(number) {
            Ok(value) if current.domain.is_privileged() || number == UCODE_REV => value,
            Ok(_) => 0,
            Err(_) => return refuse(current, "read", number),
        },
        _ => return refuse(current, "read", number),
    })
}

/// Whether the guest is shown an instruction that reads TSC_AUX.
fn has_tsc_aux(current: &Current<'_>) -> bool {
    let features = FeatureSet::of(&current.domain.arch.policy.read());
    features.has(XEN_X86_FEATURE_RDTSCP) || features.has(XEN_X86_FEATURE_RDPID)
}

/// EFER without what only the hypervisor uses.
fn host_efer() -> u64 {
    let shown = Efer::SCE | Efer::LME | Efer::LMA | Efer::NXE | Efer::FFXSR;
    hal_cpu::read_msr(EFER).unwrap_or(0) & shown.bits()
}

/// Carries out a write of the guest's kernel.
pub fn write(current: &mut Current<'_>, number: u32, value: u64) -> Result<()> {
    match number {
        FS_BASE | GS_BASE | KERNEL_GS_BASE if !x86_defs::control::is_canonical(value) => return Err(Trap::GP),
        FS_BASE => hal_cpu::write_fs_base(value),
        GS_BASE => hal_cpu::write_gs_base(value),
        KERNEL_GS_BASE => hal_cpu::write_gs_base_other(value),
        TSC_AUX if value >> 32 == 0 && has_tsc_aux(current) => {
            current.state.tsc_aux = value as u32;
            hal_cpu::set_tsc_aux(current.state.tsc_aux);
        }
        EFER if value == host_efer() => {}
        // Microcode is the control domain's business by platform_op; revisions are read after such a write.
        UCODE_REV if value == 0 => {}
        INTEL_UCODE_WRITE | AMD_PATCH_LOADER if current.domain.is_privileged() => {}
        MCG_STATUS | MCG_CTL | INTEL_MISC_FEATURES_ENABLES if value == 0 => {}
        // Settings of the machine, which kernels write as they find them or better: nothing changes.
        MC0_CTL..=MC_LAST | MCG_CAP | MISC_ENABLE | MPERF | APERF | AMD_HWCR | AMD_NB_CFG | AMD_DE_CFG => {}
        _ if is_counter(number) || AMD_PSTATE_DEFINITIONS.contains(&number) => {}
        PERF_CTL | AMD_SYSCFG if current.domain.is_privileged() && hal_cpu::read_msr(number) == Ok(value) => {}
        _ => return refuse(current, "write", number).map(drop),
    }
    Ok(())
}
