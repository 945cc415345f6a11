//! The protocol by which one CPU has another drop translations, as a small machine of atomics.
//!
//! A requester writes what is to be dropped, then takes a ticket. The owner reads the last ticket, takes what was written,
//! drops it, and publishes that ticket as done. What is pending is always at least what the open tickets asked for, so one
//! round answers them all. A CPU that waits answers its own mailbox in the meantime; hence two that flush each other with
//! interrupts off both get on.
//!
//! A lazy owner (asleep, on the hypervisor's own page tables) is not waited for: it looks into its mailbox when it wakes,
//! before it uses any guest translation. Store-then-load on both sides, with a full fence between, makes sure that either
//! the requester sees the owner awake or the owner sees the request.

use super::atomics::{AtomicBool, AtomicU64, Ordering, fence};

/// What is to be dropped from a CPU's TLB.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FlushKind {
    /// Everything, global pages and translations of guests in guest mode too.
    All,
    /// The page at this virtual address, in the address space that is loaded (and where it is global, in all).
    Page(u64),
}

const NOTHING: u64 = 0;
const EVERYTHING: u64 = 1;
const ONE_PAGE: u64 = 2;
const PAGE_MASK: u64 = !0xfff;

impl FlushKind {
    fn encode(self) -> u64 {
        match self {
            FlushKind::All => EVERYTHING,
            FlushKind::Page(address) => address & PAGE_MASK | ONE_PAGE,
        }
    }

    fn decode(word: u64) -> Option<FlushKind> {
        match word & !PAGE_MASK {
            NOTHING => None,
            ONE_PAGE => Some(FlushKind::Page(word & PAGE_MASK)),
            _ => Some(FlushKind::All),
        }
    }
}

/// Whether the owner of a mailbox has to be interrupted and waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Posted {
    /// Interrupt it, then wait for this ticket.
    Wait(u64),
    /// It sleeps and will look before it uses a guest translation.
    Lazy,
}

/// One CPU's mailbox.
#[repr(align(64))]
pub struct Mailbox {
    pending: AtomicU64,
    requested: AtomicU64,
    done: AtomicU64,
    lazy: AtomicBool,
}

impl Mailbox {
    /// An empty mailbox of a CPU that is awake.
    pub fn new() -> Mailbox {
        Mailbox {
            pending: AtomicU64::new(NOTHING),
            requested: AtomicU64::new(0),
            done: AtomicU64::new(0),
            lazy: AtomicBool::new(false),
        }
    }

    /// Leaves a request. Two different pages become a request to drop everything.
    pub fn post(&self, kind: FlushKind) -> Posted {
        let wanted = kind.encode();
        let mut old = self.pending.load(Ordering::Relaxed);
        loop {
            let new = if old == NOTHING || old == wanted { wanted } else { EVERYTHING };
            match self.pending.compare_exchange(old, new, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => break,
                Err(seen) => old = seen,
            }
        }
        let ticket = self.requested.fetch_add(1, Ordering::AcqRel) + 1;
        fence(Ordering::SeqCst);
        if self.lazy.load(Ordering::Relaxed) { Posted::Lazy } else { Posted::Wait(ticket) }
    }

    /// The ticket that was given out last.
    pub fn last_request(&self) -> u64 {
        self.requested.load(Ordering::Acquire)
    }

    /// Whether the owner has answered this ticket.
    pub fn is_done(&self, ticket: u64) -> bool {
        self.done.load(Ordering::Acquire) >= ticket
    }

    /// For the owner: answers what was requested by calling `flush` at most once. True if there was anything.
    pub fn answer(&self, flush: impl FnOnce(FlushKind)) -> bool {
        let last = self.requested.load(Ordering::Acquire);
        if last == self.done.load(Ordering::Relaxed) {
            return false;
        }
        if let Some(kind) = FlushKind::decode(self.pending.swap(NOTHING, Ordering::AcqRel)) {
            flush(kind);
        }
        self.done.store(last, Ordering::Release);
        true
    }

    /// For the owner: from now on it uses no guest translation until [`Mailbox::wake`].
    pub fn sleep(&self) {
        self.lazy.store(true, Ordering::Release);
    }

    /// For the owner: it is awake; answers what came in its sleep.
    pub fn wake(&self, flush: impl FnOnce(FlushKind)) -> bool {
        self.lazy.store(false, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.answer(flush)
    }
}

impl Default for Mailbox {
    fn default() -> Mailbox {
        Mailbox::new()
    }
}
