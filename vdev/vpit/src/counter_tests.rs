use super::*;
use proptest::prelude::*;

/// Guest time at which `ticks` have passed since 0.
fn at(ticks: u64) -> u64 {
    (ticks * NS_PER_SECOND).div_ceil(FREQUENCY)
}

/// A counter in `mode` that was loaded with `count` at time 0.
fn loaded(mode: u8, bcd: bool, count: u16) -> Counter {
    let mut c = Counter::new(0, true);
    c.set_mode(0x30 | mode << 1 | u8::from(bcd));
    let [low, high] = count.to_le_bytes();
    assert!(!c.write(low, 0) && c.write(high, 0));
    c
}

/// The 8254 clock by clock: what a read gives and the output, at each of `clocks` clocks.
fn naive(mode: u8, bcd: bool, count: u16, clocks: usize) -> Vec<(u16, bool)> {
    let top = if bcd { 9999 } else { 0xffff };
    let load = if bcd { from_bcd(count) } else { count.into() };
    let full = if load == 0 { top + 1 } else { load };
    let (mut value, mut reached, mut high) = (full, false, true);
    let mut seen = Vec::new();
    for clock in 0..clocks {
        if clock != 0 {
            match mode {
                2 => value = if value == 1 { full } else { value - 1 },
                3 => {
                    value -= 2;
                    if value == 0 {
                        value = full;
                        high = !high;
                    }
                }
                _ => value = if value == 0 { top } else { value - 1 },
            }
        }
        let strobe = value == 0 && !reached;
        reached |= strobe;
        let out = match mode {
            0 | 1 => reached,
            2 => value != 1,
            3 => high,
            _ => !strobe,
        };
        let shown = value % (top + 1);
        seen.push((if bcd { format!("{shown}") } else { format!("{shown:x}") }, out));
    }
    seen.into_iter().map(|(digits, out)| (u16::from_str_radix(&digits, 16).unwrap(), out)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn counts_as_the_naive_chip(mode in 0u8..6, bcd in any::<bool>(), count in 2u16..9999, clocks in 1usize..30_000) {
        let count = match (mode, bcd) {
            (3, false) => count & !1,
            (3, true) => to_bcd(count & !1),
            (_, true) => to_bcd(count),
            _ => count,
        };
        let c = loaded(mode, bcd, count);
        for (clock, (value, out)) in naive(mode, bcd, count, clocks).into_iter().enumerate() {
            let guest = at(clock as u64);
            prop_assert_eq!((c.value(guest), c.out(guest)), (value, out), "clock {} of mode {}", clock, mode);
        }
    }

    #[test]
    fn digits_are_decimal(n in 0u16..10_000) {
        prop_assert_eq!(format!("{:04x}", to_bcd(n)), format!("{n:04}"));
        prop_assert_eq!(from_bcd(to_bcd(n)), u32::from(n));
    }
}

#[test]
fn count_of_zero_is_the_greatest() {
    for (bcd, full, next) in [(false, 0x1_0000, 0xffff), (true, 10_000, 0x9999)] {
        let c = loaded(2, bcd, 0);
        assert_eq!(c.count(), full);
        assert_eq!((c.value(at(0)), c.value(at(1))), (0, next));
    }
}

#[test]
fn odd_square_wave_is_high_one_tick_longer() {
    let c = loaded(3, false, 7);
    let high: Vec<bool> = (0..14).map(|tick| c.out(at(tick))).collect();
    assert_eq!(high, [true, true, true, true, false, false, false].repeat(2));
}

#[test]
fn latched_count_stays_until_it_is_read() {
    let mut c = loaded(2, false, 0x1234);
    c.latch_count(at(4));
    c.latch_count(at(100));
    assert_eq!((c.read(at(200)), c.read(at(300))), (0x30, 0x12));
    assert_eq!(c.read(at(0x34)), 0x00, "then the running count, low byte first");
    assert_eq!(c.read(at(0x34)), 0x12);
}

#[test]
fn status_comes_before_the_count() {
    let mut c = loaded(3, true, 0x1000);
    c.latch_count(0);
    c.latch_status(0);
    c.latch_status(at(600));
    assert_eq!(c.read(0), 0x80 | 0x30 | 3 << 1 | 1);
    assert_eq!((c.read(0), c.read(0)), (0x00, 0x10));
}

#[test]
fn single_bytes_are_read_and_written_alone() {
    for (access, value, count) in [(1, 0x56, 0x56), (2, 0x12, 0x1200)] {
        let mut c = Counter::new(0, true);
        c.set_mode(access << 4 | 2 << 1);
        assert!(c.write(value, 0));
        assert_eq!(c.count(), count);
        assert_eq!(c.read(0), value);
        c.latch_count(0);
        assert_eq!((c.read(at(1)), c.count_latched), (value, 0));
    }
}

#[test]
fn gate_holds_and_restarts() {
    for mode in [0, 4] {
        let mut c = loaded(mode, false, 1000);
        c.set_gate(false, at(100));
        assert_eq!(c.value(at(500)), 900);
        c.set_gate(true, at(500));
        assert_eq!(c.value(at(500)), 900);
        assert_eq!(c.value(at(601)), 799);
    }
    for mode in [2, 3] {
        let mut c = loaded(mode, false, 1000);
        c.set_gate(false, at(100));
        assert_eq!(c.value(at(500)), if mode == 2 { 900 } else { 800 });
        c.set_gate(true, at(500));
        assert_eq!(c.value(at(500)), 1000);
    }
    for mode in [1, 5] {
        let mut c = loaded(mode, false, 1000);
        c.set_gate(false, at(100));
        assert_eq!(c.value(at(500)), 500, "a low gate does not stop it");
        c.set_gate(true, at(500));
        assert_eq!(c.value(at(500)), 1000);
    }
}

#[test]
fn modes_six_and_seven_are_two_and_three() {
    assert_eq!([6, 7].map(|m| loaded(m, false, 10).mode()), [2, 3]);
}

#[test]
fn records_of_impossible_counters_are_refused() {
    let good = loaded(2, false, 100).save();
    assert_eq!(Counter::load(&good, 0), Ok(loaded(2, false, 100)));
    for bad in [
        HvmHwPitChannel { count: 0x1_0001, ..good },
        HvmHwPitChannel { count_latched: 5, ..good },
        HvmHwPitChannel { read_state: 5, ..good },
        HvmHwPitChannel { write_state: 5, ..good },
        HvmHwPitChannel { rw_mode: 4, ..good },
        HvmHwPitChannel { gate: 2, ..good },
        HvmHwPitChannel { bcd: 2, ..good },
    ] {
        assert_eq!(Counter::load(&bad, 0), Err(Errno::DOM), "{bad:?}");
    }
    let old = HvmHwPitChannel { mode: 0xff, count: 0, ..good };
    let counter = Counter::load(&old, 0).unwrap();
    assert_eq!((counter.mode(), counter.count()), (NO_MODE, 0x1_0000));
}

proptest! {
    #[test]
    fn ticks_are_exact(guest: u64, small in 0..10_000_000_000u64) {
        for guest in [guest, small, u64::MAX] {
            let exact = u128::from(guest) * u128::from(FREQUENCY) / u128::from(NS_PER_SECOND);
            prop_assert_eq!(u128::from(Counter::new(0, true).ticks(guest)), exact);
        }
    }
}
