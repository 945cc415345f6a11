//! CPU pools and the scheduler's parameters. There is one pool, number 0, with every CPU.

use super::Done;
use crate::{Caller, bitmap, refuse};
use domain::Arch;
use sched::Scheduler;
use types::{CpuMask, DomId, Errno};
use xen_abi::sysctl::*;

/// XEN_SYSCTL_sched_id.
pub fn scheduler_id<A: Arch>(caller: &Caller<'_, A>, op: &mut SchedId) -> Done {
    op.sched_id = caller.hypervisor.scheduler.lock().id();
    Ok(true)
}

/// XEN_SYSCTL_cpupool_op.
pub fn pool<A: Arch>(caller: &Caller<'_, A>, op: &mut CpupoolOp) -> Done {
    match op.op {
        // The first pool from the given number on; asked for one after the last one, callers end their search.
        XEN_SYSCTL_CPUPOOL_OP_INFO if op.cpupool_id != 0 => Err(Errno::NOENT),
        XEN_SYSCTL_CPUPOOL_OP_INFO => {
            op.sched_id = caller.hypervisor.scheduler.lock().id();
            op.n_dom = domains(caller);
            let all = CpuMask::first_cpus(caller.hypervisor.cpus.len());
            bitmap::write(caller, &op.cpumap, &all)?;
            Ok(true)
        }
        XEN_SYSCTL_CPUPOOL_OP_FREEINFO => {
            bitmap::write(caller, &op.cpumap, &CpuMask::EMPTY)?;
            Ok(true)
        }
        XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN => move_domain(caller, op),
        XEN_SYSCTL_CPUPOOL_OP_DESTROY if op.cpupool_id != 0 => Err(refuse!(caller, NOENT, "no pool {}", op.cpupool_id)),
        XEN_SYSCTL_CPUPOOL_OP_DESTROY => Err(refuse!(caller, BUSY, "pool 0 has domains")),
        XEN_SYSCTL_CPUPOOL_OP_CREATE | XEN_SYSCTL_CPUPOOL_OP_ADDCPU | XEN_SYSCTL_CPUPOOL_OP_RMCPU => {
            Err(refuse!(caller, OPNOTSUPP, "cpupool operation {}: there is one pool", op.op))
        }
        other => Err(refuse!(caller, NOSYS, "cpupool operation {other} does not exist")),
    }
}

fn move_domain<A: Arch>(caller: &Caller<'_, A>, op: &CpupoolOp) -> Done {
    let id = u16::try_from(op.domid).map_or(DomId::INVALID, DomId);
    if id == DomId::DOM0 {
        return Err(refuse!(caller, INVAL, "dom0 stays in its pool"));
    }
    if caller.hypervisor.domains.get(id).is_none() {
        return Err(refuse!(caller, SRCH, "cpupool: no domain {}", op.domid));
    }
    if op.cpupool_id != 0 {
        return Err(refuse!(caller, NOENT, "no pool {}", op.cpupool_id));
    }
    Ok(true)
}

fn domains<A: Arch>(caller: &Caller<'_, A>) -> u32 {
    let mut count = 0;
    let mut from = DomId(0);
    while let Some(domain) = caller.hypervisor.domains.first_from(from) {
        count += 1;
        from = DomId(domain.id.0 + 1);
    }
    count
}

/// XEN_SYSCTL_scheduler_op.
pub fn scheduler<A: Arch>(caller: &Caller<'_, A>, op: &mut SchedulerOp) -> Done {
    if op.cmd != XEN_SYSCTL_SCHEDOP_PUTINFO && op.cmd != XEN_SYSCTL_SCHEDOP_GETINFO {
        return Err(refuse!(caller, INVAL, "scheduler operation {} does not exist", op.cmd));
    }
    if op.cpupool_id != 0 {
        return Err(refuse!(caller, SRCH, "no pool {}", op.cpupool_id));
    }
    let mut scheduler = caller.hypervisor.scheduler.lock();
    if op.sched_id != scheduler.id() {
        let ours = scheduler.id();
        drop(scheduler);
        return Err(refuse!(caller, INVAL, "scheduler {} is not the pool's, which is {ours}", op.sched_id));
    }
    if op.cmd == XEN_SYSCTL_SCHEDOP_PUTINFO {
        let wanted = op.u.read::<Credit2Schedule>();
        let set = scheduler.set_rate_limit(wanted.ratelimit_us);
        drop(scheduler);
        set.map_err(|_| refuse!(caller, INVAL, "rate limit of {} microseconds", wanted.ratelimit_us))?;
    } else {
        op.u.write(&Credit2Schedule { ratelimit_us: scheduler.rate_limit() });
    }
    Ok(true)
}
