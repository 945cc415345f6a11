//! The page-state fuzzer: random operations of two domains on 64 frames. After each, every count is recomputed from
//! scratch, and no frame is at once writable for a guest and a page table.
//!
//! `XENOLITH_FUZZ_SECONDS` sets how long it runs (default 2); `XENOLITH_FUZZ_SEED` runs the one sequence that a failure named.

#[path = "../common/mod.rs"]
mod common;
mod counts;

use common::*;
use counts::Counts;
use memory::{Context, DomainMemory, FrameType, FrameView, GrantTarget, Request, State};
use platform::Frames;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use types::{DomId, Mfn, Progress};
use x86_defs::pte::Pte;

const STEPS: usize = 500;
/// Slots that operations name; the others are looked at now and then.
const SLOTS: [usize; 10] = [0, 1, 2, 7, 255, 256, 271, 272, 510, 511];

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }
    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
    fn one_in(&mut self, limit: u64) -> bool {
        self.below(limit) == 0
    }
    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

/// What a test's vCPUs and tables outside of this crate hold.
#[derive(Default)]
struct Held {
    roots: Vec<Mfn>,
    frames: Vec<Mfn>,
    writable: Vec<Mfn>,
    descriptors: Vec<Mfn>,
}

struct World {
    memory: Mem,
    domains: [Arc<DomainMemory>; 2],
    held: [Held; 2],
    /// Frames to which a domain's CPUs may still have a writable translation.
    cached: [BTreeSet<u64>; 2],
    /// Frames that a domain's CPUs may still take for page tables.
    walked: [BTreeSet<u64>; 2],
    flushes: (u64, [u64; 2]),
    shared: Vec<Mfn>,
    stolen: Vec<Mfn>,
    random: Random,
    checks: u64,
    log: Vec<String>,
}

impl World {
    fn new(seed: u64) -> World {
        let memory = machine();
        let domains = [memory.create_domain(DOM0, 35).unwrap(), memory.create_domain(DOM1, 30).unwrap()];
        let world = World {
            memory,
            domains,
            held: Default::default(),
            cached: Default::default(),
            walked: Default::default(),
            flushes: Default::default(),
            shared: Vec::new(),
            stolen: Vec::new(),
            random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            checks: 0,
            log: Vec::new(),
        };
        for who in [0, 1] {
            for _ in 0..20 {
                world.memory.allocate(&world.domains[who], Request::order(0)).unwrap();
            }
        }
        world
    }

    fn view(&self, mfn: u64) -> FrameView {
        self.memory.frames().view(Mfn(mfn)).unwrap()
    }

    /// A frame that is likely the domain's.
    fn frame(&mut self, who: usize) -> Mfn {
        for _ in 0..8 {
            let mfn = self.random.below(FRAMES);
            let view = self.view(mfn);
            if view.state == State::InUse && view.owner.0 as usize == who {
                return Mfn(mfn);
            }
        }
        Mfn(self.random.below(FRAMES + 2))
    }

    /// A frame that is likely the domain's, and a table.
    fn table(&mut self, who: usize) -> Mfn {
        for _ in 0..20 {
            let mfn = self.frame(who);
            let level = self.memory.frames().view(mfn).map_or(0, |view| view.ty.level());
            if level > 0 && (level > 1 || self.random.one_in(2)) {
                return mfn;
            }
        }
        self.frame(who)
    }

    fn entry(&mut self, who: usize) -> u64 {
        let mfn = if self.random.one_in(6) { self.frame(1 - who) } else { self.frame(who) };
        match self.random.below(12) {
            0 => 0,
            1 => mfn.address() | RW,
            2 => entry(Mfn(IO + self.random.below(4)), P | RW),
            3 => entry(mfn, P | self.random.next() & 0xfff),
            4..8 => entry(mfn, P | US),
            _ => entry(mfn, P | RW | US),
        }
    }

    fn step(&mut self) {
        let who = usize::from(!self.random.one_in(3));
        let delay = if self.random.one_in(3) { self.random.below(4) } else { u64::MAX };
        yield_after(&self.memory, delay);
        let operation = self.random.below(23);
        let (mfn, slot, value) = (self.table(who), self.random.pick(&SLOTS), self.entry(who));
        self.log.push(format!("d{who} op {operation} frame {mfn:#x} slot {slot} value {value:#x} yield {delay}"));
        let domain = self.domains[who].clone();
        match operation {
            0..8 => self.update(who, mfn, slot, value),
            8..16 => self.pin_root_or_address(operation, &domain, mfn, value),
            _ => self.give_and_take(operation, &domain, mfn, slot, value),
        }
    }

    fn update(&mut self, who: usize, mfn: Mfn, slot: usize, value: u64) {
        let frames = match self.random.below(8) {
            0 => self.domains[1 - who].id(),
            1 => DomId::IO,
            _ => self.domains[who].id(),
        };
        // dom0 may also change the other domain's tables.
        let tables = if who == 0 && self.random.one_in(8) { 1 } else { who };
        let caller = self.domains[who].id();
        let command = self.random.pick(&[0, 0, 0, 0, 2, 3]);
        let context = Context { caller, tables: &self.domains[tables], frames, preempt: self.memory.host() };
        let pointer = mfn.address() + slot as u64 * 8 + command;
        let outcome = if self.random.one_in(5) {
            let expected = self
                .random
                .one_in(2)
                .then(|| self.memory.host().table(mfn))
                .flatten()
                .map(|words| words[slot].load(Ordering::Relaxed));
            self.memory.emulate_pte_write(&context, mfn, slot, expected, value).map(|progress| progress.map(|_| ()))
        } else {
            self.memory.mmu_update(&context, pointer, value)
        };
        self.repeat(outcome, who, |world, context| {
            let context = Context { tables: &world.domains[tables], frames, ..*context };
            world.memory.mmu_update(&context, pointer, value)
        });
    }

    /// Goes on with an operation that was cut off, or gives it up now and then.
    fn repeat(
        &mut self,
        first: memory::Outcome<Progress<()>>,
        who: usize,
        operation: impl Fn(&World, &Context) -> memory::Outcome<Progress<()>>,
    ) -> bool {
        let mut outcome = first;
        while let Ok(Progress::Again(_)) = outcome {
            self.check();
            if self.random.one_in(6) {
                self.log.push("  given up".into());
                return false;
            }
            yield_after(&self.memory, self.random.below(5));
            outcome = operation(self, &Context::own(&self.domains[who], self.memory.host()));
        }
        self.log.push(match &outcome {
            Ok(_) => "  ok".into(),
            Err(denied) => format!("  {denied}"),
        });
        outcome.is_ok()
    }

    fn pin_root_or_address(&mut self, operation: u64, domain: &Arc<DomainMemory>, mfn: Mfn, value: u64) {
        let who = usize::from(domain.id().0);
        let again = |_: &World, _: &Context| Ok(Progress::Done(()));
        match operation {
            8..11 => {
                let level = 1 + self.random.below(4) as u32;
                let context = Context::own(domain, self.memory.host());
                let first = self.memory.pin(&context, mfn, level);
                self.repeat(first, who, |world, context| world.memory.pin(context, mfn, level));
            }
            11 => {
                let first = self.memory.unpin(&Context::own(domain, self.memory.host()), mfn);
                self.repeat(first, who, |world, context| Ok(world.memory.settle(context.tables, context.preempt)));
            }
            12 => {
                let first = self.memory.take_root(&Context::own(domain, self.memory.host()), mfn);
                if self.repeat(first, who, |world, context| world.memory.take_root(context, mfn)) {
                    self.held[who].roots.push(mfn);
                }
            }
            13 => {
                if let Some(root) = self.held[who].roots.pop() {
                    self.memory.drop_root(root);
                }
            }
            14 => {
                let root = self.held[who].roots.last().copied().unwrap_or(mfn);
                let address = self.random.pick(&[0, 0x1000, 0x20_0000, 0xffff_8000_0000_0000, 0x4000_0000]);
                let context = Context::own(domain, self.memory.host());
                let outcome = self.memory.update_va_mapping(&context, root, address, value);
                self.repeat(outcome, who, again);
            }
            _ => self.grant(domain, mfn),
        }
    }

    /// Maps a frame of the other domain as a grant, or takes what an entry maps away as one.
    fn grant(&mut self, domain: &DomainMemory, table: Mfn) {
        let who = usize::from(domain.id().0);
        let at = |slot: usize| GrantTarget::Entry(table.address() + slot as u64 * 8);
        let (slot, second) = (self.random.pick(&SLOTS), self.random.pick(&SLOTS));
        let writable = self.random.one_in(2);
        let context = Context::own(domain, &Never);
        if self.random.one_in(2) {
            let (mfn, owner) = (self.frame(1 - who), self.domains[1 - who].id());
            let taken = if writable { self.memory.get_writable(mfn, owner) } else { self.memory.get_frame(mfn, owner) };
            let new = Pte(entry(mfn, if writable { P | RW } else { P }));
            if taken.is_ok() && self.memory.map_grant(&context, at(slot), new).is_err() {
                self.put(mfn, writable);
            }
            return;
        }
        let Some(words) = self.memory.host().table(table) else {
            return;
        };
        let old = Pte(words[slot].load(Ordering::Relaxed));
        let mfn = Mfn(old.frame());
        let done = if self.random.one_in(2) {
            self.memory.unmap_grant(domain.id(), at(slot), mfn, writable)
        } else {
            self.memory.move_over_grant(domain.id(), at(slot), mfn, writable, at(second))
        };
        if done.is_ok() && !self.memory.frames().is_io(mfn) {
            self.put(mfn, writable);
        }
    }

    fn put(&self, mfn: Mfn, writable: bool) {
        if writable { self.memory.put_writable(mfn) } else { self.memory.put_frame(mfn) }
    }

    fn give_and_take(&mut self, operation: u64, domain: &Arc<DomainMemory>, mfn: Mfn, slot: usize, value: u64) {
        let (who, id) = (usize::from(domain.id().0), domain.id());
        match operation {
            16 => self.allocate(domain),
            17 => {
                // A failure is as good: the fuzzer names any frame.
                let _ = self.memory.decrease(domain, mfn);
            }
            18 => match self.random.below(4) {
                0 if self.memory.get_frame(mfn, id).is_ok() => self.held[who].frames.push(mfn),
                1 if self.memory.get_writable(mfn, id).is_ok() => self.held[who].writable.push(mfn),
                2 if self.memory.get_descriptors(mfn, id).is_ok() => self.held[who].descriptors.push(mfn),
                3 if self.memory.get_writable_run(mfn, 3, id).is_ok() => {
                    self.held[who].writable.extend((0..3).map(|index| mfn.offset(index)));
                }
                _ => {}
            },
            19 => self.put_something(who),
            20 => {
                // What a guest does through its own writable mappings.
                let view = self.memory.frames().view(mfn);
                let writable = view.is_some_and(|v| v.owner == id && v.uses > 0 && v.ty == FrameType::Writable);
                if writable {
                    poke(&self.memory, mfn, slot, value);
                }
                let _ = self.memory.clear_page(id, Mfn(value >> 12 & 63));
            }
            21 => self.steal_or_share(domain, mfn),
            _ if self.random.one_in(12) && who == 1 => self.destroy(),
            _ => {
                let _ = self.memory.settle(domain, self.memory.host());
            }
        }
    }

    fn allocate(&mut self, domain: &DomainMemory) {
        let before: BTreeSet<u64> = self.owned(domain.id());
        let request = Request { order: self.random.below(3) as u8, bits: self.random.pick(&[64, 17, 18]), zero: true };
        if self.memory.allocate(domain, request).is_err() {
            return;
        }
        self.note_flushes();
        for mfn in self.owned(domain.id()).difference(&before) {
            let words = self.memory.host().table(Mfn(*mfn)).unwrap();
            assert!(words.iter().all(|word| word.load(Ordering::Relaxed) == 0), "frame {mfn:#x} was not scrubbed");
            let mut caches = self.cached.iter().chain(&self.walked);
            assert!(caches.all(|set| !set.contains(mfn)), "frame {mfn:#x} is in a TLB");
            assert!(request.bits == 64 || *mfn < 1 << (request.bits - 12));
        }
    }

    fn owned(&self, id: DomId) -> BTreeSet<u64> {
        (0..FRAMES)
            .filter(|mfn| {
                let view = self.view(*mfn);
                view.state == State::InUse && view.references > 0 && view.owner == id && !view.shared
            })
            .collect()
    }

    fn put_something(&mut self, who: usize) {
        let held = &mut self.held[who];
        match self.random.below(3) {
            0 => held.frames.pop().into_iter().for_each(|mfn| self.memory.put_frame(mfn)),
            1 => held.writable.pop().into_iter().for_each(|mfn| self.memory.put_writable(mfn)),
            _ => held.descriptors.pop().into_iter().for_each(|mfn| self.memory.put_descriptors(mfn)),
        }
    }

    fn steal_or_share(&mut self, domain: &DomainMemory, mfn: Mfn) {
        match self.random.below(5) {
            0 | 1 if self.memory.steal(domain, mfn).is_ok() => self.stolen.push(mfn),
            2 => {
                let Some(mfn) = self.stolen.pop() else { return };
                if self.random.one_in(2) || self.memory.assign(domain, mfn, 0).is_err() {
                    self.memory.free_anonymous(mfn, 0);
                }
            }
            3 if self.shared.len() < 3 && !domain.is_dying() => {
                let Ok(mfn) = self.memory.allocate_anonymous(Request::order(0)) else {
                    return;
                };
                self.memory.share(mfn, Some(domain), self.random.one_in(2)).unwrap();
                self.shared.push(mfn);
            }
            _ => {
                if let Some(mfn) = self.shared.pop() {
                    self.memory.unshare(mfn).unwrap();
                }
            }
        }
    }

    /// Ends the second domain, and begins a new one if nobody refers to its frames any more.
    fn destroy(&mut self) {
        let domain = self.domains[1].clone();
        let held = std::mem::take(&mut self.held[1]);
        held.roots.iter().for_each(|mfn| self.memory.drop_root(*mfn));
        held.frames.iter().for_each(|mfn| self.memory.put_frame(*mfn));
        held.writable.iter().for_each(|mfn| self.memory.put_writable(*mfn));
        held.descriptors.iter().for_each(|mfn| self.memory.put_descriptors(*mfn));
        for mfn in std::mem::take(&mut self.shared) {
            self.memory.unshare(mfn).unwrap();
        }
        loop {
            yield_after(&self.memory, self.random.below(3));
            if let Progress::Done(()) = self.memory.relinquish(&domain, self.memory.host()) {
                break;
            }
            self.check();
        }
        self.check();
        for mfn in self.owned(DOM1) {
            let view = self.view(mfn);
            assert!(!view.allocated && view.ty.level() * view.uses == 0, "{mfn:#x}: {view:?}");
        }
        if self.memory.remove_domain(DOM1).is_ok() {
            self.domains[1] = self.memory.create_domain(DOM1, 30).unwrap();
        }
    }

    /// Forgets translations that were flushed since the last look.
    fn note_flushes(&mut self) {
        let fake = &self.memory.host().fake;
        let all = fake.flushes_of_all.load(Ordering::Relaxed);
        let of = |id: u16| fake.flushes.lock().unwrap().get(&id).copied().unwrap_or(0);
        let each = [of(0), of(1)];
        for who in [0, 1] {
            if all != self.flushes.0 || each[who] != self.flushes.1[who] {
                self.cached[who].clear();
                self.walked[who].clear();
            }
        }
        self.flushes = (all, each);
    }

    fn check(&mut self) {
        self.note_flushes();
        self.checks += 1;
        let counts = Counts::of(self);
        for mfn in 0..FRAMES {
            let view = self.view(mfn);
            counts.compare(mfn, &view);
            if view.uses > 0 && view.owner.is_real() {
                let who = usize::from(view.owner.0);
                if view.ty.level() > 0 {
                    assert!(!self.cached[who].contains(&mfn), "table {mfn:#x} is cached as writable: {view:?}");
                    // Before that no CPU comes to it.
                    if view.validated {
                        self.walked[who].insert(mfn);
                    }
                } else {
                    assert!(!self.walked[who].contains(&mfn), "{mfn:#x} is still walked as a table: {view:?}");
                }
            }
        }
        for (who, domain) in self.domains.iter().enumerate() {
            assert_eq!(domain.total_pages(), self.owned(domain.id()).len() as u64);
            let shared = (0..FRAMES).map(|mfn| self.view(mfn)).filter(|v| v.shared && v.owner == domain.id());
            assert_eq!(domain.shared_pages(), shared.count() as u64);
            self.cached[who].extend(&counts.writable[who]);
        }
        let free = (0..FRAMES).filter(|mfn| self.view(*mfn).state == State::Free).count() as u64;
        assert_eq!(self.memory.free_pages(), free);
    }
}

fn run(seed: u64) {
    let mut world = World::new(seed);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        for _ in 0..STEPS {
            world.step();
            world.check();
        }
    }));
    if let Err(panic) = outcome {
        let last = world.log.len().saturating_sub(20);
        eprintln!("last steps:\n{}", world.log[last..].join("\n"));
        eprintln!("reproduce with XENOLITH_FUZZ_SEED={seed}");
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn counts_equal_what_the_tables_say() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("XENOLITH_FUZZ_SEED") {
        return run(seed);
    }
    let seconds = number("XENOLITH_FUZZ_SECONDS").unwrap_or(2);
    let end = Instant::now() + Duration::from_secs(seconds);
    let first =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(1, |time| time.as_nanos() as u64);
    let mut sequences = 0;
    while Instant::now() < end || sequences == 0 {
        run(first.wrapping_add(sequences));
        sequences += 1;
    }
    println!("{sequences} sequences of {STEPS} steps");
}
