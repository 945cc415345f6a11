//! A machine of a few frames with two domains on it.
#![allow(dead_code, reason = "each test crate uses a part")]

pub mod world;

use memory::{Context, FrameInfo, FrameTable, Memory, Outcome, PvPolicy};
use platform::fakes::FakeMachine;
use platform::{Frames, Nodes, Preempt, Table, Tlb};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use types::{DomId, Gfn, Mfn, Progress};
use zerocopy::FromZeros;

/// Frames of RAM.
pub const FRAMES: u64 = 64;
/// Device frames within the table.
pub const IO: u64 = 60;
/// A device frame that is mapped read-only.
pub const IO_READ_ONLY: u64 = 61;
/// A frame of the hypervisor's own.
pub const OURS: u64 = 63;

pub const P: u64 = 1;
pub const RW: u64 = 2;
pub const US: u64 = 4;
pub const PCD: u64 = 1 << 4;
pub const PSE: u64 = 1 << 7;
pub const GLOBAL: u64 = 1 << 8;

pub const DOM0: DomId = DomId(0);
pub const DOM1: DomId = DomId(1);

pub struct Machine {
    pub fake: FakeMachine,
    pub m2p: Mutex<BTreeMap<u64, u64>>,
}

impl Frames for Machine {
    fn table(&self, mfn: Mfn) -> Option<&Table> {
        if mfn.0 >= IO { None } else { self.fake.table(mfn) }
    }
}

impl Tlb for Machine {
    fn flush_domain(&self, domain: DomId) {
        self.fake.flush_domain(domain);
    }
    fn flush_all(&self) {
        self.fake.flush_all();
    }
}

impl Preempt for Machine {
    fn should_yield(&self) -> bool {
        self.fake.should_yield()
    }
}

impl PvPolicy for Machine {
    fn may_map_io(&self, domain: DomId, mfn: Mfn) -> bool {
        domain == DOM0 && (mfn.0 == IO || mfn.0 == IO_READ_ONLY || mfn.0 == 1000)
    }
    fn is_io_read_only(&self, mfn: Mfn) -> bool {
        mfn.0 == IO_READ_ONLY
    }
    fn may_map_foreign(&self, mapper: DomId, _owner: DomId) -> bool {
        mapper == DOM0
    }
    fn may_choose_caching(&self, domain: DomId) -> bool {
        domain == DOM0
    }
    fn hypervisor_slots(&self) -> [u64; 16] {
        core::array::from_fn(|slot| 0x100_0003 + ((slot as u64) << 12))
    }
    fn pae_slots(&self) -> [u64; 84] {
        [0x200_0085; 84]
    }
    fn set_m2p(&self, mfn: Mfn, gfn: Gfn) {
        self.m2p.lock().unwrap().insert(mfn.0, gfn.0);
    }
}

pub type Mem = Memory<Machine>;

/// Fails the test that made the engine report an error of its own books, such as a use dropped twice.
struct ErrorsFail;

impl log::Log for ErrorsFail {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() == log::Level::Error
    }
    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            panic!("{}", record.args());
        }
    }
    fn flush(&self) {}
}

/// A machine whose frames 1 to 59 are free.
pub fn machine() -> Mem {
    machine_of_nodes(Nodes::ONE)
}

/// The same on a machine of several NUMA nodes.
pub fn machine_of_nodes(nodes: Nodes) -> Mem {
    // Set already by another test of this process.
    let _ = log::set_logger(&ErrorsFail);
    log::set_max_level(log::LevelFilter::Error);
    // Of what is no RAM there are zeros.
    let info = |mfn| if (IO..IO + 2).contains(&mfn) { FrameInfo::new_zeroed() } else { FrameInfo::new() };
    let table = FrameTable::new(Box::leak((0..FRAMES).map(info).collect()));
    let mut memory = Memory::new(Machine { fake: FakeMachine::new(FRAMES as usize), m2p: Mutex::default() }, table);
    memory.set_nodes(nodes);
    memory.add_free(Mfn(0), IO, false);
    memory
}

/// Sets after how many further questions the machine wants to yield.
pub fn yield_after(memory: &Mem, calls: u64) {
    memory.host().fake.yield_after.store(calls, Ordering::Relaxed);
}

/// Never yields.
pub struct Never;

impl Preempt for Never {
    fn should_yield(&self) -> bool {
        false
    }
}

/// Repeats an operation until it is done.
pub fn finish(mut operation: impl FnMut() -> Outcome<Progress<()>>) -> Outcome<()> {
    for _ in 0..100_000 {
        if let Progress::Done(()) = operation()? {
            return Ok(());
        }
    }
    panic!("never done");
}

/// The entry as it is in memory.
pub fn peek(memory: &Mem, table: Mfn, slot: usize) -> u64 {
    memory.host().table(table).unwrap()[slot].load(Ordering::Relaxed)
}

/// Writes memory behind everybody's back.
pub fn poke(memory: &Mem, table: Mfn, slot: usize, value: u64) {
    memory.host().table(table).unwrap()[slot].store(value, Ordering::Relaxed);
}

/// An entry.
pub fn entry(mfn: Mfn, flags: u64) -> u64 {
    mfn.address() | flags
}

/// One normal mmu_update.
pub fn update(memory: &Mem, context: &Context, table: Mfn, slot: usize, value: u64) -> Outcome<()> {
    finish(|| memory.mmu_update(context, table.address() + slot as u64 * 8, value))
}
