//! Closing ports, one or all.

use crate::bind::lock_both;
use crate::channels::{EventChannels, Shared};
use crate::port::{Port, Slot, State};
use core::sync::atomic::Ordering;
use platform::sync::MutexGuard;
use platform::{Frames, Preempt};
use types::{DomId, Errno, Mfn, Progress, Result};

/// What closing a port needs of the world outside its table.
pub trait Environment {
    /// Runs `action` on the table of another domain, which stays alive meanwhile; does nothing if there is no such domain.
    /// Called without locks of this crate.
    fn with_domain(&self, domain: DomId, action: &mut dyn FnMut(&EventChannels));

    /// Stops a physical line's interrupts from coming to the domain whose port was closed. Called under its event lock,
    /// when the line has no port any more.
    fn detach_pirq(&self, pirq: u32);
}

/// Who closes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Closer {
    Guest,
    Hypervisor,
}

impl EventChannels {
    /// Closes a port (EVTCHNOP_close): the other end waits for this domain again, as an unbound port; nobody is told.
    ///
    /// # Errors
    /// `EINVAL`: no such port, not in use, or one whose events the hypervisor takes.
    pub fn close<M: Frames + ?Sized>(&self, frames: &M, environment: &dyn Environment, port: Port) -> Result<()> {
        self.close_as(frames, environment, port, Closer::Guest)
    }

    /// Closes a port whose events the hypervisor takes (`free_xen_event_channel`).
    ///
    /// # Errors
    /// `EINVAL`: no such port, or not in use.
    pub fn close_for_consumer<M: Frames + ?Sized>(
        &self,
        frames: &M,
        environment: &dyn Environment,
        port: Port,
    ) -> Result<()> {
        self.close_as(frames, environment, port, Closer::Hypervisor)
    }

    fn close_as<M: Frames + ?Sized>(
        &self,
        frames: &M,
        environment: &dyn Environment,
        port: Port,
        closer: Closer,
    ) -> Result<()> {
        let state = self.ports.get(port)?.state;
        let State::Interdomain { remote, .. } = state else {
            return self.close_with(frames, environment, self, port, closer);
        };
        if remote == self.domain {
            return self.close_with(frames, environment, self, port, closer);
        }
        let mut result = None;
        environment.with_domain(remote, &mut |peer| {
            if !core::ptr::eq(peer, self) {
                result = Some(self.close_with(frames, environment, peer, port, closer));
            }
        });
        // No such domain any more: it has closed its end before it went, so ours is unbound now.
        result.unwrap_or_else(|| self.close_with(frames, environment, self, port, closer))
    }

    /// Closes a port whose other end, if it is connected, is in `peer`.
    fn close_with<M: Frames + ?Sized>(
        &self,
        frames: &M,
        environment: &dyn Environment,
        peer: &EventChannels,
        port: Port,
        closer: Closer,
    ) -> Result<()> {
        let (mut event, _other) = lock_both(self, peer);
        let mut slot = self.ports.get(port)?;
        if !slot.state.is_usable() || closer == Closer::Guest && slot.consumer.is_some() {
            return Err(Errno::INVAL);
        }
        match slot.state {
            State::Interdomain { remote, port: remote_port } => {
                // Closed and bound anew while the locks were taken: the port was free in between, so say that.
                if remote != peer.domain {
                    return Err(Errno::INVAL);
                }
                self.free(frames, &mut event, port, &mut slot);
                drop(slot);
                let ours = State::Interdomain { remote: self.domain, port };
                if let Some(mut other) = peer.ports.lock(remote_port) {
                    if other.state == ours {
                        other.state = State::Unbound { remote: self.domain };
                    }
                }
            }
            State::Pirq(pirq) => {
                self.close_pirq(frames, environment, &mut event, slot, (port, pirq));
            }
            State::Virq(virq) => {
                for events in &self.vcpus {
                    let line = &events.virqs[virq as usize];
                    if line.load(Ordering::Acquire) == port {
                        line.store(0, Ordering::Release);
                    }
                }
                self.free(frames, &mut event, port, &mut slot);
            }
            _ => self.free(frames, &mut event, port, &mut slot),
        }
        Ok(())
    }

    fn close_pirq<M: Frames + ?Sized>(
        &self,
        frames: &M,
        environment: &dyn Environment,
        event: &mut MutexGuard<'_, Shared>,
        mut slot: MutexGuard<'_, Slot>,
        (port, pirq): (Port, u32),
    ) {
        if let Some(line) = self.pirqs.get(pirq as usize) {
            line.store(0, Ordering::Release);
        }
        self.free(frames, event, port, &mut slot);
        // The line's own lock may be held by a CPU that raises this port: the port's lock must be free.
        drop(slot);
        environment.detach_pirq(pirq);
    }

    /// Closes the ports from `cursor` on. What the hypervisor takes stays open unless it closes.
    fn close_all<M: Frames + ?Sized>(
        &self,
        frames: &M,
        environment: &dyn Environment,
        preempt: &dyn Preempt,
        cursor: Port,
        closer: Closer,
    ) -> Progress<(), Port> {
        let mut port = cursor;
        while port < self.ports.valid() {
            // A port that is not in use answers with an error, which does not matter here.
            let _ = self.close_as(frames, environment, port, closer);
            port += 1;
            if port % 64 == 0 && preempt.should_yield() {
                return Progress::Again(port);
            }
        }
        Progress::Done(())
    }

    /// Closes all ports and goes back to two-level mode (EVTCHNOP_reset). Begin with cursor 0. `release` gets each frame of
    /// the FIFO ABI back, to drop the references that came with it; it runs under the event lock. The caller has checked
    /// that the domain is the caller's own or paused by its controller (else `EINVAL`).
    ///
    /// # Errors
    /// `EAGAIN`: ports were bound meanwhile; call again.
    pub fn reset<M: Frames + ?Sized>(
        &self,
        frames: &M,
        environment: &dyn Environment,
        preempt: &dyn Preempt,
        cursor: Port,
        release: &mut dyn FnMut(Mfn),
    ) -> Result<Progress<(), Port>> {
        if let Progress::Again(port) = self.close_all(frames, environment, preempt, cursor, Closer::Guest) {
            return Ok(Progress::Again(port));
        }
        let _event = self.event.lock();
        let used = |port| self.ports.lock(port).is_some_and(|slot| slot.state.is_usable() && slot.consumer.is_none());
        if (0..self.ports.valid()).any(used) {
            return Err(Errno::AGAIN);
        }
        self.clear_fifo(release);
        Ok(Progress::Done(()))
    }

    /// Closes all ports, also the hypervisor's, for good: the domain is destroyed. Begin with cursor 0. `release` as with
    /// [`EventChannels::reset`]. The caller still has to unregister each vCPU's `vcpu_info`.
    pub fn destroy<M: Frames + ?Sized>(
        &self,
        frames: &M,
        environment: &dyn Environment,
        preempt: &dyn Preempt,
        cursor: Port,
        release: &mut dyn FnMut(Mfn),
    ) -> Progress<(), Port> {
        self.set_dying();
        let progress = self.close_all(frames, environment, preempt, cursor, Closer::Hypervisor);
        if progress == Progress::Done(()) {
            let _event = self.event.lock();
            self.clear_fifo(release);
        }
        progress
    }

    fn clear_fifo(&self, release: &mut dyn FnMut(Mfn)) {
        self.fifo_active.store(false, Ordering::Release);
        if let Some(fifo) = self.fifo.get() {
            fifo.clear(release);
        }
    }
}
