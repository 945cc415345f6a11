//! How a vCPU's waiting for events ends, and in which order.

use super::atomics::{AtomicU32, Ordering::SeqCst};

/// Waits for an event; waits for one of a few ports.
pub(crate) const BLOCKED: u32 = 1;
/// See [`BLOCKED`].
pub(crate) const POLLING: u32 = 2;

/// Ends it; whether there was any. `end_poll` takes the vCPU off the list of pollers.
///
/// Off the list comes first: once its flag is clear the vCPU may poll anew, and that is not to be taken off.
pub(crate) fn end(flags: &AtomicU32, end_poll: impl FnOnce()) -> bool {
    let waiting = BLOCKED | POLLING;
    let seen = flags.load(SeqCst);
    // Whoever begins to wait from here on looks for events after that.
    if seen & waiting == 0 {
        return false;
    }
    if seen & POLLING != 0 {
        end_poll();
    }
    flags.fetch_and(!waiting, SeqCst) & waiting != 0
}
