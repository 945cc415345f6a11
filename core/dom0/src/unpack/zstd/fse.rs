//! Finite-state entropy tables (RFC 8878, 4.1.1).

use super::Corrupt;
use super::bits::Forward;

/// Most symbols that any alphabet of this kind has here: literal lengths 36, match lengths 53, offsets 32, weights 13.
pub const MAX_SYMBOLS: usize = 53;

/// How often each symbol occurs, in cells of the table; -1 stands for "less than once".
pub struct Distribution {
    counts: [i16; MAX_SYMBOLS],
    symbols: usize,
    /// Base-2 logarithm of the table's size.
    pub log: u32,
}

/// One cell of a table under construction: what the state means, and how it goes on.
#[derive(Clone, Copy, Default)]
pub struct Cell {
    /// Decoded symbol.
    pub symbol: u8,
    /// Bits to read for the next state.
    pub bits: u8,
    /// What to add to these bits.
    pub next: u16,
}

impl Distribution {
    /// A distribution fixed by the format.
    pub fn fixed(counts: &[i16], log: u32) -> Self {
        let mut all = [0; MAX_SYMBOLS];
        let symbols = counts.len().min(MAX_SYMBOLS);
        all[..symbols].copy_from_slice(&counts[..symbols]);
        Distribution { counts: all, symbols, log }
    }

    /// Reads a description of at most `max_symbols` symbols and table size `1 << max_log`; also returns its length, in bytes.
    pub fn read(input: &[u8], max_symbols: usize, max_log: u32) -> Result<(Self, usize), Corrupt> {
        let mut bits = Forward::new(input);
        let log = bits.peek(4) + 5;
        bits.skip(4);
        if log > max_log {
            return Err(Corrupt("an entropy table is too large"));
        }
        let mut counts = [0i16; MAX_SYMBOLS];
        let mut symbols = 0;
        // Cells left to give away, plus one.
        let mut left = (1i32 << log) + 1;
        while left > 1 {
            let value = read_count(&mut bits, left as u32);
            let count = value as i32 - 1;
            let slot = counts[..max_symbols.min(MAX_SYMBOLS)].get_mut(symbols);
            *slot.ok_or(Corrupt("an entropy table has too many symbols"))? = count as i16;
            symbols += 1;
            left -= count.abs();
            if count == 0 {
                symbols += read_zeros(&mut bits, max_symbols)?;
            }
        }
        if left != 1 || symbols > max_symbols {
            return Err(Corrupt("an entropy table does not add up"));
        }
        let used = bits.bytes_used()?;
        Ok((Distribution { counts, symbols, log }, used))
    }

    /// Spreads the symbols over `cells`, which has room for `1 << log` of them.
    pub fn spread(&self, cells: &mut [Cell]) -> Result<(), Corrupt> {
        let size = 1usize << self.log;
        let cells = cells.get_mut(..size).ok_or(Corrupt("an entropy table is too large"))?;
        let mut next = [0u16; MAX_SYMBOLS];
        let mut high = size;
        for (symbol, &count) in self.counts[..self.symbols].iter().enumerate() {
            next[symbol] = count.unsigned_abs();
            if count < 0 {
                high -= 1;
                cells[high].symbol = symbol as u8;
            }
        }
        let (mask, step) = (size - 1, (size >> 1) + (size >> 3) + 3);
        let mut at = 0;
        for (symbol, &count) in self.counts[..self.symbols].iter().enumerate() {
            for _ in 0..count.max(0) {
                cells[at].symbol = symbol as u8;
                at = (at + step) & mask;
                while at >= high {
                    at = (at + step) & mask;
                }
            }
        }
        for cell in cells {
            let state = &mut next[usize::from(cell.symbol)];
            let bits = self.log - state.ilog2();
            cell.bits = bits as u8;
            cell.next = (u32::from(*state) << bits).wrapping_sub(size as u32) as u16;
            *state += 1;
        }
        Ok(())
    }
}

/// Reads one count plus one, a number from 0 to `left`: small ones take a bit less.
fn read_count(bits: &mut Forward<'_>, left: u32) -> u32 {
    let width = left.ilog2() + 1;
    let low_mask = (1 << (width - 1)) - 1;
    let threshold = (1 << width) - 1 - left;
    let value = bits.peek(width);
    if value & low_mask < threshold {
        bits.skip(width - 1);
        value & low_mask
    } else {
        bits.skip(width);
        if value > low_mask { value - threshold } else { value }
    }
}

/// Number of further symbols that do not occur, after one that does not.
fn read_zeros(bits: &mut Forward<'_>, max_symbols: usize) -> Result<usize, Corrupt> {
    let mut zeros = 0;
    loop {
        let more = bits.peek(2) as usize;
        bits.skip(2);
        zeros += more;
        if zeros > max_symbols {
            return Err(Corrupt("an entropy table has too many symbols"));
        }
        if more < 3 {
            return Ok(zeros);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_is_used_as_often_as_its_count() {
        let distribution = Distribution::fixed(&[4, 3, -1, 0, 8], 4);
        let mut cells = [Cell::default(); 16];
        distribution.spread(&mut cells).unwrap();
        let count = |symbol| cells.iter().filter(|cell| cell.symbol == symbol).count();
        assert_eq!([count(0), count(1), count(2), count(3), count(4)], [4, 3, 1, 0, 8]);
        // Each symbol's cells lead to every state exactly once.
        for symbol in [0, 1, 2, 4] {
            let mut reached = [0; 16];
            for cell in cells.iter().filter(|cell| cell.symbol == symbol) {
                for low in 0..1usize << cell.bits {
                    reached[usize::from(cell.next) + low] += 1;
                }
            }
            assert_eq!(reached, [1; 16]);
        }
    }

    #[test]
    fn descriptions_that_do_not_add_up_are_refused() {
        assert!(Distribution::read(&[0x0f], 36, 9).is_err());
        assert!(Distribution::read(&[], 36, 9).is_err());
        assert!(Distribution::read(&[0xff; 64], 36, 9).is_err());
    }
}
