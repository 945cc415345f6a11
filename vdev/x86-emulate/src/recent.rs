//! Instructions that were decoded lately: a kernel writes to its page tables from a few places, again and again.

use crate::{MAX_LENGTH, Registers, decode};
use core::array;
use core::cell::Cell;
use iced_x86::Instruction;

/// Places remembered; each is the only one for the addresses that are alike in some bits.
const PLACES: usize = 8;

/// A cache of decoded instructions. They are found by address, mode and bytes, so that code may change at any time.
pub struct Recent([Cell<Option<Known>>; PLACES]);

#[derive(Clone, Copy)]
struct Known {
    rip: u64,
    is_64bit: bool,
    /// The instruction's bytes, and which ones of a fetched 16 they are.
    bytes: u128,
    mask: u128,
    decoded: Instruction,
}

impl Default for Recent {
    fn default() -> Recent {
        Recent(array::from_fn(|_| Cell::new(None)))
    }
}

impl Recent {
    /// The instruction of these bytes at the guest's rip; `None` where they are none.
    pub(crate) fn instruction(
        &self,
        cpu: &impl Registers,
        bytes: &[u8; MAX_LENGTH],
        available: usize,
    ) -> Option<Instruction> {
        let (rip, is_64bit) = (cpu.rip(), cpu.is_64bit());
        let fetched = word(bytes) & mask(available);
        // Instructions are some 4 bytes long.
        let place = &self.0[(rip >> 2) as usize % PLACES];
        match place.get() {
            Some(known)
                if (known.rip, known.is_64bit, known.bytes) == (rip, is_64bit, fetched & known.mask)
                    && known.decoded.len() <= available =>
            {
                Some(known.decoded)
            }
            _ => {
                let decoded = decode::instruction(cpu, &bytes[..available])?;
                let mask = mask(decoded.len());
                place.set(Some(Known { rip, is_64bit, bytes: fetched & mask, mask, decoded }));
                Some(decoded)
            }
        }
    }
}

fn word(bytes: &[u8; MAX_LENGTH]) -> u128 {
    let mut all = [0; 16];
    all[..MAX_LENGTH].copy_from_slice(bytes);
    u128::from_le_bytes(all)
}

/// The first `length` bytes, at most 15.
fn mask(length: usize) -> u128 {
    (1 << (8 * length.min(MAX_LENGTH))) - 1
}
