//! The registers of x2APIC mode: MSRs 0x800 to 0x83f (SDM vol. 3, 11.12.1).

use x86_defs::apic::{COMMAND_ASSERT, COMMAND_LEVEL, COMMAND_LOGICAL, LapicRegister as R};

use crate::base::Fault;
use crate::bits::FIRST_VECTOR;
use crate::lapic::{Action, Lapic};
use crate::port::Port;
use crate::registers as reg;
use crate::timer::DIVIDE_BITS;

const FIRST: u32 = 0x800;

/// Registers that can be read. The entry for corrected machine checks is there and always 0, as on Xen.
const READABLE: u64 = reg::set(&[
    R::ID,
    R::VERSION,
    R::TASK_PRIORITY,
    R(0x0a0),
    R::LOGICAL_DESTINATION,
    R::SPURIOUS,
    R::ERROR_STATUS,
    R::LVT_CMCI,
    R::COMMAND,
    R::LVT_TIMER,
    R::LVT_THERMAL,
    R::LVT_PERFORMANCE,
    R::LVT_LINT0,
    R::LVT_LINT1,
    R::LVT_ERROR,
    R::TIMER_INITIAL,
    R::TIMER_CURRENT,
    R::TIMER_DIVIDE,
]) | 0xff << reg::ISR
    | 0xff << reg::TMR
    | 0xff << reg::IRR;

/// Vector, delivery mode and shorthand.
const COMMAND_FIELDS: u32 = 0xff | 7 << 8 | 3 << 18;
const COMMAND_BITS: u32 = COMMAND_FIELDS | COMMAND_LOGICAL | COMMAND_ASSERT | COMMAND_LEVEL;

/// Vector, enable bit, focus check.
const SPURIOUS_BITS: u32 = 0x3ff;

impl Lapic {
    /// RDMSR of 0x800 to 0x8ff.
    #[inline]
    pub fn read_msr(&self, port: &Port, msr: u32, now: u64) -> Result<u64, Fault> {
        let index = self.register_of(msr)?;
        if READABLE >> index & 1 == 0 {
            return Err(Fault);
        }
        let high = if index == reg::ICR { u64::from(self.regs[reg::ICR_HIGH]) << 32 } else { 0 };
        Ok(high | u64::from(self.read_register(port, index, now)))
    }

    /// WRMSR of 0x800 to 0x8ff. Reserved bits fault.
    #[inline]
    pub fn write_msr(&mut self, port: &Port, msr: u32, value: u64, now: u64) -> Result<Action, Fault> {
        let index = self.register_of(msr)?;
        let low = value as u32;
        match index {
            reg::EOI if value == 0 => Ok(self.end_of_interrupt(port)),
            reg::ICR if low & !COMMAND_BITS == 0 => {
                self.regs[reg::ICR_HIGH] = (value >> 32) as u32;
                Ok(self.command(port, low))
            }
            reg::SELF_IPI if value <= 0xff => {
                self.send_to_self(port, low as u8);
                Ok(Action::None)
            }
            _ if value & !u64::from(writable_bits(index)) == 0 && is_writable(index) => {
                Ok(self.write_register(port, index, low, now))
            }
            _ => Err(Fault),
        }
    }

    fn register_of(&self, msr: u32) -> Result<usize, Fault> {
        let index = msr.wrapping_sub(FIRST) as usize;
        if index < reg::WORDS && self.is_x2apic() { Ok(index) } else { Err(Fault) }
    }

    /// SDM vol. 3, 11.12.11.
    fn send_to_self(&self, port: &Port, vector: u8) {
        if vector < FIRST_VECTOR {
            port.error(reg::ERROR_SEND_ILLEGAL);
        } else if self.is_enabled() {
            port.post(vector, false);
        }
    }
}

const fn is_writable(index: usize) -> bool {
    const WRITABLE: u64 = reg::set(&[
        R::TASK_PRIORITY,
        R::SPURIOUS,
        R::ERROR_STATUS,
        R::LVT_CMCI,
        R::LVT_TIMER,
        R::LVT_THERMAL,
        R::LVT_PERFORMANCE,
        R::LVT_LINT0,
        R::LVT_LINT1,
        R::LVT_ERROR,
        R::TIMER_INITIAL,
        R::TIMER_DIVIDE,
    ]);
    WRITABLE >> index & 1 != 0
}

/// The bits of a writable register that may be set.
const fn writable_bits(index: usize) -> u32 {
    match index {
        reg::TPR => 0xff,
        reg::SPURIOUS => SPURIOUS_BITS,
        reg::ESR => 0,
        reg::INITIAL => u32::MAX,
        reg::DIVIDE => DIVIDE_BITS,
        _ => reg::lvt_bits(index),
    }
}
