//! `HYPERVISOR_domctl`: what the toolstack does to domains (domctl.h).

mod affinity;
mod create;
pub(crate) mod info;
mod life;
mod monitor;
mod paging;
mod permission;
mod settings;

use crate::sysctl::payload;
use crate::{Args, Caller, Outcome, refuse};
use alloc::sync::Arc;
use core::sync::atomic::Ordering::Relaxed;
use domain::{Arch, Domain};
use types::{DomId, Errno, Result};
use xen_abi::GuestHandle;
use xen_abi::domctl::*;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// What a command did to its structure: `true` has it copied back to the caller.
type Done = Result<bool>;
/// The domain that a command is about.
type Target<A> = Arc<Domain<A>>;

/// Carries out a domctl.
pub fn domctl<A: Arch>(caller: &Caller<'_, A>, args: Args) -> Outcome {
    let handle = GuestHandle::<Domctl>::new(args[0]);
    let mut op = match caller.read(handle) {
        Ok(op) => op,
        Err(errno) => return errno.into(),
    };
    if op.interface_version != XEN_DOMCTL_INTERFACE_VERSION {
        let (given, ours) = (op.interface_version, XEN_DOMCTL_INTERFACE_VERSION);
        return refuse!(caller, ACCES, "domctl {}: interface version {given:#x} is not {ours:#x}", op.cmd).into();
    }
    let target = match find(caller, &op) {
        Ok(target) => target,
        Err(errno) => return errno.into(),
    };
    // Commands go one by one. Waiting for another CPU's, which may wait for this vCPU, would be the end.
    let Some(guard) = caller.hypervisor.toolstack.try_lock() else {
        return Outcome::Again(args);
    };
    let done = match target {
        None if op.cmd == XEN_DOMCTL_VM_EVENT_OP => with(&mut op, |op| monitor::vm_event(caller, None, op)),
        None => create::create(caller, &mut op),
        Some(target) if op.cmd == XEN_DOMCTL_DESTROYDOMAIN => {
            // It takes long and has a lock of its own.
            drop(guard);
            life::destroy(caller, &target)
        }
        Some(target) => dispatch(caller, &target, &mut op),
    };
    if done == Err(Errno::RESTART) {
        return Outcome::Again(args);
    }
    if copies_back(op.cmd, done) {
        if let Err(errno) = caller.write(handle, &op) {
            return errno.into();
        }
    }
    done.map(|_| 0).into()
}

/// The domain that a command is about, `None` for a new one, and where it is about none; and whether the caller may.
fn find<A: Arch>(caller: &Caller<'_, A>, op: &Domctl) -> Result<Option<Target<A>>> {
    let privileged = caller.domain.is_privileged();
    if op.cmd == XEN_DOMCTL_CREATEDOMAIN {
        return if privileged { Ok(None) } else { Err(refuse!(caller, PERM, "createdomain: no such right")) };
    }
    if op.cmd == XEN_DOMCTL_VM_EVENT_OP && op.domain == DomId::INVALID.0 && privileged {
        return Ok(None);
    }
    let asks = op.cmd == XEN_DOMCTL_GETDOMAININFO;
    let Some(target) = caller.hypervisor.domains.get(DomId(op.domain)) else {
        // Toolstacks ask in order to learn that a domain has gone: no line for that.
        return Err(if asks {
            Errno::SRCH
        } else {
            refuse!(caller, SRCH, "domctl {}: no domain {}", op.cmd, op.domain)
        });
    };
    if privileged || asks && caller.domain.is_store.load(Relaxed) {
        Ok(Some(target))
    } else {
        Err(refuse!(caller, PERM, "domctl {} on {}: no such right", op.cmd, target.id))
    }
}

/// A failed command tells of a buffer that was too small and of what is wrong with a CPU policy.
fn copies_back(cmd: u32, done: Done) -> bool {
    match done {
        Ok(copy) => copy,
        Err(Errno::NOBUFS) => true,
        Err(_) => cmd == XEN_DOMCTL_SET_CPU_POLICY,
    }
}

fn dispatch<A: Arch>(caller: &Caller<'_, A>, target: &Target<A>, op: &mut Domctl) -> Done {
    match op.cmd {
        XEN_DOMCTL_PAUSEDOMAIN => life::pause(caller, target),
        XEN_DOMCTL_UNPAUSEDOMAIN => life::unpause(caller, target),
        XEN_DOMCTL_RESUMEDOMAIN => life::resume(caller, target),
        XEN_DOMCTL_MAX_VCPUS => with(op, |op| create::vcpus(caller, target, op)),
        XEN_DOMCTL_GETDOMAININFO => with(op, |info: &mut GetDomainInfo| {
            *info = info::domain_info(caller.hypervisor, target);
            Ok(true)
        }),
        XEN_DOMCTL_GETVCPUINFO => with(op, |op| info::vcpu_info(caller, target, op)),
        XEN_DOMCTL_SETVCPUAFFINITY => with(op, |op| affinity::set(caller, target, op)),
        XEN_DOMCTL_GETVCPUAFFINITY => with(op, |op| affinity::get(caller, target, op)),
        XEN_DOMCTL_SETNODEAFFINITY => with(op, |op| affinity::set_nodes(caller, target, op)),
        XEN_DOMCTL_GETNODEAFFINITY => with(op, |op| affinity::get_nodes(caller, op)),
        XEN_DOMCTL_SCHEDULER_OP => with(op, |op| affinity::scheduler(caller, target, op)),
        XEN_DOMCTL_MAX_MEM => with(op, |op| settings::max_memory(target, op)),
        XEN_DOMCTL_SETDOMAINHANDLE => with(op, |op: &mut SetDomainHandle| {
            *target.handle.lock() = op.handle;
            Ok(false)
        }),
        XEN_DOMCTL_SETTIMEOFFSET => with(op, |op| settings::time_offset(caller, target, op)),
        XEN_DOMCTL_SUBSCRIBE => with(op, |op| settings::subscribe(target, op)),
        XEN_DOMCTL_SET_VIRQ_HANDLER => with(op, |op| settings::virq_handler(caller, target, op)),
        XEN_DOMCTL_SENDTRIGGER => with(op, |op| settings::trigger(caller, target, op)),
        XEN_DOMCTL_SET_LLC_COLORS => with(op, |op| settings::colours(caller, target, op)),
        XEN_DOMCTL_IRQ_PERMISSION => with(op, |op| permission::interrupt(caller, target, op)),
        XEN_DOMCTL_GSI_PERMISSION => with(op, |op| permission::gsi(caller, target, op)),
        XEN_DOMCTL_IOMEM_PERMISSION => with(op, |op| permission::device_memory(caller, target, op)),
        XEN_DOMCTL_GET_PAGING_MEMPOOL_SIZE => with(op, |op| paging::pool_size(caller, target, op)),
        XEN_DOMCTL_SET_PAGING_MEMPOOL_SIZE => with(op, |op| paging::set_pool_size(caller, target, op)),
        XEN_DOMCTL_SHADOW_OP => with(op, |op| paging::shadow_op(caller, target, op)),
        XEN_DOMCTL_VM_EVENT_OP => with(op, |op| monitor::vm_event(caller, Some(target), op)),
        XEN_DOMCTL_MONITOR_OP => with(op, |op| monitor::events(caller, target, op)),
        XEN_DOMCTL_SET_ACCESS_REQUIRED => with(op, |op| monitor::access_required(caller, target, op)),
        _ => other(caller, target, op),
    }
}

/// The architecture's commands, and those that there are none of.
fn other<A: Arch>(caller: &Caller<'_, A>, target: &Target<A>, op: &mut Domctl) -> Done {
    let cmd = op.cmd;
    let done = caller.machine().domctl(caller.hypervisor, caller.domain, cmd, Some(target), payload(&mut op.u));
    done.unwrap_or_else(|| {
        let errno = absent(cmd);
        caller.hypervisor.log_refusal(caller.domain.id, errno, format_args!("domctl {cmd} on {}: absent", target.id));
        Err(errno)
    })
}

/// What Xen answers without the thing that a command is about.
fn absent(cmd: u32) -> Errno {
    match cmd {
        // For translated domains only.
        XEN_DOMCTL_GETHVMCONTEXT | XEN_DOMCTL_SETHVMCONTEXT | XEN_DOMCTL_GETHVMCONTEXT_PARTIAL => Errno::INVAL,
        XEN_DOMCTL_PSR_CMT_OP | XEN_DOMCTL_PSR_ALLOC => Errno::NODEV,
        XEN_DOMCTL_SETVNUMAINFO
        | XEN_DOMCTL_SOFT_RESET
        | XEN_DOMCTL_SETDEBUGGING
        | XEN_DOMCTL_ASSIGN_DEVICE
        | XEN_DOMCTL_TEST_ASSIGN_DEVICE
        | XEN_DOMCTL_DEASSIGN_DEVICE
        | XEN_DOMCTL_VMTRACE_OP => Errno::OPNOTSUPP,
        _ => Errno::NOSYS,
    }
}

/// Lets a command work on its own structure.
fn with<T: FromBytes + IntoBytes + Immutable>(op: &mut Domctl, act: impl FnOnce(&mut T) -> Done) -> Done {
    let mut value = op.u.read::<T>();
    let done = act(&mut value);
    op.u.write(&value);
    done
}

/// The vCPU that a command names.
///
/// # Errors
/// `EINVAL` for a number that the domain cannot have, `ESRCH` before its vCPUs are made.
fn vcpu<'a, A: Arch>(caller: &Caller<'_, A>, target: &'a Target<A>, number: u32) -> Result<&'a Arc<domain::Vcpu<A>>> {
    let (id, most) = (target.id, target.creation.max_vcpus);
    if number >= most {
        return Err(refuse!(caller, INVAL, "{id}: no vCPU {number}, it has {most}"));
    }
    let found = target.vcpu(types::VcpuId(number));
    found.ok_or_else(|| refuse!(caller, SRCH, "{id}: its vCPUs are not made yet"))
}

/// Refuses what a domain cannot do to itself.
///
/// # Errors
/// `EINVAL`.
fn not_itself<A: Arch>(caller: &Caller<'_, A>, target: &Target<A>, command: &str) -> Result<()> {
    if target.id == caller.domain.id {
        return Err(refuse!(caller, INVAL, "{command}: a domain cannot do that to itself"));
    }
    Ok(())
}
