//! Where translated arguments are.

use types::{Errno, Result};

/// Address of the window: one of the hypervisor's, which no guest can name, and at which nothing is mapped.
pub const WINDOW: u64 = 0xffff_8700_0000_0000;
/// Bytes of the window.
pub const WINDOW_BYTES: usize = 0x2400;

/// Place of a call's structure.
pub(crate) const STRUCTURE: u64 = WINDOW;
/// Place of the list that it names.
pub(crate) const LIST: u64 = WINDOW + 0x400;
/// Place of the second list, where there are two.
pub(crate) const SECOND_LIST: u64 = LIST + LIST_BYTES;
/// Room for each list.
pub(crate) const LIST_BYTES: u64 = 0x1000;
/// Frame numbers that fit into a list.
pub(crate) const LIST_FRAMES: u64 = LIST_BYTES / 8;

const _: () = assert!(SECOND_LIST + LIST_BYTES == WINDOW + WINDOW_BYTES as u64);

/// Whether an address is the window's. What is read or written from there is not the guest's memory.
pub const fn is_in_window(address: u64) -> bool {
    address >= WINDOW && address < WINDOW + WINDOW_BYTES as u64
}

/// Arguments in 64-bit layout, while one call of a 32-bit guest is carried out.
pub struct Window([u8; WINDOW_BYTES]);

impl Window {
    /// An empty window.
    pub const fn new() -> Window {
        Window([0; WINDOW_BYTES])
    }

    fn range(address: u64, length: usize) -> Result<core::ops::Range<usize>> {
        let start = address.checked_sub(WINDOW).and_then(|offset| usize::try_from(offset).ok()).ok_or(Errno::FAULT)?;
        let end = start.checked_add(length).filter(|&end| end <= WINDOW_BYTES).ok_or(Errno::FAULT)?;
        Ok(start..end)
    }

    /// Copies out of it.
    ///
    /// # Errors
    /// `EFAULT` beyond it.
    pub fn read(&self, address: u64, to: &mut [u8]) -> Result<()> {
        to.copy_from_slice(&self.0[Window::range(address, to.len())?]);
        Ok(())
    }

    /// Copies into it.
    ///
    /// # Errors
    /// `EFAULT` beyond it.
    pub fn write(&mut self, address: u64, from: &[u8]) -> Result<()> {
        self.0[Window::range(address, from.len())?].copy_from_slice(from);
        Ok(())
    }
}

impl Default for Window {
    fn default() -> Window {
        Window::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_beyond_its_ends_is_reached() {
        let mut window = Window::new();
        let last = WINDOW + WINDOW_BYTES as u64 - 4;
        window.write(last, &[1, 2, 3, 4]).unwrap();
        let mut bytes = [0; 4];
        window.read(last, &mut bytes).unwrap();
        assert_eq!(bytes, [1, 2, 3, 4]);
        for bad in [last + 1, WINDOW - 1, 0, u64::MAX] {
            assert_eq!(window.read(bad, &mut bytes), Err(Errno::FAULT), "{bad:#x}");
            assert_eq!(window.write(bad, &bytes), Err(Errno::FAULT), "{bad:#x}");
        }
    }
}
