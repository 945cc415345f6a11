//! String instructions: MOVS, STOS, LODS, CMPS, SCAS, INS and OUTS, once or repeated (SDM vol. 2, REP).

use super::client::{Burst, BurstKind};
use super::state::SegmentName;
use super::{Access, PortAccess, Result, State, Stop, System, address, system};
use crate::alu::Alu;
use crate::decode::{self, mask};
use crate::reg;
use iced_x86::{Instruction, Mnemonic, OpKind};
use x86_defs::control::RFlags;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Move,
    Fill,
    Load,
    Compare,
    Scan,
    Input,
    Output,
}

/// When a repeated instruction ends, but for a count of 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Repeat {
    /// After the first unit: it is not repeated.
    Once,
    /// Not before the count is 0.
    Always,
    /// After a difference.
    WhileEqual,
    /// After an equality.
    WhileDifferent,
}

/// A string instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StringInstruction {
    kind: Kind,
    repeat: Repeat,
    /// Bytes of a unit.
    size: u8,
    /// Bytes of rsi, rdi and rcx that count.
    width: u8,
    /// Of the source.
    segment: SegmentName,
}

impl StringInstruction {
    /// The string instruction that was decoded, if it is one.
    pub fn of(instruction: &Instruction) -> Option<StringInstruction> {
        let operands = instruction.op_kinds();
        let width = operands.filter_map(pointer_width).next()?;
        let (kind, size) = match instruction.mnemonic() {
            Mnemonic::Movsb => (Kind::Move, 1),
            Mnemonic::Movsw => (Kind::Move, 2),
            Mnemonic::Movsd => (Kind::Move, 4),
            Mnemonic::Movsq => (Kind::Move, 8),
            Mnemonic::Stosb => (Kind::Fill, 1),
            Mnemonic::Stosw => (Kind::Fill, 2),
            Mnemonic::Stosd => (Kind::Fill, 4),
            Mnemonic::Stosq => (Kind::Fill, 8),
            Mnemonic::Lodsb => (Kind::Load, 1),
            Mnemonic::Lodsw => (Kind::Load, 2),
            Mnemonic::Lodsd => (Kind::Load, 4),
            Mnemonic::Lodsq => (Kind::Load, 8),
            Mnemonic::Cmpsb => (Kind::Compare, 1),
            Mnemonic::Cmpsw => (Kind::Compare, 2),
            Mnemonic::Cmpsd => (Kind::Compare, 4),
            Mnemonic::Cmpsq => (Kind::Compare, 8),
            Mnemonic::Scasb => (Kind::Scan, 1),
            Mnemonic::Scasw => (Kind::Scan, 2),
            Mnemonic::Scasd => (Kind::Scan, 4),
            Mnemonic::Scasq => (Kind::Scan, 8),
            Mnemonic::Insb => (Kind::Input, 1),
            Mnemonic::Insw => (Kind::Input, 2),
            Mnemonic::Insd => (Kind::Input, 4),
            Mnemonic::Outsb => (Kind::Output, 1),
            Mnemonic::Outsw => (Kind::Output, 2),
            Mnemonic::Outsd => (Kind::Output, 4),
            _ => return None,
        };
        let repeat = match (kind, instruction.has_rep_prefix(), instruction.has_repne_prefix()) {
            (_, false, false) => Repeat::Once,
            (Kind::Compare | Kind::Scan, true, _) => Repeat::WhileEqual,
            (Kind::Compare | Kind::Scan, false, _) => Repeat::WhileDifferent,
            _ => Repeat::Always,
        };
        let segment = SegmentName::of(instruction.memory_segment()).unwrap_or(SegmentName::Ds);
        Some(StringInstruction { kind, repeat, size, width, segment })
    }

    /// Moves up to `most` units, each as one step; whether the instruction is finished.
    pub fn run<C: System>(&self, state: &mut State, client: &mut C, most: u64) -> Result<bool> {
        let mut left = most;
        let port = state.general[usize::from(reg::RDX)] as u16;
        if matches!(self.kind, Kind::Input | Kind::Output) {
            system::check_port(state, client, port, self.size)?;
        }
        loop {
            if self.repeat != Repeat::Once && self.count(state) == 0 {
                return Ok(true);
            }
            if left == 0 {
                return Ok(false);
            }
            let mut moved = self.burst(state, client, port, left)?;
            if moved == 0 {
                self.unit(state, client, port)?;
                moved = 1;
            }
            self.advance(state, moved);
            client.commit();
            left -= moved;
            let is_equal = state.flags & RFlags::ZF.bits() != 0;
            match self.repeat {
                Repeat::Once => return Ok(true),
                Repeat::WhileEqual if !is_equal => return Ok(true),
                Repeat::WhileDifferent if is_equal => return Ok(true),
                _ => {}
            }
        }
    }

    /// The port that it uses, if any.
    pub fn port_access(&self, state: &State) -> Option<PortAccess> {
        let is_input = self.kind == Kind::Input;
        let port = state.general[usize::from(reg::RDX)] as u16;
        (is_input || self.kind == Kind::Output).then_some(PortAccess {
            port,
            size: self.size,
            is_input,
            is_string: true,
        })
    }

    /// A pointer or count in the width of addresses.
    fn masked(&self, state: &State, number: u8) -> u64 {
        state.general[usize::from(number)] & mask(self.width)
    }

    fn count(&self, state: &State) -> u64 {
        self.masked(state, reg::RCX)
    }

    fn is_backward(state: &State) -> bool {
        state.flags & RFlags::DF.bits() != 0
    }

    /// Counts `moved` units and goes past them.
    fn advance(&self, state: &mut State, moved: u64) {
        let distance = moved.wrapping_mul(self.size.into());
        let step = if Self::is_backward(state) { distance.wrapping_neg() } else { distance };
        let uses_source = matches!(self.kind, Kind::Move | Kind::Load | Kind::Compare | Kind::Output);
        let uses_destination = !matches!(self.kind, Kind::Load | Kind::Output);
        let mut add = |number: u8, amount: u64| {
            let whole = &mut state.general[usize::from(number)];
            *whole = decode::merge(*whole, (number, 0, self.width), whole.wrapping_add(amount));
        };
        if uses_source {
            add(reg::RSI, step);
        }
        if uses_destination {
            add(reg::RDI, step);
        }
        if self.repeat != Repeat::Once {
            add(reg::RCX, moved.wrapping_neg());
        }
    }

    /// Linear address of the unit that RSI names.
    fn source(&self, state: &State) -> Result<u64> {
        address::linear(state, self.segment, self.masked(state, reg::RSI), self.size.into(), false)
    }

    /// Linear address of the unit that RDI names.
    fn destination(&self, state: &State, is_write: bool) -> Result<u64> {
        address::linear(state, SegmentName::Es, self.masked(state, reg::RDI), self.size.into(), is_write)
    }

    fn read<C: System>(&self, client: &mut C, linear: u64) -> Result<u64> {
        let mut bytes = [0; 8];
        client.read(linear, &mut bytes[..usize::from(self.size)], Access::Read)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn write<C: System>(&self, client: &mut C, linear: u64, value: u64) -> Result<()> {
        client.write(linear, &value.to_le_bytes()[..usize::from(self.size)])
    }

    /// One unit. Registers and flags change at its end only.
    fn unit<C: System>(&self, state: &mut State, client: &mut C, port: u16) -> Result<()> {
        let accumulator = decode::accumulator(self.size);
        let rax = state.value(accumulator).ok_or(Stop::Unhandled)?;
        let alu = Alu { size: self.size, flags: state.flags };
        match self.kind {
            Kind::Move => {
                let (from, to) = (self.source(state)?, self.destination(state, true)?);
                // What a device gave must not be lost in a fault.
                client.check_write(to, self.size.into())?;
                let value = self.read(client, from)?;
                self.write(client, to, value)?;
            }
            Kind::Fill => self.write(client, self.destination(state, true)?, rax)?,
            Kind::Load => {
                let value = self.read(client, self.source(state)?)?;
                state.set_value(accumulator, value);
            }
            Kind::Compare => {
                let left = self.read(client, self.source(state)?)?;
                let right = self.read(client, self.destination(state, false)?)?;
                state.flags = alu.subtract(left, right).1;
            }
            Kind::Scan => {
                let right = self.read(client, self.destination(state, false)?)?;
                state.flags = alu.subtract(rax, right).1;
            }
            Kind::Input => {
                let to = self.destination(state, true)?;
                client.check_write(to, self.size.into())?;
                let value = client.read_port(port, self.size)?;
                self.write(client, to, value.into())?;
            }
            Kind::Output => {
                let value = self.read(client, self.source(state)?)?;
                client.write_port(port, self.size, value as u32)?;
            }
        }
        Ok(())
    }

    /// Offers units to the client at once: how many it took.
    fn burst<C: System>(&self, state: &State, client: &mut C, port: u16, most: u64) -> Result<u64> {
        if self.repeat != Repeat::Always || self.kind == Kind::Load {
            return Ok(0);
        }
        let mut count = self.count(state).min(most);
        if self.kind != Kind::Fill && self.kind != Kind::Input {
            count = count.min(self.units_to_end(state, reg::RSI));
        }
        if self.kind != Kind::Output {
            count = count.min(self.units_to_end(state, reg::RDI));
        }
        if count < 2 {
            return Ok(0);
        }
        let source = || self.range(state, self.segment, reg::RSI, count, false);
        let destination = || self.range(state, SegmentName::Es, reg::RDI, count, true);
        let kind = match self.kind {
            Kind::Move => source().zip(destination()).map(|(from, to)| BurstKind::Move { from, to }),
            Kind::Fill => {
                let value = state.general[usize::from(reg::RAX)] & mask(self.size);
                destination().map(|to| BurstKind::Fill { to, value })
            }
            Kind::Input => destination().map(|to| BurstKind::Input { port, to }),
            _ => source().map(|from| BurstKind::Output { from, port }),
        };
        match kind {
            Some(kind) => {
                let burst = Burst { kind, size: self.size, count, is_backward: Self::is_backward(state) };
                Ok(client.burst(&burst)?.min(count))
            }
            // Some unit is beyond its segment. One by one, that one faults.
            None => Ok(0),
        }
    }

    /// Units before a pointer wraps around.
    fn units_to_end(&self, state: &State, number: u8) -> u64 {
        let (at, size) = (self.masked(state, number), u64::from(self.size));
        if Self::is_backward(state) { (at / size).saturating_add(1) } else { (mask(self.width) - at) / size }
    }

    /// Linear address of the first of `count` units, all of which are within the segment.
    fn range(&self, state: &State, segment: SegmentName, number: u8, count: u64, is_write: bool) -> Option<u64> {
        let (at, size) = (self.masked(state, number), u64::from(self.size));
        let beyond_first = (count - 1).checked_mul(size)?;
        let lowest = if Self::is_backward(state) { at.checked_sub(beyond_first)? } else { at };
        let bytes = beyond_first.checked_add(size)?;
        let linear = address::linear(state, segment, lowest, bytes, is_write).ok()?;
        Some(if Self::is_backward(state) { linear + beyond_first } else { linear })
    }
}

/// Bytes of the pointer register that an operand of a string instruction is named by.
fn pointer_width(kind: OpKind) -> Option<u8> {
    Some(match kind {
        OpKind::MemorySegSI | OpKind::MemoryESDI => 2,
        OpKind::MemorySegESI | OpKind::MemoryESEDI => 4,
        OpKind::MemorySegRSI | OpKind::MemoryESRDI => 8,
        _ => return None,
    })
}
