//! All of the mainboard, with a vCPU that takes interrupts: nothing panics, no access sends many messages, clocks go on, no deadline
//! is left behind, no tick is forgotten, and what was saved can be loaded.

use crate::{rules, size};
use chipset::{Bus, Chipset, Taken, WallTime};
use fuzz::Random;
use std::collections::BTreeSet;
use vtimer::all_ones;
use x86_defs::apic::InterruptMessage;
use xen_abi::hvm_save::clocks::HVM_SAVE_CODE_PMTIMER;
use xen_abi::hvm_save::interrupts::HVM_SAVE_CODE_PIC;

const IOAPIC: u64 = 0xfec0_0000;
const HPET: u64 = 0xfed0_0000;
const STEPS: u64 = 300;
/// Most messages that one access or tick can have sent.
const MOST_MESSAGES: usize = 100;
const PORTS: [u16; 8] = [0x20, 0xa0, 0x40, 0x61, 0x70, 0x4d0, 0x1f40, 0xb000];

/// What the devices sent: vectors that are requested at a local APIC.
#[derive(Default)]
struct Apic {
    requested: BTreeSet<u8>,
    told: usize,
}

impl Bus for Apic {
    fn send(&mut self, message: InterruptMessage) {
        self.requested.insert(message.vector);
        self.told += 1;
    }

    fn pic_rose(&mut self) {
        self.told += 1;
    }
}

struct Machine {
    chips: Chipset,
    apic: Apic,
    time: u64,
    /// What the HPET's counter was, and when, if nobody has touched it since.
    counter: Option<(u64, u64)>,
    /// And the ACPI timer's.
    count: Option<(u32, u64)>,
}

impl Machine {
    fn new(r: &mut Random, time: u64) -> Machine {
        let wall = WallTime { seconds: r.next() as i64 >> 20, nanos: r.below(1_000_000_000) as u32 };
        let rules = rules(r);
        let mut m =
            Machine { chips: Chipset::new(time, wall, rules), apic: Apic::default(), time, counter: None, count: None };
        m.chips.enable_hpet(!r.one_in(4));
        m
    }

    fn port(&mut self, port: u16, size: u8, write: Option<u32>) -> Option<u32> {
        self.chips.port(port, size, write, self.time, &mut self.apic)
    }

    fn memory(&mut self, gpa: u64, size: u8, write: Option<u64>) -> Option<u64> {
        self.chips.memory(gpa, size, write, self.time, &mut self.apic)
    }

    fn out(&mut self, port: u16, value: u32) {
        self.port(port, 1, Some(value));
    }

    fn store(&mut self, gpa: u64, value: u64) {
        self.memory(gpa, 8, Some(value));
    }

    fn access_port(&mut self, r: &mut Random) {
        let first = if r.one_in(10) { r.next() as u16 } else { r.pick(&PORTS) };
        let (port, size) = (first.wrapping_add(r.below(12) as u16), size(r, &[1, 1, 1, 1, 1, 2, 4]));
        let write = (!r.one_in(3)).then(|| r.value() as u32);
        let answer = self.port(port, size, write);
        assert!(!matches!(size, 1) || !chipset::owns_port(port) || answer.is_some() || matches!(port, 0x70 | 0x71));
        if let (Some(answer), None) = (answer, write) {
            assert_eq!(u64::from(answer) & !all_ones(size), 0, "port {port:#x}");
        }
    }

    fn access_memory(&mut self, r: &mut Random) {
        let gpa = match r.below(3) {
            0 => IOAPIC + r.below(2) * 16 + if r.one_in(8) { r.below(300) } else { 0 },
            1 => HPET + r.below(0x30) * 8 + if r.one_in(8) { r.below(9) } else { 0 },
            _ => r.value().wrapping_sub(4),
        };
        let size = size(r, &[1, 2, 4, 4, 8]);
        let write = (!r.one_in(3)).then(|| r.value());
        if write.is_some() {
            self.counter = None;
        }
        let answer = self.memory(gpa, size, write);
        assert_eq!(answer.is_some(), chipset::owns_address(gpa), "address {gpa:#x}");
        if let (Some(answer), None) = (answer, write) {
            assert_eq!(answer & !all_ones(size), 0, "address {gpa:#x}");
        }
    }

    /// Sets up the controllers and a clock, as guests do: at random none of it would come about.
    fn set_up(&mut self, r: &mut Random) {
        for (port, base, wiring) in [(0x20, 0x30, 4), (0xa0, 0x38, 2)] {
            let mask = r.next() as u32 & 0xff & r.next() as u32;
            self.out(port, 0x11);
            [base, wiring, 1, mask].into_iter().for_each(|value| self.out(port + 1, value));
        }
        for pin in [2, 8, 9, 20 + r.below(4)] {
            let flags = if r.one_in(2) { 1 << 15 } else { 0 } | if r.one_in(4) { 1 << 16 } else { 0 };
            for (index, value) in [(0x11 + 2 * pin, 0), (0x10 + 2 * pin, (0x50 + pin) | flags)] {
                self.store(IOAPIC, index);
                self.store(IOAPIC + 0x10, value);
            }
        }
        match r.below(3) {
            0 => {
                let low = r.next() as u32 & 0xff;
                [(0x43, 0x34), (0x40, low), (0x40, 0x12)].into_iter().for_each(|(port, value)| self.out(port, value));
            }
            1 => [(0x70, 11), (0x71, 0x42), (0x70, 12)].into_iter().for_each(|(port, value)| self.out(port, value)),
            _ => {
                self.counter = None;
                let settings = [(0x100, 0x4c | r.below(2) << 1 | r.below(4) << 9), (0x108, 0), (0x108, 100_000)];
                settings.into_iter().for_each(|(at, value)| self.store(HPET + at, value));
                self.store(HPET + 0x10, 1 | r.below(2) << 1);
            }
        }
    }

    fn pull(&mut self, r: &mut Random) {
        let (a, b) = (r.below(40) as u8, r.below(20) as u8);
        let (virq, bus) = (self.chips.virq_mut(), &mut self.apic);
        match r.below(7) {
            0 => virq.assert_pci(a, b & 7, bus),
            1 => virq.deassert_pci(a, b & 7, bus),
            2 => virq.assert_isa(b, bus),
            3 => virq.deassert_isa(b, bus),
            4 => virq.eoi(r.next() as u8, bus),
            5 => _ = virq.acknowledge_pic(),
            _ => _ = virq.set_link_route(b & 7, a, bus),
        }
    }

    /// The vCPU takes an interrupt, and ends it.
    fn take(&mut self, r: &mut Random) -> u64 {
        let takes_pic = r.one_in(2);
        if self.chips.awaits_delivery() {
            self.chips.renew(takes_pic, &mut self.apic);
        }
        let pic = if takes_pic { self.chips.virq_mut().acknowledge_pic() } else { None };
        let taken = pic.map(Taken::Pic).or_else(|| self.apic.requested.pop_last().map(Taken::Apic));
        let Some(taken) = taken else { return 0 };
        self.chips.delivered(taken, self.time, &mut self.apic);
        match taken {
            Taken::Pic(_) => [0xa0, 0x20].into_iter().for_each(|port| self.out(port, 0x20)),
            Taken::Apic(vector) => self.chips.virq_mut().eoi(vector, &mut self.apic),
        }
        1
    }

    fn pass(&mut self, r: &mut Random) {
        let far = if r.one_in(50) { r.next() >> 12 } else { r.below(200_000_000) };
        // On time, or late.
        let next = self.chips.next_deadline(self.time).filter(|_| r.one_in(2));
        self.time = next.unwrap_or(self.time + far).max(self.time).min(1 << 62);
        self.chips.tick(self.time, &mut self.apic);
        let next = self.chips.next_deadline(self.time);
        assert!(next.is_none_or(|at| at > self.time), "{next:?} at {}", self.time);
    }

    /// Counters that a guest measures time by never go back, and reading them moves nothing.
    fn check_clocks(&mut self) {
        if let Some(value) = self.memory(HPET + 0xf0, 8, None) {
            let is_on = self.memory(HPET + 0x10, 8, None) == Some(1);
            let earlier = self.counter.replace((value, self.time)).filter(|_| is_on);
            assert!(
                earlier.is_none_or(|(before, _)| value.wrapping_sub(before) as i64 >= 0),
                "{earlier:?}, then {value}"
            );
        }
        let count = [0x1f48, 0xb008].into_iter().find_map(|port| self.port(port, 4, None));
        if let Some(count) = count {
            let earlier = self.count.replace((count, self.time));
            let passed = |since: u64| (self.time - since) / 280;
            let is_near = |(_, since): &(u32, u64)| passed(*since) < 1 << 30;
            let back = earlier.filter(is_near).filter(|(before, _)| (count.wrapping_sub(*before) as i32) < 0);
            assert!(back.is_none(), "{back:?}, then {count} at {}", self.time);
        }
        for (port, size) in
            [(0x40, 1), (0x41, 1), (0x42, 1), (0x61, 1), (0x21, 1), (0xa1, 1), (0x71, 1), (0x1f48, 4), (0xb008, 4)]
        {
            let (mut quiet, told) = (self.chips.clone(), self.apic.told);
            let deadline = self.chips.next_deadline(self.time);
            let value = quiet.read_quietly(port, size, self.time);
            assert!(value.is_some() || !(0x40..0x62).contains(&port), "a counter of the interval timer is not read so");
            if value.is_none() {
                continue;
            }
            assert_eq!((self.port(port, size, None), self.chips.next_deadline(self.time)), (value, deadline));
            assert_eq!(quiet.next_deadline(self.time), deadline);
            assert_eq!(self.apic.told, told, "a read of {port:#x} interrupts");
        }
    }

    /// Saves all and loads it elsewhere; or random bytes.
    fn reload(&mut self, r: &mut Random) {
        (self.counter, self.count) = (None, None);
        if r.one_in(2) {
            let bytes: Vec<u8> = (0..r.below(1200)).map(|_| r.next() as u8).collect();
            let code = HVM_SAVE_CODE_PIC + r.below(u64::from(HVM_SAVE_CODE_PMTIMER - HVM_SAVE_CODE_PIC) + 2) as u16;
            // What is refused has changed nothing that matters.
            let _ = self.chips.load(code, r.below(3) as u16, &bytes, self.time, &mut self.apic);
            return;
        }
        let records = records(&mut self.chips, self.time);
        let mut other = Machine::new(r, self.time);
        for (code, instance, bytes) in &records {
            let loaded = other.chips.load(*code, *instance, bytes, self.time, &mut other.apic);
            assert_eq!(loaded, Ok(()), "record {code}");
        }
        self.chips = other.chips;
        self.apic.requested.extend(other.apic.requested);
    }
}

type Record = (u16, u16, Vec<u8>);

fn records(chips: &mut Chipset, time: u64) -> Vec<Record> {
    let mut records = Vec::new();
    let put = |code, instance, bytes: &[u8]| {
        records.push((code, instance, bytes.to_vec()));
        Ok(())
    };
    chips.save(time, put).expect("there is room");
    records
}

fn step(r: &mut Random, m: &mut Machine) -> u64 {
    match r.below(32) {
        0..=8 => m.access_port(r),
        9..=15 => m.access_memory(r),
        16 => m.set_up(r),
        17 => m.pull(r),
        18 => {
            let vector = r.next() as u8;
            let taken = if r.one_in(2) { Taken::Pic(vector) } else { Taken::Apic(vector) };
            m.chips.delivered(taken, m.time, &mut m.apic);
        }
        19 if r.one_in(8) => m.reload(r),
        19 if r.one_in(8) => {
            m.chips.reset(m.time, &mut m.apic);
            (m.counter, m.count) = (None, None);
        }
        19 if r.one_in(2) => m.chips.power_button(m.time, &mut m.apic),
        19 => m.chips.set_rules(rules(r)),
        20..=23 => return m.take(r),
        24 => m.check_clocks(),
        _ => m.pass(r),
    }
    0
}

pub fn case(r: &mut Random) -> u64 {
    let time = r.below(1 << 40);
    let mut m = Machine::new(r, time);
    m.set_up(r);
    let mut taken = 0;
    for _ in 0..STEPS {
        m.apic.told = 0;
        taken += step(r, &mut m);
        assert!(m.apic.told <= MOST_MESSAGES, "{} messages", m.apic.told);
    }
    taken
}
