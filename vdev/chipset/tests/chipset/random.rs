//! A guest that programs all of the devices at random, with devices that pull lines and time that passes: nothing panics, what is
//! read fits its size, no deadline is left behind, and what was saved can be loaded.
//!
//! `XENOLITH_FUZZ_SECONDS` sets how long it runs (default 2); `XENOLITH_FUZZ_SEED` runs the one guest that a failure named.

use crate::machine::{HPET, IOAPIC, Machine};
use chipset::{Bus, Chipset, MissedTicks, Rules, Taken, WallTime};
use std::time::{Duration, Instant};
use vtimer::all_ones;
use x86_defs::apic::InterruptMessage;
use xen_abi::hvm_save::clocks::HVM_SAVE_CODE_PMTIMER;
use xen_abi::hvm_save::interrupts::HVM_SAVE_CODE_PIC;

/// Guests that are made in any event.
const GUESTS: u64 = 200;
/// What each of them does.
const STEPS: u64 = 400;
/// Most messages that one access or tick can have sent.
const MOST_MESSAGES: usize = 100;
const PORTS: [u16; 8] = [0x20, 0xa0, 0x40, 0x61, 0x70, 0x4d0, 0x1f40, 0xb000];

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d).rotate_left(29)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn one_in(&mut self, limit: u64) -> bool {
        self.below(limit) == 0
    }

    /// Mostly small, or a bit, or anything.
    fn value(&mut self) -> u64 {
        match self.below(4) {
            0 => self.next(),
            1 => 1 << self.below(64),
            _ => self.below(256),
        }
    }

    fn mode(&mut self) -> MissedTicks {
        MissedTicks::try_from(self.below(4)).unwrap()
    }
}

/// Counts what it is told.
#[derive(Default)]
struct Counter(usize);

impl Bus for Counter {
    fn send(&mut self, _: InterruptMessage) {
        self.0 += 1;
    }

    fn pic_rose(&mut self) {
        self.0 += 1;
    }
}

fn access_port(r: &mut Random, chips: &mut Chipset, time: u64, bus: &mut Counter) {
    let first = if r.one_in(10) { r.next() as u16 } else { PORTS[r.below(8) as usize] };
    let (port, size) = (first.wrapping_add(r.below(12) as u16), if r.one_in(8) { 4 } else { 1 });
    let write = (!r.one_in(3)).then(|| r.value() as u32);
    let answer = chips.port(port, size, write, time, bus);
    if let (Some(answer), None) = (answer, write) {
        assert_eq!(u64::from(answer) & !all_ones(size), 0, "port {port:#x}");
    }
}

fn access_memory(r: &mut Random, chips: &mut Chipset, time: u64, bus: &mut Counter) {
    let gpa = match r.below(3) {
        0 => IOAPIC + r.below(2) * 16 + if r.one_in(8) { r.below(300) } else { 0 },
        1 => HPET + r.below(0x30) * 8 + if r.one_in(8) { r.below(9) } else { 0 },
        _ => r.value().wrapping_sub(4),
    };
    let size = [1, 2, 4, 4, 8][r.below(5) as usize];
    let write = (!r.one_in(3)).then(|| r.value());
    let answer = chips.memory(gpa, size, write, time, bus);
    if let (Some(answer), None) = (answer, write) {
        assert_eq!(answer & !all_ones(size), 0, "address {gpa:#x}");
    }
}

fn pull(r: &mut Random, chips: &mut Chipset, bus: &mut Counter) {
    let (a, b) = (r.below(40) as u8, r.below(20) as u8);
    let virq = chips.virq_mut();
    match r.below(7) {
        0 => virq.assert_pci(a, b & 7, bus),
        1 => virq.deassert_pci(a, b & 7, bus),
        2 => virq.assert_isa(b, bus),
        3 => virq.deassert_isa(b, bus),
        4 => virq.eoi(r.next() as u8, bus),
        5 => drop(virq.acknowledge_pic()),
        _ => drop(virq.set_link_route(b & 7, a, bus)),
    }
}

/// Saves all and loads it elsewhere; or random bytes.
fn reload(r: &mut Random, chips: &mut Chipset, time: u64, bus: &mut Counter) {
    if r.one_in(2) {
        let bytes: Vec<u8> = (0..r.below(1200)).map(|_| r.next() as u8).collect();
        let codes = u64::from(HVM_SAVE_CODE_PMTIMER - HVM_SAVE_CODE_PIC) + 2;
        let code = HVM_SAVE_CODE_PIC + r.below(codes) as u16;
        // What is refused has changed nothing that matters.
        let _ = chips.load(code, r.below(3) as u16, &bytes, time, bus);
        return;
    }
    let mut records = Vec::new();
    let put = |code, instance, bytes: &[u8]| {
        records.push((code, instance, bytes.to_vec()));
        Ok(())
    };
    chips.save(time, put).unwrap();
    let wall = WallTime { seconds: r.next() as i64 >> 20, nanos: r.below(1_000_000_000) as u32 };
    let mut other = Chipset::new(time, wall, Rules { missed: r.mode(), align: r.one_in(2) });
    for (code, instance, bytes) in records {
        assert_eq!(other.load(code, instance, &bytes, time, bus), Ok(()), "record {code}");
    }
    *chips = other;
}

fn step(r: &mut Random, chips: &mut Chipset, time: &mut u64, bus: &mut Counter) {
    match r.below(20) {
        0..=7 => access_port(r, chips, *time, bus),
        8..=13 => access_memory(r, chips, *time, bus),
        14 => pull(r, chips, bus),
        15 => {
            let vector = r.next() as u8;
            chips.delivered(if r.one_in(2) { Taken::Pic(vector) } else { Taken::Apic(vector) }, *time, bus);
        }
        16 => chips.renew(r.one_in(2), bus),
        17 if r.one_in(8) => reload(r, chips, *time, bus),
        17 if r.one_in(2) => chips.power_button(*time, bus),
        17 => chips.set_rules(Rules { missed: r.mode(), align: r.one_in(2) }),
        _ => {
            *time += if r.one_in(50) { r.next() >> 8 } else { r.below(200_000_000) };
            chips.tick(*time, bus);
            let next = chips.next_deadline(*time);
            assert!(next.is_none_or(|at| at > *time), "{next:?} at {time}");
        }
    }
}

fn guest(seed: u64) -> usize {
    let mut r = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut m = Machine::new(r.mode());
    m.chips.enable_hpet(!r.one_in(4));
    let mut messages = 0;
    for _ in 0..STEPS {
        let mut bus = Counter::default();
        step(&mut r, &mut m.chips, &mut m.time, &mut bus);
        assert!(bus.0 <= MOST_MESSAGES, "{} messages", bus.0);
        messages += bus.0;
    }
    messages
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

#[test]
fn random_guest_does_no_harm() {
    if let Some(seed) = variable("XENOLITH_FUZZ_SEED") {
        guest(seed);
        return;
    }
    let end = Instant::now() + Duration::from_secs(variable("XENOLITH_FUZZ_SECONDS").unwrap_or(2));
    let (mut seed, mut messages) = (0, 0);
    while seed < GUESTS || Instant::now() < end {
        let result = std::panic::catch_unwind(|| guest(seed));
        messages += result.unwrap_or_else(|_| panic!("XENOLITH_FUZZ_SEED={seed}"));
        seed += 1;
    }
    assert!(messages as u64 > seed, "{messages} messages in {seed} guests");
}
