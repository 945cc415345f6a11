//! `HYPERVISOR_sysctl`: what the toolstack asks about and of the host (sysctl.h).

mod host;
mod parts;
mod patches;
mod pools;
mod power;
mod reports;

use crate::{Args, Caller, Outcome, refuse};
use core::sync::atomic::Ordering::Relaxed;
use domain::Arch;
use types::{Errno, Result};
use xen_abi::GuestHandle;
use xen_abi::sysctl::*;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// What a command did to its structure: `true` has it copied back to the caller.
type Done = Result<bool>;

/// Carries out a sysctl.
pub fn sysctl<A: Arch>(caller: &Caller<'_, A>, args: Args) -> Outcome {
    let handle = GuestHandle::<Sysctl>::new(args[0]);
    let mut op = match caller.read(handle) {
        Ok(op) => op,
        Err(errno) => return errno.into(),
    };
    if let Err(errno) = check(caller, &op) {
        return errno.into();
    }
    let done = dispatch(caller, &mut op);
    // A buffer that was too small comes back with the size that it should have.
    if matches!(done, Ok(true) | Err(Errno::NOBUFS)) {
        if let Err(errno) = caller.write(handle, &op) {
            return errno.into();
        }
    }
    done.map(|_| 0).into()
}

fn check<A: Arch>(caller: &Caller<'_, A>, op: &Sysctl) -> Result<()> {
    if op.interface_version != XEN_SYSCTL_INTERFACE_VERSION {
        let (given, ours) = (op.interface_version, XEN_SYSCTL_INTERFACE_VERSION);
        return Err(refuse!(caller, ACCES, "sysctl {}: interface version {given:#x} is not {ours:#x}", op.cmd));
    }
    let for_store = op.cmd == XEN_SYSCTL_GETDOMAININFOLIST && caller.domain.is_store.load(Relaxed);
    if !caller.domain.is_privileged() && !for_store {
        return Err(refuse!(caller, PERM, "sysctl {}: the caller has no such right", op.cmd));
    }
    Ok(())
}

fn dispatch<A: Arch>(caller: &Caller<'_, A>, op: &mut Sysctl) -> Done {
    match op.cmd {
        XEN_SYSCTL_READCONSOLE => with(op, |op| reports::read_console(caller, op)),
        XEN_SYSCTL_PHYSINFO => with(op, |op| host::physical(caller, op)),
        XEN_SYSCTL_SCHED_ID => with(op, |op| pools::scheduler_id(caller, op)),
        XEN_SYSCTL_GETDOMAININFOLIST => with(op, |op| reports::domains(caller, op)),
        XEN_SYSCTL_DEBUG_KEYS => with(op, |op| reports::debug_keys(caller, op)),
        XEN_SYSCTL_GETCPUINFO => with(op, |op| host::idle_times(caller, op)),
        XEN_SYSCTL_AVAILHEAP => with(op, |op| host::free_memory(caller, op)),
        XEN_SYSCTL_CPUTOPOINFO => with(op, |op| host::cpu_topology(caller, op)),
        XEN_SYSCTL_NUMAINFO => with(op, |op| host::nodes(caller, op)),
        XEN_SYSCTL_PCITOPOINFO => with(op, |op| host::devices(caller, op)),
        XEN_SYSCTL_CPUPOOL_OP => with(op, |op| pools::pool(caller, op)),
        XEN_SYSCTL_SCHEDULER_OP => with(op, |op| pools::scheduler(caller, op)),
        XEN_SYSCTL_GET_PMSTAT => with(op, |op| power::statistics(caller, op)),
        XEN_SYSCTL_PM_OP => with(op, |op| power::operation(caller, op)),
        XEN_SYSCTL_CPU_HOTPLUG => with(op, |op| parts::cpu(caller, op)),
        XEN_SYSCTL_PAGE_OFFLINE_OP => with(op, |op| parts::pages(caller, op)),
        XEN_SYSCTL_LIVEPATCH_OP => with(op, |op| patches::operation(caller, op)),
        cmd => {
            if let Some(done) = caller.machine().sysctl(caller.hypervisor, cmd, payload(&mut op.u)) {
                return done.inspect_err(|errno| refused(caller, cmd, *errno));
            }
            let errno = absent(cmd);
            refused(caller, cmd, errno);
            Err(errno)
        }
    }
}

fn refused<A: Arch>(caller: &Caller<'_, A>, cmd: u32, errno: Errno) {
    if errno != Errno::NOBUFS {
        caller.hypervisor.log_refusal(caller.domain.id, errno, format_args!("sysctl {cmd}"));
    }
}

/// What Xen answers without the thing that a command is about.
fn absent(cmd: u32) -> Errno {
    match cmd {
        XEN_SYSCTL_PSR_CMT_OP | XEN_SYSCTL_PSR_ALLOC => Errno::NODEV,
        XEN_SYSCTL_COVERAGE_OP => Errno::OPNOTSUPP,
        _ => Errno::NOSYS,
    }
}

/// Lets a command work on its own structure.
fn with<T: FromBytes + IntoBytes + Immutable>(op: &mut Sysctl, act: impl FnOnce(&mut T) -> Done) -> Done {
    let mut value = op.u.read::<T>();
    let done = act(&mut value);
    op.u.write(&value);
    done
}

/// The structure of a command as bytes.
pub(crate) fn payload(union: &mut xen_abi::Union<u64, 16>) -> &mut [u8; 128] {
    // Sixteen words are 128 bytes: the conversion cannot fail.
    match <&mut [u8; 128]>::try_from(union.0.as_mut_bytes()) {
        Ok(bytes) => bytes,
        Err(_) => unreachable!("the union has 128 bytes"),
    }
}
