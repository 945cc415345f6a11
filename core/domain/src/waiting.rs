//! How a vCPU's waiting for events ends, and in which order.

use super::atomics::{AtomicU32, Ordering::SeqCst};

/// Waits for an event; waits for one of a few ports.
pub(crate) const BLOCKED: u32 = 1;
/// See [`BLOCKED`].
pub(crate) const POLLING: u32 = 2;

/// Ends it; whether there was any. Whoever begins to wait after the look looks for events after that. `end_poll` takes the vCPU off
/// the list of pollers.
#[inline]
pub(crate) fn end(flags: &AtomicU32, end_poll: impl FnOnce()) -> bool {
    let seen = flags.load(SeqCst);
    seen & (BLOCKED | POLLING) != 0 && end_any(flags, seen, end_poll)
}

/// Off the list comes first: once its flag is clear the vCPU may poll anew, and that is not to be taken off.
#[inline(never)]
fn end_any(flags: &AtomicU32, seen: u32, end_poll: impl FnOnce()) -> bool {
    if seen & POLLING != 0 {
        end_poll();
    }
    let waiting = BLOCKED | POLLING;
    flags.fetch_and(!waiting, SeqCst) & waiting != 0
}
