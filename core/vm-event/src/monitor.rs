//! Who watches a domain, and which of its vCPUs wait for that.

use crate::ring::{Nonsense, Ring};
use crate::{Host, Wait};
use core::sync::atomic::{AtomicBool, Ordering::SeqCst};
use platform::sync::Mutex;
use types::{DomId, Errno, Gfn, Result, VcpuId};
use xen_abi::vm_event::*;

/// What a domain has of it.
#[derive(Default)]
pub struct Book {
    ring: Mutex<Option<Ring>>,
    /// The domain must not go on unwatched (`XEN_DOMCTL_set_access_required`).
    required: AtomicBool,
}

impl Book {
    /// Whether somebody watches the domain.
    pub fn is_watched(&self) -> bool {
        self.ring.lock().is_some()
    }

    /// Whether the domain must not go on where its watcher was to be asked and there is none.
    pub fn is_required(&self) -> bool {
        self.required.load(SeqCst)
    }

    /// Sets that.
    pub fn set_required(&self, required: bool) {
        self.required.store(required, SeqCst);
    }
}

/// What came of an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sent {
    /// It is on its way. A vCPU that has to wait for the answer is stopped.
    Done,
    /// There was no room; the vCPU is stopped until there is.
    Full,
    /// Nobody watches.
    Nobody,
}

/// A domain's book, with the hypervisor around it.
pub struct Monitor<'a, H> {
    book: &'a Book,
    host: H,
}

impl<'a, H: Host> Monitor<'a, H> {
    /// Puts them together.
    pub fn new(book: &'a Book, host: H) -> Monitor<'a, H> {
        Monitor { book, host }
    }

    /// Has `watcher` hear of events by a ring in a page of the domain's: the event channel to be bound (`XEN_VM_EVENT_ENABLE`).
    ///
    /// # Errors
    /// `EBUSY` if there is a watcher, `EOPNOTSUPP` without such a page, `EINVAL` if it is no RAM or the domain is dying; else those
    /// of [`Host::open_port`].
    pub fn enable(&self, gfn: Gfn, watcher: DomId) -> Result<u32> {
        let mut place = self.book.ring.lock();
        if place.is_some() {
            return Err(Errno::BUSY);
        }
        if gfn.0 == 0 {
            return Err(Errno::OPNOTSUPP);
        }
        // The end of a domain comes here after it has said so.
        if self.host.is_dying() {
            return Err(Errno::INVAL);
        }
        let page = self.host.hold(gfn)?;
        let port = self.host.open_port(watcher).inspect_err(|_| self.host.release(page))?;
        *place = Some(Ring::new(page, port));
        Ok(port)
    }

    /// Ends that. vCPUs that wait go on: nobody is left who could answer (`XEN_VM_EVENT_DISABLE`).
    ///
    /// # Errors
    /// `EINVAL` if nobody watches.
    pub fn disable(&self) -> Result<()> {
        let mut place = self.book.ring.lock();
        let ring = place.take().ok_or(Errno::INVAL)?;
        self.host.close_port(ring.port);
        self.host.release(ring.page);
        for vcpu in (0..self.host.vcpus()).map(VcpuId) {
            self.host.go_on(vcpu, Wait::Answer);
            self.host.go_on(vcpu, Wait::Room);
        }
        Ok(())
    }

    /// Tells the watcher of an event of the vCPU that it names; with `sync` that waits for the answer (`monitor_traps`).
    pub fn send(&self, mut event: VmEvent, sync: bool) -> Sent {
        let vcpu = VcpuId(event.vcpu_id);
        let mut place = self.book.ring.lock();
        let Some(ring) = &mut *place else { return Sent::Nobody };
        let Some(table) = self.host.table(ring.page) else { return Sent::Nobody };
        if !ring.has_room() {
            ring.is_awaited = true;
            self.host.stop(vcpu, Wait::Room);
            return Sent::Full;
        }
        event.version = VM_EVENT_INTERFACE_VERSION;
        if sync {
            event.flags |= VM_EVENT_FLAG_VCPU_PAUSED;
            // The answer may come as soon as the request is there.
            self.host.stop(vcpu, Wait::Answer);
        }
        ring.put(table, &event);
        self.host.notify(ring.port);
        Sent::Done
    }

    /// Takes the watcher's responses (`vm_event_resume`). `answer` gets those for vCPUs that wait for one, before these go on.
    ///
    /// # Errors
    /// `ENODEV` if nobody watches.
    pub fn resume(&self, mut answer: impl FnMut(VcpuId, &VmEvent)) -> Result<()> {
        let most = self.book.ring.lock().as_ref().ok_or(Errno::NODEV)?.outstanding();
        // For those that are written meanwhile the watcher notifies once more.
        for _ in 0..most {
            let Some(response) = self.take() else { break };
            if response.version != VM_EVENT_INTERFACE_VERSION {
                continue;
            }
            let vcpu = VcpuId(response.vcpu_id);
            if !self.host.waits(vcpu, Wait::Answer) {
                continue;
            }
            answer(vcpu, &response);
            if response.flags & VM_EVENT_FLAG_VCPU_PAUSED != 0 {
                self.host.go_on(vcpu, Wait::Answer);
            }
        }
        Ok(())
    }

    fn take(&self) -> Option<VmEvent> {
        let mut place = self.book.ring.lock();
        let ring = place.as_mut()?;
        match ring.take(self.host.table(ring.page)?) {
            Ok(response) => {
                if response.is_some() && core::mem::take(&mut ring.is_awaited) {
                    (0..self.host.vcpus()).for_each(|vcpu| self.host.go_on(VcpuId(vcpu), Wait::Room));
                }
                response
            }
            Err(Nonsense) => {
                if ring.is_news() {
                    log::warn!("vm_event: a watcher has written more responses than there were requests");
                }
                None
            }
        }
    }
}
