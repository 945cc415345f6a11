//! The rules of each register.

mod common;

use common::*;
use vlapic::{Action, Event, Fault, Next, Pin};

#[test]
fn reset_values() {
    let cpu = Cpu::new(3);
    assert_eq!(cpu.lapic.base(), ON);
    assert_eq!(Cpu::new(0).lapic.base(), ON | 0x100, "vCPU 0 boots");
    assert_eq!(cpu.read(ID), 6 << 24);
    assert_eq!(cpu.read(0x30), 0x0005_0014);
    assert_eq!((cpu.read(SPURIOUS), cpu.read(DFR), cpu.read(LDR)), (0xff, u32::MAX, 0));
    for lvt in (LVT_TIMER..=LVT_ERROR).step_by(16) {
        assert_eq!(cpu.read(lvt), MASKED, "{lvt:#x}");
    }
    assert!(!cpu.lapic.is_enabled() && !cpu.port.is_enabled());
    assert_eq!(cpu.lapic.page(), Some(0xfee0_0000));
}

#[test]
fn read_only_registers_stay() {
    let mut cpu = Cpu::enabled(3);
    for offset in [ID, 0x30, 0x90, PPR, 0xc0, ISR, TMR, IRR, CURRENT, 0x3f0] {
        let before = cpu.read(offset);
        assert_eq!(cpu.write(offset, !before), Action::None, "{offset:#x}");
        assert_eq!(cpu.read(offset), before, "{offset:#x}");
    }
}

#[test]
fn writable_bits() {
    let mut cpu = Cpu::enabled(0);
    let expected = [
        (TPR, 0xff),
        (LDR, 0xff00_0000),
        (SPURIOUS, 0x3ff),
        (ICR_HIGH, 0xff00_0000),
        (LVT_TIMER, 0x7_10ff),
        (0x330, 0x1_17ff),
        (0x340, 0x1_17ff),
        (LVT_LINT0, 0x1_f7ff),
        (LVT_LINT1, 0x1_f7ff),
        (LVT_ERROR, 0x1_10ff),
        (DIVIDE, 0xb),
    ];
    for (offset, bits) in expected {
        let _ = cpu.write(offset, u32::MAX);
        assert_eq!(cpu.read(offset), bits, "{offset:#x}");
    }
    let _ = cpu.write(DFR, 0);
    assert_eq!(cpu.read(DFR), 0x0fff_ffff);
}

#[test]
fn narrow_accesses_are_within_a_register() {
    let mut cpu = Cpu::enabled(0);
    let _ = cpu.write(LDR, 0x1200_0000);
    let read = |cpu: &Cpu, offset, length| cpu.lapic.read(&cpu.port, offset, length, 0);
    assert_eq!((read(&cpu, LDR + 3, 1), read(&cpu, LDR + 2, 2), read(&cpu, LDR, 2)), (0x12, 0x1200, 0));
    for (offset, length) in [(LDR + 2, 4), (LDR + 4, 1), (LDR + 12, 4), (0x3f0, 4), (0xff0, 4), (LDR, 0), (LDR, 5)] {
        assert_eq!(read(&cpu, offset, length), 0, "{offset:#x} {length}");
        assert_eq!(cpu.lapic.write(&cpu.port, offset, length, u32::MAX, 0), Action::None);
    }
    assert_eq!(cpu.read(LDR), 0x1200_0000);
    let _ = cpu.lapic.write(&cpu.port, LDR + 3, 1, 0x34, 0);
    assert_eq!(cpu.read(LDR), 0x3400_0000);
    let _ = cpu.lapic.write(&cpu.port, LVT_LINT0, 1, 0x77, 0);
    assert_eq!(cpu.read(LVT_LINT0), MASKED | 0x77, "the mask is in another byte");
}

#[test]
fn software_disable_masks_and_holds_back() {
    let mut cpu = Cpu::enabled(0);
    let _ = cpu.write(LVT_LINT0, 0x700);
    assert!(cpu.port.takes_pic(None));
    assert!(cpu.port.post(0x40, false) && !cpu.port.post(0x40, false), "new, then known");
    assert_eq!(cpu.write(SPURIOUS, 0xff), Action::Reconfigured);
    assert_eq!(cpu.lapic.next(&cpu.port), Next::None);
    assert_eq!((cpu.read(LVT_LINT0), cpu.port.takes_pic(None)), (MASKED | 0x700, false));
    let _ = cpu.write(LVT_LINT0, 0x700);
    assert_eq!(cpu.read(LVT_LINT0), MASKED | 0x700, "it stays masked");
    let _ = cpu.write(SPURIOUS, 0x1ff);
    assert_eq!(cpu.lapic.next(&cpu.port), Next::Ready(0x40), "requests survive");
}

#[test]
fn priorities_and_eoi() {
    let mut cpu = Cpu::enabled(0);
    cpu.port.post(0x41, true);
    cpu.port.post(0x52, false);
    assert_eq!(cpu.vectors(IRR), [0x41, 0x52]);
    assert_eq!(cpu.lapic.accept(&cpu.port), Some(0x52));
    assert_eq!((cpu.vectors(IRR), cpu.vectors(ISR), cpu.vectors(TMR)), (vec![0x41], vec![0x52], vec![0x41]));
    assert_eq!((cpu.read(PPR), cpu.lapic.next(&cpu.port)), (0x50, Next::None));
    assert_eq!(cpu.write(EOI, 0), Action::EndOfInterrupt { vector: 0x52, level: false });
    let _ = cpu.write(TPR, 0x40);
    assert_eq!((cpu.read(PPR), cpu.lapic.next(&cpu.port)), (0x40, Next::Held(0x41)), "the same class is held back");
    assert!(!cpu.port.has_work());
    let _ = cpu.write(TPR, 0x3f);
    assert!(cpu.port.has_work());
    assert_eq!(cpu.lapic.accept(&cpu.port), Some(0x41));
    assert_eq!(cpu.write(EOI, 5), Action::EndOfInterrupt { vector: 0x41, level: true });
    assert_eq!(cpu.write(EOI, 0), Action::None, "nothing in service");
}

#[test]
fn illegal_vectors_are_errors() {
    let mut cpu = Cpu::enabled(0);
    let _ = cpu.write(LVT_ERROR, 0xe0);
    assert!(cpu.port.post(15, false), "the error interrupt");
    assert_eq!(cpu.vectors(IRR), [0xe0]);
    assert!(!cpu.port.post(14, true), "the same error again");
    assert_eq!(cpu.write(ICR, 0x4_4003), Action::None);
    assert_eq!(cpu.read(ESR), 0, "a write shows the errors");
    let _ = cpu.write(ESR, 0);
    assert_eq!(cpu.read(ESR), 0x60);
    let _ = cpu.write(ESR, 0);
    assert_eq!(cpu.read(ESR), 0);
    let _ = cpu.write(LVT_ERROR, 5);
    assert_eq!(cpu.write(ICR, 0x4_4003), Action::None);
    let _ = cpu.write(ESR, 0);
    assert_eq!(cpu.read(ESR), 0x60, "the error's own vector is illegal");
}

#[test]
fn commands_that_send_nothing() {
    let mut cpu = Cpu::enabled(0);
    assert_eq!(cpu.write(ICR, 0x4_4055), Action::None);
    assert_eq!(cpu.vectors(IRR), [0x55], "to itself, at once");
    for (low, why) in [(0x4355, "reserved mode"), (0x4755, "ExtINT"), (0x8500, "INIT de-assert"), (0x4008, "vector")] {
        assert_eq!(cpu.write(ICR, low), Action::None, "{why}");
    }
    let _ = cpu.write(ICR, 0x1_5055);
    assert_eq!(cpu.read(ICR), 0x1_4055, "never busy");
}

#[test]
fn x2apic_registers() {
    let mut cpu = Cpu::x2apic(35);
    assert_eq!(cpu.lapic.page(), None);
    assert_eq!((cpu.rdmsr(0x802), cpu.rdmsr(0x80d)), (Ok(70), Ok(4 << 16 | 1 << 6)));
    for msr in [0x800, 0x801, 0x80b, 0x80e, 0x831, 0x83f, 0x840, 0x8ff] {
        assert_eq!(cpu.rdmsr(msr), Err(Fault), "{msr:#x}");
    }
    for msr in [0x802, 0x803, 0x80a, 0x80d, 0x80e, 0x810, 0x820, 0x831, 0x839, 0x840] {
        assert_eq!(cpu.wrmsr(msr, 0), Err(Fault), "{msr:#x}");
    }
    let reserved = [(0x808, 0x100), (0x80b, 1), (0x80f, 0x1000), (0x828, 1), (0x830, 1 << 12), (0x830, 1 << 20)];
    for (msr, value) in reserved.into_iter().chain([(0x832, 1 << 19), (0x835, 1 << 17), (0x83e, 4), (0x83f, 0x100)]) {
        assert_eq!(cpu.wrmsr(msr, value), Err(Fault), "{msr:#x} {value:#x}");
    }
    assert_eq!(cpu.wrmsr(0x838, 1 << 32), Err(Fault));
    assert_eq!(cpu.wrmsr(0x83f, 0x66), Ok(Action::None));
    assert_eq!(cpu.lapic.accept(&cpu.port), Some(0x66));
    assert_eq!(cpu.wrmsr(0x80b, 0), Ok(Action::EndOfInterrupt { vector: 0x66, level: false }));
    let Ok(Action::Send(request)) = cpu.wrmsr(0x830, 0x1234_5678_0000_4033) else { panic!("no command") };
    assert_eq!(request.message.destination, 0x1234_5678);
    assert_eq!(cpu.rdmsr(0x830), Ok(0x1234_5678_0000_4033));
    assert_eq!(Cpu::enabled(0).rdmsr(0x802), Err(Fault), "no MSRs in xAPIC mode");
}

/// SDM vol. 3, figure 11-27.
#[test]
fn changes_of_mode() {
    let modes = [OFF, ON, X2];
    let allowed = [[true, true, false], [true, true, true], [true, false, true]];
    for (from, to) in (0..3).flat_map(|from| (0..3).map(move |to| (from, to))) {
        let mut cpu = Cpu::enabled(1);
        for step in &modes[1..=from.max(1)] {
            cpu.set_base(*step).unwrap();
        }
        if from == 0 {
            cpu.set_base(OFF).unwrap();
        }
        assert_eq!(cpu.set_base(modes[to]).is_ok(), allowed[from][to], "{from} to {to}");
    }
    let mut cpu = Cpu::enabled(1);
    for value in [OFF | 0x400, ON | 1, ON | 1 << 9, ON | 1 << 52, ON + 0x1000] {
        assert_eq!(cpu.set_base(value), Err(Fault), "{value:#x}");
    }
    assert_eq!(cpu.lapic.set_base(&cpu.port, X2, false), Err(Fault), "the guest has no x2APIC");
}

#[test]
fn off_and_on_again_is_a_reset() {
    let mut cpu = Cpu::x2apic(1);
    cpu.port.post(0x90, false);
    cpu.set_base(OFF).unwrap();
    assert_eq!((cpu.lapic.next(&cpu.port), cpu.lapic.page()), (Next::None, None));
    assert!(cpu.port.takes_pic(None), "the 8259s are wired to the CPU");
    assert_eq!(cpu.lapic.signal(&cpu.port, Pin::Lint1), Some(Event::Nmi));
    cpu.set_base(ON).unwrap();
    assert_eq!((cpu.read(SPURIOUS), cpu.read(ID), cpu.vectors(IRR)), (0xff, 2 << 24, vec![]));
}

#[test]
fn init_keeps_mode_and_ids() {
    let mut cpu = Cpu::x2apic(17);
    cpu.port.post(0x90, true);
    cpu.lapic.accept(&cpu.port);
    cpu.lapic.init(&cpu.port);
    assert_eq!((cpu.rdmsr(0x802), cpu.rdmsr(0x80d), cpu.rdmsr(0x80f)), (Ok(34), Ok(2 << 16 | 4), Ok(0xff)));
    assert_eq!((cpu.rdmsr(0x814), cpu.rdmsr(0x81c), cpu.rdmsr(0x80a)), (Ok(0), Ok(0), Ok(0)));
    assert!(cpu.port.matches(34, false) && !cpu.port.is_enabled());
}

#[test]
fn local_sources_follow_their_entries() {
    let mut cpu = Cpu::enabled(0);
    assert_eq!(cpu.lapic.signal(&cpu.port, Pin::Lint0), None, "masked");
    let cases = [(0x0, Event::Interrupt), (0x200, Event::Smi), (0x400, Event::Nmi), (0x500, Event::Init)];
    for (mode, event) in cases.into_iter().chain([(0x700, Event::ExtInt)]) {
        let _ = cpu.write(LVT_LINT1, mode | 0x30);
        assert_eq!(cpu.lapic.signal(&cpu.port, Pin::Lint1), Some(event));
    }
    assert_eq!(cpu.vectors(IRR), [0x30]);
    let _ = cpu.write(0x340, 0x31);
    let _ = cpu.write(0x330, 0x32);
    assert_eq!(cpu.lapic.signal(&cpu.port, Pin::Performance), Some(Event::Interrupt));
    assert_eq!(cpu.lapic.signal(&cpu.port, Pin::Thermal), Some(Event::Interrupt));
    assert_eq!(cpu.vectors(IRR), [0x30, 0x31, 0x32]);
}
