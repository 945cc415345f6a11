//! Devices whose answers come later, faults, and other CPUs.

use crate::machine::{DEVICE, Machine, PAGE, RIP, machine, run, state, stop};
use x86_emulate::hvm::CodeSize::{Bits32, Bits64};
use x86_emulate::hvm::*;

const RBX: usize = 3;

/// Runs `code` with a device that answers each access later; how many attempts it took.
fn slowly(code: &[u8], prepare: impl FnOnce(&mut State, &mut Machine)) -> (State, Machine, usize) {
    let mut state = state(Bits64);
    let mut machine = Machine { is_slow: true, ..machine(&state, code) };
    prepare(&mut state, &mut machine);
    for attempt in 1..30 {
        machine.replay.begin();
        let before = state;
        match emulate(&mut state, &mut machine, 1000) {
            Ok(_) => return (state, machine, attempt),
            Err(stop) => assert_eq!(stop, Stop::Pending),
        }
        assert_eq!(state, before);
        machine.settle();
    }
    panic!("{code:x?} never ends");
}

/// Reads and writes that the device saw: address, size, and what was written.
fn seen(machine: &Machine) -> Vec<(u64, u8, Option<u64>)> {
    machine.seen.iter().map(|a| (a.address - DEVICE, a.size, a.is_write.then_some(a.data))).collect()
}

#[test]
fn each_access_reaches_the_device_once() {
    // add [rbx], rax
    let (state, machine, attempts) = slowly(&[0x48, 0x01, 0x03], |state, _| {
        (state.general[0], state.general[RBX]) = (0x10, DEVICE + 8);
    });
    assert_eq!(seen(&machine), [(8, 8, None), (8, 8, Some(0x0101_0101_0101_0111))]);
    assert_eq!((attempts, state.rip, state.flags), (3, RIP + 3, 0x2 | 4));
    // mov ax, [rbx]; lock xadd [rbx], ecx; push [rbx]
    let (state, machine, _) = slowly(&[0x66, 0x8b, 0x03], |state, _| state.general[RBX] = DEVICE);
    assert_eq!((seen(&machine), state.general[0]), (vec![(0, 2, None)], 0x0101));
    let (state, machine, _) = slowly(&[0xf0, 0x0f, 0xc1, 0x0b], |state, _| state.general[RBX] = DEVICE);
    assert_eq!(seen(&machine), [(0, 4, None), (0, 4, Some(0x0101_0101))]);
    assert_eq!(state.general[1], 0x0101_0101);
    let (state, machine, _) = slowly(&[0xff, 0x33], |state, _| {
        (state.general[RBX], state.general[4]) = (DEVICE, 0x8008);
    });
    assert_eq!((machine.word(0x8000), state.general[4]), (0x0101_0101_0101_0101, 0x8000));
}

#[test]
fn wide_operands_come_in_pieces() {
    // movdqu xmm1, [rbx]; movdqu [rbx], xmm1, with 5 bytes on the device's page; cmpxchg16b [rbx]
    let (_, machine, attempts) = slowly(&[0xf3, 0x0f, 0x6f, 0x0b], |state, _| state.general[RBX] = DEVICE);
    assert_eq!((seen(&machine), attempts), (vec![(0, 8, None), (8, 8, None)], 3));
    assert_eq!(machine.vectors[1], 0x0202_0202_0202_0202_0101_0101_0101_0101);
    let (_, machine, _) = slowly(&[0xf3, 0x0f, 0x7f, 0x0b], |state, machine| {
        state.general[RBX] = DEVICE + PAGE - 5;
        machine.vectors[1] = u128::from_le_bytes(std::array::from_fn(|byte| byte as u8));
    });
    assert_eq!(seen(&machine), [(0xffb, 4, Some(0x0302_0100)), (0xfff, 1, Some(4))]);
    assert_eq!(machine.get(DEVICE + PAGE, 11), [5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
    let (state, machine, _) = slowly(&[0x48, 0x0f, 0xc7, 0x0b], |state, _| {
        state.general[..4].copy_from_slice(&[0x0101_0101_0101_0101, 7, 0x0202_0202_0202_0202, DEVICE]);
    });
    assert_eq!(seen(&machine)[2..], [(0, 8, Some(DEVICE)), (8, 8, Some(7))]);
    assert_eq!(state.flags & 0x40, 0x40);
}

#[test]
fn repeated_moves_keep_what_they_have_moved() {
    // rep movsd from the device
    let mut state = state(Bits64);
    let mut machine = Machine { is_slow: true, ..machine(&state, &[0xf3, 0xa5]) };
    (state.general[1], state.general[6], state.general[7]) = (3, DEVICE, 0x8000);
    for moved in 0..3 {
        machine.replay.begin();
        assert_eq!(emulate(&mut state, &mut machine, 1000), Err(Stop::Pending));
        assert_eq!((state.general[1], state.general[6], state.rip), (3 - moved, DEVICE + 4 * moved, RIP));
        machine.settle();
    }
    machine.replay.begin();
    assert!(emulate(&mut state, &mut machine, 1000).is_ok());
    assert_eq!((state.rip, state.general[1], machine.seen.len()), (RIP + 2, 0, 3));
    assert_eq!(machine.get(0x8000, 12), [1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3]);
}

#[test]
fn a_fault_leaves_everything_as_it_was() {
    let fault = |address, error_code| Stop::PageFault { address, error_code };
    let read_only = |state: &mut State, machine: &mut Machine| {
        state.general[RBX] = 0x5ffe;
        machine.read_only.insert(0x6000);
    };
    // add [rbx], eax; bts [rbx], eax; xchg; cmpxchg with another value: all need a page that is writable.
    for code in [&[0x01, 0x03][..], &[0x0f, 0xab, 0x03], &[0x87, 0x03], &[0x0f, 0xb1, 0x0b]] {
        assert_eq!(stop(Bits64, code, read_only), fault(0x6000, 3), "{code:x?}");
    }
    assert_eq!(
        stop(Bits64, &[0x8b, 0x03], |state, machine| {
            state.general[RBX] = 0x6010;
            machine.absent.insert(0x6000);
        }),
        fault(0x6010, 0)
    );
    // pop [rbx]; movsb from the device: what cannot be stored is not read.
    assert_eq!(
        stop(Bits64, &[0x8f, 0x03], |state, machine| {
            read_only(state, machine);
            state.general[4] = DEVICE;
            machine.is_slow = true;
        }),
        fault(0x6000, 3)
    );
    assert_eq!(
        stop(Bits64, &[0xa4], |state, machine| {
            (state.general[6], state.general[7]) = (DEVICE, 0x6000);
            machine.read_only.insert(0x6000);
            machine.is_slow = true;
        }),
        fault(0x6000, 3)
    );
}

#[test]
fn a_locked_exchange_that_lost_is_tried_again() {
    // lock inc [rbx]; xchg [rbx], eax; lock cmpxchg8b [rbx] that finds what it compares with
    for code in [&[0xf0, 0xff, 0x03][..], &[0x87, 0x03], &[0xf0, 0x0f, 0xc7, 0x0b]] {
        let mut state = state(Bits32);
        let mut machine = Machine { is_raced: true, ..machine(&state, code) };
        (state.general[0], state.general[2], state.general[RBX]) = (0x5a5a_5a5a, 0x5a5a_5a5a, 0x8000);
        let before = state;
        let done = emulate(&mut state, &mut machine, 1).expect("no stop");
        assert!(done.is_unfinished && state == before, "{code:x?}");
    }
    // Without the prefix nothing is compared.
    run(Bits32, &[0xff, 0x03], |state, machine| {
        machine.is_raced = true;
        state.general[RBX] = 0x8000;
    });
}

#[test]
fn divide_errors() {
    // div and idiv of cl, ecx; idiv of rcx
    let cases: [(&[u8], u64, u64, u64); 6] = [
        (&[0xf6, 0xf1], 0, 0x100, 0),
        (&[0xf6, 0xf1], 1, 0x100, 0),
        (&[0xf6, 0xf9], 0xff, 0xff80, 0),
        (&[0xf7, 0xf1], 5, 0, 5),
        (&[0xf7, 0xf9], 0xffff_ffff, 0x8000_0000, 0xffff_ffff),
        (&[0x48, 0xf7, 0xf9], u64::MAX, 1 << 63, u64::MAX),
    ];
    let set = |state: &mut State, (divisor, low, high)| {
        (state.general[0], state.general[1], state.general[2]) = (low, divisor, high);
    };
    for (code, divisor, low, high) in cases {
        assert_eq!(stop(Bits64, code, |state, _| set(state, (divisor, low, high))), Stop::DE, "{code:x?}");
    }
    // The lowest quotient does fit: 0x80 / -1 in ax.
    assert_eq!(run(Bits64, &[0xf6, 0xf9], |state, _| set(state, (0xff, 0x80, 0))).0.general[0], 0x80);
}

#[test]
fn vector_registers_have_to_be_usable() {
    let movdqa = [0x66, 0x0f, 0x6f, 0x03];
    assert_eq!(stop(Bits64, &movdqa, |state, _| state.cr0 |= 4), Stop::UD);
    assert_eq!(stop(Bits64, &movdqa, |state, _| state.cr0 |= 8), Stop::NM);
    assert_eq!(stop(Bits64, &movdqa, |state, _| state.cr4 = 0), Stop::UD);
    assert_eq!(stop(Bits64, &movdqa, |state, _| state.general[RBX] = 0x8008), Stop::GP);
    run(Bits64, &movdqa, |state, _| state.general[RBX] = 0x8010);
    // movq mm0, [rbx]
    assert_eq!(stop(Bits64, &[0x0f, 0x6f, 0x03], |_, _| {}), Stop::Unhandled);
}
