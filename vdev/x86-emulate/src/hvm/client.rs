//! What the emulation asks of whoever runs the guest.

use super::Result;
use crate::MAX_LENGTH;

/// Why memory is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// For its value.
    Read,
    /// For its value, which is then replaced: a page that is not writable faults as for a write.
    Modify,
    /// As code.
    Execute,
}

/// What a burst moves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BurstKind {
    /// MOVS: memory to memory.
    Move {
        /// Linear address of the first unit read.
        from: u64,
        /// Of the first unit written.
        to: u64,
    },
    /// STOS.
    Fill {
        /// Linear address of the first unit written.
        to: u64,
        /// What is written.
        value: u64,
    },
    /// INS.
    Input {
        /// The port.
        port: u16,
        /// Linear address of the first unit written.
        to: u64,
    },
    /// OUTS.
    Output {
        /// Linear address of the first unit read.
        from: u64,
        /// The port.
        port: u16,
    },
}

/// Units of a repeated string instruction. All are within the segments' limits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Burst {
    /// What is moved.
    pub kind: BurstKind,
    /// Bytes of a unit: 1, 2, 4 or 8.
    pub size: u8,
    /// Units, 2 at least.
    pub count: u64,
    /// Whether each unit is below the one before.
    pub is_backward: bool,
}

/// Memory and ports.
///
/// Addresses are linear: the client translates, and splits what crosses pages. No range wraps around the end of the address
/// space (at 4 GiB outside of 64-bit mode). Ranges are of 1 to 16 bytes. All methods may stop the instruction.
pub trait Memory {
    /// Copies code from `linear` on; how many bytes could be. Never fewer than fit into the page.
    fn fetch(&mut self, linear: u64, to: &mut [u8; MAX_LENGTH]) -> usize;

    /// Reads.
    ///
    /// # Errors
    /// A page fault for the first byte that cannot be accessed, or that an answer is awaited.
    fn read(&mut self, linear: u64, to: &mut [u8], access: Access) -> Result<()>;

    /// Writes all or nothing.
    ///
    /// # Errors
    /// As for [`Memory::read`].
    fn write(&mut self, linear: u64, from: &[u8]) -> Result<()>;

    /// Writes if memory still holds `old`, in one step as far as other CPUs can see; says if it did. At a device, just writes.
    ///
    /// # Errors
    /// As for [`Memory::read`].
    fn compare_exchange(&mut self, linear: u64, old: &[u8], new: &[u8]) -> Result<bool>;

    /// Finds out whether a write could be made, and leaves memory and devices alone.
    ///
    /// # Errors
    /// The page fault that the write would have.
    fn check_write(&mut self, linear: u64, bytes: usize) -> Result<()>;

    /// Reads 1, 2 or 4 bytes from a port.
    ///
    /// # Errors
    /// That an answer is awaited.
    fn read_port(&mut self, port: u16, size: u8) -> Result<u32>;

    /// Writes 1, 2 or 4 bytes to a port.
    ///
    /// # Errors
    /// That an answer is awaited.
    fn write_port(&mut self, port: u16, size: u8, value: u32) -> Result<()>;

    /// Moves some of many units at once: how many, 0 to have them moved one by one by the other methods.
    ///
    /// # Errors
    /// As for those; no unit was moved then.
    fn burst(&mut self, burst: &Burst) -> Result<u64> {
        let _ = burst;
        Ok(0)
    }

    /// All that was done so far is in the registers: answers kept for another attempt are of no more use.
    fn commit(&mut self);
}

/// Descriptor-table registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Table {
    /// GDTR.
    Global,
    /// IDTR.
    Interrupt,
}

/// A descriptor table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DescriptorTable {
    /// Linear address.
    pub base: u64,
    /// Last byte.
    pub limit: u16,
}

/// Registers that are not in [`super::State`], and what only the hypervisor does. The caller's privilege has been checked.
pub trait System: Memory {
    /// Whether the TSS lets the code use ports for which its I/O privilege level is too low.
    ///
    /// # Errors
    /// The page fault of reading the TSS.
    fn may_use_port(&mut self, port: u16, size: u8) -> Result<bool>;
    /// XMM register 0 to 15.
    fn vector(&mut self, number: u8) -> u128;
    /// Sets one; the upper part of a wider register stays.
    fn set_vector(&mut self, number: u8, value: u128);
    /// Reads control register 0, 2, 3, 4 or 8.
    ///
    /// # Errors
    /// What the guest gets.
    fn read_control(&mut self, number: u8) -> Result<u64>;
    /// Writes one, and does all that follows from it.
    ///
    /// # Errors
    /// What the guest gets.
    fn write_control(&mut self, number: u8, value: u64) -> Result<()>;
    /// Reads debug register 0 to 7.
    ///
    /// # Errors
    /// What the guest gets.
    fn read_debug(&mut self, number: u8) -> Result<u64>;
    /// Writes one.
    ///
    /// # Errors
    /// What the guest gets.
    fn write_debug(&mut self, number: u8, value: u64) -> Result<()>;
    /// Reads a model-specific register.
    ///
    /// # Errors
    /// What the guest gets.
    fn read_msr(&mut self, number: u32) -> Result<u64>;
    /// Writes one.
    ///
    /// # Errors
    /// What the guest gets.
    fn write_msr(&mut self, number: u32, value: u64) -> Result<()>;
    /// Answers CPUID: eax, ebx, ecx, edx.
    ///
    /// # Errors
    /// What the guest gets.
    fn cpuid(&mut self, leaf: u32, subleaf: u32) -> Result<[u32; 4]>;
    /// The time-stamp counter.
    fn read_tsc(&mut self) -> u64;
    /// TSC_AUX.
    fn tsc_aux(&mut self) -> u32;
    /// XSETBV.
    ///
    /// # Errors
    /// What the guest gets.
    fn write_xcr(&mut self, number: u32, value: u64) -> Result<()>;
    /// A descriptor-table register.
    fn table(&mut self, table: Table) -> DescriptorTable;
    /// Sets one.
    fn set_table(&mut self, table: Table, target: DescriptorTable);
    /// INVLPG.
    fn invalidate_page(&mut self, linear: u64);
    /// WBINVD, INVD.
    fn write_back_caches(&mut self);
}
