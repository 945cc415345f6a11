//! The FIFO way of telling a guest of events: an array of event words, and per vCPU a control block with the heads of 16
//! queues, one a priority (`event_channel.h`, `EVTCHN_FIFO_*`).
//!
//! A queue is a singly linked list through the event words. We append at the tail; the guest takes from the head, clears
//! LINKED of each word that it takes, and so tells us that the tail's link may no longer be written: then a new event starts
//! a new list from the control block's head. The tail is ours alone and stays outside guest memory.

use crate::port::{MAX_PORTS, Port, Slot, try_boxed};
use crate::words::{self, Half};
use alloc::boxed::Box;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use platform::sync::Mutex;
use platform::{Frames, Table};
use types::{Errno, Mfn, PAGE_SIZE, Result};
use xen_abi::event_channel::{
    EVTCHN_FIFO_BUSY as BUSY, EVTCHN_FIFO_LINK_MASK as LINK_MASK, EVTCHN_FIFO_LINKED as LINKED,
    EVTCHN_FIFO_MASKED as MASKED, EVTCHN_FIFO_MAX_QUEUES, EVTCHN_FIFO_PENDING as PENDING,
};

/// Queues of a vCPU, by priority: 0 is served first.
pub(crate) const QUEUES: usize = EVTCHN_FIFO_MAX_QUEUES as usize;
/// Event words of a page.
pub(crate) const WORDS: u32 = (PAGE_SIZE / 4) as u32;
/// Size of a control block: ready bits, padding, heads.
pub(crate) const CONTROL_SIZE: u32 = 8 + 4 * QUEUES as u32;
/// A frame or address that is not there.
const NONE: u64 = u64::MAX;
/// Rounds of linking a tail before the guest is taken to be breaking the rules. By them a word changes at most four times
/// while it is BUSY; the rest is for the word beside it, which shares its 64 bits.
const LINK_ROUNDS: usize = 64;

#[derive(Debug)]
struct Queues {
    /// Machine address of the control block.
    control: AtomicU64,
    /// Last port of each queue, 0 if it is empty.
    tails: [Mutex<Port>; QUEUES],
}

/// A domain's FIFO state.
#[derive(Debug)]
pub(crate) struct Fifo {
    /// Frames of the event array.
    pages: Box<[AtomicU64]>,
    /// How many of them are there.
    count: AtomicU32,
    vcpus: Box<[Queues]>,
}

/// What raising an event came to.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Outcome {
    /// It was not pending before.
    pub(crate) newly: bool,
    /// The vCPU has to be told to look at its queues.
    pub(crate) upcall: bool,
}

/// The control block of a vCPU.
#[derive(Clone, Copy)]
struct Control<'a> {
    table: &'a Table,
    offset: usize,
}

impl<'a> Control<'a> {
    fn head(self, priority: u8) -> Half<'a> {
        Half::new(self.table, self.offset + 8 + 4 * usize::from(priority))
    }

    /// Marks a queue as worth a look; returns whether it was marked before.
    fn mark_ready(self, priority: u8) -> bool {
        words::test_and_set(self.table, self.offset * 8 + usize::from(priority))
    }
}

impl Fifo {
    /// Empty state for that many vCPUs.
    pub(crate) fn new(vcpus: usize) -> Result<Fifo> {
        let queues = |_| Queues { control: AtomicU64::new(NONE), tails: [const { Mutex::new(0) }; QUEUES] };
        Ok(Fifo {
            pages: try_boxed((MAX_PORTS / WORDS) as usize, |_| AtomicU64::new(NONE))?,
            count: AtomicU32::new(0),
            vcpus: try_boxed(vcpus, queues)?,
        })
    }

    /// Forgets all pages and queues, giving each frame back once for each time it was handed in. The caller holds the event
    /// lock and has closed all ports.
    pub(crate) fn clear(&self, release: &mut dyn FnMut(Mfn)) {
        for vcpu in &self.vcpus {
            let control = vcpu.control.swap(NONE, Ordering::AcqRel);
            if control != NONE {
                release(Mfn::containing(control));
            }
            for tail in &vcpu.tails {
                *tail.lock() = 0;
            }
        }
        let count = self.count.swap(0, Ordering::AcqRel) as usize;
        for page in self.pages.iter().take(count) {
            let frame = page.swap(NONE, Ordering::AcqRel);
            if frame != NONE {
                release(Mfn(frame));
            }
        }
    }

    /// Whether the vCPU has its control block.
    pub(crate) fn has_control(&self, vcpu: usize) -> bool {
        self.vcpus.get(vcpu).is_some_and(|queues| queues.control.load(Ordering::Acquire) != NONE)
    }

    /// Sets the control block of a vCPU. The caller holds the event lock.
    pub(crate) fn set_control(&self, vcpu: usize, mfn: Mfn, offset: u32) {
        if let Some(queues) = self.vcpus.get(vcpu) {
            queues.control.store(mfn.address() | u64::from(offset), Ordering::Release);
        }
    }

    /// Ports that have event words.
    pub(crate) fn words(&self) -> u32 {
        self.count.load(Ordering::Acquire) * WORDS
    }

    /// Whether another page can be added.
    pub(crate) fn has_room(&self) -> Result<()> {
        if self.words() < MAX_PORTS { Ok(()) } else { Err(Errno::NOSPC) }
    }

    /// Adds a page to the array. The caller holds the event lock and has asked [`Fifo::has_room`].
    pub(crate) fn add_page(&self, mfn: Mfn) {
        let count = self.count.load(Ordering::Acquire);
        if let Some(page) = self.pages.get(count as usize) {
            page.store(mfn.0, Ordering::Release);
            self.count.store(count + 1, Ordering::Release);
        }
    }

    fn word<'a, M: Frames + ?Sized>(&self, frames: &'a M, port: Port) -> Option<Half<'a>> {
        if port >= self.words() {
            return None;
        }
        let mfn = self.pages.get((port / WORDS) as usize)?.load(Ordering::Acquire);
        Some(Half::new(frames.table(Mfn(mfn))?, (port % WORDS) as usize * 4))
    }

    fn control<'a, M: Frames + ?Sized>(&self, frames: &'a M, vcpu: u16) -> Option<Control<'a>> {
        let address = self.vcpus.get(usize::from(vcpu))?.control.load(Ordering::Acquire);
        if address == NONE {
            return None;
        }
        let table = frames.table(Mfn::containing(address))?;
        Some(Control { table, offset: (address % PAGE_SIZE as u64) as usize })
    }

    fn tail(&self, queue: (u16, u8)) -> Option<&Mutex<Port>> {
        self.vcpus.get(usize::from(queue.0))?.tails.get(usize::from(queue.1))
    }

    pub(crate) fn is_pending<M: Frames + ?Sized>(&self, frames: &M, port: Port) -> bool {
        self.word(frames, port).is_some_and(|word| word.test(PENDING))
    }

    pub(crate) fn is_masked<M: Frames + ?Sized>(&self, frames: &M, port: Port) -> bool {
        self.word(frames, port).is_none_or(|word| word.test(MASKED))
    }

    /// Whether a free port is still on a queue, so that it must not be given out yet.
    pub(crate) fn is_busy<M: Frames + ?Sized>(&self, frames: &M, port: Port) -> bool {
        self.word(frames, port).is_some_and(|word| word.test(LINKED))
    }

    /// Clears PENDING. The guest unlinks the word itself and ignores what is not pending.
    pub(crate) fn clear_pending<M: Frames + ?Sized>(&self, frames: &M, port: Port) {
        if let Some(word) = self.word(frames, port) {
            word.test_and_clear(PENDING);
        }
    }

    /// Clears MASKED, and links the event if it is pending.
    pub(crate) fn unmask<M: Frames + ?Sized>(&self, frames: &M, port: Port, slot: &mut Slot) -> Outcome {
        let Some(word) = self.word(frames, port) else {
            return Outcome::default();
        };
        word.test_and_clear(MASKED);
        if word.test(PENDING) { self.set_pending(frames, port, slot) } else { Outcome::default() }
    }

    /// Raises an event: sets PENDING and, unless the event is masked or linked already, appends it to the queue of its vCPU
    /// and priority. The caller holds the port's lock.
    pub(crate) fn set_pending<M: Frames + ?Sized>(&self, frames: &M, port: Port, slot: &mut Slot) -> Outcome {
        let Some(word) = self.word(frames, port) else {
            slot.saved_pending = true;
            return Outcome::default();
        };
        let (queue, old) = ((slot.vcpu, slot.priority), slot.last_queue);
        let (Some(tail), Some(old_tail)) = (self.tail(queue), self.tail(old)) else {
            return Outcome::default();
        };

        // Both queues stay locked from before PENDING is seen until the event is linked: another sender must not find it
        // pending, wake a poller, and the guest then miss it.
        let (mut tail, mut old_tail) = match queue.cmp(&old) {
            core::cmp::Ordering::Equal => (tail.lock(), None),
            core::cmp::Ordering::Less => {
                let tail = tail.lock();
                (tail, Some(old_tail.lock()))
            }
            core::cmp::Ordering::Greater => {
                let old_tail = old_tail.lock();
                (tail.lock(), Some(old_tail))
            }
        };
        let newly = !word.test_and_set(PENDING);
        // A guest must not unmask before it has set up its control block, so without one the event may be dropped.
        let Some(control) = self.control(frames, queue.0) else {
            return Outcome { newly, upcall: false };
        };
        if word.test(MASKED) || word.test_and_set(LINKED) {
            return Outcome { newly, upcall: false };
        }
        // It was taken off its old queue. Were it that queue's tail, the next event there would be linked to a word that is
        // now on another queue.
        let last = old_tail.as_deref_mut().unwrap_or(&mut *tail);
        if *last == port {
            *last = 0;
        }
        slot.last_queue = queue;
        drop(old_tail);

        let appended = *tail != 0 && self.word(frames, *tail).is_some_and(|word| set_link(word, port));
        if !appended {
            control.head(queue.1).store(port);
        }
        *tail = port;
        drop(tail);
        Outcome { newly, upcall: !appended && !control.mark_ready(queue.1) }
    }
}

/// Makes a tail's word point at `port`; false if the guest has taken the word off its queue, which is then empty.
///
/// A guest may set or clear MASKED of a linked word and clear PENDING and LINKED; while BUSY is set it does not unmask.
fn set_link(word: Half<'_>, port: Port) -> bool {
    let mut seen = word.load();
    for round in 0..LINK_ROUNDS {
        if seen & 1 << LINKED == 0 {
            if round != 0 {
                word.test_and_clear(BUSY);
            }
            return false;
        }
        match word.compare_exchange(seen, seen & !(1 << BUSY | LINK_MASK) | port) {
            Ok(()) => return true,
            Err(_) if round == 0 => {
                word.test_and_set(BUSY);
                seen = word.load();
            }
            Err(found) => seen = found,
        }
    }
    word.test_and_clear(BUSY);
    true
}
