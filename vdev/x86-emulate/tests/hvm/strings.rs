//! String instructions: batches, bursts, directions, ports.

use crate::machine::{DEVICE, Machine, RIP, machine, run, state, stop};
use x86_emulate::hvm::CodeSize::{Bits16, Bits32, Bits64};
use x86_emulate::hvm::*;

const RCX: usize = 1;
const RDX: usize = 2;
const RSI: usize = 6;
const RDI: usize = 7;
const DF: u64 = 0x400;
const TF: u64 = 0x100;

#[test]
fn batches_go_on_where_they_stopped() {
    let mut state = state(Bits64);
    let mut machine = machine(&state, &[0xf3, 0xaa]);
    (state.general[0], state.general[RCX], state.general[RDI]) = (0x11, 10, 0x8000);
    for left in [6, 2] {
        let done = emulate(&mut state, &mut machine, 4).expect("no stop");
        assert!(done.is_unfinished && !done.single_step);
        assert_eq!((state.general[RCX], state.general[RDI], state.rip), (left, 0x800a - left, RIP));
    }
    assert_eq!(emulate(&mut state, &mut machine, 4), Ok(Done::default()));
    assert_eq!((state.general[RCX], state.rip), (0, RIP + 2));
    assert_eq!(machine.get(0x8000, 11), [vec![0x11; 10], vec![0x5a]].concat());
}

#[test]
fn a_single_step_is_one_unit() {
    let mut state = state(Bits64);
    let mut machine = machine(&state, &[0xf3, 0xaa]);
    state.flags |= TF;
    (state.general[RCX], state.general[RDI]) = (2, 0x8000);
    let done = emulate(&mut state, &mut machine, 100);
    assert_eq!(done, Ok(Done { is_unfinished: true, single_step: true, ..Done::default() }));
    let done = emulate(&mut state, &mut machine, 100);
    assert_eq!(done, Ok(Done { single_step: true, ..Done::default() }));
}

#[test]
fn bursts_have_what_is_left_in_the_batch() {
    let burst = |code: &[u8], flags, takes, most| {
        let mut state = state(Bits64);
        let mut machine = Machine { takes, ..machine(&state, code) };
        state.flags |= flags;
        state.general[..3].copy_from_slice(&[0x1122, 100, 0x1f0]);
        (state.general[RSI], state.general[RDI]) = (0x8800, DEVICE + 0x800);
        emulate(&mut state, &mut machine, most).expect("no stop");
        (state, machine)
    };
    let to = DEVICE + 0x800;
    let (state, machine) = burst(&[0xf3, 0x48, 0xa5], 0, 30, 50);
    let kind = BurstKind::Move { from: 0x8800, to };
    assert_eq!(machine.bursts[0], Burst { kind, size: 8, count: 50, is_backward: false });
    assert_eq!(machine.bursts[1].count, 20);
    assert_eq!((state.general[RCX], state.general[RSI]), (50, 0x8800 + 8 * 50));
    assert!(machine.seen.is_empty());
    // Downwards; one unit alone is no burst.
    let (state, machine) = burst(&[0xf3, 0x66, 0xab], DF, 49, 50);
    let kind = BurstKind::Fill { to, value: 0x1122 };
    assert_eq!(machine.bursts, [Burst { kind, size: 2, count: 50, is_backward: true }]);
    assert_eq!((state.general[RDI], machine.seen.len()), (to - 100, 1));
    let (_, machine) = burst(&[0xf3, 0x6d], 0, u64::MAX, 50);
    assert_eq!(machine.bursts[0].kind, BurstKind::Input { port: 0x1f0, to });
    let (_, machine) = burst(&[0xf3, 0x6f], 0, u64::MAX, 50);
    assert_eq!(machine.bursts[0].kind, BurstKind::Output { from: 0x8800, port: 0x1f0 });
    for single in [&[0xf3, 0xac][..], &[0xf3, 0xa6], &[0xa4], &[0xf2, 0xae]] {
        assert!(burst(single, 0, 1, 50).1.bursts.is_empty(), "{single:x?}");
    }
}

#[test]
fn a_burst_ends_before_pointers_wrap_around() {
    // rep stosd, upwards from 0xfff4 and downwards from 8, then one unit and the next burst on the other side.
    for (flags, start, counts, end) in [(0, 0xfff4, [2, 7], 0x1c), (DF, 8, [3, 7], 0xffe0)] {
        let (state, machine) = run(Bits16, &[0xf3, 0x66, 0xab], |state, machine| {
            state.flags |= flags;
            state.general[RCX] = 0xffff_000a;
            state.general[RDI] = 0xaaaa_0000 | start;
            state.segments[0].base = 0x5_0000;
            machine.takes = u64::MAX;
        });
        let offered: Vec<_> = machine.bursts.iter().map(|burst| burst.count).collect();
        assert_eq!(offered, counts);
        assert_eq!((state.general[RCX], state.general[RDI]), (0xffff_0000, 0xaaaa_0000 | end));
    }
}

#[test]
fn a_unit_beyond_the_segment_faults_alone() {
    let mut state = state(Bits32);
    let mut machine = Machine { takes: u64::MAX, ..machine(&state, &[0xf3, 0xab]) };
    state.segments[0].limit = 0x800b;
    (state.general[RCX], state.general[RDI]) = (10, 0x8000);
    assert_eq!(emulate(&mut state, &mut machine, 100), Err(Stop::GP));
    assert_eq!((state.general[RCX], state.general[RDI], state.rip), (7, 0x800c, RIP));
    assert!(machine.bursts.is_empty());
}

#[test]
fn the_source_segment_can_be_another() {
    // mov gs:movsb; the destination's is ES whatever the prefix says.
    let (_, machine) = run(Bits32, &[0x65, 0xa4], |state, machine| {
        (state.segments[5].base, state.segments[0].base) = (0x10_0000, 0x20_0000);
        (state.general[RSI], state.general[RDI]) = (4, 8);
        machine.put(0x10_0004, &[0x99]);
    });
    assert_eq!(machine.memory[&0x20_0008], 0x99);
}

#[test]
fn a_count_of_nothing_does_nothing() {
    let (state, machine) = run(Bits64, &[0xf3, 0xa4], |state, machine| {
        state.general[RSI] = 1 << 63;
        machine.absent.insert(0);
    });
    assert_eq!((machine.calls, state.general[RSI]), (0, 1 << 63));
}

#[test]
fn strings_of_ports() {
    // rep insw, rep outsb with a slow device
    let mut state = state(Bits32);
    let mut machine = Machine { is_slow: true, ..machine(&state, &[0xf3, 0x66, 0x6d]) };
    (state.general[RCX], state.general[RDX], state.general[RDI]) = (2, 0x1f0, 0x8000);
    while state.rip == RIP {
        machine.replay.begin();
        if emulate(&mut state, &mut machine, 10) == Err(Stop::Pending) {
            machine.settle();
        }
    }
    assert_eq!((machine.get(0x8000, 4), machine.seen.len()), (vec![1, 1, 2, 2], 2));
    let (_, machine) = run(Bits64, &[0xf3, 0x6e], |state, machine| {
        (state.general[RCX], state.general[RDX], state.general[RSI]) = (3, 0x3f8, 0x8000);
        machine.put(0x8000, b"xen");
    });
    let written: Vec<_> = machine.seen.iter().map(|access| access.data as u8).collect();
    assert_eq!(written, b"xen");
    // The port is not read where its value cannot be stored.
    let stop = stop(Bits64, &[0x6c], |state, machine| {
        state.general[RDI] = 0x8000;
        machine.read_only.insert(0x8000);
        machine.is_slow = true;
    });
    assert_eq!(stop, Stop::PageFault { address: 0x8000, error_code: 3 });
}
