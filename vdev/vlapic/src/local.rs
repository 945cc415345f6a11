//! Interrupts from the vCPU's own sources: the timer and the local vector table.

use x86_defs::apic::{DeliveryMode, LVT_MASKED};

use crate::deliver::Event;
use crate::lapic::{Lapic, is_tsc_deadline};
use crate::port::Port;
use crate::registers as reg;
use crate::timer::Mode;

/// A source with an entry in the local vector table, beside the timer and errors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pin {
    /// LINT0; the 8259s are on it too, see [`Port::takes_pic`].
    Lint0,
    /// LINT1, by custom the NMI's.
    Lint1,
    /// An overflow of performance counters.
    Performance,
    /// The thermal sensor.
    Thermal,
}

impl Lapic {
    /// An interrupt of a local source, as its LVT entry has it delivered (SDM vol. 3, 11.5.1). Nothing if that is masked or
    /// requested already. With the APIC off LINT0 and LINT1 are the CPU's INTR and NMI (11.4.3).
    pub fn signal(&self, port: &Port, pin: Pin) -> Option<Event> {
        let index = match pin {
            Pin::Lint0 => reg::LVT_LINT0,
            Pin::Lint1 => reg::LVT_LINT1,
            Pin::Performance => reg::LVT_PERFORMANCE,
            Pin::Thermal => reg::LVT_THERMAL,
        };
        if !self.is_on() {
            return match pin {
                Pin::Lint0 => Some(Event::ExtInt),
                Pin::Lint1 => Some(Event::Nmi),
                _ => None,
            };
        }
        let lvt = self.regs[index];
        if lvt & LVT_MASKED != 0 {
            return None;
        }
        match DeliveryMode::from_bits(lvt)? {
            DeliveryMode::Fixed => port.post(lvt as u8, false).then_some(Event::Interrupt),
            DeliveryMode::Nmi => Some(Event::Nmi),
            DeliveryMode::Smi => Some(Event::Smi),
            DeliveryMode::Init => Some(Event::Init),
            DeliveryMode::ExtInt => Some(Event::ExtInt),
            DeliveryMode::LowestPriority | DeliveryMode::StartUp => None,
        }
    }

    /// When [`Lapic::expire`] is to be called; nothing if the timer has nothing to tell. Ask again after
    /// [`crate::Action::Reconfigured`], [`Lapic::expire`], [`Lapic::set_tsc_deadline`], a reset and a load.
    pub fn deadline(&self) -> Option<u64> {
        let masked = self.regs[reg::LVT_TIMER] & LVT_MASKED != 0;
        if masked || !self.is_on() { None } else { self.timer.end }
    }

    /// Lets the timer fire if it is due. True if that requested a vector: a processor that waits is to be woken, since
    /// [`Lapic::deadline`] does not tell of it any more. A tick that is due while masked is lost.
    #[must_use]
    pub fn expire(&mut self, port: &Port, now: u64) -> bool {
        let mode = self.timer_mode();
        if !self.timer.expire(mode, now) {
            return false;
        }
        if mode == Mode::Deadline {
            self.tsc_deadline = 0;
        }
        let lvt = self.regs[reg::LVT_TIMER];
        lvt & LVT_MASKED == 0 && self.is_on() && port.post(lvt as u8, false)
    }

    /// IA32_TSC_DEADLINE: 0 if the timer is not armed or not in this mode (SDM vol. 3, 11.5.4.1).
    pub fn tsc_deadline(&self, now: u64) -> u64 {
        match self.timer.end {
            Some(end) if end > now => self.tsc_deadline,
            _ => 0,
        }
    }

    /// A write of `value` to IA32_TSC_DEADLINE; `at` is when the guest's time stamp counter reaches that value, which may
    /// be past. 0 disarms the timer; in other modes than this one nothing happens.
    pub fn set_tsc_deadline(&mut self, value: u64, at: u64) {
        // The reserved mode counts as this one, but arms nothing: what leaves it need not look.
        if self.is_on() && is_tsc_deadline(self.regs[reg::LVT_TIMER]) {
            self.tsc_deadline = value;
            self.timer.end = if value == 0 { None } else { Some(at) };
        }
    }
}
