//! What intercepts are told.

use crate::machine::{RIP, state};
use x86_emulate::hvm::CodeSize::{Bits16, Bits32, Bits64};
use x86_emulate::hvm::Intercepted::*;
use x86_emulate::hvm::*;

fn what(size: CodeSize, code: &[u8]) -> Intercepted {
    let mut state = state(size);
    state.general = std::array::from_fn(|number| 0x100 * number as u64);
    state.segments[5].base = 0x7000;
    let described = intercepted(&state, code).unwrap_or_else(|| panic!("{code:x?}"));
    assert_eq!((usize::from(described.length), described.next), (code.len(), RIP + code.len() as u64), "{code:x?}");
    described.what
}

#[test]
fn moves_of_special_registers() {
    assert_eq!(what(Bits64, &[0x41, 0x0f, 0x22, 0xdc]), WriteControl { control: 3, general: 12 });
    assert_eq!(what(Bits32, &[0x0f, 0x20, 0xc2]), ReadControl { control: 0, general: 2 });
    assert_eq!(what(Bits64, &[0x44, 0x0f, 0x20, 0xc0]), ReadControl { control: 8, general: 0 });
    assert_eq!(what(Bits16, &[0x0f, 0x22, 0xc0]), WriteControl { control: 0, general: 0 });
    assert_eq!(what(Bits64, &[0x41, 0x0f, 0x23, 0xff]), WriteDebug { debug: 7, general: 15 });
    assert_eq!(what(Bits32, &[0x0f, 0x21, 0xf3]), ReadDebug { debug: 6, general: 3 });
}

#[test]
fn pages_vectors_and_calls() {
    assert_eq!(what(Bits64, &[0x65, 0x0f, 0x01, 0x7b, 8]), InvalidatePage(Some(0x7308)));
    assert_eq!(what(Bits16, &[0x0f, 0x01, 0x38]), InvalidatePage(Some(0x900)));
    // An address that is not canonical.
    let mut far = state(Bits64);
    far.general[3] = 1 << 60;
    assert_eq!(intercepted(&far, &[0x0f, 0x01, 0x3b]).map(|d| d.what), Some(InvalidatePage(None)));
    assert_eq!(what(Bits32, &[0xcd, 0x80]), Interrupt(0x80));
    assert_eq!([what(Bits64, &[0xcc]), what(Bits32, &[0xce]), what(Bits16, &[0xf1])], [3, 4, 1].map(Interrupt));
    assert_eq!(what(Bits64, &[0x0f, 0x01, 0xd9]), Hypercall);
    assert_eq!(what(Bits32, &[0x0f, 0x01, 0xc1]), Hypercall);
}

#[test]
fn ports() {
    let port = |port, size, is_input, is_string| Port(PortAccess { port, size, is_input, is_string });
    assert_eq!(what(Bits64, &[0xec]), port(0x200, 1, true, false));
    assert_eq!(what(Bits16, &[0xed]), port(0x200, 2, true, false));
    assert_eq!(what(Bits16, &[0x66, 0xe7, 0x71]), port(0x71, 4, false, false));
    assert_eq!(what(Bits64, &[0x66, 0xe5, 0x60]), port(0x60, 2, true, false));
    assert_eq!(what(Bits32, &[0xf3, 0x66, 0x6f]), port(0x200, 2, false, true));
    assert_eq!(what(Bits64, &[0x6c]), port(0x200, 1, true, true));
    assert_eq!(what(Bits64, &[0xf3, 0xa4]), Other);
}

#[test]
fn lengths() {
    // cpuid, rdmsr, hlt, pushf, iret, vmrun, mov rax, imm64; and what differs by mode: inc ax is REX, imm16 is imm32.
    for (code, sizes) in [
        (&[0x0f, 0xa2][..], [2, 2, 2]),
        (&[0x0f, 0x32], [2, 2, 2]),
        (&[0xf4], [1, 1, 1]),
        (&[0x9c], [1, 1, 1]),
        (&[0xcf], [1, 1, 1]),
        (&[0x66, 0xcf], [2, 2, 2]),
        (&[0x0f, 0x01, 0xd8], [3, 3, 3]),
        (&[0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8], [1, 1, 10]),
        (&[0xb8, 1, 2, 3, 4], [3, 5, 5]),
        (&[0x2e, 0x0f, 0x30], [3, 3, 3]),
    ] {
        let found = [Bits16, Bits32, Bits64].map(|size| length_of(code, size));
        assert_eq!(found, sizes.map(Some), "{code:x?}");
    }
    for broken in [&[][..], &[0x0f], &[0x66; 15], &[0x0f, 0x22], &[0x06]] {
        assert_eq!(length_of(broken, Bits64), None, "{broken:x?}");
        assert_eq!(intercepted(&state(Bits64), broken), None);
    }
}

#[test]
fn far_transfers() {
    assert_eq!(what(Bits32, &[0xea, 0, 0, 0, 0, 0x38, 0]), FarTransfer);
    assert_eq!(what(Bits16, &[0x9a, 0, 0, 0x38, 0]), FarTransfer);
    assert_eq!(what(Bits16, &[0x66, 0x9a, 0, 0, 0, 0, 0x38, 0]), FarTransfer);
    // call far [ebx], jmp far [ebx], iret of each size.
    for code in [&[0xff, 0x1b][..], &[0xff, 0x2b], &[0x66, 0xff, 0x2b], &[0xcf], &[0x66, 0xcf]] {
        assert_eq!(what(Bits32, code), FarTransfer, "{code:x?}");
    }
    // call [ebx], jmp [ebx], call and jmp in the same segment, retf.
    for code in [&[0xff, 0x13][..], &[0xff, 0x23], &[0xe8, 0, 0, 0, 0], &[0xeb, 0], &[0xcb]] {
        assert_eq!(what(Bits32, code), Other, "{code:x?}");
    }
}
