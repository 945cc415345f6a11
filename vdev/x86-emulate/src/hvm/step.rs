//! One instruction with the means to carry it out: its operands.

use super::state::SegmentName;
use super::{Access, Result, State, Stop, System, address, data, integer, system, vector};
use crate::alu::Alu;
use crate::decode::{self, mask};
use iced_x86::{Instruction, Mnemonic, OpKind, Register};
use x86_defs::control::RFlags;

/// What comes after an instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flow {
    /// The next one.
    Next,
    /// The same once more: another CPU was quicker to change memory.
    Again,
    /// The next one, without interrupts before it.
    Shadow,
    /// A wait for an interrupt.
    Halt,
}

/// What an instruction does to its first operand and to registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Change {
    /// The operand's new value; `None` to leave it.
    pub value: Option<u64>,
    /// RFLAGS after it.
    pub flags: u64,
    /// Another register that changes. Where it is the first operand too, that one's value counts.
    pub register: Option<(Register, u64)>,
}

impl Change {
    /// A new value and flags.
    pub fn new((value, flags): crate::alu::Answer) -> Change {
        Change { value: Some(value), flags, register: None }
    }
}

/// An instruction at work.
pub struct Step<'a, C> {
    /// Registers; they are thrown away if the instruction stops.
    pub state: &'a mut State,
    /// The machine.
    pub client: &'a mut C,
    /// What is done.
    pub instruction: &'a Instruction,
}

impl<C: System> Step<'_, C> {
    /// Carries it out.
    pub fn run(&mut self) -> Result<Flow> {
        let families = [system::execute::<C>, data::execute::<C>, integer::execute::<C>, vector::execute::<C>];
        for family in families {
            if let Some(flow) = family(self)? {
                return Ok(flow);
            }
        }
        Err(Stop::Unhandled)
    }

    /// The unit for operands of `size` bytes.
    pub fn alu(&self, size: u8) -> Alu {
        Alu { size, flags: self.state.flags }
    }

    /// Whether operand `index` is in memory.
    pub fn is_memory(&self, index: u32) -> bool {
        self.instruction.op_kind(index) == OpKind::Memory
    }

    /// Bytes of operand `index`, a general register or in memory.
    pub fn size(&self, index: u32) -> Result<u8> {
        match self.instruction.op_kind(index) {
            OpKind::Register => decode::place(self.instruction.op_register(index)).map(|(_, _, size)| size),
            OpKind::Memory => decode::memory_size(self.instruction),
            _ => None,
        }
        .ok_or(Stop::Unhandled)
    }

    /// Linear address of the memory operand, moved by `distance` bytes within its segment.
    pub fn address_at(&self, distance: u64, bytes: u8, is_write: bool) -> Result<u64> {
        let offset = address::offset(self.state, self.instruction)?.wrapping_add(distance);
        let offset = offset & mask(address::width(self.instruction));
        let segment = SegmentName::of(self.instruction.memory_segment()).ok_or(Stop::Unhandled)?;
        address::linear(self.state, segment, offset, bytes.into(), is_write)
    }

    /// Linear address of the memory operand.
    pub fn address(&self, bytes: u8, is_write: bool) -> Result<u64> {
        self.address_at(0, bytes, is_write)
    }

    /// Reads 1 to 8 bytes of memory.
    pub fn read(&mut self, linear: u64, size: u8, access: Access) -> Result<u64> {
        let mut bytes = [0; 8];
        self.client.read(linear, &mut bytes[..usize::from(size)], access)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Writes 1 to 8 bytes of memory.
    pub fn write(&mut self, linear: u64, size: u8, value: u64) -> Result<()> {
        self.client.write(linear, &value.to_le_bytes()[..usize::from(size)])
    }

    /// Value of operand `index` in `size` bytes.
    pub fn load(&mut self, index: u32, size: u8) -> Result<u64> {
        match self.instruction.op_kind(index) {
            OpKind::Register => {
                self.state.value(self.instruction.op_register(index)).ok_or(Stop::Unhandled).map(|v| v & mask(size))
            }
            OpKind::Memory => {
                let linear = self.address(size, false)?;
                self.read(linear, size, Access::Read)
            }
            kind if decode::is_immediate(kind) => Ok(self.instruction.immediate(index) & mask(size)),
            _ => Err(Stop::Unhandled),
        }
    }

    /// Gives operand 0 a value of `size` bytes; its old one does not matter.
    pub fn store(&mut self, size: u8, value: u64) -> Result<()> {
        if self.is_memory(0) {
            let linear = self.address(size, true)?;
            return self.write(linear, size, value);
        }
        self.set_register(0, value)
    }

    /// Sets the general register that is operand `index`.
    pub fn set_register(&mut self, index: u32, value: u64) -> Result<()> {
        let register = self.instruction.op_register(index);
        decode::place(register).ok_or(Stop::Unhandled)?;
        self.state.set_value(register, value);
        Ok(())
    }

    /// Replaces operand 0, of `size` bytes, by what `change` makes of it.
    pub fn modify(&mut self, size: u8, change: impl FnOnce(u64) -> Change) -> Result<Flow> {
        self.modify_at(0, size, change)
    }

    /// As [`Step::modify`], with an operand in memory moved by `distance` bytes.
    pub fn modify_at(&mut self, distance: u64, size: u8, change: impl FnOnce(u64) -> Change) -> Result<Flow> {
        if !self.is_memory(0) {
            let old = self.load(0, size)?;
            let change = change(old);
            self.finish(&change);
            if let Some(value) = change.value {
                self.set_register(0, value)?;
            }
            return Ok(Flow::Next);
        }
        let linear = self.address_at(distance, size, true)?;
        let old = self.read(linear, size, Access::Modify)?;
        let change = change(old);
        if let Some(value) = change.value {
            if !self.replace(linear, size, old, value)? {
                return Ok(Flow::Again);
            }
        }
        self.finish(&change);
        Ok(Flow::Next)
    }

    fn replace(&mut self, linear: u64, size: u8, old: u64, new: u64) -> Result<bool> {
        let size = usize::from(size);
        let (old, new) = (old.to_le_bytes(), new.to_le_bytes());
        if self.is_atomic() {
            return self.client.compare_exchange(linear, &old[..size], &new[..size]);
        }
        self.client.write(linear, &new[..size])?;
        Ok(true)
    }

    /// Whether other CPUs must not come between read and write.
    pub fn is_atomic(&self) -> bool {
        self.instruction.has_lock_prefix() || self.instruction.mnemonic() == Mnemonic::Xchg
    }

    fn finish(&mut self, change: &Change) {
        self.state.flags = change.flags;
        if let Some((register, value)) = change.register {
            self.state.set_value(register, value);
        }
    }

    /// Whether a flag is set.
    pub fn has(&self, flag: RFlags) -> bool {
        self.state.flags & flag.bits() != 0
    }
}
