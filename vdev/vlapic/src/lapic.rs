//! The private part of a local APIC, and what happens at each interrupt: taking it and ending it.

use x86_defs::apic::{
    APIC_BASE_BSP, APIC_BASE_ENABLE, APIC_BASE_X2APIC, DeliveryMode, LVT_MASKED, LVT_TIMER_TSC_DEADLINE,
    SPURIOUS_ENABLE,
};

use crate::bits::{highest, place};
use crate::deliver::Request;
use crate::port::{Address, Format, Port};
use crate::registers as reg;
use crate::timer::{Mode, Timer};

/// Where the xAPIC page is: IA32_APIC_BASE after reset (SDM vol. 3, 11.4.4).
pub(crate) const DEFAULT_BASE: u64 = 0xfee0_0000;

/// What a write leaves to the owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Action {
    /// Nothing; but what [`Lapic::next`] says may have changed, as after every action.
    None,
    /// The interrupt of this vector is over. A level-triggered one is to be ended at the I/O APICs.
    EndOfInterrupt {
        /// Its vector.
        vector: u8,
        /// Whether it was level-triggered.
        level: bool,
    },
    /// An inter-processor interrupt, for [`crate::deliver`].
    Send(Request),
    /// The APIC was reconfigured: [`Lapic::deadline`] and the answer of [`crate::pic_target`] may be others.
    Reconfigured,
}

/// What a vCPU takes next from its local APIC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Nothing before the next post or end of interrupt.
    None,
    /// This vector, as soon as the CPU takes interrupts.
    Ready(u8),
    /// This vector, if the task priority (CR8) were lower.
    Held(u8),
}

/// The private part of a local APIC.
#[derive(Clone, Debug)]
pub struct Lapic {
    /// Registers that hold what was written. Those that are computed on reading are 0 here.
    pub(crate) regs: [u32; reg::WORDS],
    pub(crate) isr: [u64; 4],
    /// Highest vector in service; 0 if none.
    pub(crate) in_service: u8,
    /// Processor priority (SDM vol. 3, 11.8.3.1).
    pub(crate) ppr: u8,
    pub(crate) vcpu: u8,
    pub(crate) base: u64,
    pub(crate) timer: Timer,
    /// IA32_TSC_DEADLINE.
    pub(crate) tsc_deadline: u64,
}

impl Lapic {
    /// The APIC of vCPU `vcpu` (below 128) after power-on, on in xAPIC mode; `port` takes its address.
    pub fn new(vcpu: u8, port: &Port) -> Lapic {
        let mut lapic = Lapic {
            regs: [0; reg::WORDS],
            isr: [0; 4],
            in_service: 0,
            ppr: 0,
            vcpu: vcpu & 0x7f,
            base: 0,
            timer: Timer::stopped(0),
            tsc_deadline: 0,
        };
        lapic.reset(port);
        lapic
    }

    /// Power-on reset.
    pub fn reset(&mut self, port: &Port) {
        self.base = DEFAULT_BASE | APIC_BASE_ENABLE | if self.vcpu == 0 { APIC_BASE_BSP } else { 0 };
        self.init(port);
    }

    /// INIT: all registers but IA32_APIC_BASE and the ids as after reset (SDM vol. 3, 11.4.7.3 and 11.12.5.1).
    pub fn init(&mut self, port: &Port) {
        self.regs = [0; reg::WORDS];
        self.regs[reg::VERSION] = reg::VERSION_VALUE;
        self.regs[reg::DFR] = u32::MAX;
        self.regs[reg::SPURIOUS] = 0xff;
        for lvt in reg::LVTS {
            self.regs[lvt] = LVT_MASKED;
        }
        self.assign_ids();
        self.isr = [0; 4];
        self.in_service = 0;
        self.timer = Timer::stopped(0);
        self.tsc_deadline = 0;
        port.set_requests([0; 4], [0; 4], 0);
        self.publish(port);
    }

    /// Ids as hardware gives them: the physical one in both modes, the logical one in x2APIC mode (SDM vol. 3, 11.12.10.2).
    pub(crate) fn assign_ids(&mut self) {
        let id = self.apic_id();
        if self.is_x2apic() {
            self.regs[reg::ID] = id;
            self.regs[reg::LDR] = (id >> 4) << 16 | 1 << (id & 15);
        } else {
            self.regs[reg::ID] = id << 24;
        }
    }

    /// The id given at reset: twice the vCPU's number.
    pub const fn apic_id(&self) -> u32 {
        self.vcpu as u32 * 2
    }

    /// IA32_APIC_BASE.
    pub const fn base(&self) -> u64 {
        self.base
    }

    /// Whether IA32_APIC_BASE has the APIC on.
    pub const fn is_on(&self) -> bool {
        self.base & APIC_BASE_ENABLE != 0
    }

    /// Whether the APIC takes vectors: on, and enabled in the spurious-interrupt register.
    pub const fn is_enabled(&self) -> bool {
        self.is_on() && self.regs[reg::SPURIOUS] & SPURIOUS_ENABLE != 0
    }

    /// Whether the APIC is in x2APIC mode: registers are MSRs.
    pub const fn is_x2apic(&self) -> bool {
        self.base & APIC_BASE_X2APIC != 0
    }

    /// Guest-physical address of the page of registers; nothing if there is none, as the APIC is off or in x2APIC mode.
    pub const fn page(&self) -> Option<u64> {
        if self.is_on() && !self.is_x2apic() { Some(self.base & !0xfff) } else { None }
    }

    /// What the vCPU takes next.
    #[inline]
    pub fn next(&self, port: &Port) -> Next {
        let vector = port.highest_request();
        if vector >> 4 <= self.in_service >> 4 || !self.is_enabled() {
            return Next::None;
        }
        if vector >> 4 > self.ppr >> 4 { Next::Ready(vector) } else { Next::Held(vector) }
    }

    /// Takes the interrupt that [`Lapic::next`] has ready: from requested to in service.
    #[inline]
    pub fn accept(&mut self, port: &Port) -> Option<u8> {
        let Next::Ready(vector) = self.next(port) else { return None };
        let (index, bit) = place(vector);
        port.withdraw(vector);
        self.isr[index] |= bit;
        self.in_service = vector;
        self.update_priority(port);
        Some(vector)
    }

    /// The highest vector in service.
    pub const fn in_service(&self) -> Option<u8> {
        if self.in_service == 0 { None } else { Some(self.in_service) }
    }

    /// The guest's write to the EOI register (SDM vol. 3, 11.8.5).
    #[inline]
    pub(crate) fn end_of_interrupt(&mut self, port: &Port) -> Action {
        let vector = self.in_service;
        if vector == 0 {
            return Action::None;
        }
        let (index, bit) = place(vector);
        self.isr[index] &= !bit;
        self.in_service = highest(|index| self.isr[index & 3]);
        self.update_priority(port);
        Action::EndOfInterrupt { vector, level: port.is_level(vector) }
    }

    /// The task priority register.
    pub const fn task_priority(&self) -> u8 {
        self.regs[reg::TPR] as u8
    }

    /// Sets the task priority register; CR8 is its upper half.
    #[inline]
    pub fn set_task_priority(&mut self, port: &Port, priority: u8) {
        self.regs[reg::TPR] = u32::from(priority);
        self.update_priority(port);
    }

    #[inline]
    pub(crate) fn update_priority(&mut self, port: &Port) {
        let task = self.task_priority();
        self.ppr = if task >> 4 >= self.in_service >> 4 { task } else { self.in_service & 0xf0 };
        port.set_priority(self.ppr);
    }

    /// Tells the port everything that others need to know.
    pub(crate) fn publish(&mut self, port: &Port) {
        let shift = if self.is_x2apic() { 0 } else { 24 };
        let format = match self.regs[reg::DFR] >> 28 {
            _ if self.is_x2apic() => Format::X2,
            0xf => Format::Flat,
            0 => Format::Cluster,
            _ => Format::Reserved,
        };
        let lint0 = self.regs[reg::LVT_LINT0];
        let external = DeliveryMode::from_bits(lint0) == Some(DeliveryMode::ExtInt);
        port.set_address(Address {
            id: self.regs[reg::ID] >> shift,
            logical: self.regs[reg::LDR] >> shift,
            format,
            enabled: self.is_enabled(),
            virtual_wire: !self.is_on() || external && lint0 & LVT_MASKED == 0,
            lvt_error: self.regs[reg::LVT_ERROR],
        });
        self.update_priority(port);
    }

    /// How the timer counts.
    pub(crate) fn timer_mode(&self) -> Mode {
        timer_mode(self.regs[reg::LVT_TIMER])
    }
}

/// How a timer with this LVT entry counts.
pub(crate) const fn timer_mode(lvt: u32) -> Mode {
    match lvt & reg::TIMER_MODE {
        0 => Mode::OneShot,
        reg::TIMER_PERIODIC => Mode::Periodic,
        _ => Mode::Deadline,
    }
}

/// Whether a timer with this LVT entry waits for the time stamp counter.
pub(crate) const fn is_tsc_deadline(lvt: u32) -> bool {
    lvt & reg::TIMER_MODE == LVT_TIMER_TSC_DEADLINE
}
