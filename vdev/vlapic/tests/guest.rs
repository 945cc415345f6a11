//! Random guests: against a model that is slow and plain, through save and load, and for robustness. `PROPTEST_CASES` sets
//! how many.

mod common;

use std::collections::BTreeSet;
use std::sync::atomic::AtomicUsize;

use common::*;
use proptest::prelude::*;
use vlapic::{Action, Next, Port, deliver};
use xen_abi::hvm_save::interrupts::{HwLapic, HwLapicRegs};

/// The priority rules of SDM vol. 3, 11.8.3 and 11.8.4, with sets.
#[derive(Default)]
struct Model {
    irr: BTreeSet<u8>,
    isr: BTreeSet<u8>,
    level: BTreeSet<u8>,
    tpr: u8,
}

impl Model {
    fn ppr(&self) -> u8 {
        let serviced = self.isr.last().map_or(0, |vector| vector & 0xf0);
        if self.tpr & 0xf0 >= serviced { self.tpr } else { serviced }
    }

    fn next(&self) -> Next {
        let serviced = self.isr.last().map_or(0, |vector| vector >> 4);
        match self.irr.last() {
            Some(&vector) if vector >> 4 > self.ppr() >> 4 => Next::Ready(vector),
            Some(&vector) if vector >> 4 > serviced => Next::Held(vector),
            _ => Next::None,
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Post(u8, bool),
    Accept,
    End,
    Priority(u8),
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (16u8.., any::<bool>()).prop_map(|(vector, level)| Step::Post(vector, level)),
        3 => Just(Step::Accept),
        2 => Just(Step::End),
        1 => any::<u8>().prop_map(Step::Priority),
    ]
}

proptest! {
    #[test]
    fn priorities_follow_the_model(steps in prop::collection::vec(steps(), 1..80)) {
        let (mut cpu, mut model) = (Cpu::enabled(0), Model::default());
        for step in steps {
            match step {
                Step::Post(vector, level) => {
                    prop_assert_eq!(cpu.port.post(vector, level), model.irr.insert(vector));
                    if level { model.level.insert(vector) } else { model.level.remove(&vector) };
                }
                Step::Accept => {
                    let expected = match model.next() {
                        Next::Ready(vector) => Some(vector),
                        _ => None,
                    };
                    prop_assert_eq!(cpu.lapic.accept(&cpu.port), expected);
                    expected.map(|vector| (model.irr.remove(&vector), model.isr.insert(vector)));
                }
                Step::End => {
                    let ended = model.isr.pop_last();
                    let action = ended.map_or(Action::None, |vector| {
                        Action::EndOfInterrupt { vector, level: model.level.contains(&vector) }
                    });
                    prop_assert_eq!(cpu.write(EOI, 0), action);
                }
                Step::Priority(priority) => {
                    model.tpr = priority;
                    prop_assert_eq!(cpu.write(TPR, priority.into()), Action::None);
                }
            }
            prop_assert_eq!(cpu.lapic.next(&cpu.port), model.next());
            prop_assert_eq!(cpu.read(PPR), u32::from(model.ppr()));
            prop_assert_eq!(cpu.port.has_work(), matches!(model.next(), Next::Ready(_)));
        }
        prop_assert_eq!(cpu.vectors(IRR), Vec::from_iter(model.irr));
        prop_assert_eq!(cpu.vectors(ISR), Vec::from_iter(model.isr));
        prop_assert_eq!(cpu.vectors(TMR), Vec::from_iter(model.level));
    }
}

/// Anything that a guest, its peers and its owner may do.
#[derive(Clone, Copy, Debug)]
enum Act {
    Write(u16, u8, u32),
    WriteMsr(u32, u64),
    Base(u64),
    Deadline(u64, u64),
    Post(u8, bool),
    Accept,
    Time(u64),
    Init,
    Load(u64, u64, u64),
}

fn acts() -> impl Strategy<Value = Act> {
    let registers = prop_oneof![6 => (0u16..64).prop_map(|index| index * 16), 1 => any::<u16>()];
    let lengths = prop_oneof![6 => Just(4u8), 1 => 0u8..9];
    let values = prop_oneof![any::<u32>(), 0u32..0x200, any::<u32>().prop_map(|value| value & 0xc_ffff)];
    let bases = prop_oneof![4 => prop::sample::select(vec![OFF, ON, X2]), 1 => any::<u64>()];
    prop_oneof![
        12 => (registers, lengths, values.clone()).prop_map(|(offset, length, value)| Act::Write(offset, length, value)),
        6 => (0x7f8u32..0x848, values).prop_map(|(msr, value)| Act::WriteMsr(msr, value.into())),
        2 => (0x800u32..0x840, any::<u64>()).prop_map(|(msr, value)| Act::WriteMsr(msr, value)),
        2 => bases.prop_map(Act::Base),
        2 => (any::<u64>(), any::<u64>()).prop_map(|(value, at)| Act::Deadline(value, at)),
        4 => (any::<u8>(), any::<bool>()).prop_map(|(vector, level)| Act::Post(vector, level)),
        4 => Just(Act::Accept),
        3 => prop_oneof![0u64..10_000_000, any::<u64>()].prop_map(Act::Time),
        1 => Just(Act::Init),
        1 => any::<[u64; 3]>().prop_map(|[base, deadline, seed]| Act::Load(base, deadline, seed)),
    ]
}

fn act(cpus: &mut Cpus, who: usize, act: Act) {
    let cpu = &mut cpus.0[who];
    let action = match act {
        Act::Write(offset, length, value) => cpu.lapic.write(&cpu.port, offset, length, value, cpu.now),
        Act::WriteMsr(msr, value) => cpu.wrmsr(msr, value).unwrap_or(Action::None),
        Act::Base(value) => cpu.set_base(value).map_or(Action::None, |()| Action::Reconfigured),
        Act::Deadline(value, at) => {
            cpu.lapic.set_tsc_deadline(value, at);
            Action::Reconfigured
        }
        Act::Post(vector, level) => {
            cpu.port.post(vector, level);
            Action::None
        }
        Act::Accept => {
            cpu.lapic.accept(&cpu.port);
            Action::None
        }
        Act::Time(by) => {
            cpu.now = cpu.now.saturating_add(by);
            cpu.lapic.expire(&cpu.port, cpu.now);
            Action::None
        }
        Act::Init => {
            cpu.lapic.init(&cpu.port);
            Action::Reconfigured
        }
        Act::Load(apic_base_msr, tdt_msr, seed) => {
            let (hidden, _) = cpu.lapic.save(&cpu.port, cpu.now);
            let hidden = HwLapic { apic_base_msr, tdt_msr, ..hidden };
            let regs = HwLapicRegs { data: std::array::from_fn(|at| (seed.rotate_left(at as u32) ^ at as u64) as u8) };
            // A refusal is as good.
            let _ = cpu.lapic.load(&cpu.port, &hidden, &regs, cpu.now);
            Action::Reconfigured
        }
    };
    if let Action::Send(request) = action {
        deliver(cpus, &AtomicUsize::new(who), &request, |vcpu, _| assert!(vcpu < cpus.0.len()));
    }
}

/// A register through the page or the MSRs, whichever the APIC has.
fn register(cpu: &Cpu, offset: u16) -> u32 {
    match cpu.lapic.is_x2apic() {
        true => cpu.rdmsr(0x800 + u32::from(offset >> 4)).map_or(0, |value| value as u32),
        false => cpu.read(offset),
    }
}

fn check(cpu: &mut Cpu) {
    for offset in (0..0x400).step_by(16) {
        register(cpu, offset);
    }
    for set in [ISR, IRR, TMR] {
        assert_eq!(register(cpu, set) & 0xffff, 0, "vectors below 16");
    }
    let serviced = (0..8).rev().map(|word| (word, register(cpu, ISR + word * 16))).find(|(_, bits)| *bits != 0);
    let highest = serviced.map_or(0, |(word, bits)| u32::from(word) * 32 + bits.ilog2());
    let (tpr, ppr) = (register(cpu, TPR), register(cpu, PPR));
    assert_eq!(ppr, if tpr >> 4 >= highest >> 4 { tpr } else { highest & 0xf0 });
    assert!(cpu.lapic.is_on() || !cpu.lapic.is_x2apic());
    assert_eq!(cpu.lapic.is_enabled(), cpu.port.is_enabled());
    if let Next::Ready(vector) | Next::Held(vector) = cpu.lapic.next(&cpu.port) {
        assert!(cpu.port.is_requested(vector) && vector >= 16);
    }
    cpu.lapic.expire(&cpu.port, cpu.now);
    let late = cpu.lapic.deadline().is_some_and(|at| at <= cpu.now && cpu.now < u64::MAX - 1);
    assert!(!late, "the timer is behind");
}

/// What was saved is what is saved again after a load.
fn check_records(cpu: &Cpu) {
    let saved = cpu.lapic.save(&cpu.port, cpu.now);
    let mut copy = cpu.lapic.clone();
    let port = Port::new();
    copy.reset(&port);
    copy.load(&port, &saved.0, &saved.1, cpu.now).unwrap();
    let deadline = saved.0.tdt_msr;
    copy.set_tsc_deadline(deadline, u64::MAX);
    let again = copy.save(&port, cpu.now);
    assert_eq!(again.0, saved.0);
    let different = again.1.data.iter().zip(&saved.1.data).position(|(ours, theirs)| ours != theirs);
    assert_eq!(different, None, "offset in the registers");
    assert_eq!(copy.next(&port), cpu.lapic.next(&cpu.port));
}

proptest! {
    #[test]
    fn nothing_breaks(acts in prop::collection::vec((0usize..3, acts()), 1..60)) {
        let mut cpus = Cpus((0..3).map(|n| Cpu::enabled(n * 21)).collect());
        for (who, step) in acts {
            act(&mut cpus, who, step);
            check(&mut cpus.0[who]);
        }
        cpus.0.iter().for_each(check_records);
    }
}

#[test]
fn records_that_cannot_be() {
    let mut cpu = Cpu::enabled(5);
    let (hidden, regs) = cpu.lapic.save(&cpu.port, 0);
    assert_eq!((hidden.disabled, hidden.timer_divisor, hidden.apic_base_msr), (0, 2, ON));
    let off = HwLapic { apic_base_msr: OFF | 0x400, ..hidden };
    assert!(cpu.lapic.load(&cpu.port, &off, &regs, 0).is_err(), "an x2APIC that is off");
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
