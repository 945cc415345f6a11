//! The ACPI timer as a guest uses it.

use proptest::prelude::*;
use types::Errno;
use vpmtimer::{FREQUENCY, LINE, PmTimer};
use vtimer::{Action, Change, Now};
use xen_abi::hvm_save::clocks::HvmHwPmtimer;

const SECOND: u64 = 1_000_000_000;
const RAISED: Action = Action::one(LINE, Change::Raise);
const LOWERED: Action = Action::one(LINE, Change::Lower);
const STATUS: u16 = 0x1f40;
const ENABLE: u16 = 0x1f42;
const COUNT: u16 = 0x1f48;

fn count(timer: &mut PmTimer, now: u64) -> u32 {
    timer.read(COUNT, 4, Now::both(now)).0
}

#[test]
fn counts_at_its_frequency() {
    let mut t = PmTimer::new(Now { steady: 5, guest: 1000 });
    let after = |ns| Now { steady: 5, guest: 1000 + ns };
    assert_eq!(t.read(COUNT, 4, after(0)).0, 0);
    assert_eq!(t.read(COUNT, 4, after(279)).0, 0);
    assert_eq!(t.read(COUNT, 4, after(280)).0, 1);
    // The scale is rounded down: 0.1 ppm.
    assert!(u64::from(t.read(COUNT, 4, after(10 * SECOND)).0).abs_diff(10 * FREQUENCY) <= 4);
    assert_eq!(t.read(COUNT, 4, after(0)).0, t.read(COUNT, 4, after(10 * SECOND)).0, "it never goes back");
}

#[test]
fn top_bit_sets_the_status_and_interrupts_if_enabled() {
    let mut t = PmTimer::new(Now::both(0));
    assert_eq!(t.next_deadline(Now::both(0)), None);
    assert_eq!(t.write(ENABLE, 2, 1, Now::both(0)), Action::NONE);
    let flip = t.next_deadline(Now::both(0)).unwrap();
    assert!(flip.abs_diff((1u64 << 31) * SECOND / FREQUENCY) < 100_000, "{flip}");
    assert_eq!(t.tick(Now::both(flip - 1)), Action::NONE);
    assert_eq!(t.tick(Now::both(flip)), RAISED);
    assert_eq!(count(&mut t, flip), 1 << 31);
    assert_eq!(t.next_deadline(Now::both(flip)), None, "until the guest has seen it");
    assert_eq!(t.read(STATUS, 2, Now::both(flip)), (1, Action::NONE));
    assert_eq!(t.write(STATUS, 2, 1, Now::both(flip)), LOWERED);
    let next = t.next_deadline(Now::both(flip)).unwrap();
    assert!(next.abs_diff(2 * flip) <= 280);
    assert_eq!(t.read(COUNT, 4, Now::both(next)), (0, RAISED), "a read sees it too");
    let _ = t.write(STATUS, 2, 1, Now::both(next));
    assert_eq!(t.tick(Now::both(next + 2 * flip)), RAISED, "two changes at once are changes");
}

#[test]
fn buttons_raise_the_line_once_enabled() {
    let mut t = PmTimer::new(Now::both(0));
    assert_eq!(t.power_button(Now::both(0)), Action::NONE);
    assert_eq!(t.read(STATUS, 4, Now::both(0)).0, 0x100);
    assert_eq!(t.write(ENABLE + 1, 1, 3, Now::both(0)), RAISED);
    assert_eq!(t.sleep_button(Now::both(0)), Action::NONE, "it is up already");
    assert_eq!(t.line(), RAISED);
    assert_eq!(t.write(STATUS + 1, 1, 1, Now::both(0)), Action::NONE);
    assert_eq!(t.write(STATUS, 2, 0x200, Now::both(0)), LOWERED);
    assert_eq!(t.read(STATUS, 4, Now::both(0)).0, 0x300 << 16);
}

#[test]
fn bits_without_an_event_do_not_interrupt() {
    let mut t = PmTimer::new(Now::both(0));
    let record = HvmHwPmtimer { tmr_val: 7, pm1a_sts: 0xffff, pm1a_en: !0x321 };
    assert_eq!(t.load(&record, Now::both(0)), Ok(LOWERED));
    for bit in [0, 5, 8, 9] {
        assert_eq!(t.write(ENABLE, 2, 1 << bit, Now::both(0)), RAISED);
        assert_eq!(t.write(ENABLE, 2, 0, Now::both(0)), LOWERED);
    }
}

#[test]
fn registers_are_found_at_both_places() {
    let mut t = PmTimer::new(Now::both(0));
    for (version, base) in [(1, 0xb000), (0, 0x1f40)] {
        assert_eq!(t.set_location(version), Ok(()));
        let owned: Vec<u16> = (0..=u16::MAX).filter(|&port| t.owns(port, 1)).collect();
        let expected: Vec<u16> = (base..base + 4).chain(base + 8..base + 12).collect();
        assert_eq!(owned, expected);
        assert!(t.owns(base, 4) && t.owns(base + 2, 2) && !t.owns(base + 2, 4) && !t.owns(base, 8));
    }
    assert_eq!(t.set_location(2), Err(Errno::INVAL));
    assert_eq!(t.set_location(u64::MAX), Err(Errno::INVAL));
}

#[test]
fn timer_is_read_whole_and_not_written() {
    let mut t = PmTimer::new(Now::both(0));
    let late = Now::both(SECOND);
    assert_eq!((t.read(COUNT, 2, late).0, t.read(COUNT, 1, late).0), (0xffff, 0xff));
    let before = t.clone();
    assert_eq!(t.write(COUNT, 4, 0x1234_5678, late), Action::NONE);
    assert_eq!(t, before);
}

proptest! {
    /// However often it is looked at, the counter shows the same.
    #[test]
    fn reads_do_not_change_the_count(times in prop::collection::vec(0..10_000 * SECOND, 1..40)) {
        let (mut often, mut now) = (PmTimer::new(Now::both(0)), 0);
        for time in times {
            now += time;
            let once = count(&mut PmTimer::new(Now::both(0)), now);
            prop_assert_eq!(count(&mut often, now), once);
        }
    }

    /// The record holds the counter of its moment, and a restored timer goes on from there.
    #[test]
    fn restored_counter_goes_on(before in 0..1u64 << 50, gap in 0..1u64 << 50, after in 0..1u64 << 40) {
        let t = PmTimer::new(Now::both(0));
        let record = t.save(Now::both(before));
        let mut restored = PmTimer::new(Now::both(gap));
        prop_assert!(restored.load(&record, Now::both(gap)).is_ok());
        let expected = count(&mut t.clone(), before + after);
        let difference = count(&mut restored, gap + after).wrapping_sub(expected);
        prop_assert!(difference == 0 || difference == u32::MAX, "no more than a broken tick is lost");
    }
}
