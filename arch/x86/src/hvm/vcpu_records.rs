//! Save records of what a vCPU has only if its CPU or its guest's policy has it: vector registers beyond FXSAVE's, MSRs.

use super::VcpuState;
use super::msr::{FAULT_CPUID, HOLD_BACK_STORES, faultable_cpuid};
use alloc::vec::Vec;
use cpu_policy::{FeatureSet, Policy};
use types::{Errno, Result};
use x86_defs::msr::{INTEL_MISC_FEATURES_ENABLES, VIRT_SPEC_CTRL};
use xen_abi::cpufeatureset::XEN_X86_FEATURE_VIRT_SSBD;
use xen_abi::hvm_save::msrs::*;
use zerocopy::{FromBytes, IntoBytes};

/// MSRs that have no record of their own.
const MSRS: [u32; 2] = [INTEL_MISC_FEATURES_ENABLES, VIRT_SPEC_CTRL];
/// Bytes before the first of them: their number, and a gap.
const MSRS_HEAD: usize = 8;
/// In the capabilities of machine checks: how many banks there are.
const BANKS: u64 = 0xff;

/// The record of vector registers; `None` on a CPU without XSAVE.
///
/// # Errors
/// `ENOMEM`.
pub fn vectors(state: &VcpuState) -> Result<Option<Vec<u8>>> {
    let known = hal_cpu::host_xcr0().bits();
    if known == 0 {
        return Ok(None);
    }
    let own = state.vectors.xcr0;
    let head = [known, own, own];
    let image = state.vectors.image.bytes();
    let mut record = Vec::new();
    record.try_reserve_exact(head.as_bytes().len() + image.len()).map_err(|_| Errno::NOMEM)?;
    record.extend_from_slice(head.as_bytes());
    record.extend_from_slice(image);
    Ok(Some(record))
}

/// Takes over a record of vector registers.
///
/// # Errors
/// `EINVAL` for one that this CPU cannot load.
pub fn load_vectors(state: &mut VcpuState, record: &[u8]) -> Result<()> {
    let ([_, own, used], image) = <[u64; 3]>::read_from_prefix(record).map_err(|_| Errno::INVAL)?;
    state.vectors.take_image(own, used, image)
}

fn value(state: &VcpuState, number: u32) -> u64 {
    match number {
        INTEL_MISC_FEATURES_ENABLES => u64::from(state.faults_cpuid) * FAULT_CPUID,
        _ => u64::from(state.holds_back_stores) * HOLD_BACK_STORES,
    }
}

/// The record of MSRs, those of them that are not 0; `None` if there is none.
pub fn msrs(state: &VcpuState) -> Option<Vec<u8>> {
    list(MSRS.map(|index| HvmOneMsr { index, _rsvd: 0, val: value(state, index) }))
}

fn list(all: [HvmOneMsr; MSRS.len()]) -> Option<Vec<u8>> {
    let some: Vec<HvmOneMsr> = all.into_iter().filter(|msr| msr.val != 0).collect();
    let head = [some.len() as u32, 0];
    (!some.is_empty()).then(|| [head.as_bytes(), some.as_bytes()].concat())
}

/// Takes over a record of MSRs, of a guest with this policy.
///
/// # Errors
/// `EINVAL` for a record that is too short, `EOPNOTSUPP` for one of another form, `ENXIO` for registers or values that there are not.
pub fn load_msrs(state: &mut VcpuState, policy: &Policy, record: &[u8]) -> Result<()> {
    for msr in parse(record)? {
        match msr.index {
            INTEL_MISC_FEATURES_ENABLES if msr.val & !faultable_cpuid(policy) == 0 => {
                state.faults_cpuid = msr.val != 0;
            }
            VIRT_SPEC_CTRL if FeatureSet::of(policy).has(XEN_X86_FEATURE_VIRT_SSBD) => {
                state.holds_back_stores = msr.val & HOLD_BACK_STORES != 0;
            }
            _ => return Err(Errno::NXIO),
        }
    }
    Ok(())
}

fn parse(record: &[u8]) -> Result<Vec<HvmOneMsr>> {
    let head = record.get(..MSRS_HEAD).ok_or(Errno::INVAL)?;
    let (count, _) = u32::read_from_prefix(head).map_err(|_| Errno::INVAL)?;
    let entries = record[MSRS_HEAD..].chunks_exact(size_of::<HvmOneMsr>());
    if !entries.remainder().is_empty() || entries.len() != count as usize {
        return Err(Errno::OPNOTSUPP);
    }
    let each = |bytes| match HvmOneMsr::read_from_bytes(bytes) {
        Ok(msr) if msr._rsvd == 0 => Ok(msr),
        _ => Err(Errno::OPNOTSUPP),
    };
    entries.map(each).collect()
}

/// The record of machine checks: guests have no banks.
pub const MACHINE_CHECKS: HvmVmceVcpu = HvmVmceVcpu { caps: 0, mci_ctl2_bank0: 0, mci_ctl2_bank1: 0, mcg_ext_ctl: 0 };

/// Looks at such a record. Banks of another host have nothing in them.
///
/// # Errors
/// `EPERM` for what guests do not have.
pub fn check_machine_checks(record: &HvmVmceVcpu) -> Result<()> {
    if record.caps & !BANKS == 0 { Ok(()) } else { Err(Errno::PERM) }
}

/// Looks at a record of what is added to the time-stamp counter, which is nothing.
///
/// # Errors
/// `EOPNOTSUPP` for anything else.
pub fn check_tsc_adjust(record: &HvmTscAdjust) -> Result<()> {
    if record.tsc_adjust == 0 { Ok(()) } else { Err(Errno::OPNOTSUPP) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn msr(index: u32, val: u64) -> HvmOneMsr {
        HvmOneMsr { index, _rsvd: 0, val }
    }

    #[test]
    fn lists_of_msrs_come_back() {
        assert_eq!(list([msr(1, 0), msr(2, 0)]), None);
        let record = list([msr(1, 0), msr(2, 7)]).unwrap();
        assert_eq!((record.len(), parse(&record)), (24, Ok(alloc::vec![msr(2, 7)])));
        let record = list([msr(1, 5), msr(2, 7)]).unwrap();
        assert_eq!(parse(&record), Ok(alloc::vec![msr(1, 5), msr(2, 7)]));
    }

    #[test]
    fn lists_of_msrs_have_a_form() {
        let record = list([msr(1, 5), msr(2, 7)]).unwrap();
        assert_eq!(parse(&record[..7]), Err(Errno::INVAL));
        assert_eq!(parse(&record[..39]), Err(Errno::OPNOTSUPP), "cut off");
        assert_eq!(parse(&record[..24]), Err(Errno::OPNOTSUPP), "fewer than it says");
        let mut reserved = record.clone();
        reserved[12] = 1;
        assert_eq!(parse(&reserved), Err(Errno::OPNOTSUPP));
    }

    #[test]
    fn what_guests_do_not_have() {
        assert_eq!(check_machine_checks(&MACHINE_CHECKS), Ok(()));
        assert_eq!(check_machine_checks(&HvmVmceVcpu { caps: 2, ..MACHINE_CHECKS }), Ok(()));
        assert_eq!(check_machine_checks(&HvmVmceVcpu { caps: 1 << 24, ..MACHINE_CHECKS }), Err(Errno::PERM));
        assert_eq!(check_tsc_adjust(&HvmTscAdjust { tsc_adjust: 1 }), Err(Errno::OPNOTSUPP));
    }
}
