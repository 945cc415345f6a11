//! One entry of a guest's table.

use crate::{Mode, Paging};
use x86_defs::control::Cr4;
use x86_defs::pte::{ADDRESS_MASK, PteFlags};

const NO_EXECUTE: u64 = PteFlags::NO_EXECUTE.bits();
const LARGE: u64 = PteFlags::LARGE_OR_PAT.bits();
/// Low bits that must be 0 in the root of three levels. By the manuals that where others have the accessed bit is one of them, but there
/// are CPUs that set it there too, and so take it: QEMU's, whose guests could not get past any instruction that is looked at if it were
/// refused here. A CPU that refuses it does so before anybody else looks.
const ROOT_RESERVED: u64 = 0x1c6;

impl Paging {
    pub const fn levels(self) -> u8 {
        match self {
            Paging::Legacy => 2,
            Paging::Pae => 3,
            Paging::Long(levels) => levels,
        }
    }

    /// Bytes of an entry.
    pub const fn width(self) -> u8 {
        match self {
            Paging::Legacy => 4,
            Paging::Pae | Paging::Long(_) => 8,
        }
    }

    /// Base-2 logarithm of the bytes that an entry at `level` is for.
    pub const fn reach(self, level: u8) -> u8 {
        match self {
            Paging::Legacy => 12 + 10 * (level - 1),
            Paging::Pae | Paging::Long(_) => 12 + 9 * (level - 1),
        }
    }

    /// The slot of an address in a table of `level`.
    pub const fn slot(self, address: u64, level: u8) -> u64 {
        let slots = match self {
            Paging::Legacy => 1024,
            Paging::Pae if level == 3 => 4,
            Paging::Pae | Paging::Long(_) => 512,
        };
        address >> self.reach(level) & (slots - 1)
    }

    /// The root's address in CR3.
    pub const fn root(self, cr3: u64) -> u64 {
        match self {
            Paging::Legacy => cr3 & 0xffff_f000,
            Paging::Pae => cr3 & 0xffff_ffe0,
            Paging::Long(_) => cr3 & ADDRESS_MASK,
        }
    }

    /// Whether entries of `level` have rights and an accessed bit: all have but those of the root of three levels.
    pub const fn has_rights(self, level: u8) -> bool {
        !matches!(self, Paging::Pae) || level != 3
    }

    /// Whether the entry is for a page.
    pub fn is_page(self, mode: &Mode, level: u8, entry: u64) -> bool {
        let may_be_large = match self {
            Paging::Legacy => level == 2 && mode.cr4.contains(Cr4::PSE),
            Paging::Pae => level == 2,
            // Without 1 GiB pages the bit is reserved, and the entry was refused.
            Paging::Long(_) => level == 2 || level == 3,
        };
        level == 1 || may_be_large && entry & LARGE != 0
    }

    /// Whether a present entry has a bit that must be 0.
    pub fn has_reserved(self, mode: &Mode, level: u8, entry: u64) -> bool {
        let page = self.is_page(mode, level, entry);
        if self == Paging::Legacy {
            return page && level == 2 && legacy_large_reserved(mode, entry);
        }
        let mut reserved = ADDRESS_MASK & !((1 << mode.address_bits.min(52)) - 1);
        if !mode.no_execute() {
            reserved |= NO_EXECUTE;
        }
        if page && level > 1 {
            // Bit 12 chooses the memory type.
            reserved |= (1 << self.reach(level)) - (1 << 13);
        }
        match self {
            Paging::Pae => {
                reserved |= 0x7ff << 52;
                if level == 3 {
                    reserved |= NO_EXECUTE | ROOT_RESERVED;
                }
            }
            _ if level >= 4 || level == 3 && !mode.gib_pages => reserved |= LARGE,
            _ => {}
        }
        entry & reserved != 0
    }

    /// Address of the table or page that an entry names.
    pub fn target(self, mode: &Mode, level: u8, entry: u64) -> u64 {
        let page = self.is_page(mode, level, entry);
        match self {
            Paging::Legacy if page && level == 2 => entry & 0xffc0_0000 | (entry >> 13 & 0xff) << 32,
            Paging::Legacy => entry & 0xffff_f000,
            _ if page => entry & ADDRESS_MASK & !((1 << self.reach(level)) - 1),
            _ => entry & ADDRESS_MASK,
        }
    }
}

/// A 4 MiB page has bits 32 to 39 of its address in bits 13 to 20 (4.3, "PSE-36"), and bit 21 is reserved.
fn legacy_large_reserved(mode: &Mode, entry: u64) -> bool {
    let high = (entry >> 13 & 0xff) << 32;
    let limit = if mode.pse36 { mode.address_bits.min(40) } else { 32 };
    entry & 1 << 21 != 0 || high >> limit != 0
}
