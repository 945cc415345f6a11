//! The ACPI timer as a guest uses it, and as a random guest does.

use proptest::prelude::*;
use types::Errno;
use vpmtimer::{FREQUENCY, LINE, PmTimer};
use vtimer::{Action, Change, Now, all_ones};
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

#[derive(Clone, Debug)]
enum Step {
    Read(u16, u8),
    Write(u16, u8, u32),
    Pass(u64),
    Back(u64),
    Tick,
    Button(bool),
    Reload,
    Load(u32, u16, u16),
    Move(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let port = prop_oneof![8 => 0x1f40u16..0x1f4c, 2 => 0xb000u16..0xb00c, 1 => any::<u16>()];
    let size = prop_oneof![6 => prop::sample::select(vec![1u8, 2, 4]), 1 => any::<u8>()];
    prop_oneof![
        6 => (port.clone(), size.clone()).prop_map(|(port, size)| Step::Read(port, size)),
        8 => (port, size, any::<u32>()).prop_map(|(port, size, value)| Step::Write(port, size, value)),
        4 => (0..700 * SECOND).prop_map(Step::Pass),
        1 => any::<u64>().prop_map(Step::Pass),
        1 => any::<u64>().prop_map(Step::Back),
        4 => Just(Step::Tick),
        1 => any::<bool>().prop_map(Step::Button),
        1 => Just(Step::Reload),
        1 => any::<(u32, u16, u16)>().prop_map(|(count, status, enable)| Step::Load(count, status, enable)),
        1 => (0u64..3).prop_map(Step::Move),
    ]
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

    /// Whatever a guest does: no panic, and the line is what the registers say.
    #[test]
    fn random_guest(steps in prop::collection::vec(step(), 0..120)) {
        let mut t = PmTimer::new(Now::both(0));
        let mut now = Now::both(0);
        let mut up = false;
        for step in steps {
            let action = match step {
                Step::Read(port, size) => {
                    let (value, action) = t.read(port, size, now);
                    prop_assert_eq!(u64::from(value) & !all_ones(size), 0);
                    action
                }
                Step::Write(port, size, value) => t.write(port, size, value, now),
                Step::Pass(ns) => { now = Now::both(now.steady.saturating_add(ns)); Action::NONE }
                Step::Back(guest) => { now.guest = guest; Action::NONE }
                Step::Tick => t.tick(now),
                Step::Button(power) => if power { t.power_button(now) } else { t.sleep_button(now) },
                Step::Reload => {
                    let record = t.save(now);
                    let action = t.load(&record, now).unwrap();
                    prop_assert_eq!(t.save(now), record);
                    action
                }
                Step::Load(tmr_val, pm1a_sts, pm1a_en) => {
                    t.load(&HvmHwPmtimer { tmr_val, pm1a_sts, pm1a_en }, now).unwrap()
                }
                Step::Move(version) => { let _ = t.set_location(version); Action::NONE }
            };
            for signal in action.signals() {
                prop_assert_eq!(signal.line, LINE);
                up = signal.change == Change::Raise;
            }
            prop_assert_eq!(t.line(), if up { RAISED } else { LOWERED });
            prop_assert!(t.next_deadline(now).is_none_or(|deadline| deadline >= now.steady));
        }
    }
}
