//! Hypercalls (TLFS, chapter 3).

use crate::Owner;

const FLUSH_SPACE: u16 = 0x0002;
const FLUSH_LIST: u16 = 0x0003;
const LONG_SPIN_WAIT: u16 = 0x0008;

/// In the input value: parameters are in registers; first bit of how many repetitions are wanted.
const FAST: u64 = 1 << 16;
const REPETITIONS: u32 = 32;
const REPETITION_BITS: u64 = 0xfff;
/// In a flush's flags: of all vCPUs.
const ALL: u64 = 1;
/// Bytes of a flush's parameters: address space, flags, vCPUs.
const FLUSH_PARAMETERS: usize = 24;

const SUCCESS: u64 = 0;
const INVALID_CODE: u64 = 2;
const INVALID_PARAMETER: u64 = 5;

/// A call with this input value, whose parameters are at a guest-physical address; only a guest's kernel may make one. In 64-bit
/// mode these are rcx and rdx, else edx:eax and ebx:ecx; the result goes to rax, else to edx:eax. `None`: the call is to be made
/// again.
pub fn call(owner: &mut impl Owner, input: u64, parameters: u64) -> Option<u64> {
    Some(match input as u16 {
        LONG_SPIN_WAIT => {
            owner.give_way();
            SUCCESS
        }
        FLUSH_SPACE | FLUSH_LIST => return flush(owner, input, parameters),
        _ => INVALID_CODE,
    })
}

/// All translations are dropped, whatever addresses are listed: repetitions are done at once.
fn flush(owner: &mut impl Owner, input: u64, parameters: u64) -> Option<u64> {
    let mut bytes = [0; FLUSH_PARAMETERS];
    if input & FAST != 0 || !owner.read_memory(parameters, &mut bytes) {
        return Some(INVALID_PARAMETER);
    }
    let word = |index: usize| bytes[8 * index..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word));
    let (flags, vcpus) = (word(1), word(2));
    let done = owner.flush(if flags & ALL != 0 { None } else { Some(vcpus) });
    done.then_some(SUCCESS | (input >> REPETITIONS & REPETITION_BITS) << REPETITIONS)
}
