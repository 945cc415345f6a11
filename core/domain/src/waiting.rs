//! How a vCPU's waiting for events ends, and in which order.

use super::atomics::{AtomicU32, Ordering::SeqCst};

/// Waits for an event; waits for one of a few ports.
pub(crate) const BLOCKED: u32 = 1;
/// See [`BLOCKED`].
pub(crate) const POLLING: u32 = 2;

/// Whether there is any. Whoever begins to wait later looks for events after that.
#[inline]
pub(crate) fn is_any(flags: &AtomicU32) -> bool {
    flags.load(SeqCst) & (BLOCKED | POLLING) != 0
}

/// Ends it; whether there was any. `end_poll` takes the vCPU off the list of pollers.
///
/// Off the list comes first: once its flag is clear the vCPU may poll anew, and that is not to be taken off.
pub(crate) fn end(flags: &AtomicU32, end_poll: impl FnOnce()) -> bool {
    if !is_any(flags) {
        return false;
    }
    if flags.load(SeqCst) & POLLING != 0 {
        end_poll();
    }
    let waiting = BLOCKED | POLLING;
    flags.fetch_and(!waiting, SeqCst) & waiting != 0
}
