//! What is intercepted: ports, control and debug registers, MSRs, tables.

use crate::machine::{Machine, RIP, machine, run, state, stop};
use x86_emulate::hvm::CodeSize::{Bits16, Bits32, Bits64};
use x86_emulate::hvm::*;

const RBX: usize = 3;

#[test]
fn control_and_debug_registers() {
    // mov cr3, r12; mov rcx, cr4; mov db7, rax; mov rbx, db6; mov rax, cr8
    let (_, machine) = run(Bits64, &[0x41, 0x0f, 0x22, 0xdc], |state, _| state.general[12] = 0x5000);
    assert_eq!(machine.control[3], 0x5000);
    let (state, _) = run(Bits64, &[0x0f, 0x20, 0xe1], |_, machine| machine.control[4] = u64::MAX);
    assert_eq!(state.general[1], u64::MAX);
    let (_, machine) = run(Bits64, &[0x0f, 0x23, 0xf8], |state, _| state.general[0] = 0x401);
    assert_eq!(machine.debug[7], 0x401);
    let (state, _) = run(Bits64, &[0x0f, 0x21, 0xf3], |_, machine| machine.debug[6] = 6);
    assert_eq!(state.general[RBX], 6);
    let (state, _) = run(Bits64, &[0x44, 0x0f, 0x20, 0xc0], |_, machine| machine.control[8] = 9);
    assert_eq!(state.general[0], 9);
    // mov cr0, eax in real mode takes 32 bits.
    let (_, machine) = run(Bits16, &[0x0f, 0x22, 0xc0], |state, _| state.general[0] = 0xff_0000_0011);
    assert_eq!(machine.control[0], 0x11);
    // clts; lmsw ax and [bx], which cannot clear PE; smsw ecx, [ebx]
    let (_, machine) = run(Bits32, &[0x0f, 0x06], |_, machine| machine.control[0] = 0x3b);
    assert_eq!(machine.control[0], 0x33);
    let (_, machine) = run(Bits16, &[0x0f, 0x01, 0xf0], |state, machine| {
        (state.general[0], machine.control[0]) = (0xfff8, 0x8000_0035);
    });
    assert_eq!(machine.control[0], 0x8000_0039);
    let (_, machine) = run(Bits32, &[0x0f, 0x01, 0x33], |state, machine| {
        state.general[RBX] = 0x8000;
        machine.put(0x8000, &[1, 0]);
    });
    assert_eq!(machine.control[0], 1);
    let (state, _) = run(Bits32, &[0x0f, 0x01, 0xe1], |_, machine| machine.control[0] = 0x8000_0033);
    assert_eq!(state.general[1], 0x8000_0033);
    let (_, machine) = run(Bits32, &[0x0f, 0x01, 0x23], |state, machine| {
        (state.general[RBX], machine.control[0]) = (0x8000, 0x8000_0033);
    });
    assert_eq!(machine.get(0x8000, 4), [0x33, 0, 0x5a, 0x5a]);
}

#[test]
fn pairs_of_registers() {
    let (state, _) = run(Bits64, &[0x0f, 0x32], |state, machine| {
        state.general[1] = 0xffff_ffff_0000_0010;
        machine.msrs.insert(0x10, 0x1122_3344_5566_7788);
    });
    assert_eq!((state.general[0], state.general[2]), (0x5566_7788, 0x1122_3344));
    let (_, machine) = run(Bits32, &[0x0f, 0x30], |state, _| {
        state.general[..3].copy_from_slice(&[0xffff_ffff_8234_0000, 0xc000_0080, 3]);
    });
    assert_eq!(machine.msrs[&0xc000_0080], 0x3_8234_0000);
    assert_eq!(stop(Bits64, &[0x0f, 0x32], |_, _| {}), Stop::GP);
    let (state, _) = run(Bits64, &[0x0f, 0x01, 0xf9], |_, _| {});
    assert_eq!(state.general[..3], [2, 77, 1]);
    let (state, _) = run(Bits64, &[0x0f, 0xa2], |state, _| state.general[..2].copy_from_slice(&[7 << 32 | 1, 5]));
    assert_eq!(state.general[..4], [1, 5, 3, 1]);
    let xsetbv = [0x0f, 0x01, 0xd1];
    assert_eq!(stop(Bits64, &xsetbv, |_, _| {}), Stop::UD);
    let (_, machine) = run(Bits64, &xsetbv, |state, _| (state.cr4, state.general[0]) = (1 << 18, 7));
    assert_eq!(machine.xcr0, 7);
}

#[test]
fn descriptor_tables() {
    // lgdt [rbx], with bytes of both sizes; lidt of 16 bits takes 24 bits of the address.
    let image = [0x7f, 0, 1, 2, 3, 4, 0, 0x80, 0xff, 0xff];
    let place = |state: &mut State, machine: &mut Machine| {
        state.general[RBX] = 0x8000;
        machine.put(0x8000, &image);
    };
    let (_, machine) = run(Bits64, &[0x0f, 0x01, 0x13], place);
    assert_eq!(machine.tables[0], DescriptorTable { base: 0xffff_8000_0403_0201, limit: 0x7f });
    let (_, machine) = run(Bits32, &[0x0f, 0x01, 0x1b], place);
    assert_eq!(machine.tables[1], DescriptorTable { base: 0x0403_0201, limit: 0x7f });
    let (_, machine) = run(Bits16, &[0x0f, 0x01, 0x1f], place);
    assert_eq!(machine.tables[1], DescriptorTable { base: 0x03_0201, limit: 0x7f });
    let bad = stop(Bits64, &[0x0f, 0x01, 0x13], |state, machine| {
        place(state, machine);
        machine.put(0x8008, &[0]);
    });
    assert_eq!(bad, Stop::GP);
    let (_, machine) = run(Bits64, &[0x0f, 0x01, 0x0b], |state, machine| {
        place(state, machine);
        machine.tables[1] = DescriptorTable { base: 0xffff_ffff_8000_0000, limit: 0xfff };
    });
    assert_eq!(machine.get(0x8000, 11), [0xff, 0xf, 0, 0, 0, 0x80, 0xff, 0xff, 0xff, 0xff, 0x5a]);
    let (_, machine) = run(Bits32, &[0x0f, 0x01, 0x03], |state, machine| {
        place(state, machine);
        machine.tables[0] = DescriptorTable { base: 0x1234_5678, limit: 1 };
    });
    assert_eq!(machine.get(0x8000, 8), [1, 0, 0x78, 0x56, 0x34, 0x12, 0, 0x80]);
}

#[test]
fn caches_pages_and_waiting() {
    assert_eq!(run(Bits64, &[0x0f, 0x09], |_, _| {}).1.flushes, 1);
    // invlpg gs:[rbx+8], also where no access can be made
    let invlpg = [0x65, 0x0f, 0x01, 0x7b, 8];
    let (_, flushed) = run(Bits64, &invlpg, |state, _| {
        (state.segments[5].base, state.general[RBX]) = (0x7000, 0x1000);
    });
    assert_eq!(flushed.invalidated, [0x8008]);
    assert!(run(Bits64, &invlpg, |state, _| state.general[RBX] = 1 << 62).1.invalidated.is_empty());
    let done = |code: &[u8], flags| {
        let mut state = state(Bits32);
        state.flags |= flags;
        let mut machine = machine(&state, code);
        let done = emulate(&mut state, &mut machine, 1).expect("no stop");
        (done, state.flags)
    };
    // hlt; sti, which blocks only where it changes something; cli; a single step of nop
    assert!(done(&[0xf4], 0).0.is_halted);
    assert_eq!(done(&[0xfb], 0), (Done { blocks_interrupts: true, ..Done::default() }, 0x202));
    assert_eq!(done(&[0xfb], 0x200), (Done::default(), 0x202));
    assert_eq!(done(&[0xfa], 0x200), (Done::default(), 2));
    assert!(done(&[0x90], 0x100).0.single_step);
    // RF is over after an instruction.
    assert_eq!(done(&[0x90], 0x1_0000).1, 2);
}

#[test]
fn user_code_may_little() {
    let user = |state: &mut State, _: &mut Machine| state.level = 3;
    let refused: [&[u8]; 17] = [
        &[0x0f, 0x20, 0xc0],
        &[0x0f, 0x22, 0xc0],
        &[0x0f, 0x21, 0xc0],
        &[0x0f, 0x06],
        &[0x0f, 0x01, 0xf0],
        &[0x0f, 0x01, 0x3b],
        &[0x0f, 0x09],
        &[0x0f, 0x30],
        &[0x0f, 0x32],
        &[0x0f, 0x01, 0xd1],
        &[0x0f, 0x01, 0x13],
        &[0x0f, 0x01, 0x1b],
        &[0xf4],
        &[0xfa],
        &[0xfb],
        &[0xec],
        &[0x6c],
    ];
    for code in refused {
        assert_eq!(stop(Bits64, code, user), Stop::GP, "{code:x?}");
    }
    for code in [&[0x0f, 0xa2][..], &[0x0f, 0x31], &[0x0f, 0x01, 0xe0], &[0x0f, 0x01, 0x03]] {
        run(Bits64, code, user);
    }
    // TSD and UMIP take more away.
    assert_eq!(stop(Bits64, &[0x0f, 0x31], |state, _| (state.level, state.cr4) = (3, 4)), Stop::GP);
    for code in [&[0x0f, 0x01, 0xe0][..], &[0x0f, 0x01, 0x03], &[0x0f, 0x01, 0x0b]] {
        assert_eq!(stop(Bits64, code, |state, _| (state.level, state.cr4) = (3, 1 << 11)), Stop::GP);
    }
}

#[test]
fn ports() {
    let seen = |code: &[u8], rax: u64| {
        let (state, machine) = run(Bits64, code, |state, _| (state.general[0], state.general[2]) = (rax, 0xf_03f8));
        let access = machine.seen[0];
        (state.general[0], access.address, access.size, access.is_write.then_some(access.data))
    };
    let rax = 0xaaaa_bbbb_cccc_dddd;
    assert_eq!(seen(&[0xec], rax), (0xaaaa_bbbb_cccc_dd01, 0x3f8, 1, None));
    assert_eq!(seen(&[0x66, 0xed], rax), (0xaaaa_bbbb_cccc_0101, 0x3f8, 2, None));
    assert_eq!(seen(&[0xe5, 0x80], rax), (0x0101_0101, 0x80, 4, None));
    assert_eq!(seen(&[0xe6, 0x80], rax), (rax, 0x80, 1, Some(0xdd)));
    assert_eq!(seen(&[0xef], rax), (rax, 0x3f8, 4, Some(0xcccc_dddd)));
}

#[test]
fn rights_to_ports() {
    let in_al_dx = |level, flags, cr0, may_use_ports| {
        let mut state = State { level, cr0, ..state(Bits32) };
        state.flags |= flags;
        let mut machine = Machine { may_use_ports, ..machine(&state, &[0xec]) };
        emulate(&mut state, &mut machine, 1).map(|_| state.rip - RIP)
    };
    let protected = 0x11;
    assert_eq!(in_al_dx(3, 0, protected, false), Err(Stop::GP));
    assert_eq!(in_al_dx(3, 0, protected, true), Ok(1));
    assert_eq!(in_al_dx(3, 3 << 12, protected, false), Ok(1));
    assert_eq!(in_al_dx(1, 1 << 12, protected, false), Ok(1));
    // In virtual-8086 mode the I/O privilege level does not count.
    assert_eq!(in_al_dx(3, 3 << 12 | 1 << 17, protected, false), Err(Stop::GP));
    assert_eq!(in_al_dx(0, 0, 0x10, false), Ok(1));
}
