//! Grant tables: what names frames by number or lists by address differs.

use crate::Call;
use crate::window::{LIST, LIST_BYTES, LIST_FRAMES, STRUCTURE};
use hypercall::Outcome;
use platform::{GuestMemory, Preempt};
use types::{Errno, Result};
use xen_abi::GuestHandle;
use xen_abi::compat;
use xen_abi::grant_table::*;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

/// Operation, structures, their number.
pub(crate) fn grant_table_op<M: GuestMemory + Preempt>(call: &mut Call<'_, '_, M>) -> Outcome {
    match call.args[0] as u32 {
        GNTTABOP_SETUP_TABLE | GNTTABOP_GET_STATUS_FRAMES if call.args[2] != 1 => Errno::INVAL.into(),
        GNTTABOP_SETUP_TABLE => setup_table(call).unwrap_or_else(Outcome::from),
        GNTTABOP_GET_STATUS_FRAMES => status_frames(call).unwrap_or_else(Outcome::from),
        GNTTABOP_TRANSFER => each(call, transfer, |narrow, wide| narrow.status = wide.status),
        GNTTABOP_COPY => each(call, copy, |narrow, wide| narrow.status = wide.status),
        _ => call.issue(call.args),
    }
}

/// The table's frames come back by a list of numbers.
fn setup_table<M: GuestMemory + Preempt>(call: &mut Call<'_, '_, M>) -> Result<Outcome> {
    let at = call.args[1];
    let mut narrow: compat::SetupTable = call.read(at)?;
    if u64::from(narrow.nr_frames) > LIST_FRAMES {
        return Err(Errno::INVAL);
    }
    let mut wide = SetupTable::new_zeroed();
    wide.dom = narrow.dom;
    wide.nr_frames = narrow.nr_frames;
    wide.frame_list = GuestHandle::new(LIST);
    call.write(STRUCTURE, &wide)?;
    let outcome = call.issue([call.args[0], STRUCTURE, 1, 0, 0, 0]);
    if outcome != Outcome::Done(0) {
        return Ok(outcome);
    }
    narrow.status = call.read::<SetupTable>(STRUCTURE)?.status;
    if narrow.status == GNTST_OKAY {
        let told = (0..u64::from(narrow.nr_frames)).try_for_each(|index| {
            let frame = call.read::<u64>(LIST + index * 8)? as u32;
            call.write(u64::from(narrow.frame_list) + index * 4, &frame)
        });
        if told.is_err() {
            narrow.status = GNTST_BAD_VIRT_ADDR;
        }
    }
    call.write(at, &narrow)?;
    Ok(outcome)
}

/// The list is the same in both widths, its address is not.
fn status_frames<M: GuestMemory + Preempt>(call: &mut Call<'_, '_, M>) -> Result<Outcome> {
    let at = call.args[1];
    let mut narrow: compat::GetStatusFrames = call.read(at)?;
    let wide = GetStatusFrames {
        nr_frames: narrow.nr_frames,
        dom: narrow.dom,
        status: narrow.status,
        frame_list: GuestHandle::new(narrow.frame_list.into()),
    };
    call.write(STRUCTURE, &wide)?;
    let outcome = call.issue([call.args[0], STRUCTURE, 1, 0, 0, 0]);
    if outcome == Outcome::Done(0) {
        narrow.status = call.read::<GetStatusFrames>(STRUCTURE)?.status;
        call.write(at, &narrow)?;
    }
    Ok(outcome)
}

fn transfer(narrow: &compat::Transfer) -> Transfer {
    let mut wide = Transfer::new_zeroed();
    wide.mfn = narrow.mfn.into();
    wide.domid = narrow.domid;
    wide.r#ref = narrow.r#ref;
    wide.status = narrow.status;
    wide
}

fn copy(narrow: &compat::Copy) -> Copy {
    let end = |narrow: &compat::CopyPtr| {
        let mut wide = CopyPtr::new_zeroed();
        wide.u = narrow.u.into();
        wide.domid = narrow.domid;
        wide.offset = narrow.offset;
        wide
    };
    let mut wide = Copy::new_zeroed();
    wide.source = end(&narrow.source);
    wide.dest = end(&narrow.dest);
    wide.len = narrow.len;
    wide.flags = narrow.flags;
    wide.status = narrow.status;
    wide
}

/// Has a batch of structures carried out, as many at a time as fit into the window.
fn each<M, N, W>(call: &mut Call<'_, '_, M>, widen: fn(&N) -> W, answer: fn(&mut N, &W)) -> Outcome
where
    M: GuestMemory + Preempt,
    N: FromBytes + IntoBytes + Immutable,
    W: FromBytes + IntoBytes + Immutable,
{
    let (at, count) = (call.args[1], u64::from(call.args[2] as u32));
    let size = size_of::<N>() as u64;
    let mut done = 0;
    while done < count {
        let part = (LIST_BYTES / size_of::<W>() as u64).min(count - done);
        let (outcome, did) = match issue_part(call, at + done * size, part, widen, answer) {
            Ok(pair) => pair,
            Err(errno) => return errno.into(),
        };
        done += did;
        let is_error = matches!(outcome, Outcome::Done(value) if value < 0);
        if is_error {
            return outcome;
        }
        if done < count && (did < part || call.machine.should_yield()) {
            return call.again(|args| (args[1], args[2]) = (at + done * size, count - done));
        }
    }
    Outcome::Done(0)
}

fn issue_part<M, N, W>(
    call: &mut Call<'_, '_, M>,
    at: u64,
    count: u64,
    widen: fn(&N) -> W,
    answer: fn(&mut N, &W),
) -> Result<(Outcome, u64)>
where
    M: GuestMemory + Preempt,
    N: FromBytes + IntoBytes + Immutable,
    W: FromBytes + IntoBytes + Immutable,
{
    let places = |index: u64| (at + index * size_of::<N>() as u64, LIST + index * size_of::<W>() as u64);
    for (narrow, wide) in (0..count).map(places) {
        call.write(wide, &widen(&call.read(narrow)?))?;
    }
    let outcome = call.issue([call.args[0], LIST, count, 0, 0, 0]);
    for (narrow, wide) in (0..count).map(places) {
        let mut structure: N = call.read(narrow)?;
        answer(&mut structure, &call.read(wide)?);
        call.write(narrow, &structure)?;
    }
    let left = if let Outcome::Again(rest) = outcome { rest[2].min(count) } else { 0 };
    Ok((outcome, count - left))
}
