//! How many frames of each NUMA node are free.

use alloc::vec;
use alloc::vec::Vec;
use platform::Nodes;
use types::Mfn;

/// Free frames by node. A machine that is one node has no such counts: the allocator's own is the same.
pub(crate) struct PerNode {
    nodes: Nodes,
    free: Vec<u64>,
}

impl PerNode {
    pub const fn new(nodes: Nodes) -> PerNode {
        PerNode { nodes, free: Vec::new() }
    }

    /// Begins to count for these nodes. Nothing was counted so far.
    pub fn set_nodes(&mut self, nodes: Nodes) {
        let several = nodes.count() > 1;
        self.free = if several { vec![0; nodes.count() as usize] } else { Vec::new() };
        self.nodes = nodes;
    }

    /// Free frames of a node; `None` for a node that is not counted.
    pub fn free(&self, node: u32) -> Option<u64> {
        self.free.get(node as usize).copied()
    }

    fn change(&mut self, first: u32, order: u8, change: impl Fn(&mut u64, u64)) {
        if self.free.is_empty() {
            return;
        }
        for (node, frames) in self.nodes.of_frames(Mfn(first.into()), 1 << order) {
            if let Some(free) = self.free.get_mut(node as usize) {
                change(free, frames);
            }
        }
    }

    /// A block has become free.
    pub fn given(&mut self, first: u32, order: u8) {
        self.change(first, order, |free, frames| *free += frames);
    }

    /// A free block was handed out.
    pub fn taken(&mut self, first: u32, order: u8) {
        self.change(first, order, |free, frames| *free -= frames);
    }
}
