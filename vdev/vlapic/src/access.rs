//! Reads and writes of registers: by index, and as the page of xAPIC mode.

use x86_defs::apic::{COMMAND_ASSERT, COMMAND_BUSY, COMMAND_LEVEL, DeliveryMode, InterruptMessage};
use x86_defs::apic::{LVT_MASKED, LapicRegister, SPURIOUS_ENABLE};

use crate::bits::{FIRST_VECTOR, half};
use crate::deliver::{Request, Shorthand};
use crate::lapic::{Action, Lapic, is_tsc_deadline, timer_mode};
use crate::port::Port;
use crate::registers as reg;
use crate::timer::{DIVIDE_BITS, Mode};

/// Registers that are computed on reading.
const COMPUTED: u64 =
    1 << reg::PPR | 0xff << reg::ISR | 0xff << reg::TMR | 0xff << reg::IRR | reg::set(&[LapicRegister::TIMER_CURRENT]);

/// The last byte of the page that belongs to a register.
const LAST: u16 = LapicRegister::TIMER_DIVIDE.0 as u16 + 3;

impl Lapic {
    /// Reads `length` (1 to 4) bytes at `offset` in the xAPIC page, which exists while [`Lapic::page`] says so. An access that is not within one register reads 0.
    #[inline]
    pub fn read(&self, port: &Port, offset: u16, length: u8, now: u64) -> u32 {
        let Some(shift) = shift_of(offset, length) else { return 0 };
        self.read_register(port, usize::from(offset >> 4), now) >> shift & ones(length)
    }

    /// Writes `length` (1 to 4) bytes at `offset` in the xAPIC page. Less than a register keeps the rest of it; an access
    /// that is not within one register does nothing.
    #[inline]
    pub fn write(&mut self, port: &Port, offset: u16, length: u8, value: u32, now: u64) -> Action {
        let Some(shift) = shift_of(offset, length) else { return Action::None };
        let index = usize::from(offset >> 4);
        let value = match length {
            4 => value,
            _ => {
                let mask = ones(length) << shift;
                self.read_register(port, index, now) & !mask | value << shift & mask
            }
        };
        self.write_register(port, index, value, now)
    }

    #[inline]
    pub(crate) fn read_register(&self, port: &Port, index: usize, now: u64) -> u32 {
        let index = index & (reg::WORDS - 1);
        if COMPUTED >> index & 1 == 0 { self.regs[index] } else { self.computed(port, index, now) }
    }

    fn computed(&self, port: &Port, index: usize, now: u64) -> u32 {
        let (group, word) = (index & !7, index & 7);
        match index {
            reg::PPR => u32::from(self.ppr),
            reg::CURRENT => self.timer.count(self.timer_mode(), now),
            _ if group == reg::ISR => half(self.isr[word / 2], word),
            _ if group == reg::TMR => half(port.tmr_word(word / 2), word),
            _ => half(port.irr_word(word / 2), word),
        }
    }

    #[inline]
    pub(crate) fn write_register(&mut self, port: &Port, index: usize, value: u32, now: u64) -> Action {
        match index {
            reg::EOI => self.end_of_interrupt(port),
            reg::TPR => {
                self.set_task_priority(port, value as u8);
                Action::None
            }
            reg::ICR => self.command(port, value),
            _ => self.configure(port, index, value, now),
        }
    }

    /// The interrupt command register (SDM vol. 3, 11.6.1). It is never seen busy.
    #[inline]
    pub(crate) fn command(&mut self, port: &Port, low: u32) -> Action {
        let low = low & !COMMAND_BUSY;
        self.regs[reg::ICR] = low;
        let high = self.regs[reg::ICR_HIGH];
        let destination = if self.is_x2apic() { high } else { high >> 24 };
        let Some(message) = InterruptMessage::from_low(low, destination) else { return Action::None };
        let vectored = matches!(message.mode, DeliveryMode::Fixed | DeliveryMode::LowestPriority);
        if vectored && message.vector < FIRST_VECTOR {
            port.error(reg::ERROR_SEND_ILLEGAL);
            return Action::None;
        }
        let shorthand = Shorthand::of_command(low);
        if vectored && shorthand == Shorthand::Itself {
            if self.is_enabled() {
                port.post(message.vector, false);
            }
            return Action::None;
        }
        // The de-assertion of INIT has had no effect since the Pentium 4; ExtINT cannot be sent.
        let deassert = message.mode == DeliveryMode::Init && low & (COMMAND_LEVEL | COMMAND_ASSERT) == COMMAND_LEVEL;
        if deassert || message.mode == DeliveryMode::ExtInt {
            return Action::None;
        }
        // Interrupts between processors are edge-triggered whatever the command says (SDM vol. 3, 11.6.1).
        let message = InterruptMessage { level: false, ..message };
        Action::Send(Request { message, shorthand, source: usize::from(self.vcpu) })
    }

    /// Registers that are written rarely.
    #[cold]
    fn configure(&mut self, port: &Port, index: usize, value: u32, now: u64) -> Action {
        // A tick that is due belongs to the old configuration. The processor writes, so that it does not wait.
        let _ = self.expire(port, now);
        match index {
            reg::LDR if !self.is_x2apic() => self.regs[reg::LDR] = value & 0xff00_0000,
            reg::DFR => self.regs[reg::DFR] = value | 0x0fff_ffff,
            reg::SPURIOUS => self.set_spurious(value),
            reg::ESR => {
                self.regs[reg::ESR] = u32::from(port.take_errors());
                return Action::None;
            }
            reg::ICR_HIGH => {
                self.regs[reg::ICR_HIGH] = value & 0xff00_0000;
                return Action::None;
            }
            reg::LVT_TIMER => self.set_lvt_timer(value, now),
            _ if reg::LVTS.contains(&index) => self.regs[index] = self.lvt_value(index, value),
            reg::INITIAL => {
                if self.timer_mode() == Mode::Deadline {
                    return Action::None;
                }
                self.regs[reg::INITIAL] = value;
                self.timer.start(value, now);
            }
            reg::DIVIDE => {
                self.regs[reg::DIVIDE] = value & DIVIDE_BITS;
                let (mode, initial) = (self.timer_mode(), self.regs[reg::INITIAL]);
                self.timer.set_divide(value, mode, initial, now);
            }
            _ => return Action::None,
        }
        self.publish(port);
        Action::Reconfigured
    }

    /// SDM vol. 3, 11.9; a disabled APIC has all LVT entries masked (11.4.7.2).
    fn set_spurious(&mut self, value: u32) {
        self.regs[reg::SPURIOUS] = value & 0x3ff;
        if value & SPURIOUS_ENABLE == 0 {
            for lvt in reg::LVTS {
                self.regs[lvt] |= LVT_MASKED;
            }
        }
    }

    fn lvt_value(&self, index: usize, value: u32) -> u32 {
        let masked = if self.regs[reg::SPURIOUS] & SPURIOUS_ENABLE == 0 { LVT_MASKED } else { 0 };
        (value | masked) & reg::lvt_bits(index)
    }

    /// The timer's LVT entry. To enter or leave TSC-deadline mode disarms the timer (SDM vol. 3, 11.5.4.1).
    fn set_lvt_timer(&mut self, value: u32, now: u64) {
        let old = self.regs[reg::LVT_TIMER];
        if is_tsc_deadline(old) != is_tsc_deadline(value) {
            self.regs[reg::INITIAL] = 0;
            self.tsc_deadline = 0;
            self.timer.end = None;
        } else if timer_mode(old) != timer_mode(value) {
            self.timer.set_mode(timer_mode(old), now);
        }
        self.regs[reg::LVT_TIMER] = self.lvt_value(reg::LVT_TIMER, value);
    }
}

/// How far a register is to be shifted to the right for an access; nothing if the access is not within one register.
#[inline]
fn shift_of(offset: u16, length: u8) -> Option<u32> {
    let within = u32::from(offset & 15);
    let fits = (1..=4).contains(&length) && within + u32::from(length) <= 4 && offset <= LAST;
    fits.then_some(within * 8)
}

/// A mask of `length` (1 to 4) bytes.
const fn ones(length: u8) -> u32 {
    u32::MAX >> (32 - length as u32 * 8)
}
