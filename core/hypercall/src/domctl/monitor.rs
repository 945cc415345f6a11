//! Who watches a domain (vm_event.h).

use super::{Done, Target};
use crate::{Caller, refuse};
use core::sync::atomic::Ordering::Relaxed;
use domain::{Arch, Life};
use types::{Errno, Gfn};
use xen_abi::domctl::*;
use xen_abi::hvm_params::HVM_PARAM_MONITOR_RING_PFN;
use xen_abi::vm_event::VM_EVENT_INTERFACE_VERSION;

/// XEN_DOMCTL_vm_event_op. One of its operations is about no domain.
pub fn vm_event<A: Arch>(caller: &Caller<'_, A>, target: Option<&Target<A>>, op: &mut VmEventOp) -> Done {
    if op.op == XEN_VM_EVENT_GET_VERSION {
        op.u.write(&VM_EVENT_INTERFACE_VERSION);
        return Ok(true);
    }
    let target = target.ok_or(Errno::SRCH)?;
    let id = target.id;
    if id == caller.domain.id {
        return Err(refuse!(caller, INVAL, "vm_event_op: {id} cannot watch itself"));
    }
    if target.life() != Life::Alive {
        return Ok(true);
    }
    if target.vcpus().is_empty() {
        return Err(refuse!(caller, INVAL, "vm_event_op: {id} has no vCPUs"));
    }
    if op.mode != XEN_DOMCTL_VM_EVENT_OP_MONITOR {
        return Err(refuse!(caller, NOSYS, "vm_event_op on {id}: ring {}, for paging or sharing, is absent", op.mode));
    }
    let (Some(monitor), Some(translated)) = (caller.hypervisor.monitor(target), &target.translated) else {
        return Err(refuse!(caller, OPNOTSUPP, "vm_event_op on {id}, which is PV"));
    };
    match op.op {
        XEN_VM_EVENT_ENABLE => {
            let gfn = translated.params[HVM_PARAM_MONITOR_RING_PFN as usize].load(Relaxed);
            let port = monitor.enable(Gfn(gfn), caller.domain.id);
            let port = port.inspect_err(|errno| {
                let why = format_args!("vm_event_op on {id}: ring at {gfn:#x}");
                caller.hypervisor.log_refusal(caller.domain.id, *errno, why);
            })?;
            op.u.write(&VmEventOpEnable { port });
        }
        XEN_VM_EVENT_DISABLE => monitor.disable()?,
        XEN_VM_EVENT_RESUME => caller.hypervisor.resume_watched(target)?,
        other => return Err(refuse!(caller, NOSYS, "vm_event_op {other} on {id}")),
    }
    Ok(true)
}

/// XEN_DOMCTL_monitor_op: which events are to be told beside accesses that pages' rights do not allow. There are none.
pub fn events<A: Arch>(caller: &Caller<'_, A>, target: &Target<A>, op: &mut MonitorOp) -> Done {
    let id = target.id;
    if id == caller.domain.id {
        return Err(refuse!(caller, PERM, "monitor_op: {id} cannot watch itself"));
    }
    match op.op {
        XEN_DOMCTL_MONITOR_OP_ENABLE | XEN_DOMCTL_MONITOR_OP_DISABLE if op.event > 31 => {
            Err(refuse!(caller, INVAL, "monitor_op on {id}: event {}", op.event))
        }
        XEN_DOMCTL_MONITOR_OP_ENABLE | XEN_DOMCTL_MONITOR_OP_DISABLE => {
            Err(refuse!(caller, OPNOTSUPP, "monitor_op on {id}: event {} is never told", op.event))
        }
        XEN_DOMCTL_MONITOR_OP_GET_CAPABILITIES => {
            op.event = 0;
            Ok(true)
        }
        other => Err(refuse!(caller, OPNOTSUPP, "monitor_op {other} on {id}")),
    }
}

/// XEN_DOMCTL_set_access_required.
pub fn access_required<A: Arch>(caller: &Caller<'_, A>, target: &Target<A>, op: &mut SetAccessRequired) -> Done {
    if target.id == caller.domain.id {
        return Err(refuse!(caller, PERM, "set_access_required: {} cannot watch itself", target.id));
    }
    if let Some(translated) = &target.translated {
        translated.watched.set_required(op.access_required != 0);
    }
    Ok(false)
}
