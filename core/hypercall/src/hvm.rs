//! hvm_op and dm_op (hvm/hvm_op.h, hvm/dm_op.h). No domain is an HVM guest, so what concerns one refuses every domain.

use crate::{Args, Caller, Outcome};
use domain::Arch;
use types::{Errno, Result};
use xen_abi::GuestHandle;
use xen_abi::dm_op::DmOpBuf;
use xen_abi::hvm_op::*;
use xen_abi::hvm_params::HVM_NR_PARAMS;

/// Buffers that a device model's request may have.
const MAX_BUFFERS: u32 = 2;
/// Bits of a trace event's number that a guest may choose (`TRC_SUBCLS_SHIFT`, trace.h).
const TRACE_EVENT_BITS: u16 = 12;

/// HYPERVISOR_hvm_op: operation, address of its structure.
pub fn hvm_op<A: Arch>(caller: &Caller<'_, A>, args: &Args) -> Outcome {
    let at = args[1];
    let result = match args[0] as u32 {
        HVMOP_SET_PARAM | HVMOP_GET_PARAM => parameter(caller, GuestHandle::new(at)),
        HVMOP_FLUSH_TLBS | HVMOP_SET_EVTCHN_UPCALL_VECTOR => Err(Errno::INVAL),
        HVMOP_PAGETABLE_DYING => {
            caller.read(GuestHandle::<HvmPagetableDying>::new(at)).and_then(|call| no_hvm_guest(caller, call.domid))
        }
        HVMOP_GET_MEM_TYPE => mem_type(caller, GuestHandle::new(at)),
        HVMOP_GET_TIME => caller.write(GuestHandle::new(at), &HvmGetTime { now: caller.machine().system_time() }),
        HVMOP_XENTRACE => trace(caller, GuestHandle::new(at)),
        // Whoever listens for a guest's requests does so for HVM guests only.
        HVMOP_GUEST_REQUEST_VM_EVENT if at == 0 => Ok(()),
        HVMOP_GUEST_REQUEST_VM_EVENT => Err(Errno::INVAL),
        HVMOP_ALTP2M => Err(Errno::OPNOTSUPP),
        _ => Err(Errno::NOSYS),
    };
    result.into()
}

/// HYPERVISOR_dm_op: domain, number of buffers, address of their list.
pub fn dm_op<A: Arch>(caller: &Caller<'_, A>, args: &Args) -> Outcome {
    let (domain, count, list) = (args[0] as u16, args[1] as u32, GuestHandle::<DmOpBuf>::new(args[2]));
    let request = || -> Result<()> {
        if count > MAX_BUFFERS {
            return Err(Errno::TOOBIG);
        }
        for index in 0..count {
            caller.read(list.offset(index.into()))?;
        }
        if count == 0 {
            return Err(Errno::NODATA);
        }
        caller.other_domain(domain)?;
        Err(Errno::INVAL)
    };
    request().into()
}

/// The answer about a domain, which is no HVM guest.
fn no_hvm_guest<A: Arch>(caller: &Caller<'_, A>, raw: u16) -> Result<()> {
    caller.any_domain(raw)?;
    Err(Errno::INVAL)
}

fn parameter<A: Arch>(caller: &Caller<'_, A>, at: GuestHandle<HvmParam>) -> Result<()> {
    let call = caller.read(at)?;
    if call.index >= HVM_NR_PARAMS {
        return Err(Errno::INVAL);
    }
    no_hvm_guest(caller, call.domid)
}

fn mem_type<A: Arch>(caller: &Caller<'_, A>, at: GuestHandle<HvmGetMemType>) -> Result<()> {
    let call = caller.read(at)?;
    caller.controlled_domain(call.domid)?;
    Err(Errno::INVAL)
}

/// There are no trace buffers, as in a Xen that does not trace: a record that could be written goes nowhere.
fn trace<A: Arch>(caller: &Caller<'_, A>, at: GuestHandle<HvmXentrace>) -> Result<()> {
    let call = caller.read(at)?;
    if usize::from(call.extra_bytes) > call.extra.len() || call.event >> TRACE_EVENT_BITS != 0 {
        return Err(Errno::INVAL);
    }
    Ok(())
}
