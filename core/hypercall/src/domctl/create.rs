//! New domains and their vCPUs.

use super::{Done, Target, not_itself};
use crate::sysctl::payload;
use crate::{Caller, refuse};
use core::sync::atomic::Ordering::Relaxed;
use domain::{Arch, Creation};
use types::{DomId, Errno, Result};
use xen_abi::domctl::*;

/// Flags that exist.
const FLAGS: u32 = XEN_DOMCTL_CDF_HVM
    | XEN_DOMCTL_CDF_HAP
    | XEN_DOMCTL_CDF_S3_INTEGRITY
    | XEN_DOMCTL_CDF_OOS_OFF
    | XEN_DOMCTL_CDF_XS_DOMAIN
    | XEN_DOMCTL_CDF_IOMMU
    | XEN_DOMCTL_CDF_NESTED_VIRT
    | XEN_DOMCTL_CDF_VPMU;
/// vCPUs of a PV domain and of a translated one at most.
const MAX_PV_VCPUS: u32 = 8192;
const MAX_HVM_VCPUS: u32 = 128;
/// Limits of grant tables where the toolstack names none.
const GRANT_FRAMES: u32 = 64;
const MAPTRACK_FRAMES: u32 = 1024;
/// Limits that no toolstack may pass.
const MOST_GRANT_FRAMES: u32 = 1 << 14;
const MOST_MAPTRACK_FRAMES: u32 = 1 << 16;

/// XEN_DOMCTL_createdomain.
pub fn create<A: Arch>(caller: &Caller<'_, A>, op: &mut Domctl) -> Done {
    let id = number(caller, op.domain)?;
    let asked = op.u.read::<CreateDomain>();
    let creation = check(caller, &asked)?;
    let arch = caller.machine().domctl(caller.hypervisor, caller.domain, op.cmd, None, payload(&mut op.u));
    arch.transpose()?;
    let made = caller.hypervisor.create_domain(id, creation);
    let domain = made.inspect_err(|errno| {
        caller.hypervisor.log_refusal(caller.domain.id, *errno, format_args!("createdomain: {id} cannot be made"));
    })?;
    domain.is_store.store(asked.flags & XEN_DOMCTL_CDF_XS_DOMAIN != 0, Relaxed);
    op.domain = id.0;
    Ok(true)
}

/// The number for a new domain: the one that the toolstack wants, or for 0 and reserved numbers the next that is free.
fn number<A: Arch>(caller: &Caller<'_, A>, wanted: u16) -> Result<DomId> {
    let hypervisor = caller.hypervisor;
    // A number stays in use as long as frames of its last domain do.
    let is_free = |id| hypervisor.domains.get(id).is_none() && hypervisor.memory.account(id).is_none();
    let wanted = DomId(wanted);
    if wanted != DomId::DOM0 && wanted.is_real() {
        if is_free(wanted) {
            return Ok(wanted);
        }
        return Err(refuse!(caller, EXIST, "createdomain: there is {wanted}"));
    }
    let last = hypervisor.last_domain.load(Relaxed);
    let count = DomId::FIRST_RESERVED.0 - 1;
    let mut next = (0..count).map(|step| DomId(((u32::from(last) + u32::from(step)) % u32::from(count) + 1) as u16));
    let found =
        next.find(|&id| is_free(id)).ok_or_else(|| refuse!(caller, NOMEM, "createdomain: no number is free"))?;
    hypervisor.last_domain.store(found.0, Relaxed);
    Ok(found)
}

fn check<A: Arch>(caller: &Caller<'_, A>, asked: &CreateDomain) -> Result<Creation> {
    check_flags(caller, asked)?;
    check_sizes(caller, asked)?;
    let limit = |given: i32, default| u32::try_from(given).unwrap_or(default);
    Ok(Creation {
        handle: asked.handle,
        privileged: false,
        max_vcpus: asked.max_vcpus,
        max_evtchn_port: asked.max_evtchn_port.min(i32::MAX as u32),
        max_grant_frames: limit(asked.max_grant_frames, GRANT_FRAMES),
        max_maptrack_frames: limit(asked.max_maptrack_frames, MAPTRACK_FRAMES),
        max_grant_version: asked.grant_opts & XEN_DOMCTL_GRANT_VERSION_MASK,
        flags: asked.flags,
        emulation_flags: asked.arch.emulation_flags,
        misc_flags: asked.arch.misc_flags,
        cpupool: asked.cpupool_id,
        max_frames: 0,
    })
}

fn check_flags<A: Arch>(caller: &Caller<'_, A>, asked: &CreateDomain) -> Result<()> {
    let has = |flag| asked.flags & flag != 0;
    let (hvm, hap) = (has(XEN_DOMCTL_CDF_HVM), has(XEN_DOMCTL_CDF_HAP));
    let flags = asked.flags;
    let wrong = if flags & !FLAGS != 0 {
        "flags that do not exist"
    } else if hvm && !caller.machine().host().hvm {
        "HVM and PVH guests are not supported"
    } else if hap && !hvm {
        "hardware-assisted paging is for HVM guests"
    } else if has(XEN_DOMCTL_CDF_S3_INTEGRITY) {
        "memory integrity over suspend is not supported"
    } else if has(XEN_DOMCTL_CDF_IOMMU) {
        "there is no IOMMU"
    } else if asked.iommu_opts != 0 {
        "IOMMU options without the IOMMU flag"
    } else if has(XEN_DOMCTL_CDF_NESTED_VIRT) {
        "nested virtualisation is not supported"
    } else if has(XEN_DOMCTL_CDF_VPMU) {
        "performance counters are not supported"
    } else if asked.altp2m_opts != 0 {
        "alternate physical maps are not supported"
    } else if hvm && !hap {
        return Err(refuse!(caller, OPNOTSUPP, "createdomain: HVM guests need hardware-assisted paging (hap=1)"));
    } else {
        return Ok(());
    };
    Err(refuse!(caller, INVAL, "createdomain: {wrong} (flags {flags:#x}, iommu_opts {:#x})", asked.iommu_opts))
}

fn check_sizes<A: Arch>(caller: &Caller<'_, A>, asked: &CreateDomain) -> Result<()> {
    let most = if asked.flags & XEN_DOMCTL_CDF_HVM != 0 { MAX_HVM_VCPUS } else { MAX_PV_VCPUS };
    if asked.max_vcpus < 1 || asked.max_vcpus > most {
        return Err(refuse!(caller, INVAL, "createdomain: max_vcpus {} is not 1 to {most}", asked.max_vcpus));
    }
    if asked.grant_opts & !XEN_DOMCTL_GRANT_VERSION_MASK != 0 || !(1..=2).contains(&asked.grant_opts) {
        return Err(refuse!(caller, INVAL, "createdomain: grant_opts {:#x}: version 1 or 2", asked.grant_opts));
    }
    let (grants, maptrack) = (asked.max_grant_frames, asked.max_maptrack_frames);
    if grants == 0 || grants > MOST_GRANT_FRAMES as i32 || maptrack > MOST_MAPTRACK_FRAMES as i32 {
        return Err(refuse!(caller, INVAL, "createdomain: {grants} grant frames, {maptrack} maptrack frames"));
    }
    if asked.vmtrace_size != 0 {
        return Err(refuse!(caller, INVAL, "createdomain: trace buffers are not supported"));
    }
    if asked.cpupool_id != 0 {
        return Err(refuse!(caller, SRCH, "createdomain: no CPU pool {}", asked.cpupool_id));
    }
    Ok(())
}

/// XEN_DOMCTL_max_vcpus: makes the vCPUs that the domain was created for.
pub fn vcpus<A: Arch>(caller: &Caller<'_, A>, target: &Target<A>, op: &mut MaxVcpus) -> Done {
    not_itself(caller, target, "max_vcpus")?;
    let most = target.creation.max_vcpus;
    if op.max != most {
        return Err(refuse!(caller, INVAL, "max_vcpus: {} was created for {most} vCPUs, not {}", target.id, op.max));
    }
    match caller.hypervisor.create_vcpus(target) {
        // They are there already.
        Ok(()) | Err(Errno::EXIST) => Ok(false),
        Err(errno) => {
            caller.hypervisor.log_refusal(
                caller.domain.id,
                errno,
                format_args!("max_vcpus: {most} vCPUs for {}", target.id),
            );
            Err(errno)
        }
    }
}
