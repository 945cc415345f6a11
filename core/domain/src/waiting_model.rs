//! The end of a poll under loom: every interleaving of a vCPU that polls, and polls again, with another that ends its waiting.

mod atomics {
    pub use loom::sync::atomic::{AtomicU32, Ordering};
}
#[path = "../../evtchn/src/pollers.rs"]
#[allow(dead_code, reason = "the model has one vCPU")]
mod pollers;
#[path = "waiting.rs"]
mod waiting;

use atomics::{AtomicU32, Ordering::SeqCst};
use loom::sync::Arc;
use loom::thread;
use pollers::{Pollers, Wait};

const PORT: u32 = 5;

/// A vCPU, the list that it polls by, and the pending bit of its port.
struct Poller {
    flags: AtomicU32,
    pollers: Pollers,
    pending: AtomicU32,
}

impl Poller {
    fn new() -> Poller {
        let pollers = Pollers::new([Wait::new()].into());
        Poller { flags: AtomicU32::new(0), pollers, pending: AtomicU32::new(0) }
    }

    /// As `Hypervisor::end_wait` does it.
    fn end_wait(&self) {
        waiting::end(&self.flags, || {
            self.pollers.end(0);
        });
    }

    /// As SCHEDOP_poll does it: the vCPU sleeps as long as its flag is set.
    fn poll(&self) {
        self.pending.store(0, SeqCst);
        self.flags.fetch_or(waiting::POLLING, SeqCst);
        self.pollers.begin(0, &[PORT]);
        if self.pending.load(SeqCst) != 0 {
            self.pollers.end(0);
            self.flags.fetch_and(!waiting::POLLING, SeqCst);
        }
    }

    /// As `Hypervisor::follow` does it, after an event was raised.
    fn send(&self) {
        self.pending.fetch_or(1, SeqCst);
        if self.pollers.any() {
            self.pollers.take(PORT).for_each(|_| self.end_wait());
        }
    }
}

/// The event that ends each poll is sent by the same thread, since loom's SeqCst is too weak for a sender of its own to be sure to see
/// a poller that does not see its event. What ends waits for other reasons does not need that.
#[test]
fn a_poll_is_not_lost_to_the_end_of_the_one_before() {
    loom::model(|| {
        let poller = Arc::new(Poller::new());
        let other = {
            let poller = poller.clone();
            thread::spawn(move || poller.end_wait())
        };
        for _ in 0..2 {
            poller.poll();
            poller.send();
        }
        other.join().unwrap();
        assert_eq!(poller.flags.load(SeqCst), 0, "the vCPU sleeps, and the event was sent");
        poller.poll();
        assert!(poller.pollers.any(), "a poller that nobody looks for");
    });
}
