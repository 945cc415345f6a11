//! XENPF_resource_op: the control domain reads registers of a CPU by their numbers, few and those that change nothing.

use crate::facts::policies;
use crate::machine::X86;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use cpu_policy::FeatureSet;
use hal_irq::MAX_CPUS;
use hypercall::Caller;
use platform::Clock;
use types::{CpuId, Errno, Result};
use x86_defs::msr;
use xen_abi::GuestHandle;
use xen_abi::cpufeatureset::*;
use xen_abi::platform::*;
use zerocopy::FromZeros;

/// Entries that one call may have.
const MAX_ENTRIES: usize = 3;
/// Registers that say how transactional memory and random numbers are set, and the features that announce them.
const CONTROLS: [(u32, u32); 3] = [
    (msr::TSX_FORCE_ABORT, XEN_X86_FEATURE_TSX_FORCE_ABORT),
    (msr::TSX_CTRL, XEN_X86_FEATURE_TSX_CTRL),
    (msr::MCU_OPT_CTRL, XEN_X86_FEATURE_SRBDS_CTRL),
];

/// What each CPU had in [`CONTROLS`] as it started. Nobody writes them later, so other CPUs need not be asked.
static NOTED: [[AtomicU64; CONTROLS.len()]; MAX_CPUS] =
    [const { [const { AtomicU64::new(0) }; CONTROLS.len()] }; MAX_CPUS];

/// Notes what this CPU has in the registers that may be read.
pub fn note(cpu: CpuId) {
    let features = FeatureSet::of(&policies().host);
    for (noted, (number, feature)) in NOTED[cpu.index()].iter().zip(CONTROLS) {
        if features.has(feature) {
            noted.store(hal_cpu::read_msr(number).unwrap_or(0), Relaxed);
        }
    }
}

/// What an entry asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wanted {
    /// The time-stamp counter, for which system time stands.
    Time,
    /// One of [`CONTROLS`], by index.
    Control(usize),
}

/// Checks an entry, on a host with these features.
///
/// # Errors
/// `EINVAL` for a malformed one, `EOPNOTSUPP` for another command, `EPERM` for any other register and for writing.
fn check(entry: &ResourceEntry, features: &FeatureSet) -> Result<Wanted> {
    if entry.rsvd != 0 {
        return Err(Errno::INVAL);
    }
    if !matches!(entry.u, XEN_RESOURCE_OP_MSR_READ | XEN_RESOURCE_OP_MSR_WRITE) {
        return Err(Errno::OPNOTSUPP);
    }
    let number = u32::try_from(entry.idx).map_err(|_| Errno::INVAL)?;
    if entry.u == XEN_RESOURCE_OP_MSR_WRITE {
        return Err(Errno::PERM);
    }
    if number == msr::TSC {
        return Ok(Wanted::Time);
    }
    let found = CONTROLS.iter().position(|&(control, feature)| control == number && features.has(feature));
    found.map(Wanted::Control).ok_or(Errno::PERM)
}

/// Answers the entries up to the first that is refused; how many were answered. The refused one has its error.
///
/// # Errors
/// `EINVAL` for too many entries, `ENODEV` for a CPU that does not run, `EFAULT`.
pub fn access(caller: &Caller<'_, X86>, call: &ResourceOp) -> Result<i64> {
    let count = call.nr_entries as usize;
    if count > MAX_ENTRIES {
        return Err(Errno::INVAL);
    }
    let features = FeatureSet::of(&policies().host);
    let at = |index: usize| -> GuestHandle<ResourceEntry> { call.entries.offset(index as u64) };
    let mut entries = [ResourceEntry::new_zeroed(), ResourceEntry::new_zeroed(), ResourceEntry::new_zeroed()];
    for (index, entry) in entries[..count].iter_mut().enumerate() {
        *entry = caller.read(at(index))?;
    }
    for (index, entry) in entries[..count].iter_mut().enumerate() {
        match check(entry, &features) {
            Ok(_) if !hal_irq::cpus::is_online(CpuId(call.cpu)) => return Err(Errno::NODEV),
            Ok(Wanted::Time) => entry.val = caller.machine().system_time(),
            Ok(Wanted::Control(control)) => entry.val = NOTED[call.cpu as usize][control].load(Relaxed),
            Err(errno) => {
                entry.u = errno.as_return() as u32;
                caller.write(at(index), entry)?;
                return Ok(index as i64);
            }
        }
        caller.write(at(index), entry)?;
    }
    Ok(count as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(command: u32, number: u64) -> ResourceEntry {
        ResourceEntry { u: command, rsvd: 0, idx: number, val: 0 }
    }

    #[test]
    fn only_what_the_host_announces_is_read() {
        let mut features = FeatureSet::EMPTY;
        let read = |number, features: &FeatureSet| check(&entry(XEN_RESOURCE_OP_MSR_READ, number), features);
        assert_eq!(read(0x10, &features), Ok(Wanted::Time));
        assert_eq!(read(0x122, &features), Err(Errno::PERM));
        features.set(XEN_X86_FEATURE_TSX_CTRL, true);
        assert_eq!(read(0x122, &features), Ok(Wanted::Control(1)));
        assert_eq!(read(0x10f, &features), Err(Errno::PERM));
        assert_eq!(read(0xc000_0080, &features), Err(Errno::PERM));
    }

    #[test]
    fn malformed_entries_are_told_from_forbidden_ones() {
        let refused = |entry| check(&entry, &FeatureSet::EMPTY).unwrap_err();
        assert_eq!(refused(entry(XEN_RESOURCE_OP_MSR_WRITE, 0x10)), Errno::PERM);
        assert_eq!(refused(entry(XEN_RESOURCE_OP_MSR_WRITE, 1 << 32)), Errno::INVAL);
        assert_eq!(refused(entry(2, 0x10)), Errno::OPNOTSUPP);
        assert_eq!(refused(ResourceEntry { rsvd: 1, ..entry(XEN_RESOURCE_OP_MSR_READ, 0x10) }), Errno::INVAL);
    }
}
