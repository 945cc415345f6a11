//! The timer, in all modes.

mod common;

use common::*;
use proptest::prelude::*;
use vlapic::{Action, BUS_CYCLE_NS, MIN_PERIOD_NS};

const PERIODIC: u32 = 1 << 17;
const DEADLINE: u32 = 2 << 17;

/// A running timer: vector 0x40, `initial` counts.
fn timer(mode: u32, divide: u32, initial: u32) -> Cpu {
    let mut cpu = Cpu::enabled(0);
    let _ = cpu.write(DIVIDE, divide);
    let _ = cpu.write(LVT_TIMER, mode | 0x40);
    let _ = cpu.write(INITIAL, initial);
    cpu
}

/// Advances the clock and lets the timer fire.
fn advance(cpu: &mut Cpu, by: u64) -> bool {
    cpu.now += by;
    cpu.lapic.expire(&cpu.port, cpu.now)
}

#[test]
fn divisors() {
    let expected = [(0, 2), (1, 4), (2, 8), (3, 16), (8, 32), (9, 64), (10, 128), (11, 1)];
    for (divide, divisor) in expected {
        let cpu = timer(0, divide, 1000);
        assert_eq!(cpu.lapic.deadline(), Some(cpu.now + 1000 * divisor * BUS_CYCLE_NS), "{divide}");
    }
}

#[test]
fn one_shot_fires_once() {
    let mut cpu = timer(0, 11, 100);
    assert!(!advance(&mut cpu, 999));
    assert_eq!(cpu.read(CURRENT), 1);
    assert!(advance(&mut cpu, 1));
    assert_eq!((cpu.vectors(IRR), cpu.read(CURRENT), cpu.lapic.deadline()), (vec![0x40], 0, None));
    assert_eq!(cpu.read(INITIAL), 100);
    assert_eq!(cpu.write(INITIAL, 100), Action::Reconfigured);
    assert_eq!(cpu.write(INITIAL, 0), Action::Reconfigured);
    assert_eq!((cpu.lapic.deadline(), cpu.read(CURRENT)), (None, 0), "0 stops it");
}

#[test]
fn periodic_fires_on_its_grid() {
    let mut cpu = timer(PERIODIC, 11, 100_000);
    let start = cpu.now;
    assert!(advance(&mut cpu, 1_000_000));
    assert!(!advance(&mut cpu, 0));
    assert_eq!(cpu.lapic.deadline(), Some(start + 2_000_000));
    cpu.lapic.accept(&cpu.port);
    assert!(advance(&mut cpu, 2_500_000), "late: one tick for all");
    assert_eq!((cpu.lapic.deadline(), cpu.read(CURRENT)), (Some(start + 4_000_000), 50_000));
}

#[test]
fn fast_periods_drop_ticks() {
    let mut cpu = timer(PERIODIC, 11, 1);
    assert!(advance(&mut cpu, 10));
    assert_eq!(cpu.lapic.deadline(), Some(cpu.now + MIN_PERIOD_NS));
}

#[test]
fn masked_timers_count_silently() {
    let mut cpu = timer(PERIODIC | MASKED, 11, 100_000);
    assert_eq!(cpu.lapic.deadline(), None);
    cpu.now += 1_300_000;
    assert_eq!(cpu.read(CURRENT), 70_000);
    assert_eq!(cpu.write(LVT_TIMER, PERIODIC | 0x40), Action::Reconfigured);
    assert_eq!((cpu.vectors(IRR), cpu.lapic.deadline()), (vec![], Some(cpu.now + 700_000)), "the masked tick is lost");
    cpu.now += 700_000;
    let _ = cpu.write(LVT_TIMER, PERIODIC | MASKED | 0x40);
    assert_eq!(cpu.vectors(IRR), [0x40], "a tick that was due before it was masked is not");
}

#[test]
fn changes_keep_the_count() {
    let mut cpu = timer(0, 11, 100_000);
    cpu.now += 400_000;
    let _ = cpu.write(DIVIDE, 0);
    assert_eq!((cpu.read(CURRENT), cpu.lapic.deadline()), (60_000, Some(cpu.now + 1_200_000)));
    let _ = cpu.write(LVT_TIMER, PERIODIC | 0x40);
    assert_eq!(cpu.read(CURRENT), 60_000);
    assert!(advance(&mut cpu, 1_200_000));
    assert_eq!(cpu.lapic.deadline(), Some(cpu.now + 2_000_000));
}

#[test]
fn the_reserved_mode_arms_nothing() {
    let mut cpu = timer(3 << 17, 11, 0);
    cpu.lapic.set_tsc_deadline(777, cpu.now + 50);
    assert_eq!((cpu.lapic.tsc_deadline(cpu.now), cpu.lapic.deadline()), (0, None));
    let _ = cpu.write(LVT_TIMER, 0x40);
    assert_eq!((cpu.lapic.tsc_deadline(cpu.now), cpu.lapic.deadline()), (0, None), "one-shot, and no count");
}

#[test]
fn tsc_deadline() {
    let mut cpu = timer(DEADLINE, 11, 5);
    assert_eq!(cpu.read(INITIAL), 0, "the counter does not exist");
    cpu.lapic.set_tsc_deadline(777, cpu.now + 50);
    assert_eq!((cpu.lapic.tsc_deadline(cpu.now), cpu.lapic.deadline()), (777, Some(cpu.now + 50)));
    assert_eq!(cpu.read(CURRENT), 0);
    assert!(advance(&mut cpu, 50));
    assert_eq!((cpu.lapic.tsc_deadline(cpu.now), cpu.lapic.deadline()), (0, None));
    cpu.lapic.accept(&cpu.port);
    cpu.lapic.set_tsc_deadline(5, 3);
    assert!(advance(&mut cpu, 0), "a past deadline fires at once");
    cpu.lapic.set_tsc_deadline(777, cpu.now + 50);
    cpu.lapic.set_tsc_deadline(0, 0);
    assert_eq!(cpu.lapic.deadline(), None);
    cpu.lapic.set_tsc_deadline(777, cpu.now + 50);
    let _ = cpu.write(LVT_TIMER, 0x40);
    assert_eq!((cpu.lapic.tsc_deadline(cpu.now), cpu.lapic.deadline()), (0, None), "leaving the mode disarms");
    cpu.lapic.set_tsc_deadline(777, cpu.now + 50);
    assert_eq!(cpu.lapic.deadline(), None, "not in this mode");
}

proptest! {
    /// The count is the one of a counter that steps once a tick.
    #[test]
    fn counts(initial in 1u32..5000, divide in 0u32..12, elapsed in 0u64..2_000_000, periodic: bool) {
        let mode = if periodic { PERIODIC } else { 0 } | MASKED;
        let mut cpu = timer(mode, divide, initial);
        let shown = cpu.read(DIVIDE);
        let tick = BUS_CYCLE_NS * [2, 4, 8, 16, 32, 64, 128, 1][(shown & 3 | shown >> 1 & 4) as usize];
        cpu.now += elapsed;
        let steps = elapsed / tick;
        let expected = match periodic {
            true => u64::from(initial) - steps % u64::from(initial),
            false => u64::from(initial).saturating_sub(steps),
        };
        prop_assert_eq!(u64::from(cpu.read(CURRENT)), expected);
        prop_assert!(!cpu.lapic.expire(&cpu.port, cpu.now), "masked");
        prop_assert_eq!(u64::from(cpu.read(CURRENT)), expected, "being looked at changes nothing");
    }
}
