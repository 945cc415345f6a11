//! Several calls in one.

use super::*;
use hypercall::multicall::multicall;
use std::sync::atomic::Ordering::SeqCst;
use xen_abi::compat;
use xen_abi::xen::*;

/// The entry of a 64-bit guest.
fn wide(op: u32, first: u64) -> MulticallEntry {
    MulticallEntry { op: op.into(), result: !0, args: [first, 2, 3, 4, 5, 6] }
}

/// The entry of a 32-bit guest.
fn narrow(op: u32, first: u32) -> compat::MulticallEntry {
    compat::MulticallEntry { op, result: !0, args: [first, 2, 3, 4, 5, 6] }
}

const SIZE: u64 = size_of::<MulticallEntry>() as u64;
const NARROW_SIZE: u64 = size_of::<compat::MulticallEntry>() as u64;

#[test]
fn each_entry_gets_its_result() {
    let world = World::new();
    world.put(LIST, &[wide(30, 7), wide(HYPERVISOR_MULTICALL, 0), wide(HYPERVISOR_IRET, 0), wide(31, 8)]);
    world.put(AT, &[narrow(30, 7), narrow(HYPERVISOR_MULTICALL, 0), narrow(HYPERVISOR_IRET, 0), narrow(31, 8)]);
    let answer = |number: u64, args: Args| {
        assert_eq!(args[1..], [2, 3, 4, 5, 6]);
        Outcome::Done(-((number * 100 + args[0]) as i64))
    };
    assert_eq!(multicall::<MulticallEntry, _, false>(world.machine(), [LIST, 4, 0, 0, 0, 0], answer), Outcome::Done(0));
    let results: [MulticallEntry; 4] = world.get(LIST);
    assert_eq!(results.map(|entry| entry.result as i64), [-3007, -22, -38, -3108]);
    assert_eq!(
        multicall::<compat::MulticallEntry, _, false>(world.machine(), [AT, 4, 0, 0, 0, 0], answer),
        Outcome::Done(0)
    );
    let results: [compat::MulticallEntry; 4] = world.get(AT);
    assert_eq!(results.map(|entry| entry.result as i32), [-3007, -22, -38, -3108]);
}

#[test]
fn a_call_may_write_the_entries_that_follow() {
    let world = World::new();
    world.put(LIST, &[wide(1, 0), wide(2, 0)]);
    let mut numbers = Vec::new();
    let done = multicall::<MulticallEntry, _, false>(world.machine(), [LIST, 2, 0, 0, 0, 0], |number, _| {
        numbers.push(number);
        world.put(LIST + SIZE, &wide(9, 0));
        Outcome::Done(0)
    });
    assert_eq!((done, numbers), (Outcome::Done(0), vec![1, 9]));
}

#[test]
fn a_call_that_is_cut_off_goes_on_next_time() {
    let world = World::new();
    world.put(LIST, &[narrow(1, 5), narrow(2, 1)]);
    let (mut args, mut seen) = ([LIST, 2, 0, 0, 0, 0], Vec::new());
    loop {
        let outcome = multicall::<compat::MulticallEntry, _, false>(world.machine(), args, |number, args| {
            seen.push((number, args[0]));
            let mut rest = args;
            rest[0] -= 1;
            if rest[0] == 0 { Outcome::Done(0) } else { Outcome::Again(rest) }
        });
        match outcome {
            Outcome::Again(rest) => args = rest,
            Outcome::Done(value) => break assert_eq!(value, 0),
        }
    }
    assert_eq!(seen, [(1, 5), (1, 4), (1, 3), (1, 2), (1, 1), (2, 1)]);
    assert_eq!(args[..2], [LIST, 2], "the last time it was cut off in the first call");
    let after: [compat::MulticallEntry; 2] = world.get(LIST);
    assert_eq!(after.map(|entry| entry.result), [0, 0]);
}

#[test]
fn long_lists_are_cut_off_for_others() {
    let world = World::new();
    world.put(LIST, [narrow(1, 0); 40].as_slice());
    world.machine().yield_after.store(0, SeqCst);
    let outcome =
        multicall::<compat::MulticallEntry, _, false>(world.machine(), [LIST, 40, 7, 0, 0, 0], |_, _| Outcome::Done(0));
    assert_eq!(outcome, Outcome::Again([LIST + 15 * NARROW_SIZE, 25, 7, 0, 0, 0]));
}

#[test]
fn entries_that_are_missing_are_a_fault() {
    let world = World::new();
    let fault = Outcome::from(Errno::FAULT);
    let run = |at| multicall::<MulticallEntry, _, false>(world.machine(), [at, 1, 0, 0, 0, 0], |_, _| Outcome::Done(0));
    assert_eq!(run(LIST), fault);
    world.put(LIST, &wide(1, 0));
    assert_eq!(run(LIST), Outcome::Done(0));
    assert_eq!(run(LIST + 8), fault, "its end is missing");
}
