//! Instructions of HVM guests: those that reach a device by memory or port, and those that were intercepted.
//!
//! [`emulate`] carries out the one instruction at the guest's rip. It works on a copy of the registers, reaches everything else by
//! the client's traits [`Memory`] and [`System`], and changes nothing but through them. Whatever is not finished is begun again
//! from its first byte: an access that only a device model can answer ends the call with [`Stop::Pending`], and once the answer
//! is there the client calls anew, with the answers so far in a [`Replay`]. String instructions keep what they have moved.
//!
//! [`switch_task`] makes the task switches that the CPU leaves to the hypervisor, by traits of its own.
//!
//! [`length_of`] and [`intercepted`] tell what an intercept does not tell on CPUs without decode assists; [`Opcode`] and
//! [`PlainMove`] tell the same of the usual instructions at a fraction of the cost.

mod address;
mod client;
mod data;
mod describe;
mod fetch;
mod integer;
mod known;
mod replay;
mod state;
mod step;
mod string;
mod system;
mod task;
mod vector;

pub use client::{Access, Burst, BurstKind, DescriptorTable, Memory, System, Table};
pub use describe::{Described, Intercepted, PortAccess, intercepted, length_of};
pub use known::{Moved, Opcode, PlainMove};
pub use replay::{Answer, DeviceAccess, Replay, Space};
pub use state::{CodeSize, Segment, SegmentName, State};
pub use task::{Cause, Delivered, Switched, Task, TaskMemory, TaskSwitch, switch_task};

use step::{Flow, Step};
use x86_defs::control::{RFlags, Vector};

/// Why an instruction was not completed. Registers are as before, but for the finished part of a repeated one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    /// The guest gets this exception.
    Exception {
        /// Its number.
        vector: u8,
        /// Its error code, where it has one.
        error_code: Option<u32>,
    },
    /// The guest gets a page fault.
    PageFault {
        /// Where.
        address: u64,
        /// Its error code.
        error_code: u32,
    },
    /// A device model has been asked. Begin again once it has answered.
    Pending,
    /// Nothing that is emulated.
    Unhandled,
    /// The guest cannot go on.
    Crash,
}

impl Stop {
    /// General protection with error code 0.
    pub const GP: Stop = Stop::Exception { vector: Vector::GENERAL_PROTECTION, error_code: Some(0) };
    /// Stack fault with error code 0.
    pub const SS: Stop = Stop::Exception { vector: Vector::STACK_FAULT, error_code: Some(0) };
    /// Invalid opcode.
    pub const UD: Stop = Stop::Exception { vector: Vector::INVALID_OPCODE, error_code: None };
    /// Device not available.
    pub const NM: Stop = Stop::Exception { vector: Vector::DEVICE_NOT_AVAILABLE, error_code: None };
    /// Divide error.
    pub const DE: Stop = Stop::Exception { vector: Vector::DIVIDE_ERROR, error_code: None };
}

/// Result of one step.
pub type Result<T> = core::result::Result<T, Stop>;

/// What the caller does about an instruction that was carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Done {
    /// It is not finished: rip is still at it. The guest, or the caller, executes it once more.
    pub is_unfinished: bool,
    /// The guest waits for an interrupt (HLT).
    pub is_halted: bool,
    /// No interrupt comes before the next instruction (STI).
    pub blocks_interrupts: bool,
    /// The guest gets #DB for a single step (TF).
    pub single_step: bool,
}

/// Carries out the instruction at the guest's rip; string instructions up to `most` units, 1 at least.
///
/// Of `state`, only general registers, rip and flags change.
///
/// # Errors
/// See [`Stop`].
pub fn emulate(state: &mut State, client: &mut impl System, most: u64) -> Result<Done> {
    let instruction = fetch::instruction(state, client)?;
    let steps = state.flags & RFlags::TF.bits() != 0;
    if let Some(string) = string::StringInstruction::of(&instruction) {
        // A single step is one unit.
        let is_finished = string.run(state, client, if steps { 1 } else { most.max(1) })?;
        if is_finished {
            state.advance(&instruction);
        }
        return Ok(Done { is_unfinished: !is_finished, single_step: steps, ..Done::default() });
    }
    let mut next = *state;
    let flow = Step { state: &mut next, client, instruction: &instruction }.run()?;
    if flow == Flow::Again {
        client.commit();
        return Ok(Done { is_unfinished: true, ..Done::default() });
    }
    next.advance(&instruction);
    *state = next;
    client.commit();
    Ok(Done {
        is_unfinished: false,
        is_halted: flow == Flow::Halt,
        blocks_interrupts: flow == Flow::Shadow,
        single_step: steps,
    })
}
