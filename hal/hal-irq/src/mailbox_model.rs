//! The mailbox protocol under loom: every interleaving of two or three CPUs.

mod atomics {
    pub use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
}
#[path = "mailbox.rs"]
#[allow(dead_code, reason = "the model uses the protocol, not what reports on it")]
mod mailbox;

use loom::sync::Arc;
use loom::thread;
use mailbox::{FlushKind, Mailbox, Posted};

/// A page-table entry and one CPU's cached copy of it.
struct Cpu {
    mailbox: Mailbox,
    cached: atomics::AtomicU64,
}

impl Cpu {
    fn new() -> Cpu {
        Cpu { mailbox: Mailbox::new(), cached: atomics::AtomicU64::new(1) }
    }

    fn answer(&self) -> bool {
        self.mailbox.answer(|_| self.cached.store(0, atomics::Ordering::Relaxed))
    }
}

fn flush_other(me: &Cpu, other: &Cpu, kind: FlushKind) {
    if let Posted::Wait(ticket) = other.mailbox.post(kind) {
        while !other.mailbox.is_done(ticket) {
            me.answer();
            thread::yield_now();
        }
        assert_eq!(other.cached.load(atomics::Ordering::Relaxed), 0, "acknowledged but still cached");
    }
}

#[test]
fn two_cpus_flush_each_other_without_interrupts() {
    loom::model(|| {
        let cpus = Arc::new([Cpu::new(), Cpu::new()]);
        let theirs = cpus.clone();
        let other = thread::spawn(move || {
            flush_other(&theirs[1], &theirs[0], FlushKind::Page(0x1000));
            theirs[1].answer();
        });
        flush_other(&cpus[0], &cpus[1], FlushKind::All);
        // The peer may still wait for us: what a run loop does before entry, until the peer is through.
        while cpus[0].cached.load(atomics::Ordering::Relaxed) != 0 {
            cpus[0].answer();
            thread::yield_now();
        }
        other.join().unwrap();
    });
}

#[test]
fn two_requesters_at_one_owner_lose_nothing() {
    loom::model(|| {
        let owner = Arc::new(Mailbox::new());
        let (one, two) = (owner.clone(), owner.clone());
        let first = thread::spawn(move || one.post(FlushKind::Page(0x1000)));
        let second = thread::spawn(move || two.post(FlushKind::Page(0x2000)));
        let mut dropped = [false; 2];
        let mut note = |kind| match kind {
            FlushKind::All => dropped = [true; 2],
            FlushKind::Page(0x1000) => dropped[0] = true,
            FlushKind::Page(_) => dropped[1] = true,
        };
        owner.answer(&mut note);
        let tickets = [first.join().unwrap(), second.join().unwrap()];
        owner.answer(&mut note);
        assert_eq!(dropped, [true; 2]);
        for ticket in tickets {
            let Posted::Wait(ticket) = ticket else { panic!("nobody sleeps") };
            assert!(owner.is_done(ticket));
        }
    });
}

#[test]
fn a_sleeper_never_wakes_to_a_stale_translation() {
    loom::model(|| {
        let entry = Arc::new(atomics::AtomicU64::new(1));
        let cpu = Arc::new(Cpu::new());
        cpu.mailbox.sleep();
        let (sleeper, its_entry) = (cpu.clone(), entry.clone());
        let wakes = thread::spawn(move || {
            let flushed = sleeper.mailbox.wake(|_| ());
            // Awake: unless it flushed, it goes on with its cached copy, which must then be current or be waited for.
            if flushed {
                assert_eq!(its_entry.load(atomics::Ordering::Relaxed), 0);
            }
            flushed
        });
        entry.store(0, atomics::Ordering::Relaxed);
        let posted = cpu.mailbox.post(FlushKind::All);
        let flushed = wakes.join().unwrap();
        assert!(flushed || posted != Posted::Lazy, "the request was left to a CPU that did not look");
    });
}
