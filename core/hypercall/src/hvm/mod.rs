//! hvm_op and dm_op (hvm/hvm_op.h, hvm/dm_op.h), which concern translated domains and refuse others.

mod emulator;
mod params;

pub use emulator::dm_op;

use crate::{Args, Caller, Outcome};
use domain::{Arch, Domain};
use p2m::Type;
use types::{Errno, Gfn, Result, VcpuId};
use xen_abi::GuestHandle;
use xen_abi::hvm_op::*;

/// Lower vectors cannot be sent to a local APIC (SDM vol. 3, 11.5.2).
const FIRST_VECTOR: u8 = 16;
/// Bits of a trace event's number that a guest may choose (`TRC_SUBCLS_SHIFT`, trace.h).
const TRACE_EVENT_BITS: u16 = 12;

/// HYPERVISOR_hvm_op: operation, address of its structure.
pub fn hvm_op<A: Arch>(caller: &Caller<'_, A>, args: Args) -> Outcome {
    let at = args[1];
    let result = match args[0] as u32 {
        HVMOP_SET_PARAM => params::set(caller, GuestHandle::new(at)),
        HVMOP_GET_PARAM => params::get(caller, GuestHandle::new(at)),
        HVMOP_FLUSH_TLBS if at == 0 => flush(caller),
        HVMOP_FLUSH_TLBS => Err(Errno::INVAL),
        HVMOP_SET_EVTCHN_UPCALL_VECTOR => set_upcall_vector(caller, GuestHandle::new(at)),
        HVMOP_PAGETABLE_DYING => {
            // What page tables a guest gives up matters to shadow paging only.
            let call = caller.read(GuestHandle::<HvmPagetableDying>::new(at));
            call.and_then(|call| caller.any_domain(call.domid)).and(Err(Errno::INVAL))
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

/// Refuses PV domains.
fn translated<A: Arch>(domain: &Domain<A>) -> Result<()> {
    if domain.is_translated() { Ok(()) } else { Err(Errno::INVAL) }
}

/// HVMOP_flush_tlbs: the guest's CPUs forget all its translations.
fn flush<A: Arch>(caller: &Caller<'_, A>) -> Result<()> {
    translated(caller.domain)?;
    caller.hypervisor.memory.flush_domain(&caller.domain.memory);
    Ok(())
}

/// HVMOP_set_evtchn_upcall_vector.
fn set_upcall_vector<A: Arch>(caller: &Caller<'_, A>, at: GuestHandle<HvmEvtchnUpcallVector>) -> Result<()> {
    translated(caller.domain)?;
    let call = caller.read(at)?;
    if call.vector < FIRST_VECTOR {
        return Err(Errno::INVAL);
    }
    let vcpu = caller.domain.vcpu(VcpuId(call.vcpu)).ok_or(Errno::NOENT)?;
    caller.machine().set_upcall_vector(caller.hypervisor, vcpu, call.vector)
}

/// HVMOP_get_mem_type.
fn mem_type<A: Arch>(caller: &Caller<'_, A>, at: GuestHandle<HvmGetMemType>) -> Result<()> {
    let mut call = caller.read(at)?;
    let domain = caller.controlled_domain(call.domid)?;
    let p2m = domain.p2m().ok_or(Errno::INVAL)?;
    call.mem_type = match p2m.get(Gfn(call.pfn)).ty {
        Type::IoreqServer => HVMMEM_IOREQ_SERVER,
        Type::RamRo | Type::RamLogdirty | Type::GrantMapRo => HVMMEM_RAM_RO,
        Type::RamRw | Type::PopulateOnDemand | Type::GrantMapRw => HVMMEM_RAM_RW,
        Type::MmioDirect | Type::MmioDm | Type::Invalid | Type::RamBroken | Type::MapForeign => HVMMEM_MMIO_DM,
    };
    caller.write(at, &call)
}

/// There are no trace buffers, as in a Xen that does not trace: a record that could be written goes nowhere.
fn trace<A: Arch>(caller: &Caller<'_, A>, at: GuestHandle<HvmXentrace>) -> Result<()> {
    let call = caller.read(at)?;
    if usize::from(call.extra_bytes) > call.extra.len() || call.event >> TRACE_EVENT_BITS != 0 {
        return Err(Errno::INVAL);
    }
    Ok(())
}
