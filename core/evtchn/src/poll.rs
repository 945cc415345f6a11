//! vCPUs that sleep until one of some ports has an event (SCHEDOP_poll).

use crate::channels::EventChannels;
use crate::port::{Port, try_boxed};
use alloc::boxed::Box;
use core::sync::atomic::{AtomicU32, Ordering};
use platform::Frames;
use types::{Errno, Result, VcpuId};

/// The vCPU does not poll.
const IDLE: u32 = u32::MAX;
/// The vCPU is to be woken by any event.
const ANY: u32 = 0;

/// What each vCPU polls for.
#[derive(Debug)]
pub(crate) struct Pollers {
    /// How many vCPUs poll, so that a sender learns with one load that none does.
    count: AtomicU32,
    waits: Box<[AtomicU32]>,
}

impl Pollers {
    pub(crate) fn new(vcpus: usize) -> Result<Pollers> {
        Ok(Pollers { count: AtomicU32::new(0), waits: try_boxed(vcpus, |_| AtomicU32::new(IDLE))? })
    }

    /// Whether a sender has to look for pollers. It has set its pending bit with a locked operation before.
    pub(crate) fn any(&self) -> bool {
        self.count.load(Ordering::SeqCst) != 0
    }

    /// Ends a vCPU's poll if it waits for `port`; whether this call ended it.
    fn end(&self, wait: &AtomicU32, port: Option<Port>) -> bool {
        let seen = wait.load(Ordering::SeqCst);
        let fits = seen != IDLE && port.is_none_or(|port| seen == ANY || seen == port);
        let ended = fits && wait.compare_exchange(seen, IDLE, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        if ended {
            self.count.fetch_sub(1, Ordering::SeqCst);
        }
        ended
    }
}

impl EventChannels {
    /// First half of SCHEDOP_poll: registers the running vCPU as waiting for these ports (at most 128; reading them is the
    /// caller's), then looks at them. True: it may be put to sleep, and will be named by [`EventChannels::take_pollers`].
    /// False: one of them is pending already, nothing is registered.
    ///
    /// # Errors
    /// `EINVAL` for a port that is not in use, at which nothing will ever arrive; `ENOENT` for no such vCPU.
    pub fn begin_poll<M: Frames + ?Sized>(&self, frames: &M, vcpu: VcpuId, ports: &[Port]) -> Result<bool> {
        let wait = self.pollers.waits.get(vcpu.index()).ok_or(Errno::NOENT)?;
        let target = match ports {
            [port] => *port,
            _ => ANY,
        };
        if wait.swap(target.min(IDLE - 1), Ordering::SeqCst) == IDLE {
            self.pollers.count.fetch_add(1, Ordering::SeqCst);
        }
        for &port in ports {
            if !self.is_usable(port) {
                self.end_poll(vcpu);
                return Err(Errno::INVAL);
            }
            if self.is_pending(frames, port) {
                self.end_poll(vcpu);
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The vCPU polls no more: its time is over, or it was woken by something else. True if it was still registered.
    pub fn end_poll(&self, vcpu: VcpuId) -> bool {
        self.pollers.waits.get(vcpu.index()).is_some_and(|wait| self.pollers.end(wait, None))
    }

    /// The vCPUs that polled for `port` and are to be unblocked; each is given out once. Call it where
    /// [`crate::Raised::pollers`] is set.
    pub fn take_pollers(&self, port: Port) -> impl Iterator<Item = VcpuId> + '_ {
        let waits = self.pollers.waits.iter().enumerate();
        waits.filter(move |(_, wait)| self.pollers.end(wait, Some(port))).map(|(index, _)| VcpuId(index as u32))
    }
}
