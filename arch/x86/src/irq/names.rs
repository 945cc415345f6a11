//! Numbers that domains have for lines (PIRQs): which are free, and which are put aside for later.

use super::line::Controller;
use super::lines::Lines;
use core::ops::Range;
use platform::sync::Mutex;
use types::{DomId, Errno, Result};

/// Words of a bitmap of all numbers that a domain can have.
const WORDS: usize = domain::PIRQS.div_ceil(u64::BITS) as usize;
/// Below are the numbers of ISA interrupts, which stay with their pins.
const FIRST: u32 = 16;

/// Numbers that domains have put aside (PHYSDEVOP_get_free_pirq). Each domain has few, and most none.
#[derive(Default)]
pub struct Reserved(Mutex<alloc::vec::Vec<(DomId, u32)>>);

/// Numbers that a domain has given to lines or put aside.
struct Taken([u64; WORDS]);

impl Taken {
    fn add(&mut self, pirq: u32) {
        if let Some(word) = self.0.get_mut((pirq / u64::BITS) as usize) {
            *word |= 1 << (pirq % u64::BITS);
        }
    }

    fn is_free(&self, pirq: u32) -> bool {
        self.0.get((pirq / u64::BITS) as usize).is_some_and(|word| word >> (pirq % u64::BITS) & 1 == 0)
    }

    fn are_free(&self, pirqs: Range<u32>) -> bool {
        pirqs.into_iter().all(|pirq| self.is_free(pirq))
    }
}

impl Reserved {
    /// Forgets what is put aside under a number, as it names a line now.
    pub fn use_up(&self, domain: DomId, pirq: u32) {
        self.0.lock().retain(|one| *one != (domain, pirq));
    }

    /// Forgets a domain.
    pub fn release(&self, domain: DomId) {
        self.0.lock().retain(|one| one.0 != domain);
    }
}

impl<C: Controller> Lines<C> {
    fn taken(&self, domain: DomId) -> Taken {
        let mut taken = Taken([0; WORDS]);
        for number in 0..self.count() {
            self.visit_names(number, domain, |pirq| taken.add(pirq));
        }
        self.reserved.0.lock().iter().filter(|one| one.0 == domain).for_each(|one| taken.add(one.1));
        taken
    }

    /// Puts a number aside for a domain that can have `limit` of them (PHYSDEVOP_get_free_pirq): the lowest that a pin may
    /// have, else the highest.
    ///
    /// # Errors
    /// `ENOSPC`, `ENOMEM`.
    pub fn reserve(&self, domain: DomId, limit: u32, for_pin: bool) -> Result<u32> {
        let taken = self.taken(domain);
        let free = |pirq: &u32| taken.is_free(*pirq);
        let pirq = if for_pin {
            (FIRST..self.pins().min(limit)).find(free)
        } else {
            (self.pins().max(FIRST)..limit).rev().find(free)
        };
        let pirq = pirq.ok_or(Errno::NOSPC)?;
        let mut reserved = self.reserved.0.lock();
        reserved.try_reserve(1).map_err(|_| Errno::NOMEM)?;
        reserved.push((domain, pirq));
        Ok(pirq)
    }

    /// `count` free numbers in a row for lines from `first` on: the same ones where the domain can have them. The first.
    ///
    /// # Errors
    /// `ENOSPC`.
    pub(super) fn names_for(&self, domain: DomId, limit: u32, first: u32, count: u32) -> Result<u32> {
        let taken = self.taken(domain);
        if first + count <= limit && taken.are_free(first..first + count) {
            return Ok(first);
        }
        let ends = (self.pins().max(FIRST) + count..=limit).rev();
        ends.map(|end| end - count).find(|at| taken.are_free(*at..*at + count)).ok_or(Errno::NOSPC)
    }
}
