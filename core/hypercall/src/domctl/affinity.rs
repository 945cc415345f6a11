//! Where vCPUs run and how much.

use super::{Done, Target, vcpu};
use crate::{Caller, bitmap, refuse};
use domain::{Arch, Vcpu, group_of};
use sched::{Affinity, Scheduler, Share};
use types::{CpuId, CpuMask, Result};
use xen_abi::domctl::*;

/// All CPUs of the host.
fn all<A: Arch>(caller: &Caller<'_, A>) -> CpuMask {
    CpuMask::first_cpus(caller.hypervisor.cpus.len())
}

/// Where a vCPU that does not run would be looked for: the first CPU it may use.
pub(super) fn last_cpu<A: Arch>(caller: &Caller<'_, A>, vcpu: &Vcpu<A>) -> u32 {
    let scheduler = caller.hypervisor.scheduler.lock();
    let cpu = scheduler.cpu_of(vcpu.unit);
    let cpu = cpu.or_else(|| scheduler.affinity(vcpu.unit)?.hard.and(&all(caller)).first());
    cpu.map_or(0, |cpu| cpu.0)
}

/// Refuses flags without their bitmap, and no flags at all.
fn check<A: Arch>(caller: &Caller<'_, A>, op: &VcpuAffinity) -> Result<()> {
    let (hard, soft) = (op.flags & XEN_VCPUAFFINITY_HARD != 0, op.flags & XEN_VCPUAFFINITY_SOFT != 0);
    let missing = hard && op.cpumap_hard.bitmap.is_null() || soft && op.cpumap_soft.bitmap.is_null();
    if missing || !hard && !soft {
        return Err(refuse!(caller, INVAL, "vcpuaffinity: flags {:#x} without the bitmaps they name", op.flags));
    }
    Ok(())
}

/// The affinity of a vCPU as the scheduler has it.
fn affinity_of<A: Arch>(caller: &Caller<'_, A>, vcpu: &Vcpu<A>) -> Affinity {
    caller.hypervisor.scheduler.lock().affinity(vcpu.unit).unwrap_or_default()
}

/// XEN_DOMCTL_setvcpuaffinity. The bitmaps then hold what is in effect.
pub fn set<A: Arch>(caller: &Caller<'_, A>, target: &Target<A>, op: &mut VcpuAffinity) -> Done {
    let vcpu = vcpu(caller, target, op.vcpu)?;
    check(caller, op)?;
    let mut affinity = affinity_of(caller, vcpu);
    let (hard, soft) = (op.flags & XEN_VCPUAFFINITY_HARD != 0, op.flags & XEN_VCPUAFFINITY_SOFT != 0);
    if hard {
        affinity.hard = bitmap::read(caller, &op.cpumap_hard)?;
    }
    if soft {
        affinity.soft = bitmap::read(caller, &op.cpumap_soft)?;
    }
    if affinity.hard.and(&all(caller)).is_empty() {
        return Err(refuse!(caller, INVAL, "{}v{}: there is none of the CPUs {:?}", target.id, op.vcpu, affinity.hard));
    }
    let now = caller.machine().system_time();
    let moved = caller.hypervisor.scheduler.lock().set_affinity(vcpu.unit, affinity, now)?;
    if let Some(cpu) = moved {
        caller.hypervisor.reschedule(cpu);
    }
    let effective = affinity.hard.and(&all(caller));
    if hard {
        bitmap::write(caller, &op.cpumap_hard, &effective)?;
    }
    if soft {
        bitmap::write(caller, &op.cpumap_soft, &effective.and(&affinity.soft))?;
    }
    Ok(false)
}

/// XEN_DOMCTL_getvcpuaffinity.
pub fn get<A: Arch>(caller: &Caller<'_, A>, target: &Target<A>, op: &mut VcpuAffinity) -> Done {
    let vcpu = vcpu(caller, target, op.vcpu)?;
    check(caller, op)?;
    let affinity = affinity_of(caller, vcpu);
    if op.flags & XEN_VCPUAFFINITY_HARD != 0 {
        bitmap::write(caller, &op.cpumap_hard, &affinity.hard.and(&all(caller)))?;
    }
    if op.flags & XEN_VCPUAFFINITY_SOFT != 0 {
        bitmap::write(caller, &op.cpumap_soft, &affinity.soft.and(&all(caller)))?;
    }
    Ok(false)
}

/// All nodes of the machine.
fn all_nodes<A: Arch>(caller: &Caller<'_, A>) -> CpuMask {
    (0..caller.hypervisor.memory.nodes().count()).map(CpuId).collect()
}

/// XEN_DOMCTL_setnodeaffinity: memory is not chosen by node, so that any set means the same that has a node in it.
pub fn set_nodes<A: Arch>(caller: &Caller<'_, A>, target: &Target<A>, op: &mut NodeAffinity) -> Done {
    if bitmap::read(caller, &op.nodemap)?.and(&all_nodes(caller)).is_empty() {
        return Err(refuse!(caller, INVAL, "setnodeaffinity: {} would have no node", target.id));
    }
    Ok(false)
}

/// XEN_DOMCTL_getnodeaffinity.
pub fn get_nodes<A: Arch>(caller: &Caller<'_, A>, op: &mut NodeAffinity) -> Done {
    bitmap::write(caller, &op.nodemap, &all_nodes(caller))?;
    Ok(false)
}

/// XEN_DOMCTL_scheduler_op: all vCPUs of a domain have the same share, and one cap together.
pub fn scheduler<A: Arch>(caller: &Caller<'_, A>, target: &Target<A>, op: &mut SchedulerOp) -> Done {
    let ours = caller.hypervisor.scheduler.lock().id();
    if op.sched_id != ours {
        return Err(refuse!(caller, INVAL, "scheduler_op on {}: scheduler {} is not {ours}", target.id, op.sched_id));
    }
    match op.cmd {
        XEN_DOMCTL_SCHEDOP_GETINFO => {
            let share = share_of(caller, target);
            let cap = caller.hypervisor.scheduler.lock().cap(group_of(target.id));
            op.u.write(&SchedCredit2 { weight: share.weight, cap });
        }
        XEN_DOMCTL_SCHEDOP_PUTINFO => {
            let wanted = op.u.read::<SchedCredit2>();
            let mut share = share_of(caller, target);
            if wanted.weight != 0 {
                share.weight = wanted.weight;
            }
            for vcpu in target.vcpus() {
                caller.hypervisor.scheduler.lock().set_share(vcpu.unit, share)?;
            }
            caller.hypervisor.set_cap(target, wanted.cap)?;
        }
        other => {
            return Err(refuse!(caller, INVAL, "scheduler_op on {}: no command {other}", target.id));
        }
    }
    Ok(true)
}

fn share_of<A: Arch>(caller: &Caller<'_, A>, target: &Target<A>) -> Share {
    let scheduler = caller.hypervisor.scheduler.lock();
    let first = target.vcpus().first();
    first.and_then(|vcpu| scheduler.share(vcpu.unit)).unwrap_or_default()
}
