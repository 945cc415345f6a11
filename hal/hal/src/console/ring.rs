//! The ring of the newest console output, which `xl dmesg` reads (sysctl.h, `xen_sysctl_readconsole`).

/// The ring's bytes, a power of two.
const SIZE: usize = 64 << 10;

/// What was printed last. Positions are counted from the first byte ever printed, modulo 2^32.
pub struct Ring {
    bytes: [u8; SIZE],
    /// Position of the next byte to be written.
    produced: u32,
    /// Position where reading begins: the oldest byte that nobody cleared.
    consumed: u32,
}

impl Ring {
    /// An empty ring.
    pub const fn new() -> Ring {
        Ring { bytes: [0; SIZE], produced: 0, consumed: 0 }
    }

    /// Adds bytes, over the oldest ones if need be.
    pub fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.bytes[self.produced as usize % SIZE] = *byte;
            self.produced = self.produced.wrapping_add(1);
        }
        if self.produced.wrapping_sub(self.consumed) > SIZE as u32 {
            self.consumed = self.produced.wrapping_sub(SIZE as u32);
        }
    }

    /// Copies output from `from` on, or from the oldest byte if `from` is `None` or no longer there. Gives the number of
    /// bytes copied and the position behind them.
    pub fn read(&self, from: Option<u32>, to: &mut [u8]) -> (usize, u32) {
        let held = self.produced.wrapping_sub(self.consumed);
        let start = match from {
            Some(from) if self.produced.wrapping_sub(from) <= held => from,
            _ => self.consumed,
        };
        let count = to.len().min(self.produced.wrapping_sub(start) as usize);
        for (index, byte) in to[..count].iter_mut().enumerate() {
            *byte = self.bytes[start.wrapping_add(index as u32) as usize % SIZE];
        }
        (count, start.wrapping_add(count as u32))
    }

    /// Forgets everything before `position`.
    pub fn clear_to(&mut self, position: u32) {
        if self.produced.wrapping_sub(position) <= self.produced.wrapping_sub(self.consumed) {
            self.consumed = position;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_in_pieces() {
        let mut ring = Ring::new();
        ring.write(b"hello world");
        let mut buffer = [0; 6];
        assert_eq!(ring.read(None, &mut buffer), (6, 6));
        assert_eq!(&buffer, b"hello ");
        assert_eq!(ring.read(Some(6), &mut buffer), (5, 11));
        assert_eq!(&buffer[..5], b"world");
        assert_eq!(ring.read(Some(11), &mut buffer), (0, 11));
    }

    #[test]
    fn clearing_hides_old_output() {
        let mut ring = Ring::new();
        ring.write(b"abcdef");
        ring.clear_to(4);
        let mut buffer = [0; 8];
        assert_eq!(ring.read(None, &mut buffer), (2, 6));
        assert_eq!(
            ring.read(Some(1), &mut buffer),
            (2, 6),
            "a position from before the clearing starts at what is left"
        );
        ring.clear_to(100);
        assert_eq!(ring.read(None, &mut buffer), (2, 6));
    }

    #[test]
    fn keeps_the_newest() {
        let mut ring = Ring::new();
        for number in 0..SIZE + 10 {
            ring.write(&[(number % 251) as u8]);
        }
        let mut buffer = vec![0; SIZE + 5];
        let (count, position) = ring.read(Some(0), &mut buffer);
        assert_eq!((count, position), (SIZE, (SIZE + 10) as u32));
        assert_eq!(buffer[0], 10);
        assert_eq!(buffer[SIZE - 1], ((SIZE + 9) % 251) as u8);
    }

    #[test]
    fn counters_wrap() {
        let mut ring = Ring { bytes: [0; SIZE], produced: u32::MAX - 1, consumed: u32::MAX - 1 };
        ring.write(b"wxyz");
        let mut buffer = [0; 8];
        assert_eq!(ring.read(None, &mut buffer), (4, 2));
        assert_eq!(&buffer[..4], b"wxyz");
    }
}
