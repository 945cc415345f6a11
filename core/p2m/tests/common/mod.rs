//! A machine with a table in it: frames whose references are counted one by one.
#![allow(dead_code, reason = "each test uses what it needs")]

use p2m::{Demand, Entry, Format, Keeper, Npt, P2m, Supply, Type};
use platform::fakes::FakeMachine;
use platform::{Frames, Preempt, Table, Tlb};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use types::{DomId, Errno, Gfn, Mfn, Progress, Result};

pub const DOMAIN: DomId = DomId(3);
/// Frames from here on are the domain's RAM or free for it; those below are for tables.
pub const FIRST_RAM: u64 = 512;
/// Device frames, of which no references are counted.
pub const DEVICE: u64 = 1 << 30;

/// A count for each frame.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Counts(Vec<u32>);

impl Counts {
    pub fn new() -> Counts {
        Counts(vec![0; 8192])
    }
    pub fn of(&self, frame: u64) -> u32 {
        self.0[frame as usize]
    }
    pub fn add(&mut self, frame: u64) {
        self.0[frame as usize] += 1;
    }
    pub fn drop_one(&mut self, frame: u64) {
        let count = &mut self.0[frame as usize];
        *count = count.checked_sub(1).expect("a reference was taken");
    }
    pub fn clear(&mut self) {
        self.0.fill(0);
    }
    /// Frames with a count, in order.
    pub fn frames(&self) -> impl Iterator<Item = u64> + '_ {
        (0..self.0.len() as u64).filter(|frame| self.of(*frame) != 0)
    }
    /// How many these are, and the highest count.
    pub fn summary(&self) -> (usize, u32) {
        (self.frames().count(), self.0.iter().copied().max().unwrap_or(0))
    }
}

/// What the frame allocator knows.
#[derive(Default)]
pub struct Books {
    /// Frames for tables that the allocator has.
    pub spare: Vec<Mfn>,
    /// References that entries hold, by frame.
    pub mapped: Counts,
    /// The domain's frames, with the references that others hold.
    pub ram: BTreeMap<u64, u32>,
    /// Frames that the domain may still get.
    pub free: BTreeSet<u64>,
    /// Flushes of the domain's translations.
    pub flushes: u64,
}

pub struct World {
    pub machine: FakeMachine,
    pub books: RefCell<Books>,
}

impl World {
    pub fn new(tables: u64, ram: u64) -> World {
        let books = Books {
            spare: (1..=tables).map(Mfn).collect(),
            free: (FIRST_RAM..FIRST_RAM + ram).collect(),
            mapped: Counts::new(),
            ..Books::default()
        };
        assert!(tables < FIRST_RAM);
        World { machine: FakeMachine::new((FIRST_RAM + ram) as usize), books: RefCell::new(books) }
    }
}

impl Frames for World {
    fn table(&self, mfn: Mfn) -> Option<&Table> {
        self.machine.table(mfn)
    }
}

impl Tlb for World {
    fn flush_domain(&self, domain: DomId) {
        assert_eq!(domain, DOMAIN);
        self.books.borrow_mut().flushes += 1;
    }
    fn flush_all(&self) {
        panic!("one domain's translations are enough");
    }
}

impl Supply for World {
    fn allocate_frame(&self) -> Option<Mfn> {
        self.books.borrow_mut().spare.pop()
    }
    fn free_frame(&self, mfn: Mfn) {
        self.books.borrow_mut().spare.push(mfn);
    }
}

impl Keeper for World {
    fn take(&self, _gfn: Gfn, mfn: Mfn, order: u8, ty: Type) -> Result<()> {
        assert!(ty.has_frame());
        if ty == Type::MmioDirect {
            return Ok(());
        }
        let mut books = self.books.borrow_mut();
        let frames = mfn.0..mfn.0 + (1 << order);
        if !frames.clone().all(|frame| books.ram.contains_key(&frame)) {
            return Err(Errno::INVAL);
        }
        frames.for_each(|frame| books.mapped.add(frame));
        Ok(())
    }
    fn put(&self, mfn: Mfn, order: u8, ty: Type) {
        if ty == Type::MmioDirect {
            return;
        }
        let mut books = self.books.borrow_mut();
        for frame in mfn.0..mfn.0 + (1 << order) {
            books.mapped.drop_one(frame);
        }
    }
}

impl Demand for World {
    fn allocate_ram(&self, order: u8) -> Option<Mfn> {
        let mut books = self.books.borrow_mut();
        let count = 1u64 << order;
        let first = books
            .free
            .iter()
            .copied()
            .find(|first| first % count == 0 && (*first..first + count).all(|frame| books.free.contains(&frame)))?;
        for frame in first..first + count {
            books.free.remove(&frame);
            books.ram.insert(frame, 0);
        }
        Some(Mfn(first))
    }
    fn free_ram(&self, mfn: Mfn, order: u8) {
        let mut books = self.books.borrow_mut();
        for frame in mfn.0..mfn.0 + (1 << order) {
            let others = books.ram.remove(&frame).expect("the domain's");
            if others == 0 {
                assert_eq!(books.mapped.of(frame), 0, "a frame was freed while mapped");
                books.free.insert(frame);
            }
        }
    }
    fn unplaced(&self, mfn: Mfn, order: u8) {
        let books = self.books.borrow();
        let idle = |frame| books.mapped.of(frame) == 0 && books.ram[&frame] == 0;
        assert!((mfn.0..mfn.0 + (1 << order)).all(idle), "somebody else can write to it");
    }
    fn references(&self, mfn: Mfn) -> Option<u32> {
        let books = self.books.borrow();
        let others = *books.ram.get(&mfn.0)?;
        Some(others + books.mapped.of(mfn.0))
    }
    fn total_pages(&self) -> u64 {
        self.books.borrow().ram.len() as u64
    }
}

pub type Map = P2m<World, Npt>;

/// A table with a root, `tables` frames for tables, and as much memory as told.
pub fn map(tables: u64, ram: u64) -> Map {
    let map = Map::new(World::new(tables, ram), DOMAIN);
    assert_eq!(map.resize_pool(tables, &Never), Ok(Progress::Done(())));
    map.open().unwrap();
    map
}

pub struct Never;

impl Preempt for Never {
    fn should_yield(&self) -> bool {
        false
    }
}

pub struct Always;

impl Preempt for Always {
    fn should_yield(&self) -> bool {
        true
    }
}

/// What a walk of the tables from the root finds.
pub struct Walked {
    pub tables: BTreeSet<u64>,
    /// References by frame that entries should hold.
    pub frames: Counts,
    /// Those that a CPU can reach.
    pub present: Counts,
    pub on_demand: u64,
    pub claimed: u64,
}

pub fn walk(map: &Map) -> Walked {
    let mut walked =
        Walked { tables: BTreeSet::new(), frames: Counts::new(), present: Counts::new(), on_demand: 0, claimed: 0 };
    if let Some(root) = map.root() {
        visit(map, root, 4, &mut walked);
    }
    walked
}

fn visit(map: &Map, table: Mfn, level: u8, walked: &mut Walked) {
    assert!(walked.tables.insert(table.0), "a table is reached twice");
    for word in map.host().table(table).unwrap() {
        let word = word.load(Ordering::Relaxed);
        match Npt::decode(word, level) {
            p2m::Decoded::Hole => {}
            p2m::Decoded::Table(below) => {
                assert!(level > 1);
                visit(map, below, level - 1, walked);
            }
            p2m::Decoded::Leaf(leaf) => {
                let pages = 1u64 << (9 * (level - 1));
                match leaf.ty {
                    Type::PopulateOnDemand => walked.on_demand += pages,
                    Type::IoreqServer => walked.claimed += pages,
                    _ => {}
                }
                if leaf.ty.has_frame() && leaf.ty != Type::MmioDirect {
                    for frame in leaf.mfn.0..leaf.mfn.0 + pages {
                        walked.frames.add(frame);
                        if word & 1 != 0 {
                            walked.present.add(frame);
                        }
                    }
                }
            }
        }
    }
}

/// An entry without the size of its page.
pub fn plain(entry: Entry) -> Entry {
    Entry { order: 0, ..entry }
}
