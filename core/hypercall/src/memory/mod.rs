//! memory_op (memory.h).

mod access;
mod exchange;
mod maps;
pub(crate) mod physmap;
pub(crate) mod placement;
mod query;
mod reservation;
mod resource;

use crate::{Args, Caller, Outcome};
use domain::Arch;
use types::Errno;
use xen_abi::memory::*;

/// The operation is in the low bits of the first argument; what of it is done already is above them.
const COMMAND_BITS: u32 = 6;
/// Most extents whose progress fits above the operation.
const MAX_EXTENTS: u64 = (u32::MAX >> COMMAND_BITS) as u64;

/// Orders of extents that a domain, and the control domain, may ask for at most.
const MAX_GUEST_ORDER: u32 = 9;
const MAX_CONTROL_ORDER: u32 = 18;

/// Whether a call takes frames from where they are in the caller's memory, so that others who have mapped them there must look
/// anew.
pub fn takes_frames_away(args: Args) -> bool {
    let op = args[0] as u32 & ((1 << COMMAND_BITS) - 1);
    matches!(op, XENMEM_DECREASE_RESERVATION | XENMEM_REMOVE_FROM_PHYSMAP | XENMEM_ADD_TO_PHYSMAP)
}

/// HYPERVISOR_memory_op: operation, address of its structure.
pub fn memory_op<A: Arch>(caller: &Caller<'_, A>, args: Args) -> Outcome {
    let (op, done) = (args[0] as u32 & ((1 << COMMAND_BITS) - 1), args[0] >> COMMAND_BITS);
    match op {
        XENMEM_INCREASE_RESERVATION | XENMEM_DECREASE_RESERVATION | XENMEM_POPULATE_PHYSMAP => {
            reservation::change(caller, op, args, done)
        }
        XENMEM_EXCHANGE => exchange::exchange(caller, args),
        XENMEM_ACQUIRE_RESOURCE => resource::acquire(caller, args, done),
        XENMEM_CLAIM_PAGES => reservation::claim(caller, args[1]).into(),
        XENMEM_MAXIMUM_RAM_PAGE => Outcome::Done(caller.hypervisor.memory.frames().len() as i64),
        XENMEM_CURRENT_RESERVATION | XENMEM_MAXIMUM_RESERVATION | XENMEM_MAXIMUM_GPFN => {
            query::figure(caller, op, args[1]).into()
        }
        // Frames of the machine are no matter of a translated guest's.
        XENMEM_MACHPHYS_MAPPING | XENMEM_MACHINE_MEMORY_MAP if caller.domain.is_translated() => Errno::NOSYS.into(),
        XENMEM_MACHPHYS_MAPPING => query::machphys_mapping(caller, args[1]).into(),
        XENMEM_MACHPHYS_MFN_LIST => query::machphys_frames(caller, args[1]).into(),
        XENMEM_MACHINE_MEMORY_MAP => maps::machine(caller, args[1]).into(),
        XENMEM_MEMORY_MAP => maps::own(caller, args[1]).into(),
        XENMEM_SET_MEMORY_MAP => maps::set(caller, args[1]).into(),
        XENMEM_RESERVED_DEVICE_MEMORY_MAP => maps::reserved_for_devices(caller, args[1]).into(),
        XENMEM_ADD_TO_PHYSMAP => physmap::add(caller, args, done),
        XENMEM_ADD_TO_PHYSMAP_BATCH => physmap::add_batch(caller, args, done),
        XENMEM_REMOVE_FROM_PHYSMAP => physmap::remove(caller, args[1]).into(),
        XENMEM_SET_POD_TARGET | XENMEM_GET_POD_TARGET => physmap::on_demand(caller, args, op),
        // Nothing is shared between guests.
        XENMEM_GET_SHARING_FREED_PAGES | XENMEM_GET_SHARING_SHARED_PAGES => Outcome::Done(0),
        XENMEM_ACCESS_OP => access::access_op(caller, args, done),
        // There are no 32-bit guests, to which it would be shown.
        XENMEM_MACHPHYS_COMPAT_MFN_LIST => Errno::OPNOTSUPP.into(),
        XENMEM_GET_VNUMAINFO => query::virtual_numa(caller, args[1]).into(),
        _ => Errno::NOSYS.into(),
    }
}

/// The operation again, with `done` parts of it done.
fn again(args: Args, op: u32, done: u64) -> Outcome {
    let mut args = args;
    args[0] = u64::from(op) | done << COMMAND_BITS;
    Outcome::Again(args)
}

/// The highest order of an extent that the caller may ask for.
fn max_order<A: Arch>(caller: &Caller<'_, A>) -> u32 {
    if caller.domain.is_privileged() { MAX_CONTROL_ORDER } else { MAX_GUEST_ORDER }
}

/// Width of the addresses that a reservation asks for, 64 for any.
///
/// # Errors
/// `EINVAL` for fewer bits than a frame has.
fn address_bits(mem_flags: u32) -> types::Result<u32> {
    match mem_flags_address_bits(mem_flags) {
        0 => Ok(64),
        bits if bits <= types::PAGE_SHIFT => Err(Errno::INVAL),
        bits => Ok(bits),
    }
}
