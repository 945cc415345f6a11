//! vCPUs that sleep until one of some ports has an event (SCHEDOP_poll).

use crate::channels::EventChannels;
use crate::pollers::{Pollers, Wait};
use crate::port::{Port, try_boxed};
use platform::Frames;
use types::{Errno, Result, VcpuId};

/// Those of a domain with so many vCPUs.
pub(crate) fn pollers(vcpus: usize) -> Result<Pollers> {
    Ok(Pollers::new(try_boxed(vcpus, |_| Wait::new())?))
}

impl EventChannels {
    /// First half of SCHEDOP_poll: registers the running vCPU as waiting for these ports (at most 128; reading them is the
    /// caller's), then looks at them. True: it may be put to sleep, and will be named by [`EventChannels::take_pollers`].
    /// False: one of them is pending already, nothing is registered.
    ///
    /// # Errors
    /// `EINVAL` for a port that is not in use, at which nothing will ever arrive; `ENOENT` for no such vCPU.
    pub fn begin_poll<M: Frames + ?Sized>(&self, frames: &M, vcpu: VcpuId, ports: &[Port]) -> Result<bool> {
        if !self.pollers.knows(vcpu.index()) {
            return Err(Errno::NOENT);
        }
        self.pollers.begin(vcpu.index(), ports);
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
        self.pollers.end(vcpu.index())
    }

    /// The vCPUs that polled for `port` and are to be unblocked; each is given out once. Call it where
    /// [`crate::Raised::pollers`] is set.
    pub fn take_pollers(&self, port: Port) -> impl Iterator<Item = VcpuId> + '_ {
        self.pollers.take(port).map(|index| VcpuId(index as u32))
    }
}
