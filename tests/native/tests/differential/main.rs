//! Every form of every instruction that the emulation of HVM guests' instructions claims, with random operands: on the CPU, and
//! emulated. Registers, defined flags and memory must be the same after both.
//!
//! `XENOLITH_FUZZ_SECONDS` sets how long it runs (default 3); `XENOLITH_FUZZ_SEED` runs the one sequence that a failure named.

mod case;
mod forms;
mod machine;
mod random;
mod undefined;

use case::Case;
use forms::{FORMS, Form, Only};
use iced_x86::{Code, Decoder, DecoderOptions};
use machine::Machine;
use random::Random;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use x86_emulate::hvm::{Segment, State, emulate};
use x86_native::{Mode, Processor, Registers};

/// Cases of each form in one round.
const CASES: usize = 10;
/// Rounds at least, whatever time they take.
const ROUNDS: u64 = 2;

/// Some cases of each form.
fn round(seed: u64, cpu: &mut Processor) {
    let mut random = Random::new(seed);
    for mode in [Mode::Bits64, Mode::Bits32] {
        for form in FORMS.iter().filter(|form| form.is_for(mode)) {
            for _ in 0..CASES {
                let case = Case::new(&mut random, form, mode, cpu);
                compare(cpu, form, &case, seed);
            }
        }
    }
}

fn compare(cpu: &mut Processor, form: &Form, case: &Case, seed: u64) {
    let mut native = case.registers;
    cpu.window().bytes.copy_from_slice(&case.memory[..]);
    // SAFETY: cases are built so that all their operands are in the window, divisions do not overflow, and addresses are aligned
    // where they have to be. No form is a jump or changes segments or the alignment check.
    unsafe { cpu.run(case.mode, &case.code, &mut native) };
    let (registers, memory) = emulated(cpu, case);
    let undefined = undefined::flags(form, case);
    let context = || format!("{} {:x?} {:?} {:x?} seed {seed}", form.name, case.code, case.mode, case.registers);
    let defined = |registers: &Registers| Registers { flags: registers.flags & !undefined, ..*registers };
    if undefined::result(form, case) {
        return;
    }
    assert_eq!(defined(&native), defined(&registers), "CPU, emulated: {}", context());
    assert!(memory == cpu.window().bytes[..], "memory: {}", context());
}

/// Registers and memory as the emulation leaves them.
fn emulated(cpu: &mut Processor, case: &Case) -> (Registers, Vec<u8>) {
    let mut state = State {
        general: case.registers.general,
        rip: cpu.instruction_address(case.mode),
        flags: case.registers.flags,
        level: 3,
        cr0: 0x8005_0033,
        cr4: 0x620,
        efer: 0xd01,
        segments: [Segment { attributes: 0xcf3, limit: u32::MAX, ..Segment::default() }; 6],
    };
    let (selector, attributes) = if case.mode == Mode::Bits64 { (0x33, 0xafb) } else { (0x23, 0xcfb) };
    state.segments[1] = Segment { selector, attributes, ..state.segments[1] };
    state.segments[2].selector = 0x2b;
    let end = state.rip + case.code.len() as u64;
    let mut machine = Machine {
        code: case.code.clone(),
        window: cpu.window().address,
        memory: case.memory.to_vec(),
        vectors: case.registers.vectors,
    };
    let mut calls = 0;
    while state.rip != end {
        let done = emulate(&mut state, &mut machine, 3).unwrap_or_else(|stop| panic!("{stop:?}: {case:x?}"));
        assert_eq!(done.is_unfinished, state.rip != end, "{case:x?}");
        calls += 1;
        assert!(calls < 100, "{case:x?}");
    }
    let mut registers = case.registers;
    registers.general = state.general;
    registers.flags = state.flags;
    registers.vectors = machine.vectors;
    (registers, machine.memory)
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

#[test]
fn the_cpu_and_the_emulation_agree() {
    let mut cpu = Processor::new().expect("memory");
    if let Some(seed) = variable("XENOLITH_FUZZ_SEED") {
        return round(seed, &mut cpu);
    }
    let end = Instant::now() + Duration::from_secs(variable("XENOLITH_FUZZ_SECONDS").unwrap_or(3));
    let mut seed = 1;
    while seed <= ROUNDS || Instant::now() < end {
        round(seed, &mut cpu);
        seed += 1;
    }
}

/// The decoder's name for a case's instruction.
fn code_of(case: &Case) -> Code {
    let bits = if case.mode == Mode::Bits64 { 64 } else { 32 };
    Decoder::new(bits, &case.code, DecoderOptions::NONE).decode().code()
}

#[test]
fn no_instruction_is_claimed_that_is_not_compared() {
    let mut cpu = Processor::new().expect("memory");
    let mut random = Random::new(1);
    let mut compared = BTreeSet::new();
    for mode in [Mode::Bits64, Mode::Bits32] {
        for form in FORMS.iter().filter(|form| form.is_for(mode)) {
            for _ in 0..200 {
                let code = code_of(&Case::new(&mut random, form, mode, &mut cpu));
                assert_ne!(code, Code::INVALID, "{}", form.name);
                compared.insert(code);
            }
        }
    }
    let claimed = machine::claimed(&mut random, cpu.window().address);
    let missing: Vec<_> = claimed.difference(&compared).collect();
    assert_eq!(missing, [&Code::INVALID; 0], "{} compared", compared.len());
    assert!(claimed.len() > 400, "{} claimed", claimed.len());
}

#[test]
fn forms_are_in_some_mode() {
    assert!(FORMS.iter().any(|form| form.only == Only::Bits64) && FORMS.iter().any(|form| form.only == Only::Bits32));
}
