//! Two domains, with helpers for one that builds page tables.
#![allow(dead_code, reason = "each test crate uses a part")]

use super::*;
use memory::{DomainMemory, FrameType, Request};
use std::sync::Arc;
use types::Errno;

/// Two domains on a machine: the second one (30 frames at most) is the one that acts.
pub struct World {
    pub memory: Mem,
    pub domain: Arc<DomainMemory>,
    pub other: Arc<DomainMemory>,
}

impl World {
    pub fn new() -> World {
        let memory = machine();
        let other = memory.create_domain(DOM0, 40).unwrap();
        let domain = memory.create_domain(DOM1, 30).unwrap();
        World { memory, domain, other }
    }

    pub fn frame(&self) -> Mfn {
        self.memory.allocate(&self.domain, Request::order(0)).unwrap()
    }

    pub fn frames<const N: usize>(&self) -> [Mfn; N] {
        core::array::from_fn(|_| self.frame())
    }

    pub fn context(&self) -> Context<'_> {
        Context::own(&self.domain, &Never)
    }

    pub fn pin(&self, mfn: Mfn, level: u32) -> Result<(), memory::Denied> {
        finish(|| self.memory.pin(&self.context(), mfn, level))
    }

    pub fn unpin(&self, mfn: Mfn) -> Result<(), memory::Denied> {
        match self.memory.unpin(&self.context(), mfn)? {
            Progress::Done(()) => Ok(()),
            Progress::Again(_) => finish(|| Ok(self.memory.settle(&self.domain, &Never))),
        }
    }

    pub fn set(&self, table: Mfn, slot: usize, value: u64) -> Result<(), memory::Denied> {
        update(&self.memory, &self.context(), table, slot, value)
    }

    /// Four tables that map `leaf` at address 0, pinned.
    pub fn tree(&self, leaf: u64) -> [Mfn; 4] {
        let tables: [Mfn; 4] = self.frames();
        poke(&self.memory, tables[0], 0, leaf);
        for level in 1..4 {
            poke(&self.memory, tables[level], 0, entry(tables[level - 1], P | RW | US));
        }
        self.pin(tables[3], 4).unwrap();
        tables
    }

    pub fn uses(&self, mfn: Mfn) -> (FrameType, u32) {
        let view = self.memory.frames().view(mfn).unwrap();
        (view.ty, view.uses)
    }

    pub fn references(&self, mfn: Mfn) -> u32 {
        self.memory.frames().view(mfn).unwrap().references
    }
}

/// The error number of a refusal.
pub fn errno(result: Result<(), memory::Denied>) -> Errno {
    result.unwrap_err().errno
}
