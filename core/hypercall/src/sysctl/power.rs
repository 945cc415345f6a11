//! Power management. The hypervisor idles by HLT and leaves frequencies alone: settings are kept for who asks for them, and
//! there is no data of any CPU.

use super::Done;
use crate::{Caller, refuse};
use core::sync::atomic::Ordering::Relaxed;
use domain::Arch;
use types::{Errno, Result};
use xen_abi::sysctl::*;

fn check_cpu<A: Arch>(caller: &Caller<'_, A>, cpu: u32) -> Result<()> {
    if (cpu as usize) < caller.hypervisor.cpus.len() {
        return Ok(());
    }
    Err(refuse!(caller, INVAL, "power management of CPU {cpu}, which is not there"))
}

/// XEN_SYSCTL_get_pmstat. Neither idle states nor frequencies are driven.
pub fn statistics<A: Arch>(caller: &Caller<'_, A>, op: &mut GetPmStat) -> Done {
    check_cpu(caller, op.cpuid)?;
    Err(Errno::NODEV)
}

/// XEN_SYSCTL_pm_op.
pub fn operation<A: Arch>(caller: &Caller<'_, A>, op: &mut PmOp) -> Done {
    check_cpu(caller, op.cpuid)?;
    if op.cmd & PM_PARA_CATEGORY_MASK == CPUFREQ_PARA {
        return Err(Errno::INVAL);
    }
    let settings = &caller.hypervisor.power_settings;
    match op.cmd {
        XEN_SYSCTL_PM_OP_SET_SCHED_OPT_SMT => {
            let wanted = op.u.read::<u32>();
            op.u.write(&settings.packs_threads.swap(u32::from(wanted != 0), Relaxed));
        }
        XEN_SYSCTL_PM_OP_GET_MAX_CSTATE => {
            let limit = settings.idle_limits.get(op.cpuid as usize).ok_or(Errno::INVAL)?;
            op.u.write(&limit.load(Relaxed));
        }
        XEN_SYSCTL_PM_OP_SET_MAX_CSTATE => {
            let limit = settings.idle_limits.get(op.cpuid as usize).ok_or(Errno::INVAL)?;
            limit.store(op.u.read(), Relaxed);
        }
        // There is no policy of frequencies in which it could be.
        XEN_SYSCTL_PM_OP_ENABLE_TURBO | XEN_SYSCTL_PM_OP_DISABLE_TURBO => return Err(Errno::ACCES),
        cmd => return Err(refuse!(caller, NOSYS, "pm_op {cmd:#x}")),
    }
    Ok(true)
}
