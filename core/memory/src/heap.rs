//! The buddy allocator: which frames are free.
//!
//! Blocks are kept by zone, the bit width of their frame numbers: an aligned block of 2^n frames never crosses a power of
//! two, frame 0 aside, which is never given out. Allocation begins with the highest zone, so that low memory stays for devices.

use crate::dirty::{CHUNK_ORDER, DirtyChunks};
use crate::frame::{FrameInfo, FrameTable, NONE, Refs, State, TypeWord};
use crate::nodes::PerNode;
use core::sync::atomic::Ordering;
use platform::Nodes;
use types::{DomId, Mfn};

/// Largest order of a block: 4 GiB.
pub const MAX_ORDER: u8 = 20;

const ORDERS: usize = MAX_ORDER as usize + 1;
const ZONES: usize = 33;

/// The free blocks. Guarded by the heap lock.
pub(crate) struct Heap {
    first: [[u32; ORDERS]; ZONES],
    /// For each zone, the orders that have a block.
    orders: [u32; ZONES],
    /// Frames that are free.
    pub free: u64,
    /// Frames in use or free.
    pub total: u64,
    /// Free frames by node.
    pub per_node: PerNode,
    /// Free frames that are claimed by domains.
    pub claimed: u64,
    /// Free frames whose contents are not yet zeroed.
    pub dirty: u64,
    /// Where they may be.
    dirty_chunks: DirtyChunks,
    /// Blocks that are free and in no list, since somebody zeroes them.
    pub away: u32,
}

/// A free block that is in no list while its frames are zeroed, without the heap lock. It goes back by [`Heap::put_back`].
pub(crate) struct Away {
    pub first: u32,
    pub order: u8,
}

impl Away {
    pub fn frames(&self) -> core::ops::Range<u32> {
        self.first..self.first + (1 << self.order)
    }
}

/// The zone of a frame.
fn zone_of(mfn: u32) -> usize {
    (u32::BITS - mfn.leading_zeros()) as usize
}

impl Heap {
    pub const fn new() -> Heap {
        Heap {
            first: [[NONE; ORDERS]; ZONES],
            orders: [0; ZONES],
            free: 0,
            total: 0,
            per_node: PerNode::new(Nodes::ONE),
            claimed: 0,
            dirty: 0,
            dirty_chunks: DirtyChunks::new(),
            away: 0,
        }
    }

    /// Room for frames up to this one. To be called before the first is given.
    pub fn set_frames(&mut self, frames: u64) {
        self.dirty_chunks = DirtyChunks::for_frames(frames);
    }

    fn push(&mut self, table: &FrameTable, mfn: u32, order: u8) {
        let zone = zone_of(mfn);
        let head = &mut self.first[zone][order as usize];
        let frame = table.at(mfn);
        frame.order.store(order, Ordering::Relaxed);
        frame.set_flag(FrameInfo::FREE_HEAD, true);
        frame.prev.store(NONE, Ordering::Relaxed);
        frame.next.store(*head, Ordering::Relaxed);
        if *head != NONE {
            table.at(*head).prev.store(mfn, Ordering::Relaxed);
        }
        *head = mfn;
        self.orders[zone] |= 1 << order;
    }

    fn unlink(&mut self, table: &FrameTable, mfn: u32, order: u8) {
        let zone = zone_of(mfn);
        let frame = table.at(mfn);
        frame.set_flag(FrameInfo::FREE_HEAD, false);
        let (prev, next) = (frame.prev.load(Ordering::Relaxed), frame.next.load(Ordering::Relaxed));
        if next != NONE {
            table.at(next).prev.store(prev, Ordering::Relaxed);
        }
        if prev != NONE {
            table.at(prev).next.store(next, Ordering::Relaxed);
        } else {
            self.first[zone][order as usize] = next;
            if next == NONE {
                self.orders[zone] &= !(1 << order);
            }
        }
    }

    /// Takes a block of the order within `bits` address bits; its first frame.
    pub fn take(&mut self, table: &FrameTable, order: u8, bits: u32) -> Option<u32> {
        if order > MAX_ORDER {
            return None;
        }
        let top = (bits.saturating_sub(types::PAGE_SHIFT) as usize).min(ZONES - 1);
        for zone in (1..=top).rev() {
            let orders = self.orders[zone] >> order;
            if orders == 0 {
                continue;
            }
            let have = order + orders.trailing_zeros() as u8;
            let mfn = self.first[zone][have as usize];
            self.unlink(table, mfn, have);
            self.split(table, mfn, have, mfn, order);
            self.free -= 1 << order;
            self.per_node.taken(mfn, order);
            return Some(mfn);
        }
        None
    }

    /// Keeps the part of 2^`order` frames around `mfn` of a block that was unlinked, and puts the rest into the lists; the
    /// part's first frame.
    fn split(&mut self, table: &FrameTable, mut first: u32, mut have: u8, mfn: u32, order: u8) -> u32 {
        while have > order {
            have -= 1;
            let upper = first + (1 << have);
            if mfn < upper {
                self.push(table, upper, have);
            } else {
                self.push(table, first, have);
                first = upper;
            }
        }
        first
    }

    /// Gives back a block whose frames are nobody's.
    pub fn give(&mut self, table: &FrameTable, first: u32, order: u8) {
        let (mut mfn, chunk) = (first, order.min(CHUNK_ORDER));
        for frames in table.range(Mfn(first.into()), 1 << order).chunks(1 << chunk) {
            let mut dirty = 0;
            for frame in frames {
                frame.set_ty(TypeWord(0));
                frame.set_owner(DomId::INVALID);
                frame.set_refs(Refs::new(State::Free, 0, 0));
                dirty += u64::from(frame.has_flag(FrameInfo::DIRTY));
            }
            if dirty > 0 {
                self.dirty += dirty;
                self.dirty_chunks.insert(mfn);
            }
            mfn += 1 << chunk;
        }
        self.free += 1 << order;
        self.per_node.given(first, order);
        self.merge(table, first, order);
    }

    /// Takes a block out of the lists that has a frame to be zeroed, and at most a chunk of them. It stays free, and counted.
    pub fn take_dirty(&mut self, table: &FrameTable) -> Option<Away> {
        while self.dirty > 0 {
            let chunk = self.dirty_chunks.take()?;
            let last = (u64::from(chunk) + (1 << CHUNK_ORDER)).min(table.len()) as u32;
            let is_dirty = |mfn: &u32| {
                let frame = table.at(*mfn);
                frame.has_flag(FrameInfo::DIRTY) && frame.refs().state() == State::Free
            };
            let mut blocks = (chunk..last).filter(is_dirty).filter_map(|mfn| self.block_of(table, mfn));
            let Some((mfn, head, have)) = blocks.next() else {
                continue;
            };
            self.unlink(table, head, have);
            let order = have.min(CHUNK_ORDER);
            self.away += 1;
            return Some(Away { first: self.split(table, head, have, mfn, order), order });
        }
        None
    }

    /// Takes back what [`Heap::take_dirty`] gave. `zeroed` of its frames were, and are not dirty now; others may be.
    pub fn put_back(&mut self, table: &FrameTable, block: &Away, zeroed: u64) {
        self.dirty -= zeroed;
        self.away -= 1;
        self.dirty_chunks.insert(block.first);
        self.merge(table, block.first, block.order);
    }

    /// The free block in the lists around a frame that is free: the frame, the block's first and its order. `None` where it is
    /// away.
    fn block_of(&self, table: &FrameTable, mfn: u32) -> Option<(u32, u32, u8)> {
        let mut heads = (0..=MAX_ORDER).map(|order| (mfn, mfn & !((1 << order) - 1), order));
        heads.find(|&(_, head, order)| self.is_free_head(table, head, order))
    }

    /// Puts a block into the lists, together with its free neighbours.
    fn merge(&mut self, table: &FrameTable, first: u32, first_order: u8) {
        let (mut mfn, mut order) = (first, first_order);
        while order < MAX_ORDER {
            let buddy = mfn ^ 1 << order;
            if !self.is_free_head(table, buddy, order) {
                break;
            }
            self.unlink(table, buddy, order);
            mfn = mfn.min(buddy);
            order += 1;
        }
        self.push(table, mfn, order);
    }

    fn is_free_head(&self, table: &FrameTable, mfn: u32, order: u8) -> bool {
        let Some(frame) = table.get(Mfn(mfn.into())) else {
            return false;
        };
        frame.refs().state() == State::Free
            && frame.has_flag(FrameInfo::FREE_HEAD)
            && frame.order.load(Ordering::Relaxed) == order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(count: usize) -> FrameTable {
        FrameTable::new(Box::leak((0..count).map(|_| FrameInfo::new()).collect()))
    }

    fn filled(count: u32) -> (FrameTable, Heap) {
        let table = table(count as usize);
        let mut heap = Heap::new();
        heap.set_frames(count.into());
        for mfn in 1..count {
            heap.give(&table, mfn, 0);
        }
        (table, heap)
    }

    #[test]
    fn single_frames_merge_into_the_largest_blocks() {
        let (table, mut heap) = filled(64);
        assert_eq!(heap.free, 63);
        assert_eq!(heap.take(&table, 5, 64), Some(32));
        assert_eq!(heap.take(&table, 5, 64), None);
        assert_eq!(heap.take(&table, 4, 64), Some(16));
        assert_eq!(heap.free, 15);
    }

    #[test]
    fn high_memory_goes_first_and_widths_are_kept() {
        let (table, mut heap) = filled(64);
        assert!(heap.take(&table, 0, 64).unwrap() >= 32);
        assert!(heap.take(&table, 0, 12 + 3).unwrap() < 8);
        assert_eq!(heap.take(&table, 3, 12 + 3), None);
        assert_eq!(heap.take(&table, 0, 3), None);
        assert_eq!(heap.take(&table, MAX_ORDER + 1, 64), None);
    }

    #[test]
    fn blocks_come_back_whole() {
        let (table, mut heap) = filled(64);
        let mut held: Vec<u32> = Vec::new();
        while let Some(mfn) = heap.take(&table, 0, 64) {
            table.at(mfn).set_refs(Refs::new(State::InUse, 0, 0));
            held.push(mfn);
        }
        held.sort_unstable();
        assert_eq!(held, (1..64).collect::<Vec<_>>());
        for mfn in held.into_iter().rev() {
            heap.give(&table, mfn, 0);
        }
        assert_eq!(heap.take(&table, 5, 64), Some(32));
        assert_eq!(heap.free, 31);
    }
}
