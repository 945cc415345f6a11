//! The end of a domain's memory.

use crate::domain::DomainMemory;
use crate::frame::{FrameInfo, NONE, State, TypeWord};
use crate::memory::Memory;
use crate::policy::Host;
use platform::Preempt;
use types::{Gfn, Mfn, Progress};

impl<H: Host> Memory<H> {
    /// Gives back all that a dying domain has (`relinquish_memory`): tables are unpinned, unfinished promotions undone, and
    /// the domain's own references dropped. The caller has let go of base pointers, descriptor tables and the like before.
    /// Frames to which others refer stay until they let go; [`DomainMemory::total_pages`] tells. `Again` to be continued.
    pub fn relinquish(&self, domain: &DomainMemory, preempt: &dyn Preempt) -> Progress<()> {
        domain.set_dying();
        self.drop_claim(domain);
        loop {
            if let Progress::Again(_) = self.settle(domain, preempt) {
                return Progress::Again(0);
            }
            let Some((mfn, frame, held)) = self.next_to_relinquish(domain) else {
                return Progress::Done(());
            };
            if held {
                self.relinquish_frame(mfn, frame);
                self.put_frame(mfn);
            }
            if preempt.should_yield() {
                return Progress::Again(0);
            }
        }
    }

    /// Moves the next frame to the list of those that are done with, and takes a reference if it is not being freed.
    fn next_to_relinquish(&self, domain: &DomainMemory) -> Option<(Mfn, &'static FrameInfo, bool)> {
        let mut lists = domain.lists.lock();
        let index = lists.frames.first;
        if index == NONE {
            return None;
        }
        let frame = self.table.at(index);
        lists.frames.remove(&self.table, index);
        lists.relinquished.append(&self.table, index);
        frame.set_flag(FrameInfo::RELINQUISHED, true);
        let mfn = Mfn(index.into());
        let held = frame.refs().state() == State::InUse && self.table.get_any(mfn).is_ok();
        Some((mfn, frame, held))
    }

    fn relinquish_frame(&self, mfn: Mfn, frame: &'static FrameInfo) {
        let unpinned =
            frame.update_ty(|word| word.has(TypeWord::PINNED).then_some(word.without(TypeWord::PINNED))).is_ok();
        if unpinned {
            self.put_type(mfn);
            self.put_frame(mfn);
        }
        let partial = frame.update_ty(|word| {
            word.has(TypeWord::PARTIAL).then_some(word.without(TypeWord::PARTIAL).with(TypeWord::DEMOTING))
        });
        if partial.is_ok() {
            // The queue takes over the use and the reference of the partial state.
            self.queue_demotion(mfn, frame);
        }
        if frame.take_allocated() {
            self.host.set_m2p(mfn, Gfn::INVALID);
            self.put_frame(mfn);
        }
    }
}
