//! What leads to a task switch, and what that means for exceptions on the way.

use crate::hvm::Stop;
use x86_defs::control::Vector;

/// An event that is delivered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Delivered {
    /// A device's interrupt, or an NMI.
    Interrupt,
    /// An exception of this number, which no instruction asked for.
    Exception(u8),
    /// The purpose of an instruction, with the vector: INT n, INT3, INTO.
    Software(u8),
}

/// What leads to a task switch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// IRET with NT set.
    Iret,
    /// JMP to a TSS or a task gate.
    Jump,
    /// CALL of one.
    Call,
    /// An event whose gate is a task gate.
    Event(Delivered),
}

impl Cause {
    /// Whether the old task goes on behind the instruction at rip.
    pub const fn is_by_instruction(self) -> bool {
        !matches!(self, Cause::Event(Delivered::Interrupt | Delivered::Exception(_)))
    }

    /// Whether the new task's IRET leads back.
    pub(super) const fn nests(self) -> bool {
        matches!(self, Cause::Call | Cause::Event(_))
    }

    /// Whether the old task can be switched to anew.
    pub(super) const fn leaves_for_good(self) -> bool {
        !self.nests()
    }

    /// What the guest gets if `stop` came of the task switch: a double fault if an exception was being delivered, where these two
    /// cannot come one after the other (SDM vol. 3, table 6-5; APM vol. 2, table 8-4). `None` for a shutdown.
    pub fn combined(self, stop: Stop) -> Option<Stop> {
        let second = match stop {
            Stop::PageFault { .. } => Class::Page,
            Stop::Exception { vector, .. } => Class::of(vector),
            _ => Class::Benign,
        };
        let first =
            if let Cause::Event(Delivered::Exception(vector)) = self { Class::of(vector) } else { Class::Benign };
        match (first, second) {
            (_, Class::Benign) | (Class::Benign, _) | (Class::Contributory, Class::Page) => Some(stop),
            (Class::Double, _) => None,
            _ => Some(Stop::Exception { vector: Vector::DOUBLE_FAULT, error_code: Some(0) }),
        }
    }
}

/// What exceptions are to each other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Benign,
    Contributory,
    Page,
    Double,
}

impl Class {
    const fn of(vector: u8) -> Class {
        match vector {
            Vector::DIVIDE_ERROR
            | Vector::INVALID_TSS
            | Vector::SEGMENT_NOT_PRESENT
            | Vector::STACK_FAULT
            | Vector::GENERAL_PROTECTION
            | Vector::CONTROL_PROTECTION => Class::Contributory,
            Vector::PAGE_FAULT => Class::Page,
            Vector::DOUBLE_FAULT => Class::Double,
            _ => Class::Benign,
        }
    }
}

/// The exceptions of a task switch, with their error codes (SDM vol. 3, 6.13).
#[derive(Clone, Copy)]
pub struct Faults {
    /// EXT: an event was being delivered that no instruction asked for.
    external: bool,
}

impl Faults {
    pub const fn of(cause: Cause) -> Faults {
        Faults { external: !cause.is_by_instruction() }
    }

    /// About a descriptor.
    pub fn descriptor(self, vector: u8, selector: u16) -> Stop {
        self.with_source(Stop::Exception { vector, error_code: Some(u32::from(selector & !3)) })
    }

    /// About a gate for interrupts.
    pub fn gate(self, gate: u8) -> Stop {
        const IDT: u32 = 2;
        let error_code = Some(u32::from(gate) << 3 | IDT);
        self.with_source(Stop::Exception { vector: Vector::GENERAL_PROTECTION, error_code })
    }

    /// Any, with EXT in its error code where that has one.
    pub fn with_source(self, stop: Stop) -> Stop {
        match stop {
            Stop::Exception { vector, error_code: Some(code) } => {
                Stop::Exception { vector, error_code: Some(code | u32::from(self.external)) }
            }
            other => other,
        }
    }
}
