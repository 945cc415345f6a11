//! A device's memory-mapped registers.

/// Registers at byte offsets. Accesses outside the region read all ones and write nothing.
pub trait Registers {
    /// Reads the 32-bit register at `offset`, in bytes.
    fn read32(&self, offset: usize) -> u32;
    /// Writes the 32-bit register at `offset`, in bytes.
    fn write32(&self, offset: usize, value: u32);
}
