//! Local APICs (SDM vol. 3, chapter 11): three of them, their guests, and devices that send them messages.

use fuzz::Random;
use std::collections::BTreeSet;
use std::sync::atomic::AtomicUsize;
use vlapic::{Action, Event, Lapic, MIN_PERIOD_NS, Next, Pin, Port, Ports, deliver};
use xen_abi::hvm_save::interrupts::{HwLapic, HwLapicRegs};

const TPR: u16 = 0x080;
const PPR: u16 = 0x0a0;
const EOI: u16 = 0x0b0;
const SPURIOUS: u16 = 0x0f0;
const ISR: u16 = 0x100;
const TMR: u16 = 0x180;
const IRR: u16 = 0x200;
const ICR: u16 = 0x300;
const LVT_TIMER: u16 = 0x320;
const LVT_ERROR: u16 = 0x370;
const INITIAL: u16 = 0x380;
const CURRENT: u16 = 0x390;
const MASKED: u32 = 1 << 16;
/// IA32_APIC_BASE of an APIC that is off, in xAPIC mode, in x2APIC mode.
const BASES: [u64; 3] = [0xfee0_0000, 0xfee0_0800, 0xfee0_0c00];
const STEPS: u64 = 300;

struct Cpu {
    lapic: Lapic,
    port: Port,
    now: u64,
    /// Vectors in service come from a record, in which they can be any.
    is_loaded: bool,
}

struct Cpus(Vec<Cpu>);

impl Ports for Cpus {
    fn count(&self) -> usize {
        self.0.len()
    }
    fn port(&self, vcpu: usize) -> Option<&Port> {
        self.0.get(vcpu).map(|cpu| &cpu.port)
    }
}

impl Cpu {
    fn new(vcpu: u8) -> Cpu {
        let port = Port::new();
        let mut cpu = Cpu { lapic: Lapic::new(vcpu, &port), port, now: 1000, is_loaded: false };
        assert_eq!(cpu.lapic.write(&cpu.port, SPURIOUS, 4, 0x1ff, 1000), Action::Reconfigured);
        cpu
    }

    /// A register, whichever mode the APIC is in; they can be read in none while it is off, which this does all the same.
    fn register(&self, offset: u16) -> u32 {
        if self.lapic.is_x2apic() {
            let msr = 0x800 + u32::from(offset >> 4);
            self.lapic.read_msr(&self.port, msr, self.now).expect("it can be read") as u32
        } else {
            self.lapic.read(&self.port, offset, 4, self.now)
        }
    }

    fn vectors(&self, set: u16) -> BTreeSet<u8> {
        let words: Vec<u32> = (0..8).map(|word| self.register(set + 16 * word)).collect();
        (0..=255).filter(|vector| words[usize::from(vector / 32)] >> (vector % 32) & 1 != 0).collect()
    }

    fn sets(&self) -> Sets {
        Sets { requested: self.vectors(IRR), in_service: self.vectors(ISR) }
    }
}

/// What is requested and what is in service.
#[derive(Clone, PartialEq, Debug)]
struct Sets {
    requested: BTreeSet<u8>,
    in_service: BTreeSet<u8>,
}

/// What a step may do to requests and to what is in service.
enum Step {
    /// Requests may come.
    Requests,
    Accepts,
    Ends,
    /// All may be new.
    Resets,
}

/// The bits of a register that keep what is written to them by 32 bits, of those which do no more than that.
fn kept(offset: u16, is_enabled: bool) -> Option<(u32, u32)> {
    let masked = if is_enabled { 0 } else { MASKED };
    Some(match offset {
        TPR => (0xff, 0),
        0x0d0 | 0x310 => (0xff00_0000, 0),
        0x0e0 => (0xf000_0000, 0x0fff_ffff),
        SPURIOUS => (0x3ff, 0),
        0x330 | 0x340 => (0x1_17ff & !masked, masked),
        0x350 | 0x360 => (0x1_f7ff & !masked, masked),
        LVT_ERROR => (0x1_10ff & !masked, masked),
        LVT_TIMER => (0x7_10ff & !masked, masked),
        0x3e0 => (0xb, 0),
        _ => return None,
    })
}

fn write(r: &mut Random, cpu: &mut Cpu) -> (Step, Action) {
    let offset = if r.one_in(8) { r.next() as u16 } else { 16 * r.below(64) as u16 };
    let length = if r.one_in(6) { r.below(9) as u8 } else { 4 };
    let value = (if r.one_in(2) { r.value() } else { r.next() & 0xc_ffff }) as u32;
    let action = cpu.lapic.write(&cpu.port, offset, length, value, cpu.now);
    if length == 4 && !cpu.lapic.is_x2apic() {
        let is_enabled = cpu.register(SPURIOUS) & 0x100 != 0;
        if let Some((mask, ones)) = kept(offset, is_enabled) {
            assert_eq!(cpu.register(offset), value & mask | ones, "register {offset:#x} after {value:#x}");
        }
    }
    (if offset & !15 == EOI { Step::Ends } else { Step::Requests }, action)
}

fn write_msr(r: &mut Random, cpu: &mut Cpu) -> (Step, Action) {
    let msr = 0x800 + if r.one_in(16) { r.below(0x200) as u32 } else { r.below(64) as u32 };
    let value = if r.one_in(2) { r.value() } else { r.next() & 0xc_ffff };
    let before = cpu.sets();
    let result = cpu.lapic.write_msr(&cpu.port, msr, value, cpu.now);
    assert!(result.is_ok() || before == cpu.sets(), "a fault changed something");
    assert!(result.is_err() || cpu.lapic.is_x2apic());
    let ends = msr == 0x800 + u32::from(EOI >> 4) && result.is_ok();
    (if ends { Step::Ends } else { Step::Requests }, result.unwrap_or(Action::None))
}

fn set_base(r: &mut Random, cpu: &mut Cpu) -> Step {
    let value = if r.one_in(5) { r.next() } else { r.pick(&BASES) };
    let (old, has_x2apic) = (cpu.lapic.base(), !r.one_in(4));
    match cpu.lapic.set_base(&cpu.port, value, has_x2apic) {
        Ok(()) => assert_eq!(cpu.lapic.base(), value),
        Err(_) => assert_eq!(cpu.lapic.base(), old),
    }
    let was_off = old & 0x800 == 0;
    if was_off && cpu.lapic.is_on() {
        cpu.is_loaded = false;
        Step::Resets
    } else {
        Step::Requests
    }
}

/// Time passes; the timer fires no more often than it may, and requests its vector when it does.
fn pass(r: &mut Random, cpu: &mut Cpu) {
    let by = if r.one_in(20) { r.next() >> r.below(30) } else { r.below(3_000_000) };
    let until = cpu.now.saturating_add(by);
    let vector = cpu.register(LVT_TIMER) as u8;
    let mut fired = 0;
    while let Some(at) = cpu.lapic.deadline().filter(|&at| at <= until && fired < 100) {
        assert!(fired == 0 || at > cpu.now, "the timer was armed in the past");
        assert!(fired < 2 || at >= cpu.now + MIN_PERIOD_NS, "{at} is soon after {}", cpu.now);
        cpu.now = cpu.now.max(at);
        let was_requested = vector >= 16 && cpu.port.is_requested(vector);
        let is_told = cpu.lapic.expire(&cpu.port, cpu.now);
        assert!(is_told || vector < 16 || was_requested, "the timer fired and nobody was told");
        assert!(vector < 16 || cpu.port.is_requested(vector));
        fired += 1;
    }
    cpu.now = until;
    assert!(!cpu.lapic.expire(&cpu.port, cpu.now) || fired == 100, "the timer fired with no deadline");
    let is_late = cpu.lapic.deadline().is_some_and(|at| at <= cpu.now && cpu.now < u64::MAX - 1);
    assert!(!is_late, "the timer is behind");
}

/// A timer that ticks within the times that pass here: at random it seldom comes about.
fn set_up(r: &mut Random, cpu: &mut Cpu) -> (Step, Action) {
    let mode = (r.below(2) as u32) << 17;
    let values = [(SPURIOUS, 0x1ff), (LVT_TIMER, mode | r.next() as u32 & 0xff), (INITIAL, r.below(100_000) as u32)];
    for (offset, value) in values {
        let _ = cpu.lapic.write(&cpu.port, offset, 4, value, cpu.now);
    }
    pass(r, cpu);
    (Step::Requests, Action::None)
}

fn load(r: &mut Random, cpu: &mut Cpu) -> Step {
    let (hidden, _) = cpu.lapic.save(&cpu.port, cpu.now);
    let hidden = HwLapic { apic_base_msr: r.value(), tdt_msr: r.value(), disabled: r.next() as u32, ..hidden };
    let regs = HwLapicRegs { data: r.bytes() };
    let before = cpu.sets();
    let was_loaded = cpu.is_loaded;
    cpu.is_loaded = cpu.lapic.load(&cpu.port, &hidden, &regs, cpu.now).is_ok();
    if !cpu.is_loaded {
        assert_eq!(cpu.sets(), before, "a refused record changed something");
        cpu.is_loaded = was_loaded;
        return Step::Requests;
    }
    Step::Resets
}

fn step(r: &mut Random, cpu: &mut Cpu) -> (Step, Action) {
    let none = |step| (step, Action::None);
    match r.below(37) {
        0..=11 => write(r, cpu),
        12..=19 => write_msr(r, cpu),
        20..=22 => none(set_base(r, cpu)),
        23 => {
            cpu.lapic.set_tsc_deadline(r.value(), cpu.now.saturating_add(r.value()));
            none(Step::Requests)
        }
        24..=27 => {
            cpu.port.post(r.next() as u8, r.one_in(2));
            none(Step::Requests)
        }
        28..=31 => {
            let next = cpu.lapic.next(&cpu.port);
            let taken = cpu.lapic.accept(&cpu.port);
            assert_eq!(taken.is_some(), matches!(next, Next::Ready(_)));
            none(Step::Accepts)
        }
        32..=33 => {
            pass(r, cpu);
            none(Step::Requests)
        }
        34 => {
            let pin = r.pick(&[Pin::Lint0, Pin::Lint1, Pin::Performance, Pin::Thermal]);
            let _ = cpu.lapic.signal(&cpu.port, pin);
            none(Step::Requests)
        }
        35 => set_up(r, cpu),
        _ if r.one_in(2) => {
            cpu.lapic.init(&cpu.port);
            cpu.is_loaded = false;
            (Step::Resets, Action::Reconfigured)
        }
        _ => none(load(r, cpu)),
    }
}

/// No request is lost, and nothing is in service that was not requested.
fn check_sets(step: &Step, before: &Sets, after: &Sets) {
    let highest = |set: &BTreeSet<u8>| set.last().copied();
    match step {
        Step::Resets => {}
        Step::Requests => {
            assert_eq!(after.in_service, before.in_service);
            assert!(after.requested.is_superset(&before.requested), "a request was lost");
        }
        Step::Accepts => {
            let taken: Vec<u8> = after.in_service.difference(&before.in_service).copied().collect();
            assert!(taken.len() <= 1 && after.in_service.is_superset(&before.in_service));
            let mut requested = before.requested.clone();
            if let Some(vector) = taken.first() {
                assert_eq!(requested.pop_last(), Some(*vector), "it was not the highest");
                assert!(highest(&before.in_service).is_none_or(|other| other >> 4 < vector >> 4));
            }
            assert_eq!(after.requested, requested);
        }
        Step::Ends => {
            let mut left = before.in_service.clone();
            left.pop_last();
            assert!(after.in_service == left || after.in_service == before.in_service);
            assert!(after.requested.is_superset(&before.requested));
        }
    }
}

fn check(cpu: &Cpu, sets: &Sets) {
    assert!(cpu.lapic.is_on() || !cpu.lapic.is_x2apic());
    assert_eq!(cpu.lapic.is_enabled(), cpu.port.is_enabled());
    let all = [&sets.requested, &sets.in_service, &cpu.vectors(TMR)];
    assert!(all.into_iter().flatten().all(|vector| *vector >= 16), "a vector that cannot be");
    let classes: BTreeSet<u8> = sets.in_service.iter().map(|vector| vector >> 4).collect();
    assert!(cpu.is_loaded || classes.len() == sets.in_service.len(), "two of one priority are in service");
    let highest = sets.in_service.last().map_or(0, |vector| vector >> 4);
    let tpr = cpu.register(TPR) as u8;
    let ppr = if tpr >> 4 >= highest { tpr } else { highest << 4 };
    assert_eq!(cpu.register(PPR), u32::from(ppr));
    let expected = match sets.requested.last().copied().filter(|_| cpu.lapic.is_enabled()) {
        Some(vector) if vector >> 4 > ppr >> 4 => Next::Ready(vector),
        Some(vector) if vector >> 4 > highest => Next::Held(vector),
        _ => Next::None,
    };
    assert_eq!(cpu.lapic.next(&cpu.port), expected);
    assert_eq!(cpu.port.has_work(), matches!(expected, Next::Ready(_)));
    assert!(cpu.register(CURRENT) <= cpu.register(INITIAL) || cpu.is_loaded);
    if cpu.register(SPURIOUS) & 0x100 == 0 {
        assert!((LVT_TIMER..=LVT_ERROR).step_by(16).all(|lvt| cpu.register(lvt) & MASKED != 0), "disabled, not masked");
    }
    if !cpu.lapic.is_x2apic() {
        assert_eq!(cpu.register(ICR) & 1 << 12, 0, "a command is never under way");
    }
}

/// A message reaches each vCPU once, and whoever is told of a vector has it requested.
fn send(cpus: &Cpus, who: usize, action: Action) -> u64 {
    let Action::Send(request) = action else { return 0 };
    let mut told = BTreeSet::new();
    deliver(cpus, &AtomicUsize::new(who), &request, |vcpu, event| {
        assert!(vcpu < cpus.0.len() && told.insert(vcpu), "vCPU {vcpu} is told twice, or is none");
        let vector = request.message.vector;
        assert!(event != Event::Interrupt || vector < 16 || cpus.0[vcpu].port.is_requested(vector));
    });
    told.len() as u64
}

/// What was saved is what is saved again after a load.
fn check_records(cpu: &Cpu) {
    let saved = cpu.lapic.save(&cpu.port, cpu.now);
    let (mut copy, port) = (cpu.lapic.clone(), Port::new());
    copy.reset(&port);
    copy.load(&port, &saved.0, &saved.1, cpu.now).expect("its own record");
    copy.set_tsc_deadline(saved.0.tdt_msr, u64::MAX);
    let again = copy.save(&port, cpu.now);
    assert_eq!(again.0, saved.0);
    let different = again.1.data.iter().zip(&saved.1.data).position(|(ours, theirs)| ours != theirs);
    assert_eq!(different, None, "offset in the registers");
    assert_eq!(copy.next(&port), cpu.lapic.next(&cpu.port));
}

pub fn case(r: &mut Random) -> u64 {
    let mut cpus = Cpus((0..3).map(|number| Cpu::new(number * 21)).collect());
    let mut reached = 0;
    for _ in 0..STEPS {
        let who = r.below(3) as usize;
        let before = cpus.0[who].sets();
        let (step, action) = step(r, &mut cpus.0[who]);
        let after = cpus.0[who].sets();
        check_sets(&step, &before, &after);
        reached += u64::from(after.in_service != before.in_service) + send(&cpus, who, action);
        check(&cpus.0[who], &cpus.0[who].sets());
    }
    cpus.0.iter().for_each(check_records);
    reached
}
