//! Entries as the hardware has them.

use crate::entry::{Access, Type};
use types::Mfn;
use x86_defs::pte::{ADDRESS_MASK, Pte, PteFlags};

/// An entry that is no pointer to a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leaf {
    /// First frame, if the type has one; else anything.
    pub mfn: Mfn,
    /// What it is.
    pub ty: Type,
    /// What the guest may do.
    pub access: Access,
}

/// What a word of a table says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decoded {
    /// Nothing: the word is 0.
    Hole,
    /// A table of the level below.
    Table(Mfn),
    /// A page, or the promise of one.
    Leaf(Leaf),
}

/// A kind of second-stage table with 512 words of 64 bits a table. The word 0 is a hole in each.
pub trait Format {
    /// Levels of tables; the root's number. Level 1 maps 4 KiB pages.
    const LEVELS: u8;
    /// Highest level whose entries can be pages.
    const LEAF_LEVELS: u8;

    /// The word for a page at `level`. Never 0.
    fn leaf(leaf: Leaf, level: u8) -> u64;
    /// The word for a table below.
    fn table(mfn: Mfn) -> u64;
    /// What a word says. Of a word that neither of the above made, anything.
    fn decode(word: u64, level: u8) -> Decoded;
    /// Whether a CPU that has cached what `old` said must forget it when the word becomes `new`.
    fn outdates(old: u64, new: u64) -> bool;

    /// Guest frames are below 2 to the power of this.
    const GFN_BITS: u32 = 9 * Self::LEVELS as u32;
}

/// AMD's nested paging: entries of long mode, which are user ones always (APM vol. 2, 15.25.5). Type and access are in bits
/// that the CPU leaves to software: 52 to 56 and 57 to 60.
pub struct Npt;

const TYPE_SHIFT: u32 = 52;
const TYPE_MASK: u64 = 0x1f;
const ACCESS_SHIFT: u32 = 57;
const ACCESS_MASK: u64 = 0xf;
/// Set in every leaf, so that none is 0 and that a page is told from a table where it is not present. Bit 9 is software's.
const LEAF: u64 = 1 << 9;

/// Rights that come with the type; `None` for what is not mapped.
fn rights(ty: Type) -> Option<PteFlags> {
    let read_only = PteFlags::PRESENT;
    let read_write = PteFlags::PRESENT.union(PteFlags::WRITABLE);
    match ty {
        Type::RamRw => Some(read_write),
        Type::RamLogdirty | Type::RamRo => Some(read_only),
        Type::GrantMapRw | Type::MapForeign => Some(read_write.union(PteFlags::NO_EXECUTE)),
        Type::GrantMapRo | Type::IoreqServer => Some(read_only.union(PteFlags::NO_EXECUTE)),
        Type::MmioDirect => Some(read_write.union(PteFlags::CACHE_DISABLE)),
        Type::Invalid | Type::MmioDm | Type::PopulateOnDemand | Type::RamBroken => None,
    }
}

impl Npt {
    /// The CPU would only set these, at the cost of a locked access.
    const PRESET: PteFlags = PteFlags::USER.union(PteFlags::ACCESSED).union(PteFlags::DIRTY);
    /// Bits that the CPU sets on its own.
    const SET_BY_CPU: u64 = PteFlags::ACCESSED.union(PteFlags::DIRTY).bits();
}

impl Format for Npt {
    const LEVELS: u8 = 4;
    const LEAF_LEVELS: u8 = 3;

    fn leaf(leaf: Leaf, level: u8) -> u64 {
        let software = LEAF | (leaf.ty as u64) << TYPE_SHIFT | (leaf.access as u64) << ACCESS_SHIFT;
        let frame = if leaf.ty.has_frame() { leaf.mfn.0 } else { 0 };
        let large = if level > 1 { PteFlags::LARGE_OR_PAT } else { PteFlags::empty() };
        let hardware = match rights(leaf.ty) {
            Some(mut flags) if leaf.access.is_any() => {
                flags |= Npt::PRESET;
                if !leaf.access.may_write() {
                    flags.remove(PteFlags::WRITABLE);
                }
                if !leaf.access.may_execute() {
                    flags.insert(PteFlags::NO_EXECUTE);
                }
                flags
            }
            _ => PteFlags::empty(),
        };
        Pte::new(frame, hardware | large).0 | software
    }

    fn table(mfn: Mfn) -> u64 {
        let flags = PteFlags::PRESENT | PteFlags::WRITABLE | PteFlags::USER | PteFlags::ACCESSED;
        Pte::new(mfn.0, flags).0
    }

    fn decode(word: u64, _level: u8) -> Decoded {
        let mfn = Mfn((word & ADDRESS_MASK) >> 12);
        if word & LEAF != 0 {
            let ty = Type::from_bits(word >> TYPE_SHIFT & TYPE_MASK);
            let access = Access::from_number((word >> ACCESS_SHIFT & ACCESS_MASK) as u8).unwrap_or(Access::N);
            Decoded::Leaf(Leaf { mfn, ty, access })
        } else if Pte(word).is_present() {
            Decoded::Table(mfn)
        } else {
            Decoded::Hole
        }
    }

    fn outdates(old: u64, new: u64) -> bool {
        let (old, new) = (Pte(old & !Npt::SET_BY_CPU), Pte(new & !Npt::SET_BY_CPU));
        if !old.is_present() || old == new {
            // CPUs do not cache what is not present (APM vol. 2, 5.5).
            return false;
        }
        let hardware = PteFlags::PRESENT
            | PteFlags::USER
            | PteFlags::WRITE_THROUGH
            | PteFlags::CACHE_DISABLE
            | PteFlags::LARGE_OR_PAT;
        let same_page = old.frame() == new.frame() && (old.0 ^ new.0) & hardware.bits() == 0;
        let same_kind = (old.0 ^ new.0) & LEAF == 0;
        let fewer = old.has(PteFlags::WRITABLE) && !new.has(PteFlags::WRITABLE)
            || new.has(PteFlags::NO_EXECUTE) && !old.has(PteFlags::NO_EXECUTE);
        // A CPU that still has fewer rights faults and then walks again.
        !same_page || !same_kind || fewer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPES: [Type; 10] = [
        Type::RamRw,
        Type::RamLogdirty,
        Type::RamRo,
        Type::MmioDirect,
        Type::PopulateOnDemand,
        Type::GrantMapRw,
        Type::GrantMapRo,
        Type::RamBroken,
        Type::MapForeign,
        Type::IoreqServer,
    ];

    fn accesses() -> impl Iterator<Item = Access> {
        (0..=9).filter_map(Access::from_number)
    }

    #[test]
    fn leaves_come_back() {
        assert_eq!(Npt::decode(0, 1), Decoded::Hole);
        assert_eq!(Npt::decode(Npt::table(Mfn(0x1234)), 2), Decoded::Table(Mfn(0x1234)));
        for ty in TYPES {
            for access in accesses() {
                for level in 1..=3 {
                    let mfn = if ty.has_frame() { Mfn(0x40000) } else { Mfn(0) };
                    let leaf = Leaf { mfn, ty, access };
                    assert_eq!(Npt::decode(Npt::leaf(leaf, level), level), Decoded::Leaf(leaf));
                }
            }
        }
    }

    #[test]
    fn the_hardware_gets_no_right_that_type_or_access_lack() {
        for ty in TYPES {
            for access in accesses() {
                let pte = Pte(Npt::leaf(Leaf { mfn: Mfn(7), ty, access }, 1));
                let mapped = !matches!(ty, Type::PopulateOnDemand | Type::RamBroken) && access.is_any();
                assert_eq!(pte.is_present(), mapped, "{ty:?} {access:?}");
                let writable = matches!(ty, Type::RamRw | Type::GrantMapRw | Type::MapForeign | Type::MmioDirect);
                assert_eq!(pte.has(PteFlags::WRITABLE), mapped && writable && access.may_write(), "{ty:?} {access:?}");
                assert!(!mapped || pte.has(PteFlags::USER));
                let code = ty.is_ram() || ty == Type::MmioDirect;
                assert_eq!(
                    !pte.has(PteFlags::NO_EXECUTE),
                    !mapped || code && access.may_execute(),
                    "{ty:?} {access:?}"
                );
            }
        }
    }

    #[test]
    fn only_what_a_cpu_may_have_cached_is_outdated() {
        let leaf = |ty, access, mfn| Npt::leaf(Leaf { mfn: Mfn(mfn), ty, access }, 1);
        let ram = leaf(Type::RamRw, Access::Rwx, 5);
        assert!(!Npt::outdates(0, ram));
        assert!(!Npt::outdates(leaf(Type::PopulateOnDemand, Access::Rwx, 0), ram));
        assert!(!Npt::outdates(leaf(Type::RamRo, Access::Rwx, 5), ram), "more rights");
        assert!(!Npt::outdates(ram, ram | PteFlags::DIRTY.bits()));
        assert!(Npt::outdates(ram, leaf(Type::RamLogdirty, Access::Rwx, 5)));
        assert!(Npt::outdates(ram, leaf(Type::RamRw, Access::Rw, 5)), "no execution");
        assert!(Npt::outdates(ram, leaf(Type::RamRw, Access::Rwx, 6)));
        assert!(Npt::outdates(ram, 0));
        assert!(Npt::outdates(ram, leaf(Type::MmioDirect, Access::Rwx, 5)), "another memory type");
        assert!(Npt::outdates(Npt::table(Mfn(5)), ram));
    }
}
