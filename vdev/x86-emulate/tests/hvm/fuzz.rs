//! Random code, registers and machines, in every mode: nothing panics, runs long, or wraps around; what stops has changed
//! nothing; and a device that answers later sees what one sees that answers at once.
//!
//! `XENOLITH_FUZZ_SECONDS` sets how long it runs (default 2); `XENOLITH_FUZZ_SEED` runs the one case that a failure named.

use crate::machine::{DEVICE, Machine, RIP, state};
use std::time::{Duration, Instant};
use x86_emulate::hvm::*;

/// Units in a batch.
const MOST: u64 = 20;
/// Cases that are made in any event.
const CASES: u64 = 2000;

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
    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
    /// Near the device, near a limit, or anywhere.
    fn value(&mut self) -> u64 {
        let near = [DEVICE, DEVICE + 0xff8, 0x8000, 0, 0xffff, 0xffff_ffff, 1 << 47, u64::MAX];
        match self.below(4) {
            0 => self.next(),
            1 => self.below(40),
            _ => self.pick(&near).wrapping_add(self.below(32)).wrapping_sub(16),
        }
    }
}

fn code(random: &mut Random) -> Vec<u8> {
    const STARTS: [&[u8]; 14] = [
        &[],
        &[],
        &[0x0f],
        &[0x0f],
        &[0x0f, 0x01],
        &[0x66],
        &[0x67],
        &[0xf3],
        &[0xf2],
        &[0xf0, 0x48],
        &[0x48],
        &[0x66, 0x0f],
        &[0xf3, 0x0f],
        &[0x65],
    ];
    let mut code = random.pick(&STARTS).to_vec();
    if random.one_in(3) {
        // Strings and what is near them.
        code.push(random.pick(&[0xa4, 0xa5, 0xa6, 0xa7, 0xaa, 0xab, 0xac, 0xae, 0xaf, 0x6c, 0x6d, 0x6e, 0x6f]));
    }
    code.extend((0..14).map(|_| random.next() as u8));
    code.truncate(15);
    code
}

fn case(seed: u64) -> (State, Machine) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    random.next();
    let size = random.pick(&[CodeSize::Bits16, CodeSize::Bits32, CodeSize::Bits64]);
    let mut state = state(size);
    state.general = std::array::from_fn(|_| random.value());
    if random.one_in(4) {
        let code = state.segments[1].attributes;
        state.segments = std::array::from_fn(|_| Segment {
            selector: random.next() as u16,
            attributes: random.next() as u16 | if random.one_in(2) { 0x93 } else { 0 },
            limit: random.value() as u32,
            base: random.value(),
        });
        state.segments[1] = Segment { attributes: code, limit: u32::MAX, ..Segment::default() };
    }
    state.flags |= random.next() & 0x3_7fd5;
    state.level = random.pick(&[0, 0, 3]);
    state.cr0 ^= random.next() & random.next() & 0xd;
    state.cr4 ^= random.next() & random.next() & 0x4_0a04;
    let mut machine = crate::machine::machine(&state, &code(&mut random));
    if random.one_in(8) {
        state.rip = random.value();
    }
    if random.one_in(3) {
        machine.takes = random.below(30);
    }
    machine.may_use_ports = random.one_in(2);
    machine.is_raced = random.one_in(20);
    machine.vectors = std::array::from_fn(|_| random.next().into());
    for _ in 0..random.below(4) {
        machine.absent.insert(random.value() & !0xfff);
        machine.read_only.insert(random.value() & !0xfff);
    }
    machine.absent.remove(&RIP);
    (state, machine)
}

/// Carries a case out with a device that answers at once.
fn quickly(seed: u64) -> (State, Machine, Result<Done>) {
    let (mut state, mut machine) = case(seed);
    let before = state;
    let result = emulate(&mut state, &mut machine, MOST);
    assert!(machine.calls <= 6 * MOST + 10, "{} calls, seed {seed}", machine.calls);
    let moved = state.rip.wrapping_sub(before.rip) & 0xffff;
    assert!(moved <= 15, "seed {seed}");
    match result {
        Ok(done) => assert_eq!(done.is_unfinished, moved == 0, "seed {seed}"),
        Err(_) if machine.commits == 0 => assert_eq!(state, before, "seed {seed}"),
        // A part of a string instruction is done: of its registers alone.
        Err(_) => {
            let mut general = state.general;
            (2..6).chain(8..16).for_each(|number| general[number] = before.general[number]);
            assert_eq!(state, State { general, flags: state.flags, ..before }, "seed {seed}");
        }
    }
    assert_eq!((state.segments, state.cr0, state.level), (before.segments, before.cr0, before.level));
    (state, machine, result)
}

/// The same with one that answers later.
fn slowly(seed: u64) -> (State, Machine, Result<Done>) {
    let (mut state, machine) = case(seed);
    let mut machine = Machine { is_slow: true, ..machine };
    let mut left = MOST;
    for _ in 0..1000 {
        machine.replay.begin();
        let count = state.general[1];
        let result = emulate(&mut state, &mut machine, left);
        if result != Err(Stop::Pending) {
            return (state, machine, result);
        }
        // The batch goes on: what was moved before the answer counts.
        left -= count.wrapping_sub(state.general[1]) & 0xffff;
        machine.settle();
    }
    panic!("no end, seed {seed}");
}

fn check(seed: u64) -> bool {
    let (state, machine, result) = quickly(seed);
    let (slow_state, slow_machine, slow_result) = slowly(seed);
    assert_eq!((slow_state, slow_result), (state, result), "seed {seed}");
    assert_eq!(slow_machine.seen, machine.seen, "seed {seed}");
    let same = Machine {
        is_slow: false,
        calls: machine.calls,
        commits: machine.commits,
        replay: machine.replay.clone(),
        bursts: machine.bursts.clone(),
        ..slow_machine
    };
    assert!(same == machine, "seed {seed}");
    let _ = intercepted(&case(seed).0, &machine.get(RIP, 15));
    result.is_ok() && !machine.seen.is_empty()
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

#[test]
fn random_code_does_no_harm() {
    if let Some(seed) = variable("XENOLITH_FUZZ_SEED") {
        check(seed);
        return;
    }
    let end = Instant::now() + Duration::from_secs(variable("XENOLITH_FUZZ_SECONDS").unwrap_or(2));
    let (mut seed, mut reached) = (0, 0);
    while seed < CASES || Instant::now() < end {
        reached += u64::from(check(seed));
        seed += 1;
    }
    assert!(reached > seed / 50, "a device was reached in {reached} of {seed} cases");
}
