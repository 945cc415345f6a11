//! The interval timer as a guest uses it.

use types::Errno;
use vpit::{FREQUENCY, LINE, Pit, SPEAKER_PORT};
use vtimer::{Action, Change, Line, MissedTicks, Now, Rules};
use xen_abi::hvm_save::clocks::HvmHwPit;

const RULES: Rules = Rules { missed: MissedTicks::NoDelay, align: false };

fn pit() -> Pit {
    Pit::new(Now::both(0), RULES)
}

fn at(ticks: u64) -> Now {
    Now::both((ticks * 1_000_000_000).div_ceil(FREQUENCY))
}

fn program(pit: &mut Pit, counter: u16, mode: u8, count: u16, now: Now) {
    pit.write(0x43, 1, u32::from(counter) << 6 | 0x30 | u32::from(mode) << 1, now);
    for byte in count.to_le_bytes() {
        pit.write(0x40 + counter, 1, byte.into(), now);
    }
}

#[test]
fn counter_0_ticks() {
    let mut p = pit();
    assert_eq!(p.next_deadline(), None);
    program(&mut p, 0, 2, 11932, Now::both(1000));
    // 11932 / 1.193182 MHz = 10 000 151 ns.
    let period = 10_000_151;
    assert_eq!(p.next_deadline(), Some(1000 + period));
    assert!(p.tick(Now::both(period)).is_none());
    let now = Now::both(1000 + period);
    assert_eq!(p.tick(now), Action::one(LINE, Change::Edge));
    assert_eq!((p.due(), p.next_deadline()), (Action::one(LINE, Change::Edge), None));
    assert_eq!(p.delivered(Line::Isa(8), now), None);
    assert_eq!(p.delivered(LINE, now), Some(now.guest));
    assert_eq!((p.due(), p.next_deadline()), (Action::NONE, Some(1000 + 2 * period)));
    p.stop_irq();
    assert_eq!(p.next_deadline(), None);
}

#[test]
fn count_starts_over_at_each_accepted_tick() {
    let mut p = pit();
    program(&mut p, 0, 2, 10_000, Now::both(0));
    let late = Now::both(12_000_000);
    let _ = p.tick(late);
    assert!(p.delivered(LINE, late).is_some());
    p.write(0x43, 1, 0, late);
    let count = p.read(0x40, 1, late) | p.read(0x40, 1, late) << 8;
    assert_eq!(count, 10_000);
}

#[test]
fn modes_that_interrupt_once_do() {
    for mode in [0, 1, 4] {
        let mut p = pit();
        program(&mut p, 0, mode, 1193, Now::both(0));
        assert!(!p.tick(Now::both(1_000_000)).is_none());
        assert!(p.delivered(LINE, Now::both(1_000_000)).is_some());
        assert_eq!(p.next_deadline(), None);
    }
    let mut p = pit();
    program(&mut p, 0, 2, 1193, Now::both(0));
    program(&mut p, 0, 5, 1193, Now::both(0));
    assert_eq!(p.next_deadline(), None, "its gate never rises");
    program(&mut p, 1, 2, 1193, Now::both(0));
    program(&mut p, 2, 2, 1193, Now::both(0));
    assert_eq!(p.next_deadline(), None, "only counter 0 interrupts");
}

#[test]
fn read_back_latches_what_it_names() {
    let mut p = pit();
    program(&mut p, 0, 2, 0x1111, at(0));
    program(&mut p, 1, 2, 0x2222, at(0));
    program(&mut p, 2, 2, 0x3333, at(0));
    p.write(SPEAKER_PORT, 1, 1, at(0));
    // Count and status of counters 1 and 2.
    p.write(0x43, 1, 0xc0 | 2 << 1 | 2 << 2, at(2));
    let mut bytes = |port| [0; 3].map(|_| p.read(port, 1, at(0x11)));
    assert_eq!(bytes(0x41), [0xb4, 0x20, 0x22]);
    assert_eq!(bytes(0x42), [0xb4, 0x31, 0x33]);
    assert_eq!(bytes(0x40), [0x00, 0x11, 0x00]);
    // Status only, of counter 0.
    p.write(0x43, 1, 0xc0 | 1 << 5 | 2, at(2));
    assert_eq!(p.read(0x40, 1, at(2)), 0xb4);
}

#[test]
fn speaker_port_has_gate_data_refresh_and_output() {
    let mut p = pit();
    program(&mut p, 2, 0, 1000, at(0));
    assert_eq!(p.read(SPEAKER_PORT, 1, at(5000)) & 0x2f, 0, "the gate is low, so it does not count");
    p.write(SPEAKER_PORT, 1, 0xff, at(5000));
    assert_eq!(p.read(SPEAKER_PORT, 1, at(5999)) & 0x2f, 3);
    assert_eq!(p.read(SPEAKER_PORT, 1, at(6001)) & 0x2f, 0x23);
    let refresh = [0, 1 << 14, 2 << 14, 3 << 14].map(|ns| p.read(SPEAKER_PORT, 1, Now::both(ns)) & 0x10);
    assert_eq!(refresh, [0, 0x10, 0, 0x10]);
}

#[test]
fn other_sizes_and_the_control_word_cannot_be_read() {
    let mut p = pit();
    program(&mut p, 0, 2, 0x1234, at(0));
    assert_eq!((p.read(0x40, 2, at(0)), p.read(0x40, 4, at(0)), p.read(0x43, 1, at(0))), (0xffff, 0xffff_ffff, 0xff));
    let before = p.clone();
    p.write(0x40, 2, 0xffff, at(1));
    p.write(0x43, 4, 0x36, at(1));
    assert_eq!(p, before);
    assert_eq!((0..=0xffff).filter(|&port| Pit::owns(port)).collect::<Vec<_>>(), [0x40, 0x41, 0x42, 0x43, 0x61]);
}

#[test]
fn restored_timer_ticks_on() {
    let mut p = pit();
    program(&mut p, 0, 3, 2386, at(0));
    p.write(SPEAKER_PORT, 1, 2, at(0));
    let record = p.save();
    assert_eq!((record.channels[0].count, record.channels[0].mode, record.speaker_data_on), (2386, 3, 1));
    let mut restored = pit();
    let now = Now::both(77_000_000);
    assert_eq!(restored.load(&record, now), Ok(Action::NONE));
    assert_eq!(restored.save(), record);
    assert_eq!(restored.next_deadline(), Some(now.steady + 1_999_695));
    for bad in [HvmHwPit { speaker_data_on: 2, ..record }, HvmHwPit { pad0: 1, ..record }] {
        assert_eq!(restored.load(&bad, now), Err(Errno::DOM));
    }
    let mut bad = record;
    bad.channels[1].gate = 0;
    assert_eq!(restored.load(&bad, now), Err(Errno::INVAL));
    assert_eq!(restored.save(), record, "a refused record changes nothing");
}
