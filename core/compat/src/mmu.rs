//! Calls about page tables. Entries have 64 bits in both widths, so that mmu_update needs no translation.

use crate::Call;
use crate::small::wide;
use crate::window::{LIST, LIST_BYTES, STRUCTURE};
use hypercall::Outcome;
use platform::{GuestMemory, Preempt};
use types::Result;
use xen_abi::compat;
use xen_abi::xen::MmuextOp;
use zerocopy::FromZeros;

/// Set in a count whose call was cut off before: the number done so far is at `pdone`.
const PREEMPTED: u64 = 1 << 31;
/// Operations that fit into the window.
const PART: u64 = LIST_BYTES / size_of::<MmuextOp>() as u64;
/// Bytes of an operation in the guest's list.
const NARROW: u64 = size_of::<compat::MmuextOp>() as u64;

/// Address, entry in two halves, flags, and for the other form a domain.
pub(crate) fn update_va_mapping<M: GuestMemory + Preempt>(call: &mut Call<'_, '_, M>) -> Outcome {
    let args = call.args;
    match call.issue([args[0], wide(args, 1), args[3], args[4], 0, 0]) {
        Outcome::Again(_) => Outcome::Again(args),
        done => done,
    }
}

/// Operations, count, pdone, domain.
pub(crate) fn mmuext_op<M: GuestMemory + Preempt>(call: &mut Call<'_, '_, M>) -> Outcome {
    let (list, pdone) = (call.args[0], call.args[2]);
    let count = call.args[1] & !PREEMPTED;
    let before = match before(call) {
        Ok(before) => before,
        Err(errno) => return errno.into(),
    };
    let mut done = 0;
    loop {
        let part = PART.min(count - done);
        let (outcome, did) = match issue_part(call, list + done * NARROW, part) {
            Ok(pair) => pair,
            Err(errno) => return errno.into(),
        };
        done += did;
        if pdone != 0 {
            if let Err(errno) = call.write(pdone, &((before + done) as u32)) {
                return errno.into();
            }
        }
        match outcome {
            Outcome::Done(0) if done < count && !call.machine.should_yield() => {}
            Outcome::Done(0) if done == count => return outcome,
            Outcome::Done(error) if error != 0 => return outcome,
            _ => {
                return call.again(|args| {
                    args[0] = list + done * NARROW;
                    args[1] = (count - done) | PREEMPTED;
                });
            }
        }
    }
}

/// What an earlier part of a call that was cut off has done.
fn before<M: GuestMemory + Preempt>(call: &Call<'_, '_, M>) -> Result<u64> {
    if call.args[1] & PREEMPTED == 0 || call.args[2] == 0 {
        return Ok(0);
    }
    call.read::<u32>(call.args[2]).map(u64::from)
}

/// Has some operations carried out: the outcome, and how many were.
fn issue_part<M: GuestMemory + Preempt>(call: &mut Call<'_, '_, M>, list: u64, count: u64) -> Result<(Outcome, u64)> {
    for index in 0..count {
        let narrow: compat::MmuextOp = call.read(list + index * NARROW)?;
        let mut op = MmuextOp::new_zeroed();
        op.cmd = narrow.cmd;
        op.arg1 = narrow.arg1.into();
        op.arg2 = narrow.arg2.into();
        call.write(LIST + index * size_of::<MmuextOp>() as u64, &op)?;
    }
    call.write(STRUCTURE, &0u32)?;
    let outcome = call.issue([LIST, count, STRUCTURE, call.args[3], 0, 0]);
    let done = match outcome {
        Outcome::Done(0) => count,
        _ => u64::from(call.read::<u32>(STRUCTURE)?).min(count),
    };
    Ok((outcome, done))
}
