//! memory_op: lists of frame numbers, and the structures that name them.

use crate::Call;
use crate::window::{LIST, LIST_FRAMES, SECOND_LIST, STRUCTURE};
use core::mem::offset_of;
use hypercall::Outcome;
use platform::{GuestMemory, Preempt};
use types::{Errno, Result};
use xen_abi::GuestHandle;
use xen_abi::compat;
use xen_abi::memory::*;
use zerocopy::FromZeros;

/// The operation is in the low bits of the first argument; what of it is done already is above them.
const COMMAND_BITS: u32 = 6;
/// Most extents whose progress fits above the operation.
const MAX_EXTENTS: u32 = u32::MAX >> COMMAND_BITS;
/// Highest order of an extent that anybody may ask for.
const MAX_ORDER: u32 = 18;

/// Operation, address of its structure.
pub(crate) fn memory_op<M: GuestMemory + Preempt>(call: &mut Call<'_, '_, M>) -> Outcome {
    let op = call.args[0] as u32 & ((1 << COMMAND_BITS) - 1);
    match op {
        XENMEM_INCREASE_RESERVATION | XENMEM_DECREASE_RESERVATION | XENMEM_POPULATE_PHYSMAP => reservation(call, op),
        XENMEM_EXCHANGE => exchange(call).unwrap_or_else(Outcome::from),
        XENMEM_MAXIMUM_RAM_PAGE | XENMEM_CURRENT_RESERVATION | XENMEM_MAXIMUM_RESERVATION | XENMEM_MAXIMUM_GPFN => {
            call.issue(call.args)
        }
        XENMEM_MACHPHYS_MAPPING => machphys_mapping(call).into(),
        XENMEM_MEMORY_MAP => memory_map(call).unwrap_or_else(Outcome::from),
        XENMEM_ADD_TO_PHYSMAP => add_to_physmap(call).unwrap_or_else(Outcome::from),
        XENMEM_REMOVE_FROM_PHYSMAP => remove_from_physmap(call).unwrap_or_else(Outcome::from),
        // The others are the toolstack's, or a translated guest's.
        _ => Errno::NOSYS.into(),
    }
}

fn widen(narrow: &compat::MemoryReservation, list: u64, count: u64) -> MemoryReservation {
    MemoryReservation {
        extent_start: GuestHandle::new(list),
        nr_extents: count,
        extent_order: narrow.extent_order,
        mem_flags: narrow.mem_flags,
        domid: narrow.domid,
        _gap0: [0; 6],
    }
}

/// Copies frame numbers from the guest's list to one in the window.
fn take_list<M: GuestMemory + Preempt>(call: &Call<'_, '_, M>, from: u64, to: u64, count: u64) -> Result<()> {
    (0..count).try_for_each(|index| {
        let frame: u32 = call.read(from + index * 4)?;
        call.write(to + index * 8, &u64::from(frame))
    })
}

/// Copies them back.
fn give_list<M: GuestMemory + Preempt>(call: &Call<'_, '_, M>, from: u64, to: u64, count: u64) -> Result<()> {
    (0..count).try_for_each(|index| {
        let frame: u64 = call.read(from + index * 8)?;
        call.write(to + index * 4, &(frame as u32))
    })
}

/// increase_reservation, decrease_reservation, populate_physmap: the number of extents done, whatever stopped them.
fn reservation<M: GuestMemory + Preempt>(call: &mut Call<'_, '_, M>, op: u32) -> Outcome {
    let mut done = u64::from(call.args[0] as u32 >> COMMAND_BITS);
    let Ok(narrow) = call.read::<compat::MemoryReservation>(call.args[1]) else {
        return Outcome::Done(done as i64);
    };
    let count = u64::from(narrow.nr_extents);
    if narrow.nr_extents > MAX_EXTENTS {
        return Outcome::Done(done as i64);
    }
    while done < count {
        let part = LIST_FRAMES.min(count - done);
        let Ok((outcome, did)) = change_part(call, op, &narrow, done, part) else { break };
        done += did;
        let stopped = matches!(outcome, Outcome::Done(_)) && did < part;
        if stopped {
            break;
        }
        if done < count && (did < part || call.machine.should_yield()) {
            return call.again(|args| args[0] = u64::from(op) | done << COMMAND_BITS);
        }
    }
    Outcome::Done(done as i64)
}

/// Has the extents from `first` on carried out: the outcome, and how many were.
fn change_part<M: GuestMemory + Preempt>(
    call: &mut Call<'_, '_, M>,
    op: u32,
    narrow: &compat::MemoryReservation,
    first: u64,
    count: u64,
) -> Result<(Outcome, u64)> {
    let has_list = narrow.extent_start != 0;
    let place = u64::from(narrow.extent_start) + first * 4;
    if has_list && op != XENMEM_INCREASE_RESERVATION {
        take_list(call, place, LIST, count)?;
    }
    call.write(STRUCTURE, &widen(narrow, if has_list { LIST } else { 0 }, count))?;
    let outcome = call.issue([op.into(), STRUCTURE, 0, 0, 0, 0]);
    let done = match outcome {
        Outcome::Done(done) => u64::try_from(done).map_err(|_| Errno::INVAL)?,
        Outcome::Again(args) => args[0] >> COMMAND_BITS,
    };
    if has_list && op != XENMEM_DECREASE_RESERVATION {
        give_list(call, LIST, place, done.min(count))?;
    }
    Ok((outcome, done.min(count)))
}

/// An exchange goes by chunks: the least number of extents that makes whole extents on both sides.
fn exchange<M: GuestMemory + Preempt>(call: &mut Call<'_, '_, M>) -> Result<Outcome> {
    let at = call.args[1];
    let narrow: compat::MemoryExchange = call.read(at)?;
    let (from, to) = (&narrow.r#in, &narrow.out);
    if from.extent_order.max(to.extent_order) > MAX_ORDER {
        return Err(Errno::PERM);
    }
    let frames = |list: &compat::MemoryReservation| u64::from(list.nr_extents) << list.extent_order;
    if narrow.nr_exchanged > from.nr_extents || frames(from) != frames(to) {
        return Err(Errno::INVAL);
    }
    let unit_in = 1u64 << to.extent_order.saturating_sub(from.extent_order);
    let unit_out = 1u64 << from.extent_order.saturating_sub(to.extent_order);
    let chunks = LIST_FRAMES / unit_in.max(unit_out);
    if chunks == 0 {
        return Err(Errno::PERM);
    }
    let total = u64::from(from.nr_extents) / unit_in;
    let mut chunk = u64::from(narrow.nr_exchanged) / unit_in;
    while chunk < total {
        let part = chunks.min(total - chunk);
        let (count_in, count_out) = (part * unit_in, part * unit_out);
        let out_place = u64::from(to.extent_start) + chunk * unit_out * 4;
        take_list(call, u64::from(from.extent_start) + chunk * unit_in * 4, LIST, count_in)?;
        take_list(call, out_place, SECOND_LIST, count_out)?;
        let wide = MemoryExchange {
            r#in: widen(from, LIST, count_in),
            out: widen(to, SECOND_LIST, count_out),
            nr_exchanged: 0,
        };
        call.write(STRUCTURE, &wide)?;
        let outcome = call.issue([XENMEM_EXCHANGE.into(), STRUCTURE, 0, 0, 0, 0]);
        let done = match outcome {
            Outcome::Done(0) => part,
            _ => call.read::<MemoryExchange>(STRUCTURE)?.nr_exchanged.min(count_in) / unit_in,
        };
        give_list(call, SECOND_LIST, out_place, count_out)?;
        chunk += done;
        let field = at + offset_of!(compat::MemoryExchange, nr_exchanged) as u64;
        call.write(field, &((chunk * unit_in) as u32))?;
        match outcome {
            Outcome::Done(0) if chunk < total && call.machine.should_yield() => return Ok(Outcome::Again(call.args)),
            Outcome::Done(0) => {}
            Outcome::Done(_) => return Ok(outcome),
            Outcome::Again(_) => return Ok(Outcome::Again(call.args)),
        }
    }
    Ok(Outcome::Done(0))
}

/// Where a 32-bit guest finds its table.
fn machphys_mapping<M: GuestMemory + Preempt>(call: &Call<'_, '_, M>) -> Result<()> {
    let (start, end) = (compat::MACH2PHYS_VIRT_START as u32, compat::MACH2PHYS_VIRT_END as u32);
    call.write(call.args[1], &compat::MachphysMapping { v_start: start, v_end: end, max_mfn: (end - start) / 4 - 1 })
}

fn memory_map<M: GuestMemory + Preempt>(call: &mut Call<'_, '_, M>) -> Result<Outcome> {
    let at = call.args[1];
    let mut narrow: compat::MemoryMap = call.read(at)?;
    let mut wide = MemoryMap::new_zeroed();
    wide.nr_entries = narrow.nr_entries;
    wide.buffer = GuestHandle::new(narrow.buffer.into());
    call.write(STRUCTURE, &wide)?;
    let outcome = call.issue([call.args[0], STRUCTURE, 0, 0, 0, 0]);
    if outcome == Outcome::Done(0) {
        narrow.nr_entries = call.read::<MemoryMap>(STRUCTURE)?.nr_entries;
        call.write(at, &narrow)?;
    }
    Ok(outcome)
}

fn add_to_physmap<M: GuestMemory + Preempt>(call: &mut Call<'_, '_, M>) -> Result<Outcome> {
    let narrow: compat::AddToPhysmap = call.read(call.args[1])?;
    let wide = AddToPhysmap {
        domid: narrow.domid,
        size: narrow.size,
        space: narrow.space,
        idx: narrow.idx.into(),
        gpfn: narrow.gpfn.into(),
    };
    call.write(STRUCTURE, &wide)?;
    Ok(call.issue([call.args[0], STRUCTURE, 0, 0, 0, 0]))
}

fn remove_from_physmap<M: GuestMemory + Preempt>(call: &mut Call<'_, '_, M>) -> Result<Outcome> {
    let narrow: compat::RemoveFromPhysmap = call.read(call.args[1])?;
    let wide = RemoveFromPhysmap { domid: narrow.domid, _gap0: [0; 6], gpfn: narrow.gpfn.into() };
    call.write(STRUCTURE, &wide)?;
    Ok(call.issue([call.args[0], STRUCTURE, 0, 0, 0, 0]))
}
