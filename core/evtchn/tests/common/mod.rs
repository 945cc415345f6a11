//! What the tests share: machines, tables, and the guest's side of both ABIs.
#![allow(dead_code)]

use evtchn::{Config, Delivery, Environment, EventChannels, Raised};
use platform::fakes::FakeMachine;
use platform::{Frames, Table};
use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use types::{DomId, Mfn};

/// Frames: `shared_info` of domain n is frame n, the others are free for use from this one on.
pub const SPARE: u64 = 16;

pub fn table(domain: u16, vcpus: u32, max_port: u32) -> EventChannels {
    let config = Config { domain: DomId(domain), shared_info: Mfn(u64::from(domain)), vcpus, max_port, pirqs: 32 };
    EventChannels::new(config).unwrap()
}

/// The other domains, and the lines that were detached.
#[derive(Default)]
pub struct World<'a> {
    pub domains: Vec<&'a EventChannels>,
    pub detached: RefCell<Vec<u32>>,
}

impl Environment for World<'_> {
    fn with_domain(&self, domain: DomId, action: &mut dyn FnMut(&EventChannels)) {
        if let Some(found) = self.domains.iter().find(|table| table.domain() == domain) {
            action(found);
        }
    }

    fn detach_pirq(&self, pirq: u32) {
        self.detached.borrow_mut().push(pirq);
    }
}

/// Sends and delivers to whichever of the tables is the other end.
pub fn send(machine: &FakeMachine, world: &World<'_>, from: &EventChannels, port: u32) -> types::Result<Raised> {
    Ok(match from.send(machine, port)? {
        Delivery::Local(raised) => raised,
        Delivery::Remote { domain, port, from } => {
            let mut result = Raised::default();
            world.with_domain(domain, &mut |table| result = table.deliver(machine, port, from));
            result
        }
        Delivery::Dropped => Raised::default(),
    })
}

pub fn bit(table: &Table, byte: usize, bit: u32) -> bool {
    let at = byte * 8 + bit as usize;
    table[at / 64].load(Ordering::SeqCst) >> (at % 64) & 1 != 0
}

pub fn set_bit(table: &Table, byte: usize, bit: u32, value: bool) {
    let at = byte * 8 + bit as usize;
    if value {
        table[at / 64].fetch_or(1 << (at % 64), Ordering::SeqCst);
    } else {
        table[at / 64].fetch_and(!(1 << (at % 64)), Ordering::SeqCst);
    }
}

pub const PENDING: usize = 2048;
pub const MASK: usize = 2560;

/// A guest vCPU that takes events off its FIFO queues, as `event_channel.h` prescribes.
pub struct FifoGuest<'a> {
    pub machine: &'a FakeMachine,
    pub control: (Mfn, usize),
    pub array: Vec<Mfn>,
    heads: [u32; 16],
    ready: u32,
}

const F_PENDING: u32 = 1 << 31;
const F_MASKED: u32 = 1 << 30;
const F_LINKED: u32 = 1 << 29;
const F_BUSY: u32 = 1 << 28;
const F_LINK: u32 = (1 << 17) - 1;

impl<'a> FifoGuest<'a> {
    pub fn new(machine: &'a FakeMachine, control: (Mfn, usize), array: Vec<Mfn>) -> FifoGuest<'a> {
        FifoGuest { machine, control, array, heads: [0; 16], ready: 0 }
    }

    fn half(&self, mfn: Mfn, byte: usize) -> (&'a AtomicU64, u32) {
        (&self.machine.table(mfn).unwrap()[byte / 8], if byte % 8 == 0 { 0 } else { 32 })
    }

    fn word(&self, port: u32) -> (&'a AtomicU64, u32) {
        self.half(self.array[port as usize / 1024], port as usize % 1024 * 4)
    }

    /// Changes an event word with one locked operation; the value before.
    fn update(&self, port: u32, change: impl Fn(u32) -> Option<u32>) -> Result<u32, u32> {
        let (word, shift) = self.word(port);
        let part = |value: u64| (value >> shift) as u32;
        word.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |old| {
            change(part(old)).map(|new| old & !(0xffff_ffff << shift) | u64::from(new) << shift)
        })
        .map(part)
        .map_err(part)
    }

    pub fn mask(&self, port: u32) {
        self.update(port, |word| Some(word | F_MASKED)).unwrap();
    }

    /// Unmasks; true if the hypervisor has to be asked because the event is pending or the word is busy.
    pub fn unmask(&self, port: u32) -> bool {
        self.update(port, |word| (word & (F_BUSY | F_PENDING) == 0).then_some(word & !F_MASKED)).is_err()
    }

    pub fn is_pending(&self, port: u32) -> bool {
        let (word, shift) = self.word(port);
        (word.load(Ordering::SeqCst) >> shift) as u32 & F_PENDING != 0
    }

    /// Whether the control block says that a queue is worth a look.
    pub fn has_ready(&self) -> bool {
        let (word, shift) = self.half(self.control.0, self.control.1);
        (word.load(Ordering::SeqCst) >> shift) as u32 != 0
    }

    /// Whether an event word is on a queue.
    pub fn is_linked(&self, port: u32) -> bool {
        let (word, shift) = self.word(port);
        (word.load(Ordering::SeqCst) >> shift) as u32 & F_LINKED != 0
    }

    /// Takes everything off the queues; see [`FifoGuest::consume_some`].
    pub fn consume(&mut self) -> Vec<(u32, u32)> {
        self.consume_some(usize::MAX)
    }

    /// Takes up to `limit` words off the queues, highest priority first; the events among them that were pending and not
    /// masked, as (priority, port).
    pub fn consume_some(&mut self, limit: usize) -> Vec<(u32, u32)> {
        let (ready_word, shift) = self.half(self.control.0, self.control.1);
        let take = || (ready_word.fetch_and(!(0xffff_ffff << shift), Ordering::SeqCst) >> shift) as u32;
        let mut events = Vec::new();
        self.ready |= take();
        for _ in 0..limit {
            if self.ready == 0 {
                break;
            }
            let priority = self.ready.trailing_zeros();
            let mut head = self.heads[priority as usize];
            if head == 0 {
                let (word, shift) = self.half(self.control.0, self.control.1 + 8 + 4 * priority as usize);
                head = (word.load(Ordering::SeqCst) >> shift) as u32;
            }
            let before = self.update(head, |word| Some(word & !(F_LINKED | F_LINK))).unwrap();
            assert!(before & F_LINKED != 0, "port {head} was not linked");
            let next = before & F_LINK;
            if next == 0 {
                self.ready &= !(1 << priority);
            }
            if before & (F_PENDING | F_MASKED) == F_PENDING {
                self.update(head, |word| Some(word & !F_PENDING)).unwrap();
                events.push((priority, head));
            }
            self.heads[priority as usize] = next;
            self.ready |= take();
        }
        events
    }
}
