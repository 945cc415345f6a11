//! Page-table entries in 4-level paging (SDM vol. 3, 4.5; APM vol. 2, 5.3).

use bitflags::bitflags;

bitflags! {
    /// Flag bits of an entry at any level.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct PteFlags: u64 {
        /// Entry is valid.
        const PRESENT = 1 << 0;
        /// Writes are allowed.
        const WRITABLE = 1 << 1;
        /// Ring 3 may access.
        const USER = 1 << 2;
        /// Write-through; bit 0 of the PAT index.
        const WRITE_THROUGH = 1 << 3;
        /// Cache disable; bit 1 of the PAT index.
        const CACHE_DISABLE = 1 << 4;
        /// Set by the CPU on access.
        const ACCESSED = 1 << 5;
        /// Set by the CPU on write (leaf entries).
        const DIRTY = 1 << 6;
        /// Large page at levels 2 and 3; bit 2 of the PAT index at level 1.
        const LARGE_OR_PAT = 1 << 7;
        /// Survives CR3 loads (leaf entries).
        const GLOBAL = 1 << 8;
        /// Free for software.
        const AVAILABLE = 7 << 9;
        /// No instruction fetch.
        const NO_EXECUTE = 1 << 63;
        const _ = !0;
    }
}

/// Bits of an entry that hold the frame's address: 12 to 51.
pub const ADDRESS_MASK: u64 = 0x000f_ffff_ffff_f000;

/// An entry of a page table at any level.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct Pte(pub u64);

impl Pte {
    /// The highest frame number that an entry can hold.
    pub const HIGHEST_FRAME: u64 = ADDRESS_MASK >> 12;

    /// The entry that maps nothing.
    pub const EMPTY: Pte = Pte(0);

    /// Entry for the frame number `frame`.
    pub const fn new(frame: u64, flags: PteFlags) -> Pte {
        Pte((frame << 12) & ADDRESS_MASK | flags.bits())
    }

    /// Frame number that the entry points at.
    pub const fn frame(self) -> u64 {
        (self.0 & ADDRESS_MASK) >> 12
    }

    /// The bits that are no address.
    pub const fn flags(self) -> PteFlags {
        PteFlags::from_bits_retain(self.0 & !ADDRESS_MASK)
    }

    /// Whether the entry is valid.
    pub const fn is_present(self) -> bool {
        self.0 & PteFlags::PRESENT.bits() != 0
    }

    /// Whether all bits of `flags` are set.
    pub const fn has(self, flags: PteFlags) -> bool {
        self.0 & flags.bits() == flags.bits()
    }
}

impl core::fmt::Debug for Pte {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:#018x}", self.0)
    }
}

/// Index into the table of level `level` (1 to 4) for a virtual address.
pub const fn index(address: u64, level: u32) -> usize {
    (address >> (12 + 9 * (level - 1)) & 511) as usize
}
