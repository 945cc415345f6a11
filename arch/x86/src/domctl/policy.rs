//! CPU policies: what CPUID and a few MSRs show.

use super::{Call, Done};
use crate::facts::{host, policies};
use crate::machine::X86;
use alloc::boxed::Box;
use core::sync::atomic::Ordering::SeqCst;
use cpu_policy::{Bad, FEATURESET_WORDS, FeatureSet, MAX_LEAVES, MAX_MSRS, Policy};
use domain::{Domain, Hypervisor};
use platform::GuestMemory;
use types::{Errno, Result};
use xen_abi::GuestHandle;
use xen_abi::arch_x86::{CpuidLeaf, MsrEntry};
use xen_abi::domctl::{CpuPolicy, XEN_CPUID_INPUT_UNUSED};
use xen_abi::sysctl;
use zerocopy::IntoBytes;

/// Where a policy goes, and how many entries there is room for: for leaves, and for MSRs.
struct Buffers {
    leaves: (GuestHandle<CpuidLeaf>, u32),
    msrs: (GuestHandle<MsrEntry>, u32),
}

/// Writes a policy; the numbers of leaves and MSRs written, or for no buffer the most there can be.
fn write(machine: &X86, policy: &Policy, to: &Buffers) -> Result<(u32, u32)> {
    let (mut leaves, mut msrs) = (MAX_LEAVES as u32, MAX_MSRS as u32);
    if !to.leaves.0.is_null() {
        leaves = 0;
        policy.write_leaves(|leaf| {
            if leaves == to.leaves.1 {
                return Err(Errno::NOBUFS);
            }
            machine.copy_out(to.leaves.0.offset(leaves.into()).address(), leaf.as_bytes())?;
            leaves += 1;
            Ok(())
        })?;
    }
    if !to.msrs.0.is_null() {
        msrs = 0;
        for entry in policy.write_msrs() {
            if msrs == to.msrs.1 {
                return Err(Errno::NOBUFS);
            }
            machine.copy_out(to.msrs.0.offset(msrs.into()).address(), entry.as_bytes())?;
            msrs += 1;
        }
    }
    Ok((leaves, msrs))
}

/// XEN_DOMCTL_get_cpu_policy.
pub fn get(call: Call<'_>, domain: &Domain<X86>, op: &mut CpuPolicy) -> Done {
    let to = Buffers { leaves: (op.leaves, op.nr_leaves), msrs: (op.msrs, op.nr_msrs) };
    let written = write(call.hypervisor.machine(), &domain.arch.policy.read(), &to);
    (op.nr_leaves, op.nr_msrs) = written?;
    Ok(true)
}

/// XEN_DOMCTL_set_cpu_policy: only before the domain first runs. Entries that are not given stay as they are.
pub fn set(call: Call<'_>, domain: &Domain<X86>, op: &mut CpuPolicy) -> Done {
    call.not_itself(domain)?;
    (op.err_leaf, op.err_subleaf, op.err_msr) =
        (XEN_CPUID_INPUT_UNUSED, XEN_CPUID_INPUT_UNUSED, XEN_CPUID_INPUT_UNUSED);
    if domain.started.load(SeqCst) {
        return Err(call.refuse(Errno::EXIST, format_args!("set_cpu_policy of {}, which has run", domain.id)));
    }
    if op.nr_leaves as usize > MAX_LEAVES || op.nr_msrs as usize > MAX_MSRS {
        let (leaves, msrs) = (op.nr_leaves, op.nr_msrs);
        let why = format_args!("set_cpu_policy of {}: {leaves} leaves, {msrs} MSRs are too many", domain.id);
        return Err(call.refuse(Errno::TOOBIG, why));
    }
    let mut policy = Box::new(domain.arch.policy.read().as_ref().clone());
    let mut refuse = |bad: Bad| {
        (op.err_leaf, op.err_subleaf, op.err_msr) = (bad.leaf, bad.subleaf, bad.msr);
        let (id, leaf, subleaf, msr) = (domain.id, bad.leaf, bad.subleaf, bad.msr);
        let why =
            format_args!("set_cpu_policy of {id}: leaf {leaf:#x} subleaf {subleaf:#x} MSR {msr:#x} cannot be had");
        call.refuse(bad.errno, why)
    };
    for index in 0..op.nr_leaves {
        let leaf = call.read::<CpuidLeaf>(op.leaves.offset(index.into()).address())?;
        policy.propose_leaf(&leaf).map_err(&mut refuse)?;
    }
    for index in 0..op.nr_msrs {
        let entry = call.read::<MsrEntry>(op.msrs.offset(index.into()).address())?;
        policy.propose_msr(&entry).map_err(&mut refuse)?;
    }
    let most = if domain.is_translated() { &policies().hvm_max } else { &policies().pv_max };
    policy.accept(most).map_err(&mut refuse)?;
    *domain.arch.policy.write() = policy;
    Ok(true)
}

/// XEN_SYSCTL_get_cpu_policy; `EOPNOTSUPP` for guests of a kind that the host cannot have.
pub fn of_host(hypervisor: &Hypervisor<X86>, op: &mut sysctl::CpuPolicy) -> Done {
    let all = policies();
    let policy = match op.index {
        _ if op._rsvd != 0 => return Err(Errno::INVAL),
        sysctl::XEN_SYSCTL_CPU_POLICY_RAW => &all.raw,
        sysctl::XEN_SYSCTL_CPU_POLICY_HOST => &all.host,
        sysctl::XEN_SYSCTL_CPU_POLICY_PV_MAX => &all.pv_max,
        sysctl::XEN_SYSCTL_CPU_POLICY_HVM_MAX => &all.hvm_max,
        sysctl::XEN_SYSCTL_CPU_POLICY_PV_DEFAULT => &all.pv_default,
        sysctl::XEN_SYSCTL_CPU_POLICY_HVM_DEFAULT => &all.hvm_default,
        _ => return Err(Errno::INVAL),
    };
    let is_hvm = matches!(op.index, sysctl::XEN_SYSCTL_CPU_POLICY_HVM_MAX | sysctl::XEN_SYSCTL_CPU_POLICY_HVM_DEFAULT);
    if is_hvm && !host().hvm {
        return Err(Errno::OPNOTSUPP);
    }
    let to = Buffers { leaves: (op.leaves, op.nr_leaves), msrs: (op.msrs, op.nr_msrs) };
    (op.nr_leaves, op.nr_msrs) = write(hypervisor.machine(), policy, &to)?;
    Ok(true)
}

/// XEN_SYSCTL_get_cpu_featureset.
pub fn features(hypervisor: &Hypervisor<X86>, op: &mut sysctl::CpuFeatureset) -> Done {
    let all = policies();
    if op.features.is_null() {
        op.nr_features = FEATURESET_WORDS as u32;
        return Ok(true);
    }
    let policy = match op.index {
        sysctl::XEN_SYSCTL_CPU_FEATURESET_RAW => &all.raw,
        sysctl::XEN_SYSCTL_CPU_FEATURESET_HOST => &all.host,
        sysctl::XEN_SYSCTL_CPU_FEATURESET_PV => &all.pv_default,
        sysctl::XEN_SYSCTL_CPU_FEATURESET_HVM => &all.hvm_default,
        sysctl::XEN_SYSCTL_CPU_FEATURESET_PV_MAX => &all.pv_max,
        sysctl::XEN_SYSCTL_CPU_FEATURESET_HVM_MAX => &all.hvm_max,
        _ => return Err(Errno::INVAL),
    };
    let words = FeatureSet::of(policy).0;
    let count = (op.nr_features as usize).min(words.len());
    hypervisor.machine().copy_out(op.features.address(), words[..count].as_bytes())?;
    op.nr_features = count as u32;
    if count < words.len() { Err(Errno::NOBUFS) } else { Ok(true) }
}
