//! Sequences: copy so many literals, then so many bytes from so far back (RFC 8878, 3.1.1.3.2 and 3.1.1.4).

use super::bits::{Backward, MASKS};
use super::fse::{Cell, Distribution, MAX_SYMBOLS};
use super::{BLOCK, Corrupt, Literals};

const LENGTH_LOG: u32 = 9;
const OFFSET_LOG: u32 = 8;

/// A state of one of the three machines, in 8 bytes, so that a look-up is a single load.
#[derive(Clone, Copy, Default)]
struct Entry {
    /// Least value.
    base: u32,
    /// Least next state.
    next: u16,
    /// Extra bits, which are added to `base`.
    extra: u8,
    /// Bits that are added to `next`.
    next_bits: u8,
}

/// One machine's table; a state that a smaller table cannot have is never reached.
struct Machine<const SIZE: usize> {
    entries: [Entry; SIZE],
    log: u32,
    ready: bool,
}

/// How symbols of one machine translate to values.
struct Alphabet {
    symbols: usize,
    max_log: u32,
    default_counts: &'static [i16],
    default_log: u32,
    /// Least value and number of extra bits of a symbol.
    value: fn(u8) -> (u32, u8),
}

const LITERAL_LENGTHS: Alphabet = Alphabet {
    symbols: 36,
    max_log: LENGTH_LOG,
    default_counts: &[
        4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1, -1, -1, -1, -1,
    ],
    default_log: 6,
    value: literal_length,
};

const MATCH_LENGTHS: Alphabet = Alphabet {
    symbols: 53,
    max_log: LENGTH_LOG,
    default_counts: &[
        1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
        1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1,
    ],
    default_log: 6,
    value: match_length,
};

const OFFSETS: Alphabet = Alphabet {
    symbols: 32,
    max_log: OFFSET_LOG,
    default_counts: &[1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1],
    default_log: 5,
    value: offset,
};

fn literal_length(symbol: u8) -> (u32, u8) {
    match symbol {
        0..=15 => (u32::from(symbol), 0),
        16..=19 => (16 + 2 * u32::from(symbol - 16), 1),
        20..=21 => (24 + 4 * u32::from(symbol - 20), 2),
        22..=23 => (32 + 8 * u32::from(symbol - 22), 3),
        24 => (48, 4),
        _ => (1 << (symbol - 19), symbol - 19),
    }
}

fn match_length(symbol: u8) -> (u32, u8) {
    match symbol {
        0..=31 => (u32::from(symbol) + 3, 0),
        32..=35 => (35 + 2 * u32::from(symbol - 32), 1),
        36..=37 => (43 + 4 * u32::from(symbol - 36), 2),
        38..=39 => (51 + 8 * u32::from(symbol - 38), 3),
        40..=41 => (67 + 16 * u32::from(symbol - 40), 4),
        42 => (99, 5),
        _ => ((1 << (symbol - 36)) + 3, symbol - 36),
    }
}

/// Values of 4 and more are offsets plus 3, so 3 is taken off here; the others name a recent offset.
fn offset(symbol: u8) -> (u32, u8) {
    let base = 1u32 << symbol;
    (if symbol > 1 { base - 3 } else { base }, symbol)
}

impl<const SIZE: usize> Machine<SIZE> {
    const fn new() -> Self {
        let none = Entry { base: 0, next: 0, extra: 0, next_bits: 0 };
        Machine { entries: [none; SIZE], log: 0, ready: false }
    }

    /// Prepares the table in the way `mode` says; returns the bytes of `input` that this took.
    fn prepare(&mut self, mode: u8, alphabet: &Alphabet, input: &[u8]) -> Result<usize, Corrupt> {
        match mode {
            0 => {
                self.fill(&Distribution::fixed(alphabet.default_counts, alphabet.default_log), alphabet)?;
                Ok(0)
            }
            1 => {
                let symbol = *input.first().ok_or(Corrupt("a block is cut off"))?;
                if usize::from(symbol) >= alphabet.symbols {
                    return Err(Corrupt("an unknown length or offset code"));
                }
                let (base, extra) = (alphabet.value)(symbol);
                self.entries[0] = Entry { base, next: 0, extra, next_bits: 0 };
                self.log = 0;
                self.ready = true;
                Ok(1)
            }
            2 => {
                let (distribution, used) = Distribution::read(input, alphabet.symbols, alphabet.max_log)?;
                self.fill(&distribution, alphabet)?;
                Ok(used)
            }
            _ if self.ready => Ok(0),
            _ => Err(Corrupt("a block repeats a table that was never given")),
        }
    }

    fn fill(&mut self, distribution: &Distribution, alphabet: &Alphabet) -> Result<(), Corrupt> {
        let mut cells = [Cell::default(); SIZE];
        distribution.spread(&mut cells)?;
        // There are many more cells than symbols.
        let mut values = [(0, 0); MAX_SYMBOLS];
        for (value, symbol) in values[..alphabet.symbols].iter_mut().zip(0..) {
            *value = (alphabet.value)(symbol);
        }
        for (entry, cell) in self.entries.iter_mut().zip(&cells[..1 << distribution.log]) {
            let (base, extra) = values.get(usize::from(cell.symbol)).copied().unwrap_or_default();
            *entry = Entry { base, next: cell.next, extra, next_bits: cell.bits };
        }
        self.log = distribution.log;
        self.ready = true;
        Ok(())
    }
}

/// What carries over from one block to the next: the tables, which may be repeated, and the three latest offsets.
pub struct Sequences {
    literal_lengths: Machine<{ 1 << LENGTH_LOG }>,
    match_lengths: Machine<{ 1 << LENGTH_LOG }>,
    offsets: Machine<{ 1 << OFFSET_LOG }>,
    recent: [u32; 3],
}

/// Most bits that the next three states take.
const NEXT_BITS: u32 = 2 * LENGTH_LOG + OFFSET_LOG;
// An offset and they always fit a window.
const _: () = assert!(OFFSETS.symbols as u32 - 1 + NEXT_BITS <= Backward::WINDOW);

/// Sequences that are decoded before they are carried out.
const BATCH: usize = 256;

/// Copy so many literals, then so many bytes from so far back.
#[derive(Clone, Copy, Default)]
struct Sequence {
    literal_length: u32,
    match_length: u32,
    distance: u32,
}

/// The states of the three machines.
struct States {
    literal_length: usize,
    match_length: usize,
    offset: usize,
}

/// Output and literals while a block's sequences are carried out.
struct Copier<'a> {
    out: &'a mut [u8],
    /// Bytes written.
    done: usize,
    /// The block's literals at its start.
    literals: &'a Literals,
    /// Number of literals.
    count: usize,
    /// Literals used.
    used: usize,
}

impl Sequences {
    /// State at the start of a frame.
    pub const fn new() -> Self {
        Sequences {
            literal_lengths: Machine::new(),
            match_lengths: Machine::new(),
            offsets: Machine::new(),
            recent: [1, 4, 8],
        }
    }

    /// Forgets everything: a new frame begins.
    pub fn reset(&mut self) {
        self.literal_lengths.ready = false;
        self.match_lengths.ready = false;
        self.offsets.ready = false;
        self.recent = [1, 4, 8];
    }

    /// Decodes the sequence section in bytes `at..end` of `input` and carries it out on `out`, of which `done` bytes are
    /// written. `literals` and their number belong to the block. Returns how much is written then.
    pub fn run(
        &mut self,
        input: &[u8],
        (at, end): (usize, usize),
        (literals, literal_count): (&Literals, usize),
        out: &mut [u8],
        done: usize,
    ) -> Result<usize, Corrupt> {
        let mut copier = Copier { out, done, literals, count: literal_count, used: 0 };
        let (count, at) = self.read_header(input, at, end)?;
        if count > 0 {
            let bits = Backward::new(input, at, end)?;
            self.run_all(bits, count, &mut copier)?;
        }
        copier.rest()
    }

    /// Reads number of sequences and tables; returns the number and where the bit stream begins.
    fn read_header(&mut self, input: &[u8], at: usize, end: usize) -> Result<(usize, usize), Corrupt> {
        let cut = Corrupt("a block is cut off");
        let data = input.get(at..end).ok_or(cut)?;
        let byte = |index: usize| data.get(index).map(|&b| usize::from(b)).ok_or(cut);
        let (count, mut used) = match byte(0)? {
            0 => return Ok((0, at)),
            small @ 1..=127 => (small, 1),
            high @ 128..=254 => (((high - 128) << 8) + byte(1)?, 2),
            _ => (byte(1)? + (byte(2)? << 8) + 0x7f00, 3),
        };
        let modes = byte(used)? as u8;
        used += 1;
        if modes & 3 != 0 {
            return Err(Corrupt("reserved bits are set in a block"));
        }
        used += self.literal_lengths.prepare(modes >> 6, &LITERAL_LENGTHS, data.get(used..).ok_or(cut)?)?;
        used += self.offsets.prepare(modes >> 4 & 3, &OFFSETS, data.get(used..).ok_or(cut)?)?;
        used += self.match_lengths.prepare(modes >> 2 & 3, &MATCH_LENGTHS, data.get(used..).ok_or(cut)?)?;
        Ok((count, at + used))
    }

    /// Decodes some sequences, then carries them out, and so on: each loop by itself is small enough to stay in registers.
    fn run_all(&mut self, mut bits: Backward<'_>, count: usize, copier: &mut Copier<'_>) -> Result<(), Corrupt> {
        let mut states = States {
            literal_length: bits.read(self.literal_lengths.log)? as usize,
            offset: bits.read(self.offsets.log)? as usize,
            match_length: bits.read(self.match_lengths.log)? as usize,
        };
        let mut batch = [Sequence::default(); BATCH];
        // The last sequence has no next states.
        let mut left = count - 1;
        while left > 0 {
            let some = &mut batch[..left.min(BATCH)];
            left -= some.len();
            self.decode(&mut bits, &mut states, some)?;
            copier.copy_all(some)?;
        }
        let last = self.decode_last(&mut bits, &states)?;
        copier.copy_all(&[last])?;
        if bits.is_finished() { Ok(()) } else { Err(Corrupt("sequences do not end where they should")) }
    }

    /// Decodes as many sequences as `out` holds, and the states for the next one.
    #[inline(never)]
    fn decode(&mut self, bits: &mut Backward<'_>, states: &mut States, out: &mut [Sequence]) -> Result<(), Corrupt> {
        let mut reader = *bits;
        let mut recent = self.recent;
        let States { mut literal_length, mut match_length, mut offset } = *states;
        for sequence in out {
            let literal = &self.literal_lengths.entries[literal_length & ((1 << LENGTH_LOG) - 1)];
            let matched = &self.match_lengths.entries[match_length & ((1 << LENGTH_LOG) - 1)];
            let far = &self.offsets.entries[offset & ((1 << OFFSET_LOG) - 1)];
            let mut window = reader.window()?;
            let value = take(&mut window, &mut reader, far.base, far.extra);
            (sequence.match_length, sequence.literal_length) = (matched.base, literal.base);
            if matched.extra | literal.extra != 0 {
                // Few lengths are so great. Nearly always one window is enough, and two always are.
                sequence.match_length = take(&mut window, &mut reader, matched.base, matched.extra);
                let extra = u32::from(far.extra) + u32::from(matched.extra) + u32::from(literal.extra);
                if extra + NEXT_BITS > Backward::WINDOW {
                    window = refill(&reader)?;
                }
                sequence.literal_length = take(&mut window, &mut reader, literal.base, literal.extra);
            }
            literal_length = take(&mut window, &mut reader, literal.next.into(), literal.next_bits) as usize;
            match_length = take(&mut window, &mut reader, matched.next.into(), matched.next_bits) as usize;
            offset = take(&mut window, &mut reader, far.next.into(), far.next_bits) as usize;
            sequence.distance = resolve(far, value, sequence.literal_length, &mut recent)?;
        }
        self.recent = recent;
        *bits = reader;
        *states = States { literal_length, match_length, offset };
        Ok(())
    }

    /// Decodes a sequence without next states.
    fn decode_last(&mut self, bits: &mut Backward<'_>, states: &States) -> Result<Sequence, Corrupt> {
        let literal = self.literal_lengths.entries[states.literal_length & ((1 << LENGTH_LOG) - 1)];
        let matched = self.match_lengths.entries[states.match_length & ((1 << LENGTH_LOG) - 1)];
        let far = self.offsets.entries[states.offset & ((1 << OFFSET_LOG) - 1)];
        let value = far.base.wrapping_add(bits.read(far.extra.into())? as u32);
        let match_length = matched.base.wrapping_add(bits.read(matched.extra.into())? as u32);
        let literal_length = literal.base.wrapping_add(bits.read(literal.extra.into())? as u32);
        let distance = resolve(&far, value, literal_length, &mut self.recent)?;
        Ok(Sequence { literal_length, match_length, distance })
    }
}

/// The offset that `value`, decoded with the entry `far`, stands for.
#[inline(always)]
fn resolve(far: &Entry, value: u32, literal_length: u32, recent: &mut [u32; 3]) -> Result<u32, Corrupt> {
    if far.extra > 1 {
        *recent = [value, recent[0], recent[1]];
        return Ok(value);
    }
    reuse(recent, value, literal_length)
}

/// The window again, where it is rarely needed.
#[cold]
#[inline(never)]
fn refill(reader: &Backward<'_>) -> Result<u64, Corrupt> {
    reader.window()
}

/// Takes `bits` from the top of `window`, which `reader` has shown, and adds them to `base`.
#[inline(always)]
fn take(window: &mut u64, reader: &mut Backward<'_>, base: u32, bits: u8) -> u32 {
    *window = window.rotate_left(u32::from(bits));
    reader.skip(usize::from(bits));
    base.wrapping_add((*window & MASKS[usize::from(bits)]) as u32)
}

/// The offset that a value of 1 to 3 names.
#[inline]
fn reuse(recent: &mut [u32; 3], value: u32, literal_length: u32) -> Result<u32, Corrupt> {
    let index = value - 1 + u32::from(literal_length == 0);
    let distance = match index {
        0 => return Ok(recent[0]),
        1 => {
            recent.swap(0, 1);
            return Ok(recent[0]);
        }
        2 => recent[2],
        _ => recent[0].wrapping_sub(1),
    };
    if distance == 0 {
        return Err(Corrupt("an offset of zero"));
    }
    *recent = [distance, recent[0], recent[1]];
    Ok(distance)
}

impl Copier<'_> {
    /// Carries out sequences. Nearly all copies are short: they run in whole steps, and what they write too much is
    /// overwritten by what follows.
    fn copy_all(&mut self, sequences: &[Sequence]) -> Result<(), Corrupt> {
        let (mut done, mut used) = (self.done, self.used);
        for sequence in sequences {
            let literal_length = sequence.literal_length as usize;
            let match_length = sequence.match_length as usize;
            let distance = sequence.distance as usize;
            let near = self.out.get_mut(done..).and_then(|rest| rest.first_chunk_mut::<NEAR>());
            let (Some(near), true) = (near, literal_length | match_length < STEP) else {
                (self.done, self.used) = (done, used);
                self.copy_any(literal_length, distance, match_length)?;
                (done, used) = (self.done, self.used);
                continue;
            };
            // Literals that there are not are found out at the end of the block.
            if let Some(from) = self.literals[used & (BLOCK - 1)..].first_chunk::<STEP>() {
                near[..STEP].copy_from_slice(from);
            }
            used += literal_length;
            let start = done + literal_length;
            done = start + match_length;
            let source = start.checked_sub(distance).ok_or(TOO_FAR)?;
            if distance >= STEP {
                let bytes = *self.out.get(source..).and_then(|rest| rest.first_chunk::<STEP>()).ok_or(TOO_FAR)?;
                let to = self.out.get_mut(start..).and_then(|rest| rest.first_chunk_mut::<STEP>()).ok_or(TOO_FAR)?;
                *to = bytes;
            } else {
                repeat(&mut self.out[source..], distance)?;
            }
        }
        (self.done, self.used) = (done, used);
        Ok(())
    }

    /// The same for any lengths and near the end of the buffers.
    #[inline(never)]
    fn copy_any(&mut self, literal_length: usize, distance: usize, match_length: usize) -> Result<(), Corrupt> {
        let literals = &self.literals[..self.count];
        let literals = literals.get(self.used..self.used + literal_length).ok_or(TOO_MANY_LITERALS)?;
        let start = self.done + literal_length;
        let end = start + match_length;
        if end > self.out.len() {
            return Err(Corrupt("it unpacks to more than its stated size"));
        }
        if distance > start || distance == 0 {
            return Err(TOO_FAR);
        }
        self.out[self.done..start].copy_from_slice(literals);
        self.used += literal_length;
        let source = start - distance;
        if distance >= match_length {
            self.out.copy_within(source..source + match_length, start);
        } else if distance == 1 {
            let byte = self.out[source];
            self.out[start..end].fill(byte);
        } else {
            // The source grows as it is copied, so that each round can copy twice as much.
            let mut at = start;
            while at < end {
                let count = (at - source).min(end - at);
                self.out.copy_within(source..source + count, at);
                at += count;
            }
        }
        self.done = end;
        Ok(())
    }

    /// Copies the literals that no sequence used.
    fn rest(self) -> Result<usize, Corrupt> {
        let rest = self.literals[..self.count].get(self.used..).ok_or(TOO_MANY_LITERALS)?;
        let to = self.out.get_mut(self.done..self.done + rest.len());
        to.ok_or(Corrupt("it unpacks to more than its stated size"))?.copy_from_slice(rest);
        Ok(self.done + rest.len())
    }
}

#[inline(always)]
fn word(bytes: &[u8; 3 * STEP], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word))
}

#[inline(always)]
fn set_word(bytes: &mut [u8; 3 * STEP], at: usize, word: u64) {
    bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
}

/// Writes [`STEP`] bytes or more behind the first `distance` bytes, which are fewer than [`STEP`], and repeats these.
#[inline(always)]
fn repeat(bytes: &mut [u8], distance: usize) -> Result<(), Corrupt> {
    /// Per distance: the factor that repeats the low bytes of a word, and the largest multiple that fits a word.
    const REPEAT: [(u64, u8); 8] = [
        (0, 0),
        (0x0101_0101_0101_0101, 8),
        (0x0001_0001_0001_0001, 8),
        (0x0001_0000_0100_0001, 6),
        (0x0000_0001_0000_0001, 8),
        (0x0000_0100_0000_0001, 5),
        (0x0001_0000_0000_0001, 6),
        (0x0100_0000_0000_0001, 7),
    ];
    // The source, and three words behind it.
    let bytes = bytes.first_chunk_mut::<{ 3 * STEP }>().ok_or(TOO_FAR)?;
    let distance = distance & (STEP - 1);
    let low = word(bytes, 0);
    if distance >= 8 {
        // What follows the first word begins with the rest of the source, and goes on with what is written here.
        set_word(bytes, distance, low);
        let next = word(bytes, 8);
        set_word(bytes, distance + 8, next);
        return Ok(());
    }
    let (factor, step) = REPEAT[distance];
    let step = usize::from(step & 15);
    let repeated = (low & !(u64::MAX << (8 * distance))).wrapping_mul(factor);
    set_word(bytes, distance, repeated);
    set_word(bytes, distance + step, repeated);
    set_word(bytes, distance + 2 * step, repeated);
    Ok(())
}

/// Bytes that a short copy moves at once.
const STEP: usize = 16;
/// Bytes that short copies may write: literals, and a match.
const NEAR: usize = 4 * STEP;

const TOO_FAR: Corrupt = Corrupt("an offset points before the start");
const TOO_MANY_LITERALS: Corrupt = Corrupt("a block uses more literals than it has");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_cover_all_lengths_without_gap() {
        for (value, symbols, first) in [(literal_length as fn(u8) -> (u32, u8), 36, 0), (match_length, 53, 3)] {
            let mut expected = first;
            for symbol in 0..symbols {
                let (base, extra) = value(symbol);
                assert_eq!(base, expected, "symbol {symbol}");
                expected = base + (1 << extra);
            }
        }
    }
}
