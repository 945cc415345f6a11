//! Timers by which a domain has itself ended if it stops answering (SCHEDOP_watchdog).

use crate::{Arch, Domain, Hypervisor, Life, ShutdownCode, TimerEvent, TimerSlot};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering::SeqCst};
use types::{Errno, Result};

/// Watchdogs of a domain.
pub(crate) const WATCHDOGS: usize = 2;
const SECOND: u64 = 1_000_000_000;

/// One watchdog.
#[derive(Default)]
pub(crate) struct Watchdog {
    in_use: AtomicBool,
    pub(crate) timer: TimerSlot,
}

impl<A: Arch> Hypervisor<A> {
    /// Sets watchdog number `id` of a domain, from 1, to fire in `seconds`; 0 seconds give it back. `id` 0 takes a free one.
    /// The number of the one that was taken, else 0.
    ///
    /// # Errors
    /// `EINVAL` for one that is not in use, `ENOSPC` where all are, `ENOMEM`.
    pub fn set_watchdog(&self, domain: &Domain<A>, id: u32, seconds: u32) -> Result<u32> {
        if id == 0 {
            let free = |watchdog: &Watchdog| !watchdog.in_use.swap(true, SeqCst);
            let index = domain.watchdogs.iter().position(free).ok_or(Errno::NOSPC)?;
            let watchdog = &domain.watchdogs[index];
            let armed = self.arm_watchdog(domain, index, seconds);
            armed.inspect_err(|_| watchdog.in_use.store(false, SeqCst))?;
            return Ok(index as u32 + 1);
        }
        let index = id as usize - 1;
        let watchdog =
            domain.watchdogs.get(index).filter(|watchdog| watchdog.in_use.load(SeqCst)).ok_or(Errno::INVAL)?;
        if seconds != 0 {
            return self.arm_watchdog(domain, index, seconds).map(|()| 0);
        }
        self.cancel_timer(&watchdog.timer);
        watchdog.in_use.store(false, SeqCst);
        Ok(0)
    }

    fn arm_watchdog(&self, domain: &Domain<A>, index: usize, seconds: u32) -> Result<()> {
        let deadline = self.machine().system_time() + u64::from(seconds) * SECOND;
        self.set_timer(&domain.watchdogs[index].timer, deadline, TimerEvent::Watchdog(domain.id, index as u32 + 1))
    }

    /// The domain has not set its watchdog in time.
    pub(crate) fn watchdog_fired(&self, domain: &Arc<Domain<A>>, id: u32) {
        if domain.shutting_down.load(SeqCst) || domain.life() != Life::Alive {
            return;
        }
        log::warn!("Watchdog timer {id} fired for {}", domain.id);
        self.shut_down(domain, ShutdownCode::WATCHDOG);
    }
}
