//! Who polls, and for what: a word for each vCPU, and a count. `core/domain`'s model of how waits end compiles this too.

use super::atomics::{AtomicU32, Ordering};
use alloc::boxed::Box;

/// The vCPU does not poll.
const IDLE: u32 = u32::MAX;
/// The vCPU is to be woken by any event.
const ANY: u32 = 0;

/// What one vCPU polls for: a port, any of several, or nothing.
#[derive(Debug)]
pub(crate) struct Wait(AtomicU32);

impl Wait {
    pub(crate) fn new() -> Wait {
        Wait(AtomicU32::new(IDLE))
    }
}

/// What each vCPU polls for.
#[derive(Debug)]
pub(crate) struct Pollers {
    /// How many vCPUs poll, so that a sender learns with one load that none does.
    count: AtomicU32,
    waits: Box<[Wait]>,
}

impl Pollers {
    pub(crate) fn new(waits: Box<[Wait]>) -> Pollers {
        Pollers { count: AtomicU32::new(0), waits }
    }

    /// Whether there is such a vCPU.
    pub(crate) fn knows(&self, vcpu: usize) -> bool {
        vcpu < self.waits.len()
    }

    /// Whether a sender has to look for pollers. It has set its pending bit with a locked operation before.
    pub(crate) fn any(&self) -> bool {
        self.count.load(Ordering::SeqCst) != 0
    }

    /// A vCPU waits for these ports from now on; whoever does so looks at them next.
    pub(crate) fn begin(&self, vcpu: usize, ports: &[u32]) {
        let Some(Wait(wait)) = self.waits.get(vcpu) else { return };
        let target = match ports {
            [port] => *port,
            _ => ANY,
        };
        if wait.swap(target.min(IDLE - 1), Ordering::SeqCst) == IDLE {
            self.count.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Ends a vCPU's poll, whatever it waits for; whether this call ended it.
    pub(crate) fn end(&self, vcpu: usize) -> bool {
        self.waits.get(vcpu).is_some_and(|wait| self.end_if(wait, |_| true))
    }

    /// Ends the polls for `port`: the vCPUs whose this call ended.
    pub(crate) fn take(&self, port: u32) -> impl Iterator<Item = usize> + '_ {
        let waits = self.waits.iter().enumerate();
        waits.filter(move |(_, wait)| self.end_if(wait, |seen| seen == ANY || seen == port)).map(|(vcpu, _)| vcpu)
    }

    fn end_if(&self, Wait(wait): &Wait, fits: impl Fn(u32) -> bool) -> bool {
        let seen = wait.load(Ordering::SeqCst);
        let ended =
            seen != IDLE && fits(seen) && wait.compare_exchange(seen, IDLE, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        if ended {
            self.count.fetch_sub(1, Ordering::SeqCst);
        }
        ended
    }
}
