//! Segment descriptors, selectors, gates and the TSS (SDM vol. 3, chapters 3, 6 and 7).

/// Selectors that every guest finds in its GDT (arch-x86/xen-x86_64.h), and the hypervisor's own beside them.
pub mod selector {
    /// The hypervisor's 64-bit code.
    pub const HYPERVISOR_CS64: u16 = 0xe008;
    /// The hypervisor's data and stack.
    pub const HYPERVISOR_DS: u16 = 0xe010;
    /// Flat 32-bit code in ring 3 (`FLAT_RING3_CS32`).
    pub const FLAT_RING3_CS32: u16 = 0xe023;
    /// Flat data in ring 3 (`FLAT_RING3_DS32`).
    pub const FLAT_RING3_DS32: u16 = 0xe02b;
    /// Flat stack in ring 3 (`FLAT_RING3_SS64`, the same descriptor).
    pub const FLAT_RING3_SS: u16 = 0xe02b;
    /// 64-bit code in ring 3 (`FLAT_RING3_CS64`).
    pub const FLAT_RING3_CS64: u16 = 0xe033;
    /// What a 32-bit guest has before those: in the GDT of a 64-bit guest nothing is there.
    pub const UNUSED_BY_64BIT: u16 = 0xe018;
    /// Flat code in ring 1 of a 32-bit guest (`FLAT_RING1_CS`, arch-x86/xen-x86_32.h).
    pub const NARROW_RING1_CS: u16 = 0xe019;
    /// Flat data in ring 1 of a 32-bit guest (`FLAT_RING1_DS`).
    pub const NARROW_RING1_DS: u16 = 0xe021;
    /// Flat code in ring 3 of a 32-bit guest (`FLAT_RING3_CS` there).
    pub const NARROW_RING3_CS: u16 = 0xe02b;
    /// Flat data in ring 3 of a 32-bit guest (`FLAT_RING3_DS` there).
    pub const NARROW_RING3_DS: u16 = 0xe033;
    /// The CPU's TSS; two slots.
    pub const TSS: u16 = 0xe040;
    /// The running guest's LDT; two slots.
    pub const LDT: u16 = 0xe050;
    /// A data descriptor whose limit is the CPU's number, for LSL.
    pub const PER_CPU: u16 = 0xe063;

    /// Bits of a selector that hold the requested privilege level.
    pub const RPL_MASK: u16 = 3;
    /// Bit of a selector that chooses the LDT.
    pub const TABLE_LDT: u16 = 4;
    /// First GDT entry that is the hypervisor's (`FIRST_RESERVED_GDT_ENTRY`, arch-x86/xen.h).
    pub const FIRST_RESERVED_ENTRY: u16 = 14 * 512;
    /// Pages at the start of a GDT that a guest provides (`FIRST_RESERVED_GDT_PAGE`).
    pub const GUEST_PAGES: usize = 14;

    /// Whether the selector is one of the four null selectors.
    pub const fn is_null(selector: u16) -> bool {
        selector & !RPL_MASK == 0
    }

    /// Whether a guest may hold the selector in a trap table or call back: null, in its LDT, in its own part of the GDT, or one
    /// of the flat ring-3 descriptors.
    pub const fn is_guest(selector: u16) -> bool {
        is_null(selector)
            || selector & TABLE_LDT != 0
            || selector >> 3 < FIRST_RESERVED_ENTRY
            || matches!(selector | 3, FLAT_RING3_CS32 | FLAT_RING3_DS32 | FLAT_RING3_CS64 | PER_CPU)
    }
}

/// A descriptor of eight bytes, in a GDT or an LDT.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(transparent)]
pub struct Descriptor(pub u64);

impl Descriptor {
    /// The descriptor that cannot be loaded.
    pub const NULL: Descriptor = Descriptor(0);
    /// 64-bit code, ring 0, accessed.
    pub const CODE64_RING0: Descriptor = Descriptor(0x00af_9b00_0000_ffff);
    /// Flat writable data, ring 0, accessed.
    pub const DATA_RING0: Descriptor = Descriptor(0x00cf_9300_0000_ffff);
    /// Flat 32-bit code, ring 1, accessed.
    pub const CODE32_RING1: Descriptor = Descriptor(0x00cf_bb00_0000_ffff);
    /// Flat writable data, ring 1, accessed.
    pub const DATA_RING1: Descriptor = Descriptor(0x00cf_b300_0000_ffff);
    /// Flat 32-bit code, ring 3, accessed.
    pub const CODE32_RING3: Descriptor = Descriptor(0x00cf_fb00_0000_ffff);
    /// Flat writable data, ring 3, accessed.
    pub const DATA_RING3: Descriptor = Descriptor(0x00cf_f300_0000_ffff);
    /// 64-bit code, ring 3, accessed.
    pub const CODE64_RING3: Descriptor = Descriptor(0x00af_fb00_0000_ffff);

    /// Accessed bit of a code or data descriptor.
    pub const ACCESSED: u64 = 1 << 40;
    /// S bit: code or data, not system.
    pub const CODE_OR_DATA: u64 = 1 << 44;
    /// P bit.
    pub const PRESENT: u64 = 1 << 47;
    /// L bit: 64-bit code.
    pub const LONG: u64 = 1 << 53;
    /// D/B bit: 32-bit.
    pub const BIG: u64 = 1 << 54;
    /// G bit: the limit counts pages.
    pub const GRANULAR: u64 = 1 << 55;

    /// Type field, four bits.
    pub const fn kind(self) -> u8 {
        (self.0 >> 40 & 15) as u8
    }

    /// Descriptor privilege level.
    pub const fn dpl(self) -> u8 {
        (self.0 >> 45 & 3) as u8
    }

    /// Whether all bits of `bits` are set.
    pub const fn has(self, bits: u64) -> bool {
        self.0 & bits == bits
    }

    /// Base address of a code or data segment, 32 bits.
    pub const fn base(self) -> u32 {
        ((self.0 >> 16 & 0xff_ffff) | (self.0 >> 56 << 24)) as u32
    }

    /// Limit in bytes, granularity applied.
    pub const fn limit(self) -> u32 {
        let raw = ((self.0 & 0xffff) | (self.0 >> 32 & 0xf_0000)) as u32;
        if self.has(Self::GRANULAR) { raw << 12 | 0xfff } else { raw }
    }

    /// Read-only data in ring 3 of which only the limit matters: LSL gives `value`, at most 20 bits.
    pub const fn limit_carrier(value: u32) -> Descriptor {
        Descriptor(0x0040_f100_0000_0000 | value as u64 & 0xffff | (value as u64 & 0xf_0000) << 32)
    }

    /// The two slots of a 64-bit system descriptor (TSS or LDT), present, ring 0 (SDM vol. 3, figure 7-4).
    const fn system(kind: u64, base: u64, limit: u32) -> [u64; 2] {
        let low = limit as u64 & 0xffff
            | (base & 0xff_ffff) << 16
            | kind << 40
            | Self::PRESENT
            | (limit as u64 >> 16 & 15) << 48
            | (base >> 24 & 0xff) << 56;
        [low, base >> 32]
    }

    /// Available 64-bit TSS at `base`.
    pub const fn tss(base: u64, limit: u32) -> [u64; 2] {
        Self::system(9, base, limit)
    }

    /// LDT at `base`.
    pub const fn ldt(base: u64, limit: u32) -> [u64; 2] {
        Self::system(2, base, limit)
    }
}

/// The two words of a 64-bit interrupt gate: interrupts go off (SDM vol. 3, figure 6-8). `ist` 0 is no stack of its own.
pub const fn interrupt_gate(handler: u64, selector: u16, ist: u8, dpl: u8) -> [u64; 2] {
    let low = handler & 0xffff
        | (selector as u64) << 16
        | (ist as u64 & 7) << 32
        | 0xe << 40
        | (dpl as u64 & 3) << 45
        | 1 << 47
        | (handler >> 16 & 0xffff) << 48;
    [low, handler >> 32]
}

/// 64-bit TSS (SDM vol. 3, figure 7-11). The eight-byte fields lie at odd multiples of four.
#[derive(Clone, Copy, Debug)]
#[repr(C, packed(4))]
pub struct Tss {
    /// Reserved.
    pub reserved0: u32,
    /// Stack pointers for rings 0 to 2.
    pub rsp: [u64; 3],
    /// Reserved.
    pub reserved1: u64,
    /// Stacks 1 to 7 of the interrupt stack table, at indices 0 to 6.
    pub ist: [u64; 7],
    /// Reserved.
    pub reserved2: u64,
    /// Reserved.
    pub reserved3: u16,
    /// Offset of the I/O permission map; at or beyond the limit there is none.
    pub io_map: u16,
}

impl Tss {
    /// All stacks null, no I/O permission map.
    pub const EMPTY: Tss = Tss {
        reserved0: 0,
        rsp: [0; 3],
        reserved1: 0,
        ist: [0; 7],
        reserved2: 0,
        reserved3: 0,
        io_map: size_of::<Tss>() as u16,
    };
}

/// Operand of LGDT and LIDT.
#[derive(Clone, Copy, Debug)]
#[repr(C, packed)]
pub struct TablePointer {
    /// Size of the table in bytes, less one.
    pub limit: u16,
    /// Linear address of the table.
    pub base: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::offset_of;

    #[test]
    fn sizes_are_the_hardwares() {
        assert_eq!(size_of::<Tss>(), 104);
        assert_eq!(offset_of!(Tss, rsp), 4);
        assert_eq!(offset_of!(Tss, ist), 36);
        assert_eq!(offset_of!(Tss, io_map), 102);
        assert_eq!(size_of::<TablePointer>(), 10);
    }

    #[test]
    fn flat_descriptors() {
        for code in [Descriptor::CODE64_RING0, Descriptor::CODE64_RING3] {
            assert!(code.has(Descriptor::LONG | Descriptor::PRESENT | Descriptor::ACCESSED));
            assert!(!code.has(Descriptor::BIG));
        }
        assert_eq!(Descriptor::CODE64_RING3.dpl(), 3);
        assert_eq!(Descriptor::DATA_RING0.dpl(), 0);
        assert_eq!(Descriptor::DATA_RING3.limit(), !0);
        assert_eq!(Descriptor::DATA_RING3.base(), 0);
        assert_eq!(Descriptor::CODE32_RING3.kind(), 0xb);
    }

    #[test]
    fn system_descriptors_spread_their_base() {
        let base = 0xffff_82d0_1234_5678;
        let [low, high] = Descriptor::tss(base, 0x67);
        assert_eq!(u64::from(Descriptor(low).base()) | high << 32, base);
        assert_eq!(Descriptor(low).limit(), 0x67);
        assert_eq!(Descriptor(low).kind(), 9);
        assert!(!Descriptor(low).has(Descriptor::CODE_OR_DATA));
        assert_eq!(Descriptor(Descriptor::ldt(base, 0xf_fff7)[0]).limit(), 0xf_fff7);
    }

    #[test]
    fn limits_carry_numbers() {
        for value in [0, 1, 255, 0x1_2345, 0xf_ffff] {
            let carrier = Descriptor::limit_carrier(value);
            assert_eq!(carrier.limit(), value);
            assert_eq!(carrier.dpl(), 3);
            assert!(carrier.has(Descriptor::PRESENT | Descriptor::CODE_OR_DATA | Descriptor::ACCESSED));
        }
    }

    #[test]
    fn gates_spread_their_handler() {
        let handler = 0xffff_82d0_8765_4321;
        let [low, high] = interrupt_gate(handler, selector::HYPERVISOR_CS64, 3, 3);
        assert_eq!(low & 0xffff | low >> 48 << 16 | high << 32, handler);
        assert_eq!(low >> 16 & 0xffff, 0xe008);
        assert_eq!(low >> 32 & 0xff, 3);
        assert_eq!(low >> 40 & 0xff, 0xee);
    }

    #[test]
    fn selectors_of_guests() {
        for good in [0, 3, 0x10, 0xdffb, 0xe033, 0xe02b, 0xe023, 0xe00f] {
            assert!(selector::is_guest(good), "{good:#x}");
        }
        for bad in [0xe008, 0xe010, 0xe040, 0xe05b, 0xfff8] {
            assert!(!selector::is_guest(bad), "{bad:#x}");
        }
    }
}
