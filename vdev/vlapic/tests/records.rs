//! Records that are loaded: those that cannot be, and those of older versions of Xen.

mod common;

use common::*;
use xen_abi::hvm_save::interrupts::HwLapic;

#[test]
fn records_that_cannot_be() {
    let mut cpu = Cpu::enabled(5);
    let (hidden, regs) = cpu.lapic.save(&cpu.port, 0);
    assert_eq!((hidden.disabled, hidden.timer_divisor, hidden.apic_base_msr), (0, 2, ON));
    let off = HwLapic { apic_base_msr: OFF | 0x400, ..hidden };
    assert!(cpu.lapic.load(&cpu.port, &off, &regs, 0).is_err(), "an x2APIC that is off");
}

#[test]
fn loaded_command_is_not_under_way() {
    let mut cpu = Cpu::enabled(5);
    let (hidden, mut regs) = cpu.lapic.save(&cpu.port, 0);
    regs.data[usize::from(ICR)..][..4].copy_from_slice(&0x1_50fdu32.to_le_bytes());
    cpu.lapic.load(&cpu.port, &hidden, &regs, 0).unwrap();
    assert_eq!(cpu.read(ICR), 0x1_40fd);
}

#[test]
fn logical_ids_of_old_records() {
    let mut cpu = Cpu::x2apic(5);
    let (hidden, regs) = cpu.lapic.save(&cpu.port, 0);
    for (loaded, expected) in [(1u32 << 5, 1 << 5), (1, 1 << 10), (1 << 10, 1 << 10)] {
        let mut regs = regs;
        regs.data[0xd0..0xd4].copy_from_slice(&loaded.to_le_bytes());
        cpu.lapic.load(&cpu.port, &hidden, &regs, 0).unwrap();
        assert_eq!(cpu.rdmsr(0x80d), Ok(expected));
    }
}
