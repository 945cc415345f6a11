//! NUMA: which memory is near to which CPUs.

use alloc::vec::Vec;
use types::Mfn;

/// Distance of a node from itself (ACPI 6.5, 5.2.17).
const OWN: u8 = 10;
/// Distance of any other node where firmware gives none.
const OTHER: u8 = 20;

/// Memory of one node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeMemory {
    /// First frame.
    pub first: Mfn,
    /// Frame behind the last.
    pub end: Mfn,
    /// Number of the node.
    pub node: u32,
}

/// The nodes of a machine, numbered from 0 without gaps.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Nodes {
    count: u32,
    memory: Vec<NodeMemory>,
    /// Rows of the matrix of distances, one after the other; empty where firmware gives none.
    distances: Vec<u8>,
}

impl Nodes {
    /// All of the machine is one node.
    pub const ONE: Nodes = Nodes { count: 1, memory: Vec::new(), distances: Vec::new() };

    /// `count` nodes, at least one, with this memory. `distances` is a matrix of as many rows and columns, or empty. `None`
    /// where the parts do not fit together, or one frame would be of two nodes.
    pub fn new(count: u32, mut memory: Vec<NodeMemory>, distances: Vec<u8>) -> Option<Nodes> {
        let cells = (count as usize).checked_mul(count as usize)?;
        memory.sort_unstable_by_key(|range| range.first.0);
        let in_order = memory.windows(2).all(|pair| pair[0].end.0 <= pair[1].first.0);
        let sound = memory.iter().all(|range| range.first.0 <= range.end.0 && range.node < count);
        let fits = count > 0 && (distances.is_empty() || distances.len() == cells);
        (in_order && sound && fits).then_some(Nodes { count, memory, distances })
    }

    /// Number of nodes.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Memory of the nodes, in the order of its frames.
    pub fn memory(&self) -> &[NodeMemory] {
        &self.memory
    }

    /// How far `to` is from `from`: 10 is a node itself, 255 out of reach.
    pub fn distance(&self, from: u32, to: u32) -> u8 {
        let cell = u64::from(from) * u64::from(self.count) + u64::from(to);
        let given = usize::try_from(cell).ok().and_then(|cell| self.distances.get(cell).copied());
        given.unwrap_or(if from == to { OWN } else { OTHER })
    }

    /// How many of the `count` frames from `first` on are of each node: (node, frames). Those of no node count as node 0's.
    pub fn of_frames(&self, first: Mfn, count: u64) -> impl Iterator<Item = (u32, u64)> + '_ {
        let end = first.0.saturating_add(count);
        let shares = self.memory.iter().map(move |range| {
            let frames = end.min(range.end.0).saturating_sub(first.0.max(range.first.0));
            (range.node, frames)
        });
        let known: u64 = shares.clone().map(|(_, frames)| frames).sum();
        shares.chain([(0, count.saturating_sub(known))]).filter(|(_, frames)| *frames != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u64, end: u64, node: u32) -> NodeMemory {
        NodeMemory { first: Mfn(first), end: Mfn(end), node }
    }

    fn shares(nodes: &Nodes, first: u64, count: u64) -> Vec<(u32, u64)> {
        nodes.of_frames(Mfn(first), count).collect()
    }

    #[test]
    fn frames_are_shared_out() {
        let nodes = Nodes::new(2, vec![range(0x200, 0x300, 0), range(0x10, 0x200, 1)], Vec::new()).unwrap();
        assert_eq!(shares(&nodes, 0x1f0, 0x20), [(1, 0x10), (0, 0x10)]);
        assert_eq!(shares(&nodes, 0x20, 4), [(1, 4)]);
        assert_eq!(shares(&nodes, 0x300, 4), [(0, 4)], "unknown memory");
        assert_eq!(shares(&Nodes::ONE, 5, 7), [(0, 7)]);
    }

    #[test]
    fn distances_are_firmwares_or_the_usual_ones() {
        let given = Nodes::new(2, Vec::new(), vec![10, 21, 31, 10]).unwrap();
        assert_eq!((given.distance(0, 1), given.distance(1, 0), given.distance(1, 1)), (21, 31, 10));
        let none = Nodes::new(2, Vec::new(), Vec::new()).unwrap();
        assert_eq!((none.distance(0, 1), none.distance(1, 1)), (20, 10));
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        assert_eq!(Nodes::new(2, vec![range(0, 5, 0), range(4, 9, 1)], Vec::new()), None, "two nodes' frame");
        assert_eq!(Nodes::new(2, vec![range(0, 5, 2)], Vec::new()), None, "no such node");
        assert_eq!(Nodes::new(2, Vec::new(), vec![10, 20]), None, "half a matrix");
        assert_eq!(Nodes::new(0, Vec::new(), Vec::new()), None);
    }
}
