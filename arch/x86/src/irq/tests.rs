use super::line::{Controller, Own, User};
use super::lines::{Arrival, Lines, Namer};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Mutex;
use types::{CpuId, DomId, Errno, Result};
use x86_defs::apic::{Polarity, Trigger};

const PINS: u32 = 24;
const LINES: u32 = 40;
const EDGE: (Trigger, Polarity) = (Trigger::Edge, Polarity::ActiveHigh);
const LEVEL: (Trigger, Polarity) = (Trigger::Level, Polarity::ActiveLow);
const DOM0: DomId = DomId(0);
const OTHER: DomId = DomId(5);

/// What a pin or a message is set to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Setting {
    to: (CpuId, u8),
    mode: (Trigger, Polarity),
    masked: bool,
}

#[derive(Default)]
struct State {
    pins: BTreeMap<u32, Setting>,
    messages: BTreeMap<u32, Setting>,
    ended: u32,
    ended_pins: Vec<u32>,
    broken: bool,
}

/// A machine whose pins below 16 are edge, the others level; pin 20 is missing.
#[derive(Default)]
struct Fake(Mutex<State>);

impl Controller for Fake {
    type Message = u32;

    fn has_pin(&self, gsi: u32) -> bool {
        gsi < PINS && gsi != 20
    }

    fn default_mode(&self, gsi: u32) -> (Trigger, Polarity) {
        if gsi < 16 { EDGE } else { LEVEL }
    }

    fn route(&self, gsi: u32, to: (CpuId, u8), mode: (Trigger, Polarity), masked: bool) -> Result<()> {
        assert!(self.has_pin(gsi));
        self.0.lock().unwrap().pins.insert(gsi, Setting { to, mode, masked });
        Ok(())
    }

    fn mask_pin(&self, gsi: u32, masked: bool) {
        if let Some(pin) = self.0.lock().unwrap().pins.get_mut(&gsi) {
            pin.masked = masked;
        }
    }

    fn end_pin(&self, gsi: u32) {
        self.0.lock().unwrap().ended_pins.push(gsi);
    }

    fn program(&self, message: &u32, to: (CpuId, u8), masked: bool) -> Result<()> {
        let mut state = self.0.lock().unwrap();
        if state.broken {
            return Err(Errno::NXIO);
        }
        state.messages.insert(*message, Setting { to, mode: EDGE, masked });
        Ok(())
    }

    fn mask_message(&self, message: &u32, masked: bool) {
        if let Some(message) = self.0.lock().unwrap().messages.get_mut(message) {
            message.masked = masked;
        }
    }

    fn end(&self) {
        self.0.lock().unwrap().ended += 1;
    }
}

/// The control domain, which can name all lines.
const NAMER: Namer = Namer { domain: DOM0, limit: LINES };

fn lines() -> Lines<Fake> {
    Lines::new(Fake::default(), PINS, LINES, 2)
}

fn pin(lines: &Lines<Fake>, gsi: u32) -> Setting {
    lines.controller().0.lock().unwrap().pins[&gsi]
}

fn message(lines: &Lines<Fake>, number: u32) -> Setting {
    lines.controller().0.lock().unwrap().messages[&number]
}

fn ended(lines: &Lines<Fake>) -> u32 {
    lines.controller().0.lock().unwrap().ended
}

/// Lets the device at a setting interrupt.
fn fire(lines: &Lines<Fake>, setting: Setting) -> Arrival {
    lines.arrived(setting.to.0, setting.to.1)
}

#[test]
fn an_edge_interrupt_is_over_at_once() {
    let lines = lines();
    lines.name_pin(4, DOM0, 4).unwrap();
    assert_eq!(lines.bind(DOM0, 4, CpuId(1)), Ok(false));
    let setting = pin(&lines, 4);
    assert_eq!((setting.to.0, setting.mode, setting.masked), (CpuId(1), EDGE, false));
    for round in 1..3 {
        assert_eq!(fire(&lines, setting), Arrival::Guest { domain: DOM0, pirq: 4 });
        assert_eq!((ended(&lines), pin(&lines, 4).masked), (round, false));
    }
    assert_eq!(lines.needs_done(DOM0, 4), Ok(false));
    assert_eq!(lines.done(DOM0, 4), Ok(()));
}

#[test]
fn a_level_interrupt_is_masked_until_the_guest_is_done() {
    let lines = lines();
    lines.name_pin(17, DOM0, 17).unwrap();
    assert_eq!(lines.bind(DOM0, 17, CpuId(0)), Ok(true));
    assert_eq!(fire(&lines, pin(&lines, 17)), Arrival::Guest { domain: DOM0, pirq: 17 });
    assert!(pin(&lines, 17).masked && ended(&lines) == 1);
    assert_eq!(lines.done(OTHER, 17), Err(Errno::INVAL));
    assert!(pin(&lines, 17).masked);
    assert_eq!(lines.done(DOM0, 17), Ok(()));
    assert!(!pin(&lines, 17).masked);
}

#[test]
fn ends_after_closing_change_nothing() {
    let lines = lines();
    lines.name_pin(17, DOM0, 17).unwrap();
    lines.bind(DOM0, 17, CpuId(0)).unwrap();
    fire(&lines, pin(&lines, 17));
    lines.unbind(OTHER, 17);
    lines.unbind(DOM0, 17);
    lines.done(DOM0, 17).unwrap();
    assert!(pin(&lines, 17).masked);
    assert_eq!(fire(&lines, pin(&lines, 17)), Arrival::Nobody);
    assert_eq!(lines.bind(DOM0, 17, CpuId(0)), Ok(true));
    assert!(!pin(&lines, 17).masked);
}

#[test]
fn setting_up_comes_once_and_before_use() {
    let lines = lines();
    assert_eq!(lines.set_up(9, LEVEL.0, LEVEL.1), Ok(()));
    assert_eq!(lines.set_up(9, EDGE.0, EDGE.1), Err(Errno::EXIST));
    for none in [20, 24, 39, 40] {
        assert_eq!(lines.set_up(none, EDGE.0, EDGE.1), Err(Errno::INVAL));
        assert_eq!(lines.name_pin(none, DOM0, none), Err(Errno::INVAL));
    }
    lines.name_pin(9, DOM0, 9).unwrap();
    assert_eq!(lines.bind(DOM0, 9, CpuId(0)), Ok(true));
    assert_eq!(pin(&lines, 9).mode, LEVEL);
    lines.name_pin(8, DOM0, 8).unwrap();
    lines.bind(DOM0, 8, CpuId(0)).unwrap();
    assert_eq!(lines.set_up(8, LEVEL.0, LEVEL.1), Err(Errno::EXIST));
}

#[test]
fn one_user_at_a_time() {
    let lines = lines();
    lines.take(4, EDGE, CpuId(0), Own(3)).unwrap();
    lines.name_pin(4, DOM0, 4).unwrap();
    assert_eq!(lines.bind(DOM0, 4, CpuId(0)), Err(Errno::BUSY));
    assert_eq!(fire(&lines, pin(&lines, 4)), Arrival::Own(Own(3)));
    lines.name_pin(5, DOM0, 5).unwrap();
    lines.name_pin(5, OTHER, 30).unwrap();
    assert_eq!(lines.bind(OTHER, 30, CpuId(0)), Ok(false));
    assert_eq!(lines.bind(DOM0, 5, CpuId(0)), Err(Errno::BUSY));
    assert_eq!(fire(&lines, pin(&lines, 5)), Arrival::Guest { domain: OTHER, pirq: 30 });
    lines.remove_domain(OTHER);
    assert!(pin(&lines, 5).masked);
    assert_eq!(lines.bind(DOM0, 5, CpuId(0)), Ok(false));
    assert_eq!(lines.take(5, EDGE, CpuId(0), Own(0)), Err(Errno::BUSY));
    assert_eq!(lines.bind(DOM0, 6, CpuId(0)), Err(Errno::INVAL));
}

#[test]
fn messages_have_numbers_from_the_top() {
    let lines = lines();
    let (first, name) = lines.add_messages(NAMER, CpuId(1), 1, |index| 100 + index).unwrap();
    assert_eq!((first, name), (LINES - 1, LINES - 1));
    assert!(message(&lines, 100).masked);
    assert_eq!(lines.bind(DOM0, first, CpuId(0)), Ok(false));
    assert!(!message(&lines, 100).masked);
    assert_eq!(fire(&lines, message(&lines, 100)), Arrival::Guest { domain: DOM0, pirq: first });
    let setting = message(&lines, 100);
    assert_eq!(lines.remove_name(DOM0, first), Ok(()));
    assert!(message(&lines, 100).masked && lines.summary(first).is_none());
    assert_eq!(fire(&lines, setting), Arrival::Nobody);
    assert_eq!(lines.remove_name(DOM0, first), Err(Errno::INVAL));
    assert_eq!(lines.add_messages(NAMER, CpuId(1), 1, |_| 101), Ok((first, first)));
}

#[test]
fn blocks_of_messages_have_vectors_in_a_row() {
    let lines = lines();
    let (first, _) = lines.add_messages(NAMER, CpuId(0), 4, |index| index).unwrap();
    let (cpu, vector) = message(&lines, 0).to;
    assert_eq!(vector % 4, 0);
    for index in 0..4 {
        lines.bind(DOM0, first + index, CpuId(1)).unwrap();
        let arrival = Arrival::Guest { domain: DOM0, pirq: first + index };
        assert_eq!(lines.arrived(cpu, vector + index as u8), arrival);
    }
    lines.move_to(DOM0, first, CpuId(1));
    assert_eq!(message(&lines, 0).to, (cpu, vector));
    assert_eq!(lines.add_messages(NAMER, CpuId(0), 32, |index| 50 + index), Err(Errno::NOSPC));
}

#[test]
fn a_guest_has_numbers_below_its_limit() {
    let lines = lines();
    let guest = Namer { domain: OTHER, limit: 30 };
    assert_eq!(lines.reserve(OTHER, 30, false), Ok(29));
    let (first, name) = lines.add_messages(guest, CpuId(0), 4, |index| index).unwrap();
    assert_eq!((first, name), (LINES - 4, 25));
    for index in 0..4 {
        assert_eq!(lines.number_of(OTHER, name + index), Some(first + index));
    }
    lines.bind(OTHER, 26, CpuId(0)).unwrap();
    let (cpu, vector) = message(&lines, 0).to;
    assert_eq!(lines.arrived(cpu, vector + 1), Arrival::Guest { domain: OTHER, pirq: 26 });
    assert_eq!(lines.add_messages(guest, CpuId(0), 2, |index| 10 + index), Err(Errno::NOSPC));
    lines.remove_name(OTHER, 26).unwrap();
    assert_eq!(lines.reserve(OTHER, 30, false), Ok(26));
    assert_eq!(lines.reserve(OTHER, 30, false), Ok(24));
    assert_eq!(lines.reserve(OTHER, 30, false), Err(Errno::NOSPC));
}

#[test]
fn numbers_put_aside_are_nobody_elses() {
    let lines = lines();
    lines.name_pin(17, DOM0, 16).unwrap();
    assert_eq!(lines.reserve(DOM0, LINES, true), Ok(17));
    assert_eq!(lines.reserve(OTHER, 30, true), Ok(16));
    assert_eq!(lines.reserve(DOM0, LINES, false), Ok(LINES - 1));
    let (first, name) = lines.add_messages(NAMER, CpuId(0), 1, |_| 7).unwrap();
    assert_eq!((first, name), (LINES - 1, LINES - 2));
    lines.name_pin(18, DOM0, 17).unwrap();
    lines.remove_name(DOM0, 17).unwrap();
    assert_eq!(lines.reserve(DOM0, LINES, true), Ok(17), "once used it is as any other");
    lines.remove_domain(DOM0);
    assert_eq!(lines.reserve(DOM0, LINES, true), Ok(16));
    assert_eq!(lines.reserve(OTHER, 30, true), Ok(17));
}

#[test]
fn a_device_that_does_not_answer_leaves_nothing_behind() {
    let lines = lines();
    lines.controller().0.lock().unwrap().broken = true;
    for _ in 0..400 {
        assert_eq!(lines.add_messages(NAMER, CpuId(0), 4, |index| index), Err(Errno::NXIO));
    }
    lines.controller().0.lock().unwrap().broken = false;
    assert_eq!(lines.add_messages(NAMER, CpuId(0), 4, |index| index), Ok((LINES - 4, LINES - 4)));
}

#[test]
fn what_is_under_way_to_the_old_place_arrives() {
    let lines = lines();
    lines.name_pin(17, DOM0, 17).unwrap();
    lines.bind(DOM0, 17, CpuId(0)).unwrap();
    let old = pin(&lines, 17);
    lines.move_to(DOM0, 17, CpuId(1));
    let new = pin(&lines, 17);
    assert_eq!((new.to.0, new.masked), (CpuId(1), false));
    let arrival = Arrival::Guest { domain: DOM0, pirq: 17 };
    assert_eq!(fire(&lines, old), arrival);
    assert_eq!(lines.controller().0.lock().unwrap().ended_pins, [17]);
    lines.move_to(DOM0, 17, CpuId(0));
    assert!(pin(&lines, 17).masked, "the guest is not done");
    lines.done(DOM0, 17).unwrap();
    assert_eq!(fire(&lines, pin(&lines, 17)), arrival);
    assert_eq!(fire(&lines, old), Arrival::Nobody);
}

#[derive(Clone, Debug)]
enum Step {
    Name(u32, bool),
    Unname(u32, bool),
    Bind(u32, bool, u32),
    Unbind(u32, bool),
    Done(u32, bool),
    Move(u32, bool, u32),
    Message(bool, u32),
    Fire(u32, u8),
}

fn step() -> impl Strategy<Value = Step> {
    let line = 0..LINES + 2;
    prop_oneof![
        (line.clone(), any::<bool>()).prop_map(|(line, dom0)| Step::Name(line, dom0)),
        (line.clone(), any::<bool>()).prop_map(|(line, dom0)| Step::Unname(line, dom0)),
        (line.clone(), any::<bool>(), 0..3u32).prop_map(|(line, dom0, cpu)| Step::Bind(line, dom0, cpu)),
        (line.clone(), any::<bool>()).prop_map(|(line, dom0)| Step::Unbind(line, dom0)),
        (line.clone(), any::<bool>()).prop_map(|(line, dom0)| Step::Done(line, dom0)),
        (line, any::<bool>(), 0..3u32).prop_map(|(line, dom0, cpu)| Step::Move(line, dom0, cpu)),
        (any::<bool>(), 0..3u32).prop_map(|(dom0, count)| Step::Message(dom0, 1 << count)),
        (0..2u32, 0x20..0xe0u8).prop_map(|(cpu, vector)| Step::Fire(cpu, vector)),
    ]
}

/// Takes a step; whether it is refused is of no interest.
fn take_step(lines: &Lines<Fake>, next: &mut u32, step: Step) {
    let domain = |dom0| if dom0 { DOM0 } else { OTHER };
    match step {
        Step::Name(line, dom0) => {
            let _ = lines.name_pin(line, domain(dom0), line);
        }
        Step::Unname(line, dom0) => {
            let _ = lines.remove_name(domain(dom0), line);
        }
        Step::Bind(line, dom0, cpu) => {
            let _ = lines.bind(domain(dom0), line, CpuId(cpu));
        }
        Step::Unbind(line, dom0) => lines.unbind(domain(dom0), line),
        Step::Done(line, dom0) => {
            let _ = lines.done(domain(dom0), line);
        }
        Step::Move(line, dom0, cpu) => lines.move_to(domain(dom0), line, CpuId(cpu)),
        Step::Message(dom0, count) => {
            let base = *next;
            *next += count;
            let namer = Namer { domain: domain(dom0), limit: LINES };
            let _ = lines.add_messages(namer, CpuId(0), count, |index| base + index);
        }
        Step::Fire(cpu, vector) => {
            let _ = lines.arrived(CpuId(cpu), vector);
        }
    }
}

proptest! {
    /// Whatever guests do: no two lines share a vector, a pin is open only while it is used and not waiting, and what its
    /// device sends reaches its user.
    #[test]
    fn lines_stay_apart(steps in proptest::collection::vec(step(), 1..120)) {
        let lines = lines();
        let mut next = 1000;
        for step in steps {
            take_step(&lines, &mut next, step);
            let mut seen = std::collections::BTreeSet::new();
            for number in 0..LINES {
                let Some(line) = lines.summary(number) else { continue };
                if let Some(vector) = line.vector {
                    prop_assert!(seen.insert(vector));
                    if line.is_pin {
                        let setting = pin(&lines, number);
                        prop_assert_eq!(setting.to, vector);
                        prop_assert_eq!(setting.masked, line.user == User::None || line.waits);
                    }
                }
            }
        }
        for number in 0..LINES {
            let Some(line) = lines.summary(number) else { continue };
            if let (Some((cpu, vector)), User::Guest { domain, pirq }) = (line.vector, line.user) {
                prop_assert_eq!(lines.arrived(cpu, vector), Arrival::Guest { domain, pirq });
            }
        }
    }
}
