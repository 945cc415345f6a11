//! Single properties of a domain.

use super::{Done, Target};
use crate::{Caller, refuse};
use core::sync::atomic::Ordering::SeqCst;
use domain::{Arch, BoardSignal};
use evtchn::Scope;
use types::{PAGE_SIZE, VcpuId};
use xen_abi::domctl::*;

/// XEN_DOMCTL_max_mem. A limit below what the domain has only keeps it from getting more.
pub fn max_memory<A: Arch>(target: &Target<A>, op: &mut MaxMem) -> Done {
    let pages = op.max_memkb / (PAGE_SIZE as u64 >> 10);
    target.memory.set_max_pages(pages.min(u32::MAX.into()));
    Ok(false)
}

/// XEN_DOMCTL_settimeoffset.
pub fn time_offset<A: Arch>(caller: &Caller<'_, A>, target: &Target<A>, op: &mut SetTimeOffset) -> Done {
    target.time_offset.store(op.time_offset_seconds, SeqCst);
    caller.machine().update_wall_clock(target);
    Ok(false)
}

/// XEN_DOMCTL_subscribe: the port is looked at when the domain suspends.
pub fn subscribe<A: Arch>(target: &Target<A>, op: &mut Subscribe) -> Done {
    target.suspend_port.store(op.port, SeqCst);
    Ok(false)
}

/// XEN_DOMCTL_set_virq_handler.
pub fn virq_handler<A: Arch>(caller: &Caller<'_, A>, target: &Target<A>, op: &mut SetVirqHandler) -> Done {
    if op.virq as usize >= evtchn::NR_VIRQS || evtchn::scope(op.virq) != Scope::Global {
        return Err(refuse!(caller, INVAL, "set_virq_handler: VIRQ {} is not global", op.virq));
    }
    caller.hypervisor.virqs.set_handler(op.virq, target.id);
    Ok(false)
}

/// XEN_DOMCTL_sendtrigger. A PV guest has no buttons, but takes an NMI. A PVH guest's buttons do nothing.
pub fn trigger<A: Arch>(caller: &Caller<'_, A>, target: &Target<A>, op: &mut SendTrigger) -> Done {
    let Some(vcpu) = target.vcpu(VcpuId(op.vcpu)) else {
        return Err(refuse!(caller, SRCH, "sendtrigger: {} has no vCPU {}", target.id, op.vcpu));
    };
    match op.trigger {
        XEN_DOMCTL_SENDTRIGGER_NMI => {
            caller.hypervisor.send_nmi(vcpu);
            Ok(false)
        }
        XEN_DOMCTL_SENDTRIGGER_POWER | XEN_DOMCTL_SENDTRIGGER_SLEEP if target.is_translated() => {
            let is_power = op.trigger == XEN_DOMCTL_SENDTRIGGER_POWER;
            let button = if is_power { BoardSignal::PowerButton } else { BoardSignal::SleepButton };
            caller.machine().signal_board(caller.hypervisor, target, button)?;
            Ok(false)
        }
        XEN_DOMCTL_SENDTRIGGER_POWER | XEN_DOMCTL_SENDTRIGGER_SLEEP => {
            Err(refuse!(caller, INVAL, "sendtrigger: {} has no power and sleep buttons", target.id))
        }
        other => Err(refuse!(caller, NOSYS, "sendtrigger: trigger {other} is not supported")),
    }
}

/// XEN_DOMCTL_set_llc_colors: there are none. libxl takes just this answer for "not on this host".
pub fn colours<A: Arch>(caller: &Caller<'_, A>, target: &Target<A>, op: &mut SetLlcColors) -> Done {
    if op.pad != 0 {
        return Err(refuse!(caller, INVAL, "set_llc_colors on {}: padding is {:#x}", target.id, op.pad));
    }
    Err(types::Errno::OPNOTSUPP)
}
