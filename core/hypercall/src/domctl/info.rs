//! What the toolstack learns of a domain and its vCPUs.

use super::{Done, Target, vcpu};
use crate::Caller;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use domain::{Arch, Domain, Hypervisor, Life, Vcpu};
use sched::Runstate;
use xen_abi::arch_x86::ArchDomainConfig;
use xen_abi::domctl::*;

/// Nanoseconds that a vCPU has run.
fn time_run<A: Arch>(vcpu: &Vcpu<A>, now: u64) -> u64 {
    vcpu.runstate.lock().times_at(now)[Runstate::Running as usize]
}

/// What `xl list` shows (XEN_DOMCTL_getdomaininfo, XEN_SYSCTL_getdomaininfolist).
pub fn domain_info<A: Arch>(hypervisor: &Hypervisor<A>, domain: &Domain<A>) -> GetDomainInfo {
    let now = hypervisor.machine().system_time();
    let online = domain.vcpus().iter().filter(|vcpu| vcpu.is_up());
    let mut info: GetDomainInfo = zerocopy::FromZeros::new_zeroed();
    info.domain = domain.id.0;
    info.flags = flags(domain);
    info.tot_pages = domain.memory.total_pages();
    info.max_pages = domain.memory.max_pages();
    info.outstanding_pages = domain.memory.claimed_pages();
    // A translated domain puts it somewhere itself.
    let place = domain.is_translated().then(|| hypervisor.machine().m2p(domain.shared_info));
    info.shared_info_frame = place.unwrap_or(domain.shared_info.0);
    info.cpu_time = domain.vcpus().iter().map(|vcpu| time_run(vcpu, now)).sum();
    info.nr_online_vcpus = online.count() as u32;
    info.max_vcpu_id = (domain.vcpus().len() as u32).checked_sub(1).unwrap_or(XEN_INVALID_MAX_VCPU_ID);
    info.handle = *domain.handle.lock();
    info.cpupool = domain.creation.cpupool;
    info.gpaddr_bits = hypervisor.machine().host().address_bits;
    info.arch_config =
        ArchDomainConfig { emulation_flags: domain.creation.emulation_flags, misc_flags: domain.creation.misc_flags };
    info
}

fn flags<A: Arch>(domain: &Domain<A>) -> u32 {
    let mut flags = 0;
    let mut online = domain.vcpus().iter().filter(|vcpu| vcpu.is_up()).peekable();
    if online.peek().is_some() {
        flags |= XEN_DOMINF_BLOCKED;
    }
    for vcpu in online {
        if !vcpu.is_blocked() {
            flags &= !XEN_DOMINF_BLOCKED;
        }
        if vcpu.running_on().is_some() {
            flags |= XEN_DOMINF_RUNNING;
        }
    }
    let mut set = |flag, on| flags |= if on { flag } else { 0 };
    set(XEN_DOMINF_DYING, domain.life() == Life::Dead);
    set(XEN_DOMINF_SHUTDOWN, domain.shutdown_code().is_some());
    set(XEN_DOMINF_PAUSED, domain.toolstack_pauses.load(SeqCst) != 0);
    set(XEN_DOMINF_XS_DOMAIN, domain.is_store.load(Relaxed));
    set(XEN_DOMINF_HVM_GUEST, domain.creation.flags & XEN_DOMCTL_CDF_HVM != 0);
    set(XEN_DOMINF_HAP, domain.creation.flags & XEN_DOMCTL_CDF_HAP != 0);
    // A domain that has not shut down has all bits of the code set.
    let code = domain.shutdown_code().map_or(u32::MAX, |code| code.0.into());
    flags | code << XEN_DOMINF_SHUTDOWNSHIFT
}

/// XEN_DOMCTL_getvcpuinfo.
pub fn vcpu_info<A: Arch>(caller: &Caller<'_, A>, target: &Target<A>, op: &mut GetVcpuInfo) -> Done {
    let vcpu = vcpu(caller, target, op.vcpu)?;
    let running = vcpu.running_on();
    op.online = vcpu.is_up().into();
    op.blocked = vcpu.is_blocked().into();
    op.running = running.is_some().into();
    op.cpu_time = time_run(vcpu, caller.machine().system_time());
    op.cpu = running.map_or_else(|| super::affinity::last_cpu(caller, vcpu), |cpu| cpu.0);
    Ok(true)
}
