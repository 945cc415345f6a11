//! What an intercepted instruction is, for CPUs that do not tell: no decode assists, no address of the next instruction.

use super::state::{CodeSize, SegmentName, State};
use super::string::StringInstruction;
use super::system::{self, Special};
use super::{address, fetch};
use iced_x86::{Code, Instruction, Mnemonic};

/// An access to a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortAccess {
    /// The first port.
    pub port: u16,
    /// Bytes: 1, 2 or 4.
    pub size: u8,
    /// Whether the port is read.
    pub is_input: bool,
    /// INS or OUTS: to be carried out by [`super::emulate`].
    pub is_string: bool,
}

/// An instruction with what an intercept needs of its operands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Intercepted {
    /// From a control register to a general one.
    ReadControl {
        /// Number of the control register.
        control: u8,
        /// Of the general register.
        general: u8,
    },
    /// From a general register to a control register.
    WriteControl {
        /// Number of the control register.
        control: u8,
        /// Of the general register.
        general: u8,
    },
    /// From a debug register to a general one.
    ReadDebug {
        /// Number of the debug register.
        debug: u8,
        /// Of the general register.
        general: u8,
    },
    /// From a general register to a debug register.
    WriteDebug {
        /// Number of the debug register.
        debug: u8,
        /// Of the general register.
        general: u8,
    },
    /// INVLPG of a linear address; `None` where no access can be made there, so that nothing is to be done.
    InvalidatePage(Option<u64>),
    /// INT n, INT3, INTO, INT1, with the vector.
    Interrupt(u8),
    /// IN, OUT, INS, OUTS.
    Port(PortAccess),
    /// CALL or JMP to another segment, IRET: what may lead to another task.
    FarTransfer,
    /// VMMCALL or VMCALL.
    Hypercall,
    /// Anything else.
    Other,
}

/// An instruction and its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Described {
    /// What it is.
    pub what: Intercepted,
    /// Bytes of it.
    pub length: u8,
    /// rip of the next one.
    pub next: u64,
}

/// Bytes of the first instruction in `code`; `None` where the bytes are none, or end too early.
pub fn length_of(code: &[u8], size: CodeSize) -> Option<u8> {
    fetch::decode(code, size, 0).ok().map(|instruction| instruction.len() as u8)
}

/// Describes the instruction at rip, whose bytes are the first of `code`; `None` where the bytes are none, or end too early.
pub fn intercepted(state: &State, code: &[u8]) -> Option<Described> {
    let instruction = fetch::decode(code, state.code_size(), state.rip).ok()?;
    let mut after = *state;
    after.advance(&instruction);
    let what = what(state, &instruction);
    Some(Described { what, length: instruction.len() as u8, next: after.rip })
}

fn what(state: &State, instruction: &Instruction) -> Intercepted {
    match instruction.mnemonic() {
        Mnemonic::Mov => special_mov(instruction).unwrap_or(Intercepted::Other),
        Mnemonic::Invlpg => Intercepted::InvalidatePage(page(state, instruction)),
        Mnemonic::Int => Intercepted::Interrupt(instruction.immediate8()),
        Mnemonic::Int1 => Intercepted::Interrupt(1),
        Mnemonic::Int3 => Intercepted::Interrupt(3),
        Mnemonic::Into => Intercepted::Interrupt(4),
        Mnemonic::Iret | Mnemonic::Iretd | Mnemonic::Iretq => Intercepted::FarTransfer,
        Mnemonic::Call | Mnemonic::Jmp if is_far(instruction) => Intercepted::FarTransfer,
        Mnemonic::Vmmcall | Mnemonic::Vmcall => Intercepted::Hypercall,
        Mnemonic::In | Mnemonic::Out => {
            let is_input = instruction.mnemonic() == Mnemonic::In;
            let data = instruction.op_register(u32::from(!is_input));
            let size = crate::decode::place(data).map_or(1, |(_, _, size)| size);
            let port = system::port_number(state, instruction);
            Intercepted::Port(PortAccess { port, size, is_input, is_string: false })
        }
        _ => StringInstruction::of(instruction)
            .and_then(|string| string.port_access(state))
            .map_or(Intercepted::Other, Intercepted::Port),
    }
}

fn is_far(instruction: &Instruction) -> bool {
    matches!(
        instruction.code(),
        Code::Call_ptr1616
            | Code::Call_ptr1632
            | Code::Call_m1616
            | Code::Call_m1632
            | Code::Call_m1664
            | Code::Jmp_ptr1616
            | Code::Jmp_ptr1632
            | Code::Jmp_m1616
            | Code::Jmp_m1632
            | Code::Jmp_m1664
    )
}

fn special_mov(instruction: &Instruction) -> Option<Intercepted> {
    let (to, from) = (instruction.op0_register(), instruction.op1_register());
    Some(match (system::special(to), system::special(from)) {
        (Some(Special::Control(control)), _) => {
            Intercepted::WriteControl { control, general: system::general_number(from)? }
        }
        (Some(Special::Debug(debug)), _) => Intercepted::WriteDebug { debug, general: system::general_number(from)? },
        (_, Some(Special::Control(control))) => {
            Intercepted::ReadControl { control, general: system::general_number(to)? }
        }
        (_, Some(Special::Debug(debug))) => Intercepted::ReadDebug { debug, general: system::general_number(to)? },
        _ => return None,
    })
}

fn page(state: &State, instruction: &Instruction) -> Option<u64> {
    let offset = address::offset(state, instruction).ok()?;
    let segment = SegmentName::of(instruction.memory_segment())?;
    address::linear(state, segment, offset, 1, false).ok()
}
