//! The hypercall page of an HVM guest: 32 bytes of code for each hypercall. The same code serves in all modes.

use types::PAGE_SIZE;
use xen_abi::xen::HYPERVISOR_IRET;

/// Bytes of a stub.
const STUB: usize = 32;
/// mov eax, NUMBER; vmmcall; ret.
const CALL: [u8; 9] = [0xb8, 0, 0, 0, 0, 0x0f, 0x01, 0xd9, 0xc3];
/// ud2: such guests return from interrupts by themselves.
const NONE: [u8; 2] = [0x0f, 0x0b];
/// What is between the stubs: int3.
const FILLER: u8 = 0xcc;

/// The page: a stub for each number.
pub fn stubs() -> [u8; PAGE_SIZE] {
    let mut page = [FILLER; PAGE_SIZE];
    for (number, stub) in page.chunks_exact_mut(STUB).enumerate() {
        if number == HYPERVISOR_IRET as usize {
            stub[..NONE.len()].copy_from_slice(&NONE);
            continue;
        }
        stub[..CALL.len()].copy_from_slice(&CALL);
        stub[1] = number as u8;
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stubs_load_their_numbers() {
        let page = stubs();
        assert_eq!(page[32 * 12..][..10], [0xb8, 12, 0, 0, 0, 0x0f, 0x01, 0xd9, 0xc3, 0xcc]);
        assert_eq!(page[32 * 23..][..3], [0x0f, 0x0b, 0xcc]);
    }
}
