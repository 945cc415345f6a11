//! Who gets a message.

mod common;

use std::sync::atomic::AtomicUsize;

use common::*;
use proptest::prelude::*;
use vlapic::{Action, Event, Request, Shorthand, deliver, pic_target};
use x86_defs::apic::{DeliveryMode, InterruptMessage};

fn message(mode: DeliveryMode, logical: bool, destination: u32) -> InterruptMessage {
    InterruptMessage { vector: 0x77, mode, level: false, logical, destination }
}

fn told(cpus: &Cpus, turn: &AtomicUsize, request: &Request) -> Vec<(usize, Event)> {
    let mut told = Vec::new();
    deliver(cpus, turn, request, |vcpu, event| told.push((vcpu, event)));
    told
}

fn receivers(cpus: &Cpus, request: impl Into<Request>) -> Vec<usize> {
    told(cpus, &AtomicUsize::new(0), &request.into()).into_iter().map(|(vcpu, _)| vcpu).collect()
}

fn machine(count: u8) -> Cpus {
    Cpus((0..count).map(Cpu::enabled).collect())
}

#[test]
fn commands_reach_their_targets() {
    let mut cpus = machine(4);
    let mut send = |high: u32, low: u32| {
        let _ = cpus.0[1].write(ICR_HIGH, high);
        let Action::Send(request) = cpus.0[1].write(ICR, low) else { panic!("{low:#x}") };
        told(&cpus, &AtomicUsize::new(0), &request)
    };
    assert_eq!(send(4 << 24, 0x4040), [(2, Event::Interrupt)]);
    assert_eq!(send(4 << 24, 0x4040), [], "requested already");
    assert_eq!(send(0xff << 24, 0x4400), [0, 1, 2, 3].map(|vcpu| (vcpu, Event::Nmi)));
    assert_eq!(send(0, 0xc_4500), [0, 2, 3].map(|vcpu| (vcpu, Event::Init)));
    assert_eq!(send(6 << 24, 0x4699), [(3, Event::StartUp(0x99))]);
    assert_eq!(send(0, 0x8_4200), [0, 1, 2, 3].map(|vcpu| (vcpu, Event::Smi)));
    assert_eq!(send(0, 0x4_4400), [(1, Event::Nmi)]);
    assert_eq!(send(0x80 << 24, 0x4040), [], "no such APIC");
}

#[test]
fn interrupts_between_processors_are_edges() {
    let mut cpus = machine(2);
    let _ = cpus.0[0].write(ICR_HIGH, 2 << 24);
    let Action::Send(request) = cpus.0[0].write(ICR, 0xc040) else { panic!() };
    assert_eq!(receivers(&cpus, request), [1]);
    assert_eq!((cpus.0[1].vectors(IRR), cpus.0[1].vectors(TMR)), (vec![0x40], vec![]));
    cpus.0[1].port.post(0x40, true);
    assert_eq!(cpus.0[1].vectors(TMR), [0x40]);
    cpus.0[1].port.post(0x40, false);
    assert_eq!(cpus.0[1].vectors(TMR), [], "the last message decides");
}

#[test]
fn disabled_apics_take_no_vectors() {
    let mut cpus = machine(3);
    let _ = cpus.0[1].write(SPURIOUS, 0xff);
    assert_eq!(receivers(&cpus, message(DeliveryMode::Fixed, false, 0xff)), [0, 2]);
    assert_eq!(receivers(&cpus, message(DeliveryMode::LowestPriority, false, 2)), [0; 0]);
    assert_eq!(receivers(&cpus, message(DeliveryMode::Nmi, false, 2)), [1]);
}

#[test]
fn lowest_priority_takes_turns_among_equals() {
    let mut cpus = machine(4);
    let turn = AtomicUsize::new(0);
    let request = message(DeliveryMode::LowestPriority, false, 0xff).into();
    let next = |cpus: &mut Cpus| {
        let told = told(cpus, &turn, &request);
        let [(vcpu, Event::Interrupt)] = told[..] else { panic!("{told:?}") };
        let cpu = &mut cpus.0[vcpu];
        assert_eq!(cpu.lapic.accept(&cpu.port), Some(0x77));
        let _ = cpu.write(EOI, 0);
        vcpu
    };
    assert_eq!([next(&mut cpus), next(&mut cpus), next(&mut cpus), next(&mut cpus)], [1, 2, 3, 0]);
    for vcpu in [0, 1, 3] {
        let _ = cpus.0[vcpu].write(TPR, 0x20);
    }
    assert_eq!([next(&mut cpus), next(&mut cpus)], [2, 2], "the others have more to do");
    let _ = cpus.0[2].write(TPR, 0x30);
    assert_eq!(next(&mut cpus), 3);
}

#[test]
fn turn_beyond_the_vcpus_is_harmless() {
    let cpus = machine(2);
    let request = message(DeliveryMode::LowestPriority, false, 0xff).into();
    assert_eq!(told(&cpus, &AtomicUsize::new(usize::MAX), &request), [(0, Event::Interrupt)]);
}

#[test]
fn pic_goes_to_the_first_that_takes_it() {
    let mut cpus = machine(4);
    assert_eq!(pic_target(&cpus, None), 0, "nobody: vCPU 0");
    let _ = cpus.0[2].write(LVT_LINT0, 0x700);
    assert_eq!(pic_target(&cpus, None), 2);
    assert_eq!(pic_target(&cpus, Some(2)), 1, "the I/O APIC's pin 0 goes to APIC 2");
    let _ = cpus.0[2].write(LVT_LINT0, 0x1_0700);
    assert_eq!(pic_target(&cpus, Some(6)), 3);
    let _ = cpus.0[3].write(SPURIOUS, 0xff);
    assert_eq!(pic_target(&cpus, Some(6)), 0, "a disabled APIC does not listen to it");
}

/// How an APIC is addressed, in the words of SDM vol. 3, 11.6.2 and 11.12.10.
#[derive(Clone, Copy, Debug)]
enum Addressing {
    Flat(u8),
    Cluster(u8),
    Reserved(u8),
    X2,
}

fn expected(vcpu: u32, addressing: Addressing, logical: bool, destination: u32) -> bool {
    let id = vcpu * 2;
    let byte = destination as u8;
    match (addressing, logical) {
        (Addressing::X2, false) => destination == id || destination == 0xffff_ffff,
        (Addressing::X2, true) => destination >> 16 == id >> 4 && destination & 1 << (id & 15) != 0,
        (_, false) => destination == id || destination == 0xff,
        (Addressing::Flat(own), true) => own & byte != 0,
        (Addressing::Cluster(own), true) => own & 0xf0 == byte & 0xf0 && own & byte & 0xf != 0,
        (Addressing::Reserved(_), true) => false,
    }
}

fn addressings() -> impl Strategy<Value = Addressing> {
    prop_oneof![
        any::<u8>().prop_map(Addressing::Flat),
        any::<u8>().prop_map(Addressing::Cluster),
        any::<u8>().prop_map(Addressing::Reserved),
        Just(Addressing::X2),
    ]
}

fn address(cpu: &mut Cpu, addressing: Addressing) {
    let (ldr, dfr) = match addressing {
        Addressing::Flat(own) => (own, 0xffff_ffff),
        Addressing::Cluster(own) => (own, 0),
        Addressing::Reserved(own) => (own, 0x5000_0000),
        Addressing::X2 => return cpu.set_base(X2).unwrap(),
    };
    let _ = cpu.write(LDR, u32::from(ldr) << 24);
    let _ = cpu.write(DFR, dfr);
}

proptest! {
    #[test]
    fn destinations(
        addressings in prop::collection::vec(addressings(), 1..40),
        logical: bool,
        destination in prop_oneof![0u32..0x100, Just(u32::MAX), (0u32..6, any::<u16>()).prop_map(|(c, m)| c << 16 | u32::from(m))],
        shorthand in prop_oneof![3 => Just(Shorthand::Destination), 1 => Just(Shorthand::All), 1 => Just(Shorthand::Others)],
        source in 0usize..40,
    ) {
        let mut cpus = machine(addressings.len() as u8);
        for (cpu, addressing) in cpus.0.iter_mut().zip(&addressings) {
            address(cpu, *addressing);
        }
        let request = Request { message: message(DeliveryMode::Fixed, logical, destination), shorthand, source };
        let named: Vec<usize> = (0..addressings.len())
            .filter(|vcpu| match shorthand {
                Shorthand::Destination => expected(*vcpu as u32, addressings[*vcpu], logical, destination),
                Shorthand::Others => *vcpu != source,
                _ => true,
            })
            .collect();
        let told = receivers(&cpus, request);
        prop_assert_eq!(&told, &named);
        let lowest = Request { message: message(DeliveryMode::LowestPriority, logical, destination), ..request };
        let one = receivers(&cpus, Request { message: InterruptMessage { vector: 0x78, ..lowest.message }, ..lowest });
        prop_assert_eq!(one.len(), named.len().min(1));
        prop_assert!(one.iter().all(|vcpu| named.contains(vcpu)));
    }
}
