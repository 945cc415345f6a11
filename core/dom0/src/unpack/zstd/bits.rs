//! Reading bits backwards from the end of a stream, as entropy-coded parts of a frame are read (RFC 8878, 4.1).

use super::Corrupt;

/// A bit stream inside the compressed input, read from its end towards its start.
///
/// Positions are absolute in the input. As nine bytes at least precede every stream of a frame, a load of 8 bytes never
/// needs a special case at a stream's start: the bits before it are read and then found out by [`Backward::is_finished`].
#[derive(Clone, Copy)]
pub struct Backward<'a> {
    input: &'a [u8],
    /// First bit of the stream.
    start: usize,
    /// Bit after the next one to read.
    position: usize,
}

/// Masks of the low bits, by their number. It has an entry for each byte so that looking up needs no check.
pub static MASKS: [u64; 256] = {
    let mut masks = [u64::MAX; 256];
    let mut bits = 0;
    while bits < 64 {
        masks[bits] = (1 << bits) - 1;
        bits += 1;
    }
    masks
};

const fn mask(bits: u32) -> u64 {
    (1 << bits) - 1
}

impl<'a> Backward<'a> {
    /// Number of bits that one [`Backward::window`] is sure to show.
    pub const WINDOW: u32 = 57;

    /// The stream in bytes `start..end` of `input`; its last byte ends in a marker bit.
    pub fn new(input: &'a [u8], start: usize, end: usize) -> Result<Self, Corrupt> {
        let last = *input.get(start..end).and_then(|stream| stream.last()).ok_or(Corrupt("an empty bit stream"))?;
        if last == 0 {
            return Err(Corrupt("a bit stream without end marker"));
        }
        let position = end * 8 - 1 - last.leading_zeros() as usize;
        Ok(Backward { input, start: start * 8, position })
    }

    /// The next bits to read, the first in bit 63; at least [`Backward::WINDOW`] of them are valid.
    #[inline(always)]
    pub fn window(&self) -> Result<u64, Corrupt> {
        let end = self.position.wrapping_add(7) >> 3;
        let bytes = self.input.get(end.wrapping_sub(8)..).and_then(|rest| rest.first_chunk::<8>());
        let bytes = bytes.ok_or(Corrupt("a bit stream is too short"))?;
        Ok(u64::from_le_bytes(*bytes) << (self.position.wrapping_neg() & 7))
    }

    /// Goes past `count` bits.
    #[inline(always)]
    pub fn skip(&mut self, count: usize) {
        self.position = self.position.wrapping_sub(count);
    }

    /// Reads `count` bits, at most 56.
    #[inline(always)]
    pub fn read(&mut self, count: u32) -> Result<u64, Corrupt> {
        let value = self.window()?.rotate_left(count) & mask(count);
        self.skip(count as usize);
        Ok(value)
    }

    /// Bits left; `None` once more bits were read than there were.
    pub fn remaining(&self) -> Option<usize> {
        self.position.checked_sub(self.start).filter(|&left| left <= self.input.len() * 8)
    }

    /// Whether exactly all bits were read.
    pub fn is_finished(&self) -> bool {
        self.position == self.start
    }
}

/// A bit stream read forwards from the lowest bit of its first byte, as table descriptions are.
pub struct Forward<'a> {
    input: &'a [u8],
    position: usize,
}

impl<'a> Forward<'a> {
    /// Starts at the first byte of `input`.
    pub fn new(input: &'a [u8]) -> Self {
        Forward { input, position: 0 }
    }

    /// The next `count` bits, at most 16, without going past them; bits after the end are zero.
    pub fn peek(&self, count: u32) -> u32 {
        let at = self.position / 8;
        let byte = |offset: usize| u32::from(self.input.get(at + offset).copied().unwrap_or(0));
        let word = byte(0) | byte(1) << 8 | byte(2) << 16;
        word >> (self.position % 8) & mask(count) as u32
    }

    /// Goes past `count` bits.
    pub fn skip(&mut self, count: u32) {
        self.position += count as usize;
    }

    /// Bytes used so far, a started one included; an error if that is more than there are.
    pub fn bytes_used(&self) -> Result<usize, Corrupt> {
        let used = self.position.div_ceil(8);
        if used > self.input.len() {
            return Err(Corrupt("a table description is cut off"));
        }
        Ok(used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backward_reads_from_the_marker_down() {
        let mut input = [0u8; 12];
        input[10] = 0b1010_1100;
        input[11] = 0b0000_0101;
        let mut bits = Backward::new(&input, 10, 12).unwrap();
        assert_eq!(bits.remaining(), Some(10));
        assert_eq!(bits.read(2).unwrap(), 0b01);
        assert_eq!(bits.read(3).unwrap(), 0b101);
        assert_eq!(bits.read(5).unwrap(), 0b01100);
        assert!(bits.is_finished());
        bits.skip(1);
        assert_eq!(bits.remaining(), None);
    }

    #[test]
    fn forward_reads_low_bits_first() {
        let mut bits = Forward::new(&[0b1010_0110, 0b1]);
        assert_eq!(bits.peek(3), 0b110);
        bits.skip(3);
        assert_eq!(bits.peek(6), 0b110100);
        assert_eq!(bits.bytes_used().unwrap(), 1);
        bits.skip(6);
        assert_eq!(bits.bytes_used().unwrap(), 2);
        bits.skip(8);
        assert!(bits.bytes_used().is_err());
    }
}
