use super::*;
use crate::GuestClock;
use proptest::prelude::*;

const MS: u64 = 1_000_000;
const MODES: [MissedTicks; 4] = [MissedTicks::Delay, MissedTicks::NoDelay, MissedTicks::Drop, MissedTicks::One];

fn timer(missed: MissedTicks) -> Timer {
    Timer::new(Rules { missed, align: false })
}

#[test]
fn modes_are_the_parameters_values() {
    for (value, mode) in MODES.into_iter().enumerate() {
        assert_eq!(MissedTicks::try_from(value as u64), Ok(mode));
    }
    assert_eq!(MissedTicks::try_from(4), Err(Errno::INVAL));
    assert_eq!(MissedTicks::try_from(1 << 32), Err(Errno::INVAL));
}

#[test]
fn single_tick_comes_once() {
    for mode in MODES {
        let mut t = timer(mode);
        assert_eq!((t.next_deadline(), t.due(), t.delivered(Now::both(0))), (None, None, None));
        t.start(Now::both(5 * MS), 70, 0);
        assert_eq!(t.next_deadline(), Some(5 * MS + 70));
        assert!(!t.tick(Now::both(5 * MS + 69)) && !t.resume(Now::both(9 * MS)));
        assert!(t.tick(Now::both(5 * MS + 70)) && !t.tick(Now::both(6 * MS)));
        assert_eq!((t.next_deadline(), t.due()), (None, Some(1)));
        assert_eq!(t.delivered(Now::both(7 * MS)), Some(7 * MS));
        assert!(!t.is_running());
        assert_eq!(t.delivered(Now::both(7 * MS)), None);
    }
}

#[test]
fn punctual_ticks_are_the_same_in_every_mode() {
    for mode in MODES {
        let mut t = timer(mode);
        t.start(Now::both(0), MS, MS);
        for n in 1..=5 {
            assert_eq!(t.next_deadline(), Some(n * MS));
            assert!(t.tick(Now::both(n * MS)));
            assert_eq!(t.delivered(Now::both(n * MS + 20)), Some(n * MS + 20));
            assert_eq!(t.due(), None);
        }
    }
}

/// A tick is counted, and accepted only 3.5 periods later.
#[test]
fn late_delivery() {
    for (mode, left, next) in [
        (MissedTicks::Delay, Some(3), None),
        (MissedTicks::NoDelay, Some(3), None),
        (MissedTicks::Drop, None, Some(5 * MS)),
        (MissedTicks::One, None, Some(5 * MS)),
    ] {
        let mut t = timer(mode);
        t.start(Now::both(0), MS, MS);
        assert!(t.tick(Now::both(MS)));
        assert!(t.delivered(Now::both(4 * MS + MS / 2)).is_some());
        assert_eq!((t.due(), t.next_deadline()), (left, next), "{mode:?}");
    }
}

/// The vCPU has no processor for 3.5 periods.
#[test]
fn preemption() {
    for (mode, waiting) in [
        (MissedTicks::Delay, Some(3)),
        (MissedTicks::NoDelay, Some(3)),
        (MissedTicks::Drop, None),
        (MissedTicks::One, Some(3)),
    ] {
        let mut t = timer(mode);
        t.start(Now::both(0), MS, MS);
        assert_eq!(t.insistent_deadline(), None);
        assert_eq!(t.resume(Now::both(3 * MS + MS / 2)), waiting.is_some());
        assert_eq!(t.due(), waiting, "{mode:?}");
    }
}

#[test]
fn dropped_ticks_make_the_next_one_insistent() {
    let mut t = timer(MissedTicks::Drop);
    t.start(Now::both(0), MS, MS);
    assert!(!t.resume(Now::both(2 * MS + 1)));
    assert_eq!((t.next_deadline(), t.insistent_deadline()), (Some(3 * MS), Some(3 * MS)));
    assert!(t.tick(Now::both(3 * MS)));
    assert!(t.delivered(Now::both(3 * MS)).is_some());
    assert_eq!(t.insistent_deadline(), None, "a delivered tick is as good as any");
}

#[test]
fn late_ticks_are_one() {
    let mut t = timer(MissedTicks::One);
    t.start(Now::both(0), MS, MS);
    assert!(t.resume(Now::both(10 * MS + 1)));
    assert!(t.delivered(Now::both(10 * MS + 2)).is_some());
    assert_eq!((t.due(), t.next_deadline()), (None, Some(11 * MS)));
}

/// Guest time goes from tick to tick until it has caught up.
#[test]
fn delayed_time_catches_up_tick_by_tick() {
    let mut clock = GuestClock::new(0, 0);
    let mut t = timer(MissedTicks::Delay);
    t.start(clock.now(0), MS, MS);
    clock.freeze(MS / 2, MissedTicks::Delay);
    let back = 4 * MS + MS / 2;
    assert!(t.resume(clock.now(back)));
    clock.thaw(back);
    let mut seen = Vec::new();
    while t.due().is_some() {
        let to = t.delivered(clock.now(back)).unwrap();
        clock.advance(back, to);
        seen.push(clock.now(back).guest);
    }
    assert_eq!(seen, [MS, 2 * MS, 3 * MS, 4 * MS]);
}

#[test]
fn aligned_ticks_fall_on_multiples() {
    let mut t = Timer::new(Rules { missed: MissedTicks::NoDelay, align: true });
    t.start(Now::both(1234), 10, MS);
    assert_eq!(t.next_deadline(), Some(MS));
    t.start(Now::both(MS), MS, MS);
    assert_eq!(t.next_deadline(), Some(2 * MS));
    t.start(Now::both(1234), 10, 0);
    assert_eq!(t.next_deadline(), Some(1244));
}

#[test]
fn periods_are_not_too_short() {
    let mut t = timer(MissedTicks::NoDelay);
    t.start(Now::both(0), 1, 1);
    assert!(t.tick(Now::both(1)) && t.delivered(Now::both(1)).is_some());
    assert_eq!(t.next_deadline(), Some(1 + SHORTEST_PERIOD));
}

#[test]
fn new_rules_hold_for_a_running_timer() {
    let mut t = timer(MissedTicks::Delay);
    t.start(Now::both(0), MS, MS);
    t.set_rules(Rules { missed: MissedTicks::One, align: true });
    assert_eq!(t.next_deadline(), Some(MS));
    assert!(t.resume(Now::both(9 * MS)) && t.delivered(Now::both(9 * MS)).is_some());
    assert_eq!(t.due(), None);
}

#[derive(Clone, Debug)]
enum Step {
    Pass(u64),
    Tick,
    Deliver,
    Preempted(u64),
    Start(u64, u64),
    Stop,
    Rules(usize, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let some = prop_oneof![0..5 * MS, Just(u64::MAX), any::<u64>()];
    prop_oneof![
        4 => (0..5 * MS).prop_map(Step::Pass),
        4 => Just(Step::Tick),
        4 => Just(Step::Deliver),
        2 => (0..20 * MS).prop_map(Step::Preempted),
        1 => (some.clone(), some).prop_map(|(delay, period)| Step::Start(delay, period)),
        1 => Just(Step::Stop),
        1 => (0..4usize, any::<bool>()).prop_map(|(mode, align)| Step::Rules(mode, align)),
    ]
}

proptest! {
    /// However late the calls come, the modes that deliver all ticks deliver exactly those that the time was enough for.
    #[test]
    fn no_tick_is_lost_or_invented(
        period in SHORTEST_PERIOD..3 * MS,
        delay in 0..3 * MS,
        waits in prop::collection::vec((0..9 * MS, any::<bool>(), any::<bool>()), 1..60),
        lossless in any::<bool>(),
    ) {
        let mut t = timer(if lossless { MissedTicks::NoDelay } else { MissedTicks::Delay });
        t.start(Now::both(0), delay, period);
        let (mut time, mut delivered) = (0, 0u64);
        for (wait, preempted, deliver) in waits {
            time += wait;
            if preempted { t.resume(Now::both(time)); } else { t.tick(Now::both(time)); }
            if deliver && t.delivered(Now::both(time)).is_some() {
                delivered += 1;
            }
        }
        while t.due().is_some() || t.tick(Now::both(time)) {
            prop_assert!(t.delivered(Now::both(time)).is_some());
            delivered += 1;
        }
        let expected = time.checked_sub(delay).map_or(0, |after| after / period + 1);
        prop_assert_eq!(delivered, expected);
        prop_assert!(t.next_deadline() > Some(time));
    }

    /// Late ticks that become one never outnumber the calls that delivered them, and none is owed afterwards.
    #[test]
    fn collapsed_ticks_leave_nothing_behind(
        period in SHORTEST_PERIOD..3 * MS,
        waits in prop::collection::vec((0..9 * MS, any::<bool>()), 1..60),
        one in any::<bool>(),
    ) {
        let mut t = timer(if one { MissedTicks::One } else { MissedTicks::Drop });
        t.start(Now::both(0), period, period);
        let mut time = 0;
        for (wait, preempted) in waits {
            time += wait;
            let due = if preempted { t.resume(Now::both(time)) } else { t.tick(Now::both(time)) };
            prop_assert_eq!(due, t.due().is_some());
            if due {
                prop_assert_eq!(t.delivered(Now::both(time)), Some(time));
                prop_assert_eq!(t.due(), None);
            }
            prop_assert!(t.next_deadline() <= Some(time + period));
        }
    }

    /// Any order of calls with any numbers: no panic, and a tick is either to come or due.
    #[test]
    fn any_use_is_sound(steps in prop::collection::vec(step(), 0..100)) {
        let mut t = Timer::default();
        let mut clock = GuestClock::new(0, 12345);
        let mut steady = 0u64;
        for step in steps {
            let now = clock.now(steady);
            match step {
                Step::Pass(time) => steady += time,
                Step::Tick => { t.tick(now); }
                Step::Deliver => if let Some(guest) = t.delivered(now) {
                    prop_assert!(guest >= now.guest);
                    clock.advance(steady, guest);
                    prop_assert_eq!(clock.now(steady).guest, guest);
                },
                Step::Preempted(time) => {
                    clock.freeze(steady, t.rules().missed);
                    steady += time;
                    t.resume(clock.now(steady));
                    clock.thaw(steady);
                }
                Step::Start(delay, period) => t.start(now, delay, period),
                Step::Stop => t.stop(),
                Step::Rules(mode, align) => t.set_rules(Rules { missed: MODES[mode], align }),
            }
            prop_assert!(clock.now(steady).guest >= now.guest, "guest time went back");
            prop_assert_eq!(t.is_running(), t.due().is_some() != t.next_deadline().is_some());
            prop_assert!(t.insistent_deadline().is_none() || t.insistent_deadline() == t.next_deadline());
        }
    }
}
