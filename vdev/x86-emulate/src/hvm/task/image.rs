//! Task-state segments (SDM vol. 3, figures 7-2 and 7-10; APM vol. 2, figure 12-5).

use super::TaskMemory;
use crate::decode::mask;
use crate::hvm::state::{Segment, State};
use crate::hvm::{Access, Result};
use x86_defs::control::RFlags;

/// Bytes of a 32-bit TSS, and so the most of one.
const MOST: usize = 104;
/// Where a 32-bit TSS has CR3, and T.
const ROOT: usize = 0x1c;
const TRAP: usize = 0x64;
/// General registers, between rip and flags and the selectors.
const GENERAL: usize = 8;
/// What a TSS begins with besides: rip and flags.
const BEFORE: usize = 2;
/// Attributes of a segment in virtual-8086 mode: data, present, level 3.
const VIRTUAL_8086: u16 = 0xf3;

/// How a TSS is laid out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Layout {
    /// Of the 80286.
    Bits16,
    /// Of the 80386.
    Bits32,
}

/// What is loaded from a TSS.
pub struct Image {
    rip: u32,
    flags: u32,
    general: [u32; GENERAL],
    /// ES, CS, SS, DS, FS, GS.
    selectors: [u16; 6],
    /// Selector of the LDT.
    pub ldt: u16,
    /// CR3, which a 16-bit TSS does not have.
    pub root: Option<u32>,
    /// T.
    pub is_trapped: bool,
}

impl Layout {
    /// By the type of a TSS.
    pub fn of(segment: &Segment) -> Layout {
        if segment.attributes & 8 != 0 { Layout::Bits32 } else { Layout::Bits16 }
    }

    /// Bytes of a register.
    pub const fn unit(self) -> usize {
        match self {
            Layout::Bits16 => 2,
            Layout::Bits32 => 4,
        }
    }

    /// Where rip is; flags, general registers, selectors and that of the LDT follow.
    const fn start(self) -> usize {
        match self {
            Layout::Bits16 => 0x0e,
            Layout::Bits32 => 0x20,
        }
    }

    /// How many selectors there are.
    const fn selectors(self) -> usize {
        match self {
            Layout::Bits16 => 4,
            Layout::Bits32 => 6,
        }
    }

    /// The last byte that a new task's TSS has to have.
    pub const fn last(self) -> u32 {
        match self {
            Layout::Bits16 => 0x2b,
            Layout::Bits32 => 0x67,
        }
    }

    /// Bytes that are written when its task is left.
    const fn saved(self) -> usize {
        self.unit() * (BEFORE + GENERAL + self.selectors())
    }

    /// The last byte of those.
    pub const fn last_saved(self) -> u32 {
        (self.start() + self.saved()) as u32 - 1
    }

    /// Saves registers. The LDT's selector and CR3 are not among them (SDM vol. 3, 7.2.1).
    pub fn save(self, base: u32, state: &State, memory: &mut impl TaskMemory) -> Result<()> {
        let (unit, at) = (self.unit(), base.wrapping_add(self.start() as u32));
        let mut bytes = [0; MOST];
        let bytes = &mut bytes[..self.saved()];
        // Beside a selector in 4 bytes there is what the guest has put there.
        memory.read(at, bytes, Access::Modify)?;
        let numbers = [state.rip, state.flags].into_iter().chain(state.general.into_iter().take(GENERAL));
        let (registers, selectors) = bytes.split_at_mut(unit * (BEFORE + GENERAL));
        for (to, value) in registers.chunks_exact_mut(unit).zip(numbers) {
            to.copy_from_slice(&value.to_le_bytes()[..unit]);
        }
        for (to, segment) in selectors.chunks_exact_mut(unit).zip(&state.segments) {
            to[..2].copy_from_slice(&segment.selector.to_le_bytes());
        }
        memory.write(at, bytes)
    }

    /// Loads all.
    pub fn load(self, base: u32, memory: &mut impl TaskMemory) -> Result<Image> {
        let (unit, start) = (self.unit(), self.start());
        let mut bytes = [0; MOST];
        memory.read(base, &mut bytes[..=self.last() as usize], Access::Read)?;
        let number = |at: usize, length: usize| {
            bytes[at..at + length].iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte))
        };
        let register = |index: usize| number(start + index * unit, unit);
        let selector = |index: usize| number(start + (BEFORE + GENERAL + index) * unit, 2) as u16;
        let is_wide = self == Layout::Bits32;
        Ok(Image {
            rip: register(0),
            flags: register(1),
            general: core::array::from_fn(|index| register(BEFORE + index)),
            // The 80286 has no FS and no GS.
            selectors: core::array::from_fn(|index| if index < self.selectors() { selector(index) } else { 0 }),
            ldt: selector(self.selectors()),
            root: is_wide.then(|| number(ROOT, 4)),
            is_trapped: is_wide && number(TRAP, 1) & 1 != 0,
        })
    }
}

impl Image {
    /// Loads registers. Segments of protected mode get their selectors alone.
    pub fn apply(&self, state: &mut State) {
        state.rip = self.rip.into();
        state.flags = RFlags::loaded(self.flags.into());
        for (to, from) in state.general.iter_mut().zip(self.general) {
            *to = from.into();
        }
        state.segments = self.selectors.map(|selector| Segment { selector, ..Segment::default() });
        // Until there is a stack: so the handler of an exception has its own.
        state.level = 3;
        if state.is_virtual_8086() {
            for segment in &mut state.segments {
                segment.attributes = VIRTUAL_8086;
                (segment.limit, segment.base) = (mask(2) as u32, u64::from(segment.selector) << 4);
            }
        }
    }
}
