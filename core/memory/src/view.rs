//! What of a frame's state others may see.

use crate::frame::{FrameTable, FrameType, Refs, State, TypeWord};
use types::{DomId, Mfn};

/// A snapshot of one frame's state, for reports and tests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameView {
    /// What the frame is.
    pub state: State,
    /// Who owns it; meaningful while `references` is above 0.
    pub owner: DomId,
    /// How many references there are, the owner's own included.
    pub references: u32,
    /// Whether the owner's own reference stands.
    pub allocated: bool,
    /// Whether it is a frame of the hypervisor that the owner may map.
    pub shared: bool,
    /// The use.
    pub ty: FrameType,
    /// How many uses there are.
    pub uses: u32,
    /// Whether one of the uses is a pin.
    pub pinned: bool,
    /// Whether the contents were checked for the use.
    pub validated: bool,
    /// Whether a promotion was cut off.
    pub partial: bool,
    /// Whether a demotion is under way.
    pub demoting: bool,
    /// Whether a CPU is changing entries.
    pub locked: bool,
    /// Entries done by a promotion, or left to a demotion.
    pub cursor: usize,
    /// Linear mappings, see the type word.
    pub linear: i64,
}

impl FrameTable {
    /// A snapshot of a frame; `None` past the end of RAM.
    pub fn view(&self, mfn: Mfn) -> Option<FrameView> {
        let frame = self.get(mfn)?;
        let (refs, ty) = (frame.refs(), frame.ty());
        Some(FrameView {
            state: refs.state(),
            owner: frame.owner(),
            references: refs.count(),
            allocated: refs.has(Refs::ALLOCATED),
            shared: refs.has(Refs::SHARED),
            ty: ty.ty(),
            uses: ty.count(),
            pinned: ty.has(TypeWord::PINNED),
            validated: ty.has(TypeWord::VALIDATED),
            partial: ty.has(TypeWord::PARTIAL),
            demoting: ty.has(TypeWord::DEMOTING),
            locked: ty.has(TypeWord::LOCKED),
            cursor: ty.cursor(),
            linear: ty.linear(),
        })
    }
}
