//! Huffman-coded literals (RFC 8878, 4.2).

use super::Corrupt;
use super::bits::Backward;
use super::fse::{Cell, Distribution};

/// Longest code, in bits.
const MAX_BITS: u32 = 11;
const SIZE: usize = 1 << MAX_BITS;

/// A decoding table: indexed by the next 11 bits, gives the symbol (high byte) and its code's length (low byte).
pub struct Table {
    entries: [u16; SIZE],
    ready: bool,
}

impl Table {
    /// A table that is not described yet.
    pub const fn new() -> Self {
        Table { entries: [0; SIZE], ready: false }
    }

    /// Reads the description at byte `at` of `input`, before `end`; returns its length, in bytes.
    pub fn read(&mut self, input: &[u8], at: usize, end: usize) -> Result<usize, Corrupt> {
        self.ready = false;
        let cut = Corrupt("a Huffman table is cut off");
        let data = input.get(at..end).ok_or(cut)?;
        let header = usize::from(*data.first().ok_or(cut)?);
        let mut weights = [0u8; 256];
        let (count, length) = if header < 128 {
            let stop = at + 1 + header;
            if stop > end {
                return Err(cut);
            }
            (read_coded_weights(input, at + 1, stop, &mut weights)?, 1 + header)
        } else {
            let count = header - 127;
            let packed = data.get(1..1 + count.div_ceil(2)).ok_or(cut)?;
            for (index, weight) in weights[..count].iter_mut().enumerate() {
                *weight = if index % 2 == 0 { packed[index / 2] >> 4 } else { packed[index / 2] & 15 };
            }
            (count, 1 + count.div_ceil(2))
        };
        self.fill(&mut weights, count)?;
        self.ready = true;
        Ok(length)
    }

    /// Builds the entries from the weights of all symbols but the last, which follows from the others.
    fn fill(&mut self, weights: &mut [u8; 256], count: usize) -> Result<(), Corrupt> {
        let wrong = Corrupt("Huffman weights do not add up");
        let mut sum = 0u32;
        for &weight in &weights[..count] {
            if u32::from(weight) > MAX_BITS {
                return Err(wrong);
            }
            sum += (1 << weight) >> 1;
        }
        if sum == 0 || sum >= 1 << MAX_BITS {
            return Err(wrong);
        }
        let bits = sum.ilog2() + 1;
        let rest = (1 << bits) - sum;
        if !rest.is_power_of_two() {
            return Err(wrong);
        }
        *weights.get_mut(count).ok_or(wrong)? = rest.ilog2() as u8 + 1;
        // First entry for the next symbol of each weight: those of small weight, with long codes, come first.
        let mut next = [0usize; MAX_BITS as usize + 2];
        let run = |weight: usize| (1usize << weight >> 1) << (MAX_BITS - bits);
        for &weight in &weights[..=count] {
            next[usize::from(weight) + 1] += run(weight.into());
        }
        for weight in 1..next.len() {
            next[weight] += next[weight - 1];
        }
        for (symbol, &weight) in weights[..=count].iter().enumerate().filter(|&(_, &weight)| weight > 0) {
            let entry = (symbol as u16) << 8 | (bits + 1 - u32::from(weight)) as u16;
            let at = &mut next[usize::from(weight)];
            let end = *at + run(weight.into());
            self.entries.get_mut(*at..end).ok_or(wrong)?.fill(entry);
            *at = end;
        }
        Ok(())
    }

    /// Decodes the stream in bytes `start..end` of `input` to exactly `out.len()` symbols.
    pub fn decode(&self, input: &[u8], start: usize, end: usize, out: &mut [u8]) -> Result<(), Corrupt> {
        /// Symbols that one window of bits is sure to hold.
        const GROUP: usize = (Backward::WINDOW / MAX_BITS) as usize;
        if !self.ready {
            return Err(Corrupt("literals refer to a Huffman table that was never given"));
        }
        let mut bits = Backward::new(input, start, end)?;
        let mut groups = out.chunks_exact_mut(GROUP);
        for group in &mut groups {
            let mut window = bits.window()?;
            let mut used = 0u32;
            for symbol in group {
                let entry = self.entries[(window >> (64 - MAX_BITS)) as usize];
                *symbol = (entry >> 8) as u8;
                window <<= entry & 63;
                used = used.wrapping_add(u32::from(entry));
            }
            bits.skip((used & 0xff) as usize);
        }
        let mut window = bits.window()?;
        let mut used = 0u32;
        for symbol in groups.into_remainder() {
            let entry = self.entries[(window >> (64 - MAX_BITS)) as usize];
            *symbol = (entry >> 8) as u8;
            window <<= entry & 63;
            used += u32::from(entry & 0xff);
        }
        bits.skip(used as usize);
        if !bits.is_finished() {
            return Err(Corrupt("literals do not end where they should"));
        }
        Ok(())
    }
}

/// Decodes weights that are themselves entropy-coded, by two states that take turns; returns their number.
fn read_coded_weights(input: &[u8], start: usize, end: usize, weights: &mut [u8; 256]) -> Result<usize, Corrupt> {
    const LOG: u32 = 6;
    let (distribution, used) = Distribution::read(&input[start..end], 13, LOG)?;
    let mut cells = [Cell::default(); 1 << LOG];
    distribution.spread(&mut cells)?;
    let mut bits = Backward::new(input, start + used, end)?;
    let mut states = [0usize; 2];
    for state in &mut states {
        *state = bits.read(distribution.log)? as usize;
    }
    let mut count = 0;
    loop {
        let turn = count % 2;
        let cell = cells[states[turn]];
        // The implied last weight needs a place, too.
        let slot = weights[..255].get_mut(count).ok_or(Corrupt("a Huffman table has too many symbols"))?;
        *slot = cell.symbol;
        count += 1;
        let low = bits.read(u32::from(cell.bits))? as usize;
        if bits.remaining().is_none() {
            let slot = weights[..255].get_mut(count).ok_or(Corrupt("a Huffman table has too many symbols"))?;
            *slot = cells[states[1 - turn]].symbol;
            return Ok(count + 1);
        }
        states[turn] = usize::from(cell.next) + low;
    }
}
