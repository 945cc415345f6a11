//! Calls with one small structure, or with 64-bit numbers in two arguments.

use crate::Call;
use crate::window::STRUCTURE;
use hypercall::{Args, Outcome};
use platform::{GuestMemory, Preempt};
use types::Result;
use xen_abi::GuestHandle;
use xen_abi::compat::{self, join};
use xen_abi::physdev::{PHYSDEVOP_SET_IOBITMAP, SetIobitmap};
use xen_abi::sched::{Poll, SCHEDOP_POLL};
use xen_abi::vcpu::{RunstateInfo, SetSingleshotTimer, VCPUOP_GET_RUNSTATE_INFO, VCPUOP_SET_SINGLESHOT_TIMER};
use xen_abi::version::{PlatformParameters, XENVER_PLATFORM_PARAMETERS};
use zerocopy::FromZeros;

/// The 64-bit number in two arguments, the lower half first.
pub(crate) fn wide(args: Args, first: usize) -> u64 {
    join([args[first] as u32, args[first + 1] as u32])
}

/// Deadline in two halves.
pub(crate) fn set_timer<M: GuestMemory + Preempt>(call: &mut Call<'_, '_, M>) -> Outcome {
    call.issue([wide(call.args, 0), 0, 0, 0, 0, 0])
}

/// Machine address and descriptor in two halves each.
pub(crate) fn update_descriptor<M: GuestMemory + Preempt>(call: &mut Call<'_, '_, M>) -> Outcome {
    call.issue([wide(call.args, 0), wide(call.args, 2), 0, 0, 0, 0])
}

/// The start of the hypervisor's addresses is another one, where any of a guest's are the hypervisor's.
pub(crate) fn version<M: GuestMemory + Preempt>(call: &mut Call<'_, '_, M>) -> Outcome {
    if call.args[0] as u32 != XENVER_PLATFORM_PARAMETERS {
        return call.issue(call.args);
    }
    let at = call.args[1];
    let outcome = with(call, 1, Ok(PlatformParameters::new_zeroed()));
    if outcome != Outcome::Done(0) {
        return outcome;
    }
    let narrow = call.read(STRUCTURE).map(|wide: PlatformParameters| compat::PlatformParameters {
        virt_start: if wide.virt_start == 0 { 0 } else { compat::HYPERVISOR_VIRT_START as u32 },
    });
    narrow.and_then(|narrow| call.write(at, &narrow)).into()
}

/// Has a call carried out whose structure, at argument `index`, is `structure` in 64-bit layout.
fn with<M: GuestMemory + Preempt, T: zerocopy::IntoBytes + zerocopy::Immutable>(
    call: &mut Call<'_, '_, M>,
    index: usize,
    structure: Result<T>,
) -> Outcome {
    if let Err(errno) = structure.and_then(|structure| call.write(STRUCTURE, &structure)) {
        return errno.into();
    }
    let mut args = call.args;
    args[index] = STRUCTURE;
    match call.issue(args) {
        Outcome::Again(_) => Outcome::Again(call.args),
        done => done,
    }
}

pub(crate) fn vcpu<M: GuestMemory + Preempt>(call: &mut Call<'_, '_, M>) -> Outcome {
    let at = call.args[2];
    match call.args[0] as u32 {
        VCPUOP_GET_RUNSTATE_INFO => {
            let outcome = with(call, 2, Ok(RunstateInfo::new_zeroed()));
            if outcome != Outcome::Done(0) {
                return outcome;
            }
            let narrow = call.read(STRUCTURE).map(|wide: RunstateInfo| compat::RunstateInfo::from(&wide));
            narrow.and_then(|narrow| call.write(at, &narrow)).into()
        }
        VCPUOP_SET_SINGLESHOT_TIMER => {
            let timer = call.read::<compat::SetSingleshotTimer>(at).map(|narrow| SetSingleshotTimer {
                timeout_abs_ns: join(narrow.timeout_abs_ns),
                flags: narrow.flags,
                _gap0: [0; 4],
            });
            with(call, 2, timer)
        }
        _ => call.issue(call.args),
    }
}

pub(crate) fn sched<M: GuestMemory + Preempt>(call: &mut Call<'_, '_, M>) -> Outcome {
    if call.args[0] as u32 != SCHEDOP_POLL {
        return call.issue(call.args);
    }
    let poll = call.read::<compat::Poll>(call.args[1]).map(|narrow| Poll {
        ports: GuestHandle::new(narrow.ports.into()),
        nr_ports: narrow.nr_ports,
        _gap0: [0; 4],
        timeout: join(narrow.timeout),
    });
    with(call, 1, poll)
}

pub(crate) fn physdev<M: GuestMemory + Preempt>(call: &mut Call<'_, '_, M>) -> Outcome {
    if call.args[0] as u32 != PHYSDEVOP_SET_IOBITMAP {
        return call.issue(call.args);
    }
    let bitmap = call.read::<compat::SetIobitmap>(call.args[1]).map(|narrow| SetIobitmap {
        bitmap: GuestHandle::new(narrow.bitmap.into()),
        nr_ports: narrow.nr_ports,
        _gap0: [0; 4],
    });
    with(call, 1, bitmap)
}
