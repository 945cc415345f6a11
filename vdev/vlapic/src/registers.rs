//! The register file: one word for each 16 bytes of the first KiB of the xAPIC page.

use x86_defs::apic::{LVT_MASKED, LapicRegister};

/// Words of the register file.
pub const WORDS: usize = 64;

/// Index of a register in the file.
pub const fn index(register: LapicRegister) -> usize {
    (register.0 >> 4) as usize & (WORDS - 1)
}

/// A bit for each of the registers, by index.
pub const fn set(registers: &[LapicRegister]) -> u64 {
    let mut bits = 0;
    let mut i = 0;
    while i < registers.len() {
        bits |= 1 << index(registers[i]);
        i += 1;
    }
    bits
}

pub const ID: usize = index(LapicRegister::ID);
pub const VERSION: usize = index(LapicRegister::VERSION);
pub const TPR: usize = index(LapicRegister::TASK_PRIORITY);
/// Processor priority (SDM vol. 3, 11.8.3.1).
pub const PPR: usize = index(LapicRegister(0x0a0));
pub const EOI: usize = index(LapicRegister::EOI);
pub const LDR: usize = index(LapicRegister::LOGICAL_DESTINATION);
pub const DFR: usize = index(LapicRegister::DESTINATION_FORMAT);
pub const SPURIOUS: usize = index(LapicRegister::SPURIOUS);
pub const ISR: usize = index(LapicRegister::IN_SERVICE);
pub const TMR: usize = index(LapicRegister::TRIGGER_MODE);
pub const IRR: usize = index(LapicRegister::REQUEST);
pub const ESR: usize = index(LapicRegister::ERROR_STATUS);
pub const CMCI: usize = index(LapicRegister::LVT_CMCI);
pub const ICR: usize = index(LapicRegister::COMMAND);
pub const ICR_HIGH: usize = index(LapicRegister::COMMAND_HIGH);
pub const LVT_TIMER: usize = index(LapicRegister::LVT_TIMER);
pub const LVT_THERMAL: usize = index(LapicRegister::LVT_THERMAL);
pub const LVT_PERFORMANCE: usize = index(LapicRegister::LVT_PERFORMANCE);
pub const LVT_LINT0: usize = index(LapicRegister::LVT_LINT0);
pub const LVT_LINT1: usize = index(LapicRegister::LVT_LINT1);
pub const LVT_ERROR: usize = index(LapicRegister::LVT_ERROR);
pub const INITIAL: usize = index(LapicRegister::TIMER_INITIAL);
pub const CURRENT: usize = index(LapicRegister::TIMER_CURRENT);
pub const DIVIDE: usize = index(LapicRegister::TIMER_DIVIDE);
/// Self-IPI, of the x2APIC only (SDM vol. 3, 11.12.11).
pub const SELF_IPI: usize = index(LapicRegister(0x3f0));

/// The six LVT entries have consecutive indices, the timer's first.
pub const LVTS: core::ops::RangeInclusive<usize> = LVT_TIMER..=LVT_ERROR;

/// Version 0x14, highest LVT entry 5, no suppression of EOI broadcasts (SDM vol. 3, 11.4.8).
pub const VERSION_VALUE: u32 = 0x0005_0014;

const VECTOR: u32 = 0xff;
const MODE: u32 = 7 << 8;
const PENDING: u32 = 1 << 12;
const POLARITY: u32 = 1 << 13;
const REMOTE_IRR: u32 = 1 << 14;
const LEVEL: u32 = 1 << 15;
/// Timer mode: one-shot, periodic, TSC deadline.
pub const TIMER_MODE: u32 = 3 << 17;
/// [`TIMER_MODE`]: periodic.
pub const TIMER_PERIODIC: u32 = 1 << 17;

const COMMON: u32 = LVT_MASKED | PENDING | VECTOR;

/// The bits that exist in the LVT entry at `index` (SDM vol. 3, figure 11-8).
pub const fn lvt_bits(index: usize) -> u32 {
    match index {
        LVT_TIMER => COMMON | TIMER_MODE,
        LVT_THERMAL | LVT_PERFORMANCE | CMCI => COMMON | MODE,
        LVT_LINT0 | LVT_LINT1 => COMMON | MODE | POLARITY | REMOTE_IRR | LEVEL,
        _ => COMMON,
    }
}

/// Error status: a command with a vector below 16 (SDM vol. 3, 11.5.3).
pub const ERROR_SEND_ILLEGAL: u8 = 1 << 5;
/// Error status: a message with a vector below 16.
pub const ERROR_RECEIVE_ILLEGAL: u8 = 1 << 6;
