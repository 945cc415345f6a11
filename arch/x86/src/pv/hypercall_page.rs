//! The hypercall page of a PV guest: 32 bytes of code for each hypercall, which its kernel calls.

use types::PAGE_SIZE;
use xen_abi::xen::HYPERVISOR_IRET;

/// Bytes of a stub in the hypercall page.
const STUB: usize = 32;
/// push rcx; push r11; mov eax, NUMBER; syscall; pop r11; pop rcx; ret. SYSCALL destroys rcx and r11.
const CALL: [u8; 14] = [0x51, 0x41, 0x53, 0xb8, 0, 0, 0, 0, 0x0f, 0x05, 0x41, 0x5b, 0x59, 0xc3];
/// push rcx; push r11; push rax; mov eax, NUMBER; syscall. It does not come back.
const IRET: [u8; 11] = [0x51, 0x41, 0x53, 0x50, 0xb8, 0, 0, 0, 0, 0x0f, 0x05];
/// mov eax, NUMBER; int 0x82; ret: a 32-bit guest's.
const NARROW_CALL: [u8; 8] = [0xb8, 0, 0, 0, 0, 0xcd, 0x82, 0xc3];
/// push eax; mov eax, NUMBER; int 0x82.
const NARROW_IRET: [u8; 8] = [0x50, 0xb8, 0, 0, 0, 0, 0xcd, 0x82];
/// What is between the stubs: int3.
const FILLER: u8 = 0xcc;

/// The page: a stub for each number.
pub fn stubs() -> [u8; PAGE_SIZE] {
    page((&CALL, 4), (&IRET, 5))
}

/// The page of a 32-bit guest.
pub fn narrow_stubs() -> [u8; PAGE_SIZE] {
    page((&NARROW_CALL, 1), (&NARROW_IRET, 2))
}

/// A page of stubs, each of which has its number at the byte that is told.
fn page(call: (&[u8], usize), iret: (&[u8], usize)) -> [u8; PAGE_SIZE] {
    let mut page = [FILLER; PAGE_SIZE];
    for (number, stub) in page.chunks_exact_mut(STUB).enumerate() {
        let (code, at) = if number == HYPERVISOR_IRET as usize { iret } else { call };
        stub[..code.len()].copy_from_slice(code);
        stub[at] = number as u8;
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stubs_load_their_numbers() {
        let page = stubs();
        assert_eq!(&page[..16], [0x51, 0x41, 0x53, 0xb8, 0, 0, 0, 0, 0x0f, 5, 0x41, 0x5b, 0x59, 0xc3, 0xcc, 0xcc]);
        assert_eq!(page[32 * 36 + 4], 36);
        assert_eq!(&page[32 * 23..][..11], [0x51, 0x41, 0x53, 0x50, 0xb8, 23, 0, 0, 0, 0x0f, 5]);
        let narrow = narrow_stubs();
        assert_eq!(narrow[32 * 32..][..9], [0xb8, 32, 0, 0, 0, 0xcd, 0x82, 0xc3, 0xcc]);
        assert_eq!(narrow[32 * 23..][..9], [0x50, 0xb8, 23, 0, 0, 0, 0xcd, 0x82, 0xcc]);
    }
}
