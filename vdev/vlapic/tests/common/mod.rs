//! A vCPU with a local APIC, for tests.
#![allow(dead_code, reason = "each test binary uses its part")]

use vlapic::{Action, Lapic, Port, Ports};

pub const ID: u16 = 0x020;
pub const TPR: u16 = 0x080;
pub const PPR: u16 = 0x0a0;
pub const EOI: u16 = 0x0b0;
pub const LDR: u16 = 0x0d0;
pub const DFR: u16 = 0x0e0;
pub const SPURIOUS: u16 = 0x0f0;
pub const ISR: u16 = 0x100;
pub const TMR: u16 = 0x180;
pub const IRR: u16 = 0x200;
pub const ESR: u16 = 0x280;
pub const ICR: u16 = 0x300;
pub const ICR_HIGH: u16 = 0x310;
pub const LVT_TIMER: u16 = 0x320;
pub const LVT_LINT0: u16 = 0x350;
pub const LVT_LINT1: u16 = 0x360;
pub const LVT_ERROR: u16 = 0x370;
pub const INITIAL: u16 = 0x380;
pub const CURRENT: u16 = 0x390;
pub const DIVIDE: u16 = 0x3e0;

pub const MASKED: u32 = 1 << 16;
/// IA32_APIC_BASE of modes: off, xAPIC, x2APIC.
pub const OFF: u64 = 0xfee0_0000;
pub const ON: u64 = 0xfee0_0800;
pub const X2: u64 = 0xfee0_0c00;

pub struct Cpu {
    pub lapic: Lapic,
    pub port: Port,
    pub now: u64,
}

impl Cpu {
    /// After reset.
    pub fn new(vcpu: u8) -> Cpu {
        let port = Port::new();
        Cpu { lapic: Lapic::new(vcpu, &port), port, now: 1000 }
    }

    /// With the APIC enabled.
    pub fn enabled(vcpu: u8) -> Cpu {
        let mut cpu = Cpu::new(vcpu);
        assert_eq!(cpu.write(SPURIOUS, 0x1ff), Action::Reconfigured);
        cpu
    }

    pub fn x2apic(vcpu: u8) -> Cpu {
        let mut cpu = Cpu::enabled(vcpu);
        cpu.set_base(X2).unwrap();
        cpu
    }

    pub fn read(&self, offset: u16) -> u32 {
        self.lapic.read(&self.port, offset, 4, self.now)
    }

    pub fn write(&mut self, offset: u16, value: u32) -> Action {
        self.lapic.write(&self.port, offset, 4, value, self.now)
    }

    pub fn rdmsr(&self, msr: u32) -> Result<u64, vlapic::Fault> {
        self.lapic.read_msr(&self.port, msr, self.now)
    }

    pub fn wrmsr(&mut self, msr: u32, value: u64) -> Result<Action, vlapic::Fault> {
        self.lapic.write_msr(&self.port, msr, value, self.now)
    }

    pub fn set_base(&mut self, value: u64) -> Result<(), vlapic::Fault> {
        self.lapic.set_base(&self.port, value, true)
    }

    /// The vectors of a set, whose first register is at `offset`.
    pub fn vectors(&self, offset: u16) -> Vec<u8> {
        let word = |vector: u8| self.read(offset + u16::from(vector / 32) * 16);
        (0..=255).filter(|vector| word(*vector) >> (vector % 32) & 1 != 0).collect()
    }
}

pub struct Cpus(pub Vec<Cpu>);

impl Ports for Cpus {
    fn count(&self) -> usize {
        self.0.len()
    }
    fn port(&self, vcpu: usize) -> Option<&Port> {
        self.0.get(vcpu).map(|cpu| &cpu.port)
    }
}
