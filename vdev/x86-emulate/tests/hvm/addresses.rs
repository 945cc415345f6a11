//! Modes, segments and code.

use crate::machine::{DATA, PAGE, RIP, run, state, stop};
use x86_emulate::hvm::CodeSize::{Bits16, Bits32, Bits64};
use x86_emulate::hvm::*;

const RAX: usize = 0;
const RBX: usize = 3;
const RSP: usize = 4;
const RBP: usize = 5;
const RSI: usize = 6;
const SS: usize = 2;
const DS: usize = 3;
const FS: usize = 4;
const GS: usize = 5;

#[test]
fn addresses_of_16_bits_wrap_around() {
    // mov [bx+si+0x10], al
    let (_, machine) = run(Bits16, &[0x88, 0x40, 0x10], |state, _| {
        state.general[RAX] = 0x77;
        state.general[RBX] = 0xaaaa_fff8;
        state.general[RSI] = 0xbbbb_0008;
        state.segments[DS].base = 0x2_0000;
    });
    assert_eq!(machine.memory[&0x2_0010], 0x77);
    // mov [0x1234], ax; mov [bp+2], al; mov [edi*2 + 0x100], eax by both prefixes.
    let (_, machine) = run(Bits16, &[0xa3, 0x34, 0x12], |state, _| state.general[RAX] = 0x1122_3344);
    assert_eq!(machine.get(0x1234, 3), [0x44, 0x33, 0x5a]);
    let (_, machine) = run(Bits16, &[0x88, 0x46, 2], |state, _| {
        state.general[RBP] = 0x500;
        state.segments[SS].base = 0x3_0000;
    });
    assert_eq!(machine.memory[&0x3_0502], 0);
    let code = [0x66, 0x67, 0x89, 0x04, 0x7d, 0, 1, 0, 0];
    let (_, machine) = run(Bits16, &code, |state, _| (state.general[RAX], state.general[7]) = (0x1122_3344, 0x80));
    assert_eq!(machine.get(0x200, 4), [0x44, 0x33, 0x22, 0x11]);
}

#[test]
fn addresses_in_64_bit_mode() {
    // mov eax, gs:[rbx]; mov eax, fs:[ebx-1]; mov al, [rip+0x10]
    let (state, _) = run(Bits64, &[0x65, 0x8b, 0x03], |state, machine| {
        state.segments[GS].base = 0xffff_8000_0000_0000;
        state.general[RBX] = 0x20;
        machine.put(0xffff_8000_0000_0020, &[1, 2, 3, 4]);
    });
    assert_eq!(state.general[RAX], 0x0403_0201);
    let (state, _) = run(Bits64, &[0x67, 0x64, 0x8b, 0x43, 0xff], |state, machine| {
        state.segments[FS].base = 0x1000_0000_0000;
        state.general[RBX] = 0xffff_ffff_0000_0000;
        machine.put(0x1000_ffff_ffff, &[9, 0, 0, 0]);
    });
    assert_eq!(state.general[RAX], 9);
    let (state, _) = run(Bits64, &[0x8a, 0x05, 0x10, 0, 0, 0], |_, machine| machine.put(RIP + 0x16, &[8]));
    assert_eq!(state.general[RAX], 8);
    // Bases and limits of the other segments do not count.
    let (state, _) = run(Bits64, &[0x8a, 0x03], |state, machine| {
        state.segments[DS] = Segment { base: 0x100, limit: 0, ..DATA };
        state.general[RBX] = 0x8000;
        machine.put(0x8000, &[7]);
    });
    assert_eq!(state.general[RAX], 7);
}

#[test]
fn what_is_not_canonical_faults() {
    // mov eax, [rbx]; mov eax, [rbp]; mov eax, [rsp]; cmpxchg16b [rbx]
    for (code, register, expected) in [
        (&[0x8b, 0x03][..], RBX, Stop::GP),
        (&[0x8b, 0x45, 0], RBP, Stop::SS),
        (&[0x8b, 0x04, 0x24], RSP, Stop::SS),
        (&[0x48, 0x0f, 0xc7, 0x0b], RBX, Stop::GP),
    ] {
        for address in [0x8000_0000_0000, 0x7fff_ffff_fffd, u64::MAX - 1, 0xffff_7fff_ffff_ffff] {
            assert_eq!(stop(Bits64, code, |state, _| state.general[register] = address), expected, "{code:x?}");
        }
    }
}

#[test]
fn limits_and_rights_of_segments() {
    let access = |segment: Segment, is_write: bool, offset: u64| {
        let mut state = state(Bits32);
        state.segments[DS] = segment;
        state.general[RBX] = offset;
        // mov [ebx], eax; mov eax, [ebx]
        let mut machine = crate::machine::machine(&state, if is_write { &[0x89, 0x03] } else { &[0x8b, 0x03] });
        emulate(&mut state, &mut machine, 1)
    };
    let small = Segment { limit: 0xfff, base: 0x1_0000, ..DATA };
    assert!(access(small, true, 0xffc).is_ok());
    assert_eq!(access(small, true, 0xffd), Err(Stop::GP));
    let down = Segment { attributes: 0xc97, ..small };
    assert_eq!(access(down, true, 0xffc), Err(Stop::GP));
    assert!(access(down, true, 0x1000).is_ok());
    let constant = Segment { attributes: 0xc91, ..DATA };
    assert!(access(constant, false, 0x8000).is_ok());
    assert_eq!(access(constant, true, 0x8000), Err(Stop::GP));
    let code_only = Segment { attributes: 0xc99, ..DATA };
    assert_eq!(access(code_only, false, 0x8000), Err(Stop::GP));
    assert_eq!(access(Segment { attributes: 0, ..DATA }, false, 0x8000), Err(Stop::GP));
    // The sum of base and offset wraps around, but no operand does.
    let high = Segment { base: 0xffff_f000, ..DATA };
    assert!(access(high, true, 0x3000).is_ok());
    assert_eq!(access(high, true, 0xffe), Err(Stop::GP));
    // The same through the stack segment; real mode has limits, but no rights.
    assert_eq!(stop(Bits32, &[0x89, 0x45, 0], |state, _| state.segments[SS].limit = 2), Stop::SS);
    assert_eq!(stop(Bits16, &[0x89, 0x07], |state, _| state.general[RBX] = 0xffff), Stop::GP);
    run(Bits16, &[0x89, 0x07], |state, _| state.segments[DS].attributes = 0);
}

#[test]
fn virtual_8086_mode_is_real_mode_in_a_ring() {
    let (_, machine) = run(Bits16, &[0x88, 0x07], |state, _| {
        state.cr0 = 0x8000_0011;
        state.flags |= 1 << 17;
        state.level = 3;
        state.segments[DS] = Segment { base: 0x1_2340, limit: 0xffff, ..Segment::default() };
    });
    assert_eq!(machine.memory[&0x1_2340], 0);
}

#[test]
fn the_stack_has_the_size_of_its_segment() {
    // push [0x3000] with a 16-bit stack in 32-bit code; pop [esp+4] uses the new esp.
    let (state, machine) = run(Bits32, &[0xff, 0x35, 0, 0x30, 0, 0], |state, machine| {
        state.segments[SS] = Segment { attributes: 0x93, limit: 0xffff, base: 0x4_0000, selector: 8 };
        state.general[RSP] = 0x9999_0000;
        machine.put(0x3000, &[1, 2, 3, 4]);
    });
    assert_eq!((state.general[RSP], machine.get(0x4_fffc, 4)), (0x9999_fffc, vec![1, 2, 3, 4]));
    let (state, machine) = run(Bits32, &[0x8f, 0x44, 0x24, 4], |state, machine| {
        state.general[RSP] = 0x5000;
        machine.put(0x5000, &[5, 6, 7, 8]);
    });
    assert_eq!((state.general[RSP], machine.get(0x5008, 4)), (0x5004, vec![5, 6, 7, 8]));
}

#[test]
fn bit_positions_wrap_within_the_address_size() {
    // bts [bx], cx: 16 bits below.
    let (_, machine) = run(Bits16, &[0x0f, 0xab, 0x0f], |state, machine| {
        state.general[1] = 0xfff0;
        state.general[RBX] = 0x3000;
        machine.put(0x2ffe, &[0, 0]);
    });
    assert_eq!(machine.get(0x2ffe, 2), [1, 0]);
}

#[test]
fn code_ends_at_limits_and_absent_pages() {
    // mov eax, [ebx+0x100], its last bytes on the next page.
    let code = [0x8b, 0x83, 0, 1, 0, 0];
    let place = |state: &mut State, machine: &mut crate::machine::Machine| {
        state.rip = 0x2ffe;
        machine.put(0x2ffe, &code);
    };
    let absent = stop(Bits32, &[], |state, machine| {
        place(state, machine);
        machine.absent.insert(0x2000 + PAGE);
    });
    assert_eq!(absent, Stop::PageFault { address: 0x3000, error_code: 0 });
    let limited = stop(Bits32, &[], |state, machine| {
        place(state, machine);
        state.segments[1].limit = 0x3002;
    });
    assert_eq!(limited, Stop::GP);
    assert_eq!(stop(Bits64, &[], |state, _| state.rip = 1 << 47), Stop::GP);
    // What is no instruction, or none of ours: prefixes alone, push es, ud2, vaddps, fld1.
    for other in [&[0x66; 15][..], &[0x06], &[0x0f, 0x0b], &[0xc5, 0xf8, 0x58, 0xc0], &[0xd9, 0xe8]] {
        assert_eq!(stop(Bits64, other, |_, _| {}), Stop::Unhandled, "{other:x?}");
    }
}

#[test]
fn the_instruction_pointer_has_its_size() {
    let mut state = state(Bits16);
    state.rip = 0xffff;
    let mut machine = crate::machine::machine(&state, &[]);
    machine.put(0xffff, &[0x90]);
    assert!(emulate(&mut state, &mut machine, 1).is_ok());
    assert_eq!(state.rip, 0);
}
