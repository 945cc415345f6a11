//! Xen's records of a local APIC.

use types::{Errno, Result};
use x86_defs::apic::{APIC_BASE_ENABLE, APIC_BASE_X2APIC, COMMAND_BUSY, LVT_MASKED, SPURIOUS_ENABLE};
use xen_abi::hvm_save::interrupts::{HwLapic, HwLapicRegs, VLAPIC_HW_DISABLED, VLAPIC_SW_DISABLED};

use crate::base::BASE_BITS;
use crate::bits::highest;
use crate::lapic::Lapic;
use crate::port::Port;
use crate::registers as reg;
use crate::timer::{DIVIDE_BITS, Mode, Timer, divisor};

/// Vectors that no set of vectors has: those below 16.
const NO_VECTORS: u64 = 0xffff;

impl Lapic {
    /// Both records. The time left of a running count is not part of them: as on Xen it starts anew when they are loaded.
    pub fn save(&self, port: &Port, now: u64) -> (HwLapic, HwLapicRegs) {
        let on = if self.is_on() { 0 } else { VLAPIC_HW_DISABLED };
        let enabled = if self.regs[reg::SPURIOUS] & SPURIOUS_ENABLE != 0 { 0 } else { VLAPIC_SW_DISABLED };
        let hidden = HwLapic {
            apic_base_msr: self.base,
            disabled: on | enabled,
            timer_divisor: divisor(self.regs[reg::DIVIDE]),
            tdt_msr: self.tsc_deadline(now),
            pending_esr: u32::from(port.errors()),
            _gap0: [0; 4],
        };
        let mut data = [0; 1024];
        for (index, bytes) in data.chunks_exact_mut(16).enumerate() {
            let value = if index == reg::CURRENT { 0 } else { self.read_register(port, index, now) };
            bytes[..4].copy_from_slice(&value.to_le_bytes());
        }
        (hidden, HwLapicRegs { data })
    }

    /// Takes over both records while the vCPU does not run. To load one of them alone, [`Lapic::save`] first, replace that
    /// one, and load both. In TSC-deadline mode the owner arms the timer then: [`Lapic::set_tsc_deadline`] with the record's
    /// `tdt_msr`.
    ///
    /// # Errors
    /// `EINVAL` for an x2APIC that is off. Bits that no register has are dropped.
    pub fn load(&mut self, port: &Port, hidden: &HwLapic, regs: &HwLapicRegs, now: u64) -> Result<()> {
        if hidden.apic_base_msr & (APIC_BASE_ENABLE | APIC_BASE_X2APIC) == APIC_BASE_X2APIC {
            return Err(Errno::INVAL);
        }
        self.base = hidden.apic_base_msr & BASE_BITS;
        self.load_registers(regs);
        self.isr = vectors(regs, reg::ISR);
        self.in_service = highest(|index| self.isr[index & 3]);
        port.set_requests(vectors(regs, reg::IRR), vectors(regs, reg::TMR), hidden.pending_esr as u8);
        self.timer = Timer::stopped(self.regs[reg::DIVIDE]);
        self.tsc_deadline = 0;
        if self.is_on() && self.timer_mode() != Mode::Deadline {
            self.timer.start(self.regs[reg::INITIAL], now);
        }
        self.publish(port);
        Ok(())
    }

    fn load_registers(&mut self, from: &HwLapicRegs) {
        let enabled = word(from, reg::SPURIOUS) & SPURIOUS_ENABLE != 0;
        self.regs = [0; reg::WORDS];
        self.assign_ids();
        for index in [reg::ESR, reg::INITIAL, reg::ICR, reg::ICR_HIGH] {
            self.regs[index] = word(from, index);
        }
        // What is sent is sent at once: a guest that waits for it would wait for ever.
        self.regs[reg::ICR] &= !COMMAND_BUSY;
        self.regs[reg::VERSION] = reg::VERSION_VALUE;
        self.regs[reg::TPR] = word(from, reg::TPR) & 0xff;
        self.regs[reg::DFR] = word(from, reg::DFR) | 0x0fff_ffff;
        self.regs[reg::SPURIOUS] = word(from, reg::SPURIOUS) & 0x3ff;
        self.regs[reg::DIVIDE] = word(from, reg::DIVIDE) & DIVIDE_BITS;
        for lvt in reg::LVTS {
            let masked = if enabled { 0 } else { LVT_MASKED };
            self.regs[lvt] = (word(from, lvt) | masked) & reg::lvt_bits(lvt);
        }
        if self.is_x2apic() {
            self.load_logical_id(word(from, reg::LDR));
        } else {
            self.regs[reg::ID] = word(from, reg::ID) & 0xff00_0000;
            self.regs[reg::LDR] = word(from, reg::LDR) & 0xff00_0000;
        }
    }

    /// Until 4.19 Xen derived the logical id from the number of the vCPU; a guest that knows its peers by such ids keeps
    /// them. Still older ones said 1 for every vCPU, which cannot work.
    fn load_logical_id(&mut self, loaded: u32) {
        let vcpu = u32::from(self.vcpu);
        if vcpu != 0 && loaded == ((vcpu >> 4) << 16 | 1 << (vcpu & 15)) {
            self.regs[reg::LDR] = loaded;
        }
    }
}

fn word(from: &HwLapicRegs, index: usize) -> u32 {
    let at = (index & (reg::WORDS - 1)) * 16;
    u32::from_le_bytes([from.data[at], from.data[at + 1], from.data[at + 2], from.data[at + 3]])
}

/// A set of vectors, from eight registers.
fn vectors(from: &HwLapicRegs, first: usize) -> [u64; 4] {
    let half = |index: usize| u64::from(word(from, first + index));
    let mut words = [0, 1, 2, 3].map(|index| half(2 * index) | half(2 * index + 1) << 32);
    words[0] &= !NO_VECTORS;
    words
}
