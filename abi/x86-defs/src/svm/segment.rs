//! Segment registers in the control block (APM vol. 2, appendix B, table B-2, and 15.5.1).

use crate::descriptor::Descriptor;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A segment register with its hidden part.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Segment {
    /// The visible part.
    pub selector: u16,
    /// Bits 40 to 47 and 52 to 55 of the descriptor.
    pub attributes: Attributes,
    /// Limit in bytes, granularity applied.
    pub limit: u32,
    /// Base address.
    pub base: u64,
}

/// A descriptor's attributes in twelve bits: type, S, DPL, P in the low eight, AVL, L, D, G above. It is also the form of
/// `cs_arbytes` and its like in Xen's `hvm_hw_cpu` (arch-x86/hvm/save.h).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Attributes(pub u16);

impl Attributes {
    /// S: code or data, not system.
    pub const CODE_OR_DATA: u16 = 1 << 4;
    /// P: present. A segment without it cannot be used, as after a null selector.
    pub const PRESENT: u16 = 1 << 7;
    /// AVL: for software.
    pub const AVAILABLE: u16 = 1 << 8;
    /// L: 64-bit code.
    pub const LONG: u16 = 1 << 9;
    /// D/B: 32-bit.
    pub const BIG: u16 = 1 << 10;
    /// G: the descriptor's limit counted pages.
    pub const GRANULAR: u16 = 1 << 11;

    /// Type field, four bits.
    pub const fn kind(self) -> u8 {
        (self.0 & 15) as u8
    }

    /// Descriptor privilege level.
    pub const fn dpl(self) -> u8 {
        (self.0 >> 5 & 3) as u8
    }

    /// Whether all bits of `bits` are set.
    pub const fn has(self, bits: u16) -> bool {
        self.0 & bits == bits
    }

    /// Of a descriptor of eight bytes.
    pub const fn of(descriptor: Descriptor) -> Attributes {
        Attributes((descriptor.0 >> 40 & 0xff | descriptor.0 >> 44 & 0xf00) as u16)
    }

    /// From an `arbytes` field of `hvm_hw_cpu`. Old Xen on Intel's CPUs wrote bits 40 to 55 as they are in a descriptor there:
    /// AVL to G at bits 12 to 15, and nothing at bits 8 to 11; such values are understood too.
    pub const fn from_arbytes(value: u32) -> Attributes {
        let value = if value & 0xf000 != 0 && value & 0x0f00 == 0 { value & 0xff | value >> 4 & 0xf00 } else { value };
        Attributes((value & 0xfff) as u16)
    }

    /// As an `arbytes` field of `hvm_hw_cpu`.
    pub const fn arbytes(self) -> u32 {
        self.0 as u32 & 0xfff
    }
}

impl Segment {
    /// What loading a code or data descriptor by `selector` leaves in the register.
    pub const fn of(selector: u16, descriptor: Descriptor) -> Segment {
        Segment {
            selector,
            attributes: Attributes::of(descriptor),
            limit: descriptor.limit(),
            base: descriptor.base() as u64,
        }
    }

    /// What a selector in real mode leaves in the register, for code (`is_code`) or data (APM vol. 2, table 14-1).
    pub const fn real_mode(selector: u16, is_code: bool) -> Segment {
        let attributes = Attributes(if is_code { 0x9b } else { 0x93 });
        Segment { selector, attributes, limit: 0xffff, base: (selector as u64) << 4 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_of_descriptors() {
        assert_eq!(Attributes::of(Descriptor::CODE64_RING0), Attributes(0xa9b));
        assert_eq!(Attributes::of(Descriptor::CODE32_RING3), Attributes(0xcfb));
        assert_eq!(Attributes::of(Descriptor::DATA_RING0), Attributes(0xc93));
        let code = Attributes::of(Descriptor::CODE64_RING3);
        assert_eq!((code.kind(), code.dpl()), (11, 3));
        assert!(
            code.has(Attributes::PRESENT | Attributes::LONG | Attributes::CODE_OR_DATA) && !code.has(Attributes::BIG)
        );
        let flat = Segment::of(8, Descriptor::CODE32_RING1);
        assert_eq!((flat.limit, flat.base, flat.attributes.dpl()), (u32::MAX, 0, 1));
    }

    #[test]
    fn both_forms_of_arbytes_are_understood() {
        // What the domain builder gives a PVH guest: code, stack, TSS.
        for value in [0xc9b, 0xc93, 0x8b, 0] {
            assert_eq!(Attributes::from_arbytes(value).arbytes(), value);
        }
        assert_eq!(Attributes::from_arbytes(0xc09b), Attributes(0xc9b));
        assert_eq!(Attributes::from_arbytes(0xa0fb), Attributes(0xafb));
        assert_eq!(Attributes::from_arbytes(0x1_0000), Attributes(0));
    }

    #[test]
    fn real_mode_segments_are_16_bit() {
        let reset = Segment::real_mode(0xf000, true);
        assert_eq!((reset.base, reset.limit, reset.attributes.0), (0xf0000, 0xffff, 0x9b));
    }
}
