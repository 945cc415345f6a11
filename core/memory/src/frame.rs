//! What the hypervisor knows of each frame of RAM: its owner, who refers to it, and as what it is used.

use crate::denied::{Denied, Outcome, Why};
use core::fmt;
use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};
use types::{DomId, Errno, Mfn};
use zerocopy::FromZeros;

/// No frame, in a link between frames.
pub(crate) const NONE: u32 = u32::MAX;

/// As what a frame is used while its type count is above 0. The uses exclude each other (Xen's `PGT_*`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum FrameType {
    /// No particular use. With a count: may be mapped read-only only.
    None = 0,
    /// Page table of level 1: its entries map frames.
    L1 = 1,
    /// Page table of level 2.
    L2 = 2,
    /// Page table of level 3.
    L3 = 3,
    /// Page table of level 4, a root.
    L4 = 4,
    /// Segment descriptors, in a GDT or an LDT.
    SegDesc = 5,
    /// Mapped writable.
    Writable = 6,
    /// Page table of level 1 of a 32-bit guest.
    PaeL1 = 7,
    /// Page table of level 2 of a 32-bit guest.
    PaeL2 = 8,
    /// The same for the highest GiB, where the machine-to-physical table is.
    PaeL2Top = 9,
    /// Page table of level 3 of a 32-bit guest, its root: four entries.
    PaeL3 = 10,
}

/// Slots of an L4 table that are the hypervisor's.
const L4_OWN: core::ops::Range<usize> = 256..272;
/// Slots of the L2 table of a 32-bit guest's highest GiB that are the hypervisor's: from `HYPERVISOR_VIRT_START` on
/// (arch-x86/xen-x86_32.h).
const PAE_L2_OWN: core::ops::Range<usize> = 428..512;
/// Slots of a 32-bit guest's root that the guest does not know, and that stay empty: the CPU sees them in long mode.
const PAE_L3_OWN: core::ops::Range<usize> = 4..512;
/// Slot of a 32-bit guest's root for the highest GiB.
pub(crate) const PAE_TOP: usize = 3;

impl FrameType {
    /// The type of page tables of `level`, 1 to 4.
    pub const fn table(level: u32) -> Option<FrameType> {
        match level {
            1 => Some(FrameType::L1),
            2 => Some(FrameType::L2),
            3 => Some(FrameType::L3),
            4 => Some(FrameType::L4),
            _ => None,
        }
    }

    /// The type of page tables of `level`, 1 to 3, of a 32-bit guest.
    pub const fn pae_table(level: u32) -> Option<FrameType> {
        match level {
            1 => Some(FrameType::PaeL1),
            2 => Some(FrameType::PaeL2),
            3 => Some(FrameType::PaeL3),
            _ => None,
        }
    }

    /// The level of a page table; 0 for anything else.
    pub const fn level(self) -> u32 {
        match self {
            FrameType::L1 | FrameType::PaeL1 => 1,
            FrameType::L2 | FrameType::PaeL2 | FrameType::PaeL2Top => 2,
            FrameType::L3 | FrameType::PaeL3 => 3,
            FrameType::L4 => 4,
            FrameType::None | FrameType::SegDesc | FrameType::Writable => 0,
        }
    }

    /// Whether it is a page table of a 32-bit guest.
    pub const fn is_pae(self) -> bool {
        matches!(self, FrameType::PaeL1 | FrameType::PaeL2 | FrameType::PaeL2Top | FrameType::PaeL3)
    }

    /// The type of the tables that an entry in `slot` of this table names; `None` at level 1, and for no table.
    pub(crate) const fn below(self, slot: usize) -> Option<FrameType> {
        match self {
            FrameType::L4 => Some(FrameType::L3),
            FrameType::L3 => Some(FrameType::L2),
            FrameType::L2 => Some(FrameType::L1),
            FrameType::PaeL3 if slot == PAE_TOP => Some(FrameType::PaeL2Top),
            FrameType::PaeL3 => Some(FrameType::PaeL2),
            FrameType::PaeL2 | FrameType::PaeL2Top => Some(FrameType::PaeL1),
            _ => None,
        }
    }

    /// Slots that are the hypervisor's.
    pub(crate) const fn own_slots(self) -> core::ops::Range<usize> {
        match self {
            FrameType::L4 => L4_OWN,
            FrameType::PaeL2Top => PAE_L2_OWN,
            FrameType::PaeL3 => PAE_L3_OWN,
            _ => 0..0,
        }
    }

    /// Whether a slot is the hypervisor's.
    pub(crate) const fn is_own_slot(self, slot: usize) -> bool {
        let own = self.own_slots();
        own.start <= slot && slot < own.end
    }

    /// Whether a guest may change the entry in a slot while the table is in use. A 32-bit guest's highest GiB stays, since the
    /// hypervisor's part of it does.
    pub(crate) const fn is_changeable(self, slot: usize) -> bool {
        !(self.is_own_slot(slot) || matches!(self, FrameType::PaeL3) && slot == PAE_TOP)
    }

    /// Whether two tables are of one level of one kind of guest, so that one may map the other to be read.
    pub(crate) const fn is_alike(self, other: FrameType) -> bool {
        self.level() != 0 && self.level() == other.level() && self.is_pae() == other.is_pae()
    }

    const fn from_bits(bits: u64) -> FrameType {
        match bits {
            1 => FrameType::L1,
            2 => FrameType::L2,
            3 => FrameType::L3,
            4 => FrameType::L4,
            5 => FrameType::SegDesc,
            6 => FrameType::Writable,
            7 => FrameType::PaeL1,
            8 => FrameType::PaeL2,
            9 => FrameType::PaeL2Top,
            10 => FrameType::PaeL3,
            _ => FrameType::None,
        }
    }
}

impl fmt::Display for FrameType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FrameType::None => "untyped",
            FrameType::L1 => "an L1 table",
            FrameType::L2 => "an L2 table",
            FrameType::L3 => "an L3 table",
            FrameType::L4 => "an L4 table",
            FrameType::SegDesc => "segment descriptors",
            FrameType::Writable => "writable",
            FrameType::PaeL1 => "a 32-bit L1 table",
            FrameType::PaeL2 => "a 32-bit L2 table",
            FrameType::PaeL2Top => "the highest 32-bit L2 table",
            FrameType::PaeL3 => "a 32-bit L3 table",
        })
    }
}

/// What a frame is, before anyone refers to it. All-zero memory says [`State::Io`], so that all holes can be one page of zeros, to which
/// nothing is ever stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum State {
    /// No RAM: a device's frame, or a hole. Guests with the right may map it; nobody counts references to it.
    Io = 0,
    /// The hypervisor's own, or broken: never reachable by a guest.
    Reserved = 1,
    /// In the allocator.
    Free = 2,
    /// Owned by a domain or, with no reference, on its way between the allocator and a domain.
    InUse = 3,
}

/// A frame's reference word: bits 0 to 31 count references, 32 and 33 hold the [`State`], 62 and 63 are flags.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refs(pub u64);

impl Refs {
    /// The domain's own reference, taken when the frame is given to it, still stands.
    pub const ALLOCATED: u64 = 1 << 63;
    /// A frame of the hypervisor that the domain may map; on no list of the domain.
    pub const SHARED: u64 = 1 << 62;
    const STATE_SHIFT: u32 = 32;
    const COUNT: u64 = 0xffff_ffff;

    pub const fn new(state: State, flags: u64, count: u32) -> Refs {
        Refs((state as u64) << Self::STATE_SHIFT | flags | count as u64)
    }

    pub const fn count(self) -> u32 {
        (self.0 & Self::COUNT) as u32
    }

    pub const fn state(self) -> State {
        match self.0 >> Self::STATE_SHIFT & 3 {
            1 => State::Reserved,
            2 => State::Free,
            3 => State::InUse,
            _ => State::Io,
        }
    }

    pub const fn has(self, flag: u64) -> bool {
        self.0 & flag != 0
    }
}

/// A frame's type word: bits 0 to 31 count uses, 32 to 35 hold the [`FrameType`], then flags, the cursor of an unfinished
/// promotion or demotion (41 to 50), and the linear mappings that involve the frame (51 to 63, signed).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct TypeWord(pub u64);

impl TypeWord {
    /// A hypercall pinned the type: one use stands until it is unpinned.
    pub const PINNED: u64 = 1 << 36;
    /// The contents were checked for the type.
    pub const VALIDATED: u64 = 1 << 37;
    /// A promotion was cut off: entries below the cursor hold references. Holds one use and one reference.
    pub const PARTIAL: u64 = 1 << 38;
    /// A CPU is changing entries.
    pub const LOCKED: u64 = 1 << 39;
    /// Queued for demotion: entries below the cursor still hold references. Holds one use and one reference.
    pub const DEMOTING: u64 = 1 << 40;
    const TYPE_SHIFT: u32 = 32;
    const COUNT: u64 = 0xffff_ffff;
    const CURSOR_SHIFT: u32 = 41;
    const CURSOR: u64 = 0x3ff << Self::CURSOR_SHIFT;
    const LINEAR_SHIFT: u32 = 51;
    /// Most linear mappings that a frame can be involved in, either way.
    const LINEAR_MAX: i64 = 4000;

    /// One use as `ty`, not validated.
    pub const fn first(ty: FrameType) -> TypeWord {
        TypeWord((ty as u64) << Self::TYPE_SHIFT | 1)
    }

    /// One more writable use, where that is no more than to count; `None` where more may have to be done.
    pub const fn add_writable(self) -> Option<TypeWord> {
        match (self.ty(), self.count()) {
            (FrameType::None | FrameType::Writable, 0) => Some(Self::first(FrameType::Writable).with(Self::VALIDATED)),
            (FrameType::Writable, 1..=0xffff_fffe) if self.has(Self::VALIDATED) => Some(TypeWord(self.0 + 1)),
            _ => None,
        }
    }

    pub const fn count(self) -> u32 {
        (self.0 & Self::COUNT) as u32
    }

    pub const fn ty(self) -> FrameType {
        FrameType::from_bits(self.0 >> Self::TYPE_SHIFT & 15)
    }

    pub const fn has(self, flag: u64) -> bool {
        self.0 & flag != 0
    }

    pub const fn cursor(self) -> usize {
        ((self.0 & Self::CURSOR) >> Self::CURSOR_SHIFT) as usize
    }

    pub const fn with_cursor(self, cursor: usize) -> TypeWord {
        TypeWord(self.0 & !Self::CURSOR | (cursor as u64) << Self::CURSOR_SHIFT & Self::CURSOR)
    }

    pub const fn with(self, flags: u64) -> TypeWord {
        TypeWord(self.0 | flags)
    }

    pub const fn without(self, flags: u64) -> TypeWord {
        TypeWord(self.0 & !flags)
    }

    /// Above 0: entries that map tables of the same level. Below 0: entries of other tables that so map this one.
    pub const fn linear(self) -> i64 {
        self.0 as i64 >> Self::LINEAR_SHIFT
    }

    const fn set_linear(self, linear: i64) -> TypeWord {
        let low = self.0 & ((1 << Self::LINEAR_SHIFT) - 1);
        TypeWord((linear << Self::LINEAR_SHIFT) as u64 | low)
    }

    /// One more entry that maps a table of the same level; `None` past the limit, or while the frame is so mapped itself.
    pub fn add_linear_entry(self) -> Option<TypeWord> {
        let now = self.linear();
        (0..Self::LINEAR_MAX).contains(&now).then(|| self.set_linear(now + 1))
    }

    /// One such entry less; `None` if there is none.
    pub fn drop_linear_entry(self) -> Option<TypeWord> {
        let now = self.linear();
        (now > 0).then(|| self.set_linear(now - 1))
    }

    /// Mapped once more by a table of the same level; `None` past the limit, or while the frame has such entries itself.
    pub fn add_linear_use(self) -> Option<TypeWord> {
        let now = self.linear();
        (now <= 0 && now > -Self::LINEAR_MAX).then(|| self.set_linear(now - 1))
    }

    /// So mapped once less; `None` if it is not.
    pub fn drop_linear_use(self) -> Option<TypeWord> {
        let now = self.linear();
        (now < 0).then(|| self.set_linear(now + 1))
    }
}

/// What is known of one frame: 32 bytes, valid when all zero.
#[derive(FromZeros)]
#[repr(C)]
pub struct FrameInfo {
    refs: AtomicU64,
    ty: AtomicU64,
    pub(crate) next: AtomicU32,
    pub(crate) prev: AtomicU32,
    /// While queued for demotion the next frame in the queue; else the flush epoch at the last change of use.
    pub(crate) work: AtomicU32,
    owner: AtomicU16,
    pub(crate) order: AtomicU8,
    flags: AtomicU8,
}

impl FrameInfo {
    /// A frame that is the hypervisor's own.
    pub const fn new() -> FrameInfo {
        FrameInfo {
            refs: AtomicU64::new(Refs::new(State::Reserved, 0, 0).0),
            ty: AtomicU64::new(0),
            next: AtomicU32::new(0),
            prev: AtomicU32::new(0),
            work: AtomicU32::new(0),
            owner: AtomicU16::new(0),
            order: AtomicU8::new(0),
            flags: AtomicU8::new(0),
        }
    }

    /// Contents may be another domain's.
    pub(crate) const DIRTY: u8 = 1;
    /// Head of a free block; `order` is its size.
    pub(crate) const FREE_HEAD: u8 = 2;
    /// On its owner's list of frames whose own reference was dropped at the domain's end.
    pub(crate) const RELINQUISHED: u8 = 4;

    pub(crate) fn refs(&self) -> Refs {
        Refs(self.refs.load(Ordering::Acquire))
    }

    pub(crate) fn set_refs(&self, refs: Refs) {
        self.refs.store(refs.0, Ordering::Release);
    }

    pub(crate) fn swap_refs(&self, old: Refs, new: Refs) -> bool {
        self.refs.compare_exchange(old.0, new.0, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Drops a reference. True if it was the last: the frame is out of everyone's reach then, and the caller frees it.
    /// Dropping one that was never taken is refused, in the log.
    pub(crate) fn drop_ref(&self) -> bool {
        let dropped = self.refs.fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| match Refs(word).count() {
            0 => None,
            1 => Some(Refs::new(State::Reserved, word & Refs::SHARED, 0).0),
            _ => Some(word - 1),
        });
        if dropped.is_err() {
            log::error!("memory: a reference to a frame of {} was dropped twice", self.owner());
        }
        dropped.is_ok_and(|word| Refs(word).count() == 1)
    }

    /// Takes a further reference where one is known to be held.
    pub(crate) fn add_ref(&self) {
        self.refs.fetch_add(1, Ordering::AcqRel);
    }

    /// Clears ALLOCATED; true if it was set, and then the caller has its reference to drop.
    pub(crate) fn take_allocated(&self) -> bool {
        Refs(self.refs.fetch_and(!Refs::ALLOCATED, Ordering::AcqRel)).has(Refs::ALLOCATED)
    }

    /// Takes a writable use, for which the caller holds a reference, where that is no more than to count; whether it has.
    #[inline]
    pub(crate) fn add_writable(&self) -> bool {
        let old = self.ty();
        old.add_writable().is_some_and(|new| self.swap_ty(old, new))
    }

    pub(crate) fn ty(&self) -> TypeWord {
        TypeWord(self.ty.load(Ordering::Acquire))
    }

    pub(crate) fn set_ty(&self, word: TypeWord) {
        self.ty.store(word.0, Ordering::Release);
    }

    pub(crate) fn swap_ty(&self, old: TypeWord, new: TypeWord) -> bool {
        self.ty.compare_exchange_weak(old.0, new.0, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Gives up the lock on the entries.
    pub(crate) fn unlock(&self) {
        self.ty.fetch_and(!TypeWord::LOCKED, Ordering::AcqRel);
    }

    /// Changes the type word until `change` declines. The old word, or what it was declined for.
    pub(crate) fn update_ty(&self, change: impl Fn(TypeWord) -> Option<TypeWord>) -> Result<TypeWord, TypeWord> {
        self.ty
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| change(TypeWord(word)).map(|word| word.0))
            .map(TypeWord)
            .map_err(TypeWord)
    }

    pub(crate) fn owner(&self) -> DomId {
        DomId(self.owner.load(Ordering::Acquire))
    }

    pub(crate) fn set_owner(&self, owner: DomId) {
        self.owner.store(owner.0, Ordering::Release);
    }

    pub(crate) fn has_flag(&self, flag: u8) -> bool {
        self.flags.load(Ordering::Acquire) & flag != 0
    }

    pub(crate) fn set_flag(&self, flag: u8, on: bool) {
        if on {
            self.flags.fetch_or(flag, Ordering::AcqRel);
        } else {
            self.flags.fetch_and(!flag, Ordering::AcqRel);
        }
    }

    /// Sets all flags of a frame that is nobody's.
    pub(crate) fn set_flags(&self, flags: u8) {
        self.flags.store(flags, Ordering::Release);
    }

    /// Takes a reference whoever owns the frame; the owner. `EINVAL` if it is not in use.
    #[inline]
    pub(crate) fn get(&self, mfn: Mfn) -> Outcome<DomId> {
        loop {
            let old = self.refs();
            if old.state() != State::InUse || old.count() == 0 {
                return Err(Denied::new(Errno::INVAL, Why::NotAllocated { mfn }));
            }
            // One count is left for references that are added to held ones without a check.
            if old.count() >= u32::MAX - 0x1_0000 {
                return Err(Denied::new(Errno::INVAL, Why::TooManyReferences { mfn }));
            }
            if self.swap_refs(old, Refs(old.0 + 1)) {
                return Ok(self.owner());
            }
        }
    }
}

impl Default for FrameInfo {
    fn default() -> Self {
        Self::new()
    }
}

/// The state of all frames from frame 0 to the end of RAM.
#[derive(Clone, Copy)]
pub struct FrameTable {
    frames: &'static [FrameInfo],
}

impl FrameTable {
    /// A table over memory that `hal` set aside and zeroed; frames past its end are no RAM.
    pub const fn new(frames: &'static [FrameInfo]) -> FrameTable {
        FrameTable { frames }
    }

    /// Number of frames described: the first frame number past RAM.
    pub const fn len(&self) -> u64 {
        self.frames.len() as u64
    }

    /// Whether nothing is described.
    pub const fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// The frame's state; `None` past the end of RAM.
    pub(crate) fn get(&self, mfn: Mfn) -> Option<&'static FrameInfo> {
        self.frames.get(usize::try_from(mfn.0).ok()?)
    }

    /// The frame's state, where a link or a held reference says that it exists.
    pub(crate) fn at(&self, index: u32) -> &'static FrameInfo {
        &self.frames[index as usize]
    }

    /// Whether the frame is no RAM: a device's, or past the end. Never changes after boot.
    pub fn is_io(&self, mfn: Mfn) -> bool {
        self.get(mfn).is_none_or(|frame| frame.refs().state() == State::Io)
    }

    /// The frames' states, those past the end left out.
    pub(crate) fn range(&self, first: Mfn, count: u64) -> &'static [FrameInfo] {
        let end = first.0.saturating_add(count).min(self.len());
        self.frames.get(first.0 as usize..end as usize).unwrap_or_default()
    }

    /// Marks frames as RAM that is the hypervisor's, at boot, before any guest runs. What nobody marks in a zeroed table is no RAM.
    pub fn mark_ram(&self, first: Mfn, count: u64) {
        self.range(first, count).iter().for_each(|frame| frame.set_refs(Refs::new(State::Reserved, 0, 0)));
    }

    /// Takes a reference to the frame, whoever owns it; the owner. `EINVAL` if it is not in use.
    #[inline]
    pub(crate) fn get_any(&self, mfn: Mfn) -> Outcome<DomId> {
        match self.get(mfn) {
            Some(frame) => frame.get(mfn),
            None => Err(Denied::new(Errno::INVAL, Why::NotAllocated { mfn })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_takes_32_bytes() {
        assert_eq!(size_of::<FrameInfo>(), 32);
    }

    #[test]
    fn linear_counts_keep_their_sign_and_their_neighbours() {
        let word = TypeWord::first(FrameType::L4).with(TypeWord::VALIDATED).with_cursor(512);
        let uses = word.add_linear_use().unwrap();
        assert_eq!((uses.linear(), uses.count(), uses.cursor(), uses.ty()), (-1, 1, 512, FrameType::L4));
        assert!(uses.add_linear_entry().is_none() && uses.drop_linear_entry().is_none());
        assert!(uses.drop_linear_use().unwrap() == word);
        let entries = (0..4000).fold(word, |word, _| word.add_linear_entry().unwrap());
        assert_eq!((entries.linear(), entries.count()), (4000, 1));
        assert!(entries.add_linear_entry().is_none() && entries.add_linear_use().is_none());
    }
}
