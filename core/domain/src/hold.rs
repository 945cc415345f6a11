//! From a domain's frame numbers to machine frames.

use crate::{Arch, Domain, Hypervisor};
use memory::{Denied, FrameRef, Outcome, Why};
use p2m::{Entry, Type};
use platform::Preempt;
use types::{Errno, Gfn, Mfn};

impl<A: Arch> Domain<A> {
    /// What is at one of its frame numbers, after it was populated if it is to be on demand; a PV domain's numbers are those of
    /// machine frames, and it has no entries.
    pub fn entry(&self, number: u64, preempt: &dyn Preempt) -> Option<Entry> {
        let p2m = self.p2m()?;
        match p2m.get(Gfn(number)) {
            entry if entry.ty == Type::PopulateOnDemand => p2m.populate(Gfn(number), preempt).ok(),
            entry => Some(entry),
        }
    }

    /// The machine frame behind one of its frame numbers: of its own memory, or of what it has mapped of another's. What is to
    /// be populated on demand is. `None` where nothing is. No reference is taken, so whoever takes one says whose the frame has
    /// to be.
    pub fn frame(&self, number: u64, preempt: &dyn Preempt) -> Option<Mfn> {
        if !self.is_translated() {
            return Some(Mfn(number));
        }
        self.entry(number, preempt).filter(|entry| entry.ty.has_frame()).map(|entry| entry.mfn)
    }
}

impl<A: Arch> Hypervisor<A> {
    /// A reference to the frame of its own that a domain calls `number`, and with `writable` a writable use
    /// (`get_page_from_gfn`).
    ///
    /// # Errors
    /// `EINVAL` where there is no such frame, or it is in another use.
    pub fn hold(&self, domain: &Domain<A>, number: u64, writable: bool) -> Outcome<FrameRef<'_, A>> {
        let take = |mfn| {
            if writable { self.memory.writable_ref(mfn, domain.id) } else { self.memory.frame_ref(mfn, domain.id) }
        };
        let Some(p2m) = domain.p2m() else { return take(Mfn(number)) };
        // What is populated on demand is now, so that there is a frame to be pinned.
        domain.entry(number, self.machine());
        let mut refusal = Denied::new(Errno::INVAL, Why::NotAllocated { mfn: Mfn(number) });
        let pinned = p2m.pin(Gfn(number), |entry| {
            let fit = entry.ty.is_own_frame() && !(writable && entry.ty == Type::RamRo);
            let held = if fit { take(entry.mfn) } else { Err(refusal) };
            held.map_err(|denied| {
                refusal = denied;
                denied.errno
            })
        });
        pinned.map(|(_, held)| held).map_err(|_| refusal)
    }
}
