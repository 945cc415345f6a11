//! How many frames each NUMA node has.

use alloc::vec;
use alloc::vec::Vec;
use platform::Nodes;
use types::Mfn;

/// Frames of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NodePages {
    /// That the allocator has or gave out.
    pub total: u64,
    /// That are free.
    pub free: u64,
}

/// The counts of all nodes. A machine that is one node has none: its counts are the allocator's own.
pub(crate) struct PerNode {
    nodes: Nodes,
    counts: Vec<NodePages>,
}

impl PerNode {
    pub const fn new(nodes: Nodes) -> PerNode {
        PerNode { nodes, counts: Vec::new() }
    }

    /// Begins to count for these nodes. Nothing was counted so far.
    pub fn set_nodes(&mut self, nodes: Nodes) {
        let several = nodes.count() > 1;
        self.counts = if several { vec![NodePages::default(); nodes.count() as usize] } else { Vec::new() };
        self.nodes = nodes;
    }

    /// Counts of a node; `None` where there is one node alone.
    pub fn of(&self, node: u32) -> Option<NodePages> {
        self.counts.get(node as usize).copied()
    }

    fn change(&mut self, first: u32, order: u8, change: impl Fn(&mut NodePages, u64)) {
        if self.counts.is_empty() {
            return;
        }
        for (node, frames) in self.nodes.of_frames(Mfn(first.into()), 1 << order) {
            if let Some(pages) = self.counts.get_mut(node as usize) {
                change(pages, frames);
            }
        }
    }

    /// A block is the allocator's now.
    pub fn added(&mut self, first: u32, order: u8) {
        self.change(first, order, |pages, frames| pages.total += frames);
    }

    /// A block has become free.
    pub fn given(&mut self, first: u32, order: u8) {
        self.change(first, order, |pages, frames| pages.free += frames);
    }

    /// A free block was handed out.
    pub fn taken(&mut self, first: u32, order: u8) {
        self.change(first, order, |pages, frames| pages.free -= frames);
    }
}
