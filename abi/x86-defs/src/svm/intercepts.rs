//! What a guest leaves for (APM vol. 2, appendix B, table B-1; 15.8 to 15.14).

use bitflags::bitflags;

bitflags! {
    /// Intercepts at offset 0x0c.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    #[allow(missing_docs, reason = "the names are the instructions' names")]
    pub struct Misc1: u32 {
        /// The machine's interrupts.
        const INTR = 1 << 0;
        /// The machine's NMIs.
        const NMI = 1 << 1;
        const SMI = 1 << 2;
        const INIT = 1 << 3;
        /// The guest can take the virtual interrupt.
        const VINTR = 1 << 4;
        /// Writes of CR0 that change more than TS and MP.
        const CR0_SELECTIVE = 1 << 5;
        const READ_IDTR = 1 << 6;
        const READ_GDTR = 1 << 7;
        const READ_LDTR = 1 << 8;
        const READ_TR = 1 << 9;
        const WRITE_IDTR = 1 << 10;
        const WRITE_GDTR = 1 << 11;
        const WRITE_LDTR = 1 << 12;
        const WRITE_TR = 1 << 13;
        const RDTSC = 1 << 14;
        const RDPMC = 1 << 15;
        const PUSHF = 1 << 16;
        const POPF = 1 << 17;
        const CPUID = 1 << 18;
        const RSM = 1 << 19;
        const IRET = 1 << 20;
        /// INTn.
        const INT = 1 << 21;
        const INVD = 1 << 22;
        const PAUSE = 1 << 23;
        const HLT = 1 << 24;
        const INVLPG = 1 << 25;
        const INVLPGA = 1 << 26;
        /// IN and OUT as the permission map says.
        const IO = 1 << 27;
        /// RDMSR and WRMSR as the permission map says.
        const MSR = 1 << 28;
        const TASK_SWITCH = 1 << 29;
        const FERR_FREEZE = 1 << 30;
        /// A triple fault.
        const SHUTDOWN = 1 << 31;
    }

    /// Intercepts at offset 0x10.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    #[allow(missing_docs, reason = "the names are the instructions' names")]
    pub struct Misc2: u32 {
        const VMRUN = 1 << 0;
        const VMMCALL = 1 << 1;
        const VMLOAD = 1 << 2;
        const VMSAVE = 1 << 3;
        const STGI = 1 << 4;
        const CLGI = 1 << 5;
        const SKINIT = 1 << 6;
        const RDTSCP = 1 << 7;
        /// INT1.
        const ICEBP = 1 << 8;
        /// WBNOINVD too.
        const WBINVD = 1 << 9;
        const MONITOR = 1 << 10;
        const MWAIT = 1 << 11;
        /// MWAIT if the monitor is armed.
        const MWAIT_ARMED = 1 << 12;
        const XSETBV = 1 << 13;
        const RDPRU = 1 << 14;
        /// After a write of EFER.
        const EFER_WRITTEN = 1 << 15;
    }

    /// Intercepts at offset 0x14.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    #[allow(missing_docs, reason = "the names are the instructions' names")]
    pub struct Misc3: u32 {
        const INVLPGB = 1 << 0;
        /// INVLPGB of what the guest may not name.
        const INVLPGB_ILLEGAL = 1 << 1;
        const INVPCID = 1 << 2;
        const MCOMMIT = 1 << 3;
        const TLBSYNC = 1 << 4;
        const BUS_LOCK = 1 << 5;
        /// HLT without a pending virtual interrupt.
        const IDLE_HLT = 1 << 6;
    }
}

/// All intercepts of a guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Intercepts {
    /// Control registers: reads by number in the low half, writes in the high one.
    pub cr: u32,
    /// Debug registers, likewise.
    pub dr: u32,
    /// Exceptions by vector.
    pub exceptions: u32,
    /// Offset 0x0c.
    pub misc1: Misc1,
    /// Offset 0x10.
    pub misc2: Misc2,
    /// Offset 0x14.
    pub misc3: Misc3,
}

impl Intercepts {
    /// None at all.
    pub const NONE: Intercepts =
        Intercepts { cr: 0, dr: 0, exceptions: 0, misc1: Misc1::empty(), misc2: Misc2::empty(), misc3: Misc3::empty() };

    /// Bit of `cr` or `dr` for reads of a register; `number` is below 16.
    pub const fn reads(number: u32) -> u32 {
        1 << (number & 15)
    }

    /// Bit of `cr` or `dr` for writes of a register; `number` is below 16.
    pub const fn writes(number: u32) -> u32 {
        1 << (16 + (number & 15))
    }

    /// These and those.
    pub const fn union(self, other: Intercepts) -> Intercepts {
        Intercepts {
            cr: self.cr | other.cr,
            dr: self.dr | other.dr,
            exceptions: self.exceptions | other.exceptions,
            misc1: self.misc1.union(other.misc1),
            misc2: self.misc2.union(other.misc2),
            misc3: self.misc3.union(other.misc3),
        }
    }
}

impl Default for Intercepts {
    fn default() -> Intercepts {
        Intercepts::NONE
    }
}

#[cfg(test)]
mod tests {
    use super::super::ExitCode;
    use super::*;

    /// Appendix C numbers the exits in the order of the bits.
    #[test]
    fn bits_are_in_the_order_of_exit_codes() {
        let misc1 = [
            (Misc1::INTR, ExitCode::INTR),
            (Misc1::VINTR, ExitCode::VINTR),
            (Misc1::CPUID, ExitCode::CPUID),
            (Misc1::HLT, ExitCode::HLT),
            (Misc1::IO, ExitCode::IO),
            (Misc1::MSR, ExitCode::MSR),
            (Misc1::SHUTDOWN, ExitCode::SHUTDOWN),
        ];
        for (bit, code) in misc1 {
            assert_eq!(0x60 + u64::from(bit.bits().trailing_zeros()), code.0);
        }
        for (bit, code) in
            [(Misc2::VMRUN, ExitCode::VMRUN), (Misc2::VMMCALL, ExitCode::VMMCALL), (Misc2::XSETBV, ExitCode::XSETBV)]
        {
            assert_eq!(0x80 + u64::from(bit.bits().trailing_zeros()), code.0);
        }
        assert_eq!(0xa0 + u64::from(Misc3::IDLE_HLT.bits().trailing_zeros()), ExitCode::IDLE_HLT.0);
    }

    #[test]
    fn registers_have_bits_for_reads_and_writes() {
        assert_eq!((Intercepts::reads(8), Intercepts::writes(0)), (0x100, 0x1_0000));
        let both = Intercepts { cr: 1, ..Intercepts::NONE }.union(Intercepts { cr: 2, dr: 4, ..Intercepts::NONE });
        assert_eq!((both.cr, both.dr), (3, 4));
    }
}
