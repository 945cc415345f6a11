//! Random changes of a table, compared with a map of guest frames after each step.
//!
//! `XENOLITH_FUZZ_STEPS` sets how many steps there are (600 by default).

mod common;
mod random;

use common::*;
use p2m::{Access, Entry, Flush, Type};
use random::Random;
use std::collections::{BTreeMap, BTreeSet};
use types::{Errno, Gfn, Mfn, Progress};

const RAM: u64 = 2048;
/// Guest frames that are all looked at.
const DENSE: u64 = 1536;
/// A GiB of which some guest frames are looked at.
const SPARSE: u64 = 1 << 18;
const SAMPLES: [u64; 8] = [0, 1, 511, 512, 513, 1024, 100_000, (1 << 18) - 1];

const TYPES: [Type; 11] = [
    Type::RamRw,
    Type::RamRw,
    Type::RamLogdirty,
    Type::RamRo,
    Type::Invalid,
    Type::MmioDm,
    Type::MmioDirect,
    Type::PopulateOnDemand,
    Type::MapForeign,
    Type::IoreqServer,
    Type::GrantMapRo,
];

fn looked_at() -> impl Iterator<Item = u64> {
    (0..DENSE).chain(SAMPLES.iter().map(|sample| SPARSE + sample))
}

struct Fuzz {
    map: Map,
    model: BTreeMap<u64, Entry>,
    highest: u64,
    random: Random,
    /// What a CPU may have cached since the last flush.
    cached_tables: BTreeSet<u64>,
    cached_frames: Counts,
    flushes: u64,
}

impl Fuzz {
    fn new(seed: u64) -> Fuzz {
        let map = map(24, RAM);
        map.host().books.borrow_mut().ram = (FIRST_RAM..FIRST_RAM + RAM).map(|frame| (frame, 0)).collect();
        Fuzz {
            map,
            model: BTreeMap::new(),
            highest: 0,
            random: Random(seed),
            cached_tables: BTreeSet::new(),
            cached_frames: Counts::new(),
            flushes: 0,
        }
    }

    fn gfn(&mut self) -> u64 {
        if self.random.one_in(5) { SPARSE + self.random.pick(&SAMPLES) } else { self.random.below(DENSE) }
    }

    fn set(&mut self) {
        let order = self.random.pick(&[0, 0, 0, 0, 9, 9, 18]);
        let ty = self.random.pick(&TYPES);
        let access = Access::from_number(self.random.pick(&[7, 7, 7, 0, 1, 3, 5, 8, 9])).unwrap();
        let size = 1u64 << order;
        let gfn = self.gfn() & !(size - 1);
        let mfn = match ty {
            Type::MmioDirect => DEVICE + self.random.below(4) * size,
            _ => FIRST_RAM + (self.random.below(RAM) & !(size - 1)),
        };
        let same = self.expected_at(gfn, order);
        let set = match self.map.set(Gfn(gfn), Mfn(mfn), order, ty, access) {
            Ok(set) => set,
            // No GiB of RAM; or no table to split a page with.
            Err(error) => {
                let no_ram = ty.has_frame() && ty != Type::MmioDirect && mfn + size > FIRST_RAM + RAM;
                assert!(error == Errno::INVAL && no_ram || error == Errno::NOMEM, "{error:?}");
                return;
            }
        };
        if let Some(before) = set.before {
            assert_eq!(before.order, order);
            assert!(same.is_none_or(|same| same == plain(before)), "{same:?} {before:?}");
        } else {
            assert_eq!(set.flush, Flush::Needed);
        }
        if !ty.is_hole() {
            self.highest = self.highest.max(gfn + size - 1);
        }
        for looked in looked_at().filter(|looked| (gfn..gfn + size).contains(looked)) {
            self.model.remove(&looked);
            if !ty.is_hole() {
                let mfn = if ty.has_frame() { Mfn(mfn + looked - gfn) } else { Mfn::INVALID };
                self.model.insert(looked, Entry { mfn, ty, access, order: 0 });
            }
        }
    }

    fn expected(&self, gfn: u64) -> Entry {
        self.model.get(&gfn).copied().unwrap_or(Entry::hole(0))
    }

    /// What one entry of that order would have been, if all its guest frames were looked at; for order 0 only.
    fn expected_at(&self, gfn: u64, order: u8) -> Option<Entry> {
        (order == 0).then(|| self.expected(gfn))
    }

    fn change_type(&mut self) {
        let own = [Type::RamRw, Type::RamLogdirty, Type::RamRo, Type::IoreqServer];
        let (from, to) = (self.random.pick(&own), self.random.pick(&own));
        let gfn = self.gfn();
        match self.map.change_type(Gfn(gfn), from, to) {
            Ok(_) => {
                assert_eq!(self.expected(gfn).ty, from);
                self.model.get_mut(&gfn).unwrap().ty = to;
            }
            Err(Errno::BUSY) => assert_ne!(self.expected(gfn).ty, from),
            Err(error) => assert_eq!(error, Errno::NOMEM),
        }
    }

    fn change_range(&mut self) {
        let own = [Type::RamRw, Type::RamLogdirty, Type::IoreqServer];
        let (from, to) = (self.random.pick(&own), self.random.pick(&own));
        let (first, end) = (self.gfn(), self.gfn());
        let rights = self.random.one_in(3);
        let mut cursor = Gfn(first);
        loop {
            let progress = if rights {
                self.map.set_access_range(cursor, Gfn(end), Access::Rw, &Always)
            } else {
                self.map.change_type_range(cursor, Gfn(end), from, to, &Always)
            };
            let (reached, done) = match progress {
                Ok(Progress::Done(())) => (end, true),
                Ok(Progress::Again(next)) => (next.0, false),
                // It stops at a page that it cannot split, having changed those before.
                Err(error) => {
                    assert_eq!(error, Errno::NOMEM);
                    self.trust(cursor.0, end);
                    return;
                }
            };
            for (_, entry) in self.model.range_mut(cursor.0.min(reached)..reached) {
                if rights && entry.ty.has_frame() {
                    entry.access = Access::Rw;
                } else if !rights && entry.ty == from {
                    entry.ty = to;
                }
            }
            if done {
                return;
            }
            cursor = Gfn(reached);
        }
    }

    /// Takes what the table says for types and rights of a range; frames stay as they are.
    fn trust(&mut self, first: u64, end: u64) {
        for (gfn, entry) in self.model.range_mut(first.min(end)..end) {
            let found = self.map.get(Gfn(*gfn));
            assert_eq!(found.mfn, entry.mfn);
            (entry.ty, entry.access) = (found.ty, found.access);
        }
    }

    fn step(&mut self) {
        match self.random.below(16) {
            0..=7 => self.set(),
            8..=9 => self.change_type(),
            10..=11 => self.change_range(),
            12..=13 => {
                let (gfn, order) = (self.gfn(), self.random.pick(&[9, 18]));
                self.map.coalesce(Gfn(gfn), order).unwrap();
            }
            14 => {
                let pages = 12 + self.random.below(13);
                assert_eq!(self.map.resize_pool(pages, &Never), Ok(Progress::Done(())));
            }
            _ if self.random.one_in(2) => {
                let _ = self.map.flush(&Always);
            }
            _ => assert_eq!(self.map.flush(&Never), Progress::Done(())),
        }
    }

    fn check(&mut self) {
        for gfn in looked_at() {
            assert_eq!(plain(self.map.get(Gfn(gfn))), self.expected(gfn), "at {gfn:#x}");
        }
        assert_eq!(self.map.max_mapped_gfn().0, self.highest);
        let walked = walk(&self.map);
        let (_, used) = self.map.pool_pages();
        let flushes = self.map.host().books.borrow().flushes;
        if flushes != self.flushes {
            self.flushes = flushes;
            self.cached_tables.clear();
            self.cached_frames.clear();
        }
        self.cached_tables.extend(&walked.tables);
        walked.present.frames().for_each(|frame| self.cached_frames.add(frame));
        let books = self.map.host().books.borrow();
        assert!(self.cached_tables.len() as u64 <= used, "a table was given back that a CPU may walk");
        assert!(books.spare.iter().all(|spare| !self.cached_tables.contains(&spare.0)));
        for frame in self.cached_frames.frames() {
            assert!(books.mapped.of(frame) > 0, "frame {frame:#x} has no reference, but a CPU may reach it");
        }
        for frame in FIRST_RAM..FIRST_RAM + RAM {
            assert!(books.mapped.of(frame) >= walked.frames.of(frame));
        }
        assert_eq!(self.map.demand_pages().0, walked.on_demand);
        assert_eq!(self.map.claimed_entries(), walked.claimed);
    }

    /// With nothing retired every count is exact.
    fn check_settled(&self) {
        assert_eq!(self.map.flush(&Never), Progress::Done(()));
        let walked = walk(&self.map);
        assert_eq!(self.map.pool_pages().1, walked.tables.len() as u64);
        assert_eq!(self.map.host().books.borrow().mapped, walked.frames);
    }
}

#[test]
fn a_table_says_what_was_put_into_it() {
    let steps = std::env::var("XENOLITH_FUZZ_STEPS").ok().and_then(|text| text.parse().ok()).unwrap_or(600);
    let mut fuzz = Fuzz::new(0x5eed_0001);
    for step in 0..steps {
        if step % 300 == 299 {
            fuzz.check_settled();
            fuzz = Fuzz::new(0x5eed_0001 + step);
        }
        fuzz.step();
        fuzz.check();
        if step % 16 == 0 {
            fuzz.check_settled();
        }
    }
    while fuzz.map.teardown(&Always) != Progress::Done(()) {}
    assert_eq!(fuzz.map.host().books.borrow().mapped.summary(), (0, 0));
    assert_eq!(fuzz.map.pool_pages().1, 0);
}
