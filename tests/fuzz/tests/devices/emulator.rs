//! Random code, registers and machines, in every mode: nothing panics, runs long, or wraps around; what stops has changed nothing; a
//! device that answers later sees what one sees that answers at once; and plain moves are what they were taken for.

use crate::machine::{DEVICE, Machine, RIP, state};
use fuzz::Random;
use x86_emulate::hvm::*;

/// Units in a batch.
const MOST: u64 = 20;
/// Instructions in a case of the fuzzer.
const STEPS: u64 = 60;

/// Near the device, near a limit, or anywhere.
fn value(random: &mut Random) -> u64 {
    let near = [DEVICE, DEVICE + 0xff8, 0x8000, 0, 0xffff, 0xffff_ffff, 1 << 47, u64::MAX];
    match random.below(4) {
        0 => random.next(),
        1 => random.below(40),
        _ => random.pick(&near).wrapping_add(random.below(32)).wrapping_sub(16),
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
    } else if random.one_in(4) {
        // Plain moves.
        code.push(random.pick(&[0x89, 0x8b, 0xa1, 0xa3, 0xc7]));
    }
    code.extend((0..14).map(|_| random.next() as u8));
    code.truncate(15);
    code
}

/// Code of 16 bits is in real mode, but for a third.
fn protect(random: &mut Random, state: &mut State) {
    if state.code_size() == CodeSize::Bits16 && random.one_in(3) {
        let wide = crate::machine::state(CodeSize::Bits32);
        (state.cr0, state.segments) = (wide.cr0, wide.segments);
        // Of 16 bits still.
        state.segments[1].attributes = 0x9b;
    }
}

fn setting(seed: u64) -> (State, Machine) {
    let random = &mut Random::new(seed);
    let size = random.pick(&[CodeSize::Bits16, CodeSize::Bits32, CodeSize::Bits64]);
    let mut state = state(size);
    protect(random, &mut state);
    state.general = std::array::from_fn(|_| value(random));
    if random.one_in(4) {
        let code = state.segments[1].attributes;
        state.segments = std::array::from_fn(|_| Segment {
            selector: random.next() as u16,
            attributes: random.next() as u16 | if random.one_in(2) { 0x93 } else { 0 },
            limit: value(random) as u32,
            base: value(random),
        });
        state.segments[1] = Segment { attributes: code, limit: u32::MAX, ..Segment::default() };
    }
    state.flags |= random.next() & 0x3_7fd5;
    state.level = random.pick(&[0, 0, 3]);
    state.cr0 ^= random.next() & random.next() & 0xd;
    state.cr4 ^= random.next() & random.next() & 0x4_0a04;
    let mut machine = crate::machine::machine(&state, &code(random));
    if random.one_in(8) {
        state.rip = value(random);
    }
    if random.one_in(3) {
        machine.takes = random.below(30);
    }
    machine.may_use_ports = random.one_in(2);
    machine.is_raced = random.one_in(20);
    machine.vectors = std::array::from_fn(|_| random.next().into());
    for _ in 0..random.below(4) {
        machine.absent.insert(value(random) & !0xfff);
        machine.read_only.insert(value(random) & !0xfff);
    }
    machine.absent.remove(&RIP);
    (state, machine)
}

/// Carries a case out with a device that answers at once.
fn quickly(seed: u64) -> (State, Machine, Result<Done>) {
    let (mut state, mut machine) = setting(seed);
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
    let (mut state, machine) = setting(seed);
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

fn check(seed: u64) -> u64 {
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
    let (before, machine_before) = setting(seed);
    let bytes = machine_before.get(RIP, 16);
    let _ = intercepted(&before, &bytes[..15]);
    if result.is_ok() && before.rip == RIP {
        check_plain(&before, &state, &bytes);
    }
    u64::from(result.is_ok() && !machine.seen.is_empty())
}

/// A plain move is as long as it was taken for, and changes no register but its own.
fn check_plain(before: &State, after: &State, bytes: &[u8]) {
    let code = u128::from_le_bytes(bytes.try_into().expect("16 bytes"));
    let Some(plain) = PlainMove::of(code, before.code_size()) else { return };
    assert_eq!(after.rip, before.rip + u64::from(plain.length));
    for number in 0..16 {
        let is_loaded = matches!(plain.what, Moved::Load(to) if usize::from(to) == number);
        assert!(is_loaded || after.general[number] == before.general[number], "register {number}, {plain:?}");
    }
}

pub fn case(r: &mut Random) -> u64 {
    (0..STEPS).map(|_| check(r.next())).sum()
}
