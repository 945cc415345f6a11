//! Copying between frames.

use core::sync::atomic::Ordering;
use platform::{Frames, Table};
use types::Mfn;

/// Copies `length` bytes from byte `from.1` of frame `from.0` to byte `to.1` of frame `to.0`, a word at a time. False, and
/// nothing is copied, if a range leaves its frame or a frame is no RAM. Within one frame overlapping ranges give some mixture.
pub fn copy_bytes<M: Frames + ?Sized>(frames: &M, from: (Mfn, usize), to: (Mfn, usize), length: usize) -> bool {
    let (Some(source), Some(target)) = (frames.table(from.0), frames.table(to.0)) else {
        return false;
    };
    let fits = |offset: usize| offset.checked_add(length).is_some_and(|end| end <= 4096);
    if !fits(from.1) || !fits(to.1) {
        return false;
    }
    let (mut at, mut out, mut left) = (from.1, to.1, length);
    if length == 4096 {
        return frames.copy(from.0, to.0);
    }
    if (from.1 | to.1 | length) % 8 == 0 {
        let words = source[from.1 / 8..(from.1 + length) / 8].iter();
        for (to, from) in target[to.1 / 8..(to.1 + length) / 8].iter().zip(words) {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        return true;
    }
    // Up to the target's next word, then whole words, then the rest.
    let first = left.min((8 - out % 8) % 8);
    put(target, out, load(source, at, first), first);
    (at, out, left) = (at + first, out + first, left - first);
    while left >= 8 {
        target[out / 8].store(load(source, at, 8), Ordering::Relaxed);
        (at, out, left) = (at + 8, out + 8, left - 8);
    }
    put(target, out, load(source, at, left), left);
    true
}

/// `count` bytes (at most 8) from byte `at` on, in the low bytes of a word.
fn load(table: &Table, at: usize, count: usize) -> u64 {
    let shift = at % 8 * 8;
    if count == 0 {
        return 0;
    }
    let low = table[at / 8].load(Ordering::Relaxed) >> shift;
    if at % 8 + count <= 8 {
        return low;
    }
    low | table[at / 8 + 1].load(Ordering::Relaxed) << (64 - shift)
}

/// Stores the low `count` bytes (fewer than 8, within one word) at byte `out`.
fn put(table: &Table, out: usize, value: u64, count: usize) {
    if count != 0 {
        platform::write_bytes(table, out, &value.to_le_bytes()[..count]);
    }
}
