//! Control registers, RFLAGS and exceptions.

use bitflags::bitflags;

bitflags! {
    /// CR0 (SDM vol. 3, 2.5).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Cr0: u64 {
        /// Protected mode.
        const PE = 1 << 0;
        /// WAIT heeds TS.
        const MP = 1 << 1;
        /// x87 instructions fault.
        const EM = 1 << 2;
        /// Task switched: the next FPU instruction faults with #NM.
        const TS = 1 << 3;
        /// Reads as 1.
        const ET = 1 << 4;
        /// x87 errors raise #MF.
        const NE = 1 << 5;
        /// Ring 0 heeds read-only pages.
        const WP = 1 << 16;
        /// Alignment checks in ring 3 are possible.
        const AM = 1 << 18;
        /// Not write-through.
        const NW = 1 << 29;
        /// Cache disable.
        const CD = 1 << 30;
        /// Paging.
        const PG = 1 << 31;
        const _ = !0;
    }

    /// CR4 (SDM vol. 3, 2.5; APM vol. 2, 3.1.3).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Cr4: u64 {
        /// Virtual-8086 extensions.
        const VME = 1 << 0;
        /// Protected-mode virtual interrupts.
        const PVI = 1 << 1;
        /// RDTSC only in ring 0.
        const TSD = 1 << 2;
        /// Debugging extensions (I/O breakpoints).
        const DE = 1 << 3;
        /// Large pages without PAE.
        const PSE = 1 << 4;
        /// Physical address extension.
        const PAE = 1 << 5;
        /// Machine checks are delivered.
        const MCE = 1 << 6;
        /// Global pages.
        const PGE = 1 << 7;
        /// RDPMC in every ring.
        const PCE = 1 << 8;
        /// FXSAVE and SSE are usable.
        const OSFXSR = 1 << 9;
        /// SSE errors raise #XM.
        const OSXMMEXCPT = 1 << 10;
        /// SGDT, SIDT, SLDT, SMSW and STR only in ring 0.
        const UMIP = 1 << 11;
        /// 5-level paging.
        const LA57 = 1 << 12;
        /// VMX is usable.
        const VMXE = 1 << 13;
        /// SMX is usable.
        const SMXE = 1 << 14;
        /// RDFSBASE and its like are usable.
        const FSGSBASE = 1 << 16;
        /// Process-context identifiers.
        const PCIDE = 1 << 17;
        /// XSAVE is usable.
        const OSXSAVE = 1 << 18;
        /// Ring 0 does not execute user pages.
        const SMEP = 1 << 20;
        /// Ring 0 does not access user pages while RFLAGS.AC is clear.
        const SMAP = 1 << 21;
        /// Protection keys for user pages.
        const PKE = 1 << 22;
        /// Control-flow enforcement.
        const CET = 1 << 23;
        /// Protection keys for supervisor pages.
        const PKS = 1 << 24;
        const _ = !0;
    }

    /// IA32_EFER (SDM vol. 3, 2.2.1; APM vol. 2, 3.1.7).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Efer: u64 {
        /// SYSCALL and SYSRET are usable.
        const SCE = 1 << 0;
        /// Long mode enabled.
        const LME = 1 << 8;
        /// Long mode active.
        const LMA = 1 << 10;
        /// No-execute pages.
        const NXE = 1 << 11;
        /// SVM is usable (AMD).
        const SVME = 1 << 12;
        /// Segment limits in long mode (AMD).
        const LMSLE = 1 << 13;
        /// Fast FXSAVE (AMD).
        const FFXSR = 1 << 14;
        /// Translation-cache extension (AMD).
        const TCE = 1 << 15;
        /// Automatic IBRS (AMD).
        const AIBRSE = 1 << 21;
        const _ = !0;
    }

    /// RFLAGS (SDM vol. 1, 3.4.3).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct RFlags: u64 {
        /// Carry.
        const CF = 1 << 0;
        /// Reads as 1.
        const ONE = 1 << 1;
        /// Parity.
        const PF = 1 << 2;
        /// Auxiliary carry.
        const AF = 1 << 4;
        /// Zero.
        const ZF = 1 << 6;
        /// Sign.
        const SF = 1 << 7;
        /// Single step.
        const TF = 1 << 8;
        /// Interrupts are taken.
        const IF = 1 << 9;
        /// String instructions go down.
        const DF = 1 << 10;
        /// Overflow.
        const OF = 1 << 11;
        /// I/O privilege level.
        const IOPL = 3 << 12;
        /// Nested task.
        const NT = 1 << 14;
        /// The next instruction ignores code breakpoints.
        const RF = 1 << 16;
        /// Virtual-8086 mode.
        const VM = 1 << 17;
        /// Alignment check in ring 3; lifts SMAP in ring 0.
        const AC = 1 << 18;
        /// Virtual interrupt flag.
        const VIF = 1 << 19;
        /// Virtual interrupt pending.
        const VIP = 1 << 20;
        /// CPUID exists.
        const ID = 1 << 21;
        const _ = !0;
    }

    /// XCR0: parts of the extended state (SDM vol. 1, 13.1).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Xcr0: u64 {
        /// x87; always set.
        const X87 = 1 << 0;
        /// XMM registers and MXCSR.
        const SSE = 1 << 1;
        /// Upper halves of the YMM registers.
        const AVX = 1 << 2;
        /// MPX bounds.
        const BNDREGS = 1 << 3;
        /// MPX configuration.
        const BNDCSR = 1 << 4;
        /// AVX-512 mask registers.
        const OPMASK = 1 << 5;
        /// Upper halves of ZMM0 to ZMM15.
        const ZMM_HI256 = 1 << 6;
        /// ZMM16 to ZMM31.
        const HI16_ZMM = 1 << 7;
        /// Protection-key rights of user pages.
        const PKRU = 1 << 9;
        /// AMX configuration.
        const XTILECFG = 1 << 17;
        /// AMX tiles.
        const XTILEDATA = 1 << 18;
        /// Lightweight profiling (AMD).
        const LWP = 1 << 62;
        const _ = !0;
    }

    /// Error code of a page fault (SDM vol. 3, 4.7).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct PageFault: u32 {
        /// The translation was present; the access was not allowed.
        const PRESENT = 1 << 0;
        /// The access was a write.
        const WRITE = 1 << 1;
        /// The access came from ring 3.
        const USER = 1 << 2;
        /// A reserved bit was set in an entry.
        const RESERVED = 1 << 3;
        /// The access was an instruction fetch.
        const FETCH = 1 << 4;
        /// Protection key.
        const KEY = 1 << 5;
        /// Shadow stack.
        const SHADOW_STACK = 1 << 6;
        const _ = !0;
    }

    /// DR6: what raised a debug exception (SDM vol. 3, 17.2.3).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Dr6: u64 {
        /// Breakpoints 0 to 3.
        const BREAKPOINTS = 15;
        /// Access to a debug register while DR7.GD was set.
        const BD = 1 << 13;
        /// Single step.
        const BS = 1 << 14;
        /// Task switch.
        const BT = 1 << 15;
        const _ = !0;
    }
}

impl RFlags {
    /// Flags that there are, but for the one that is always set.
    const CHANGEABLE: RFlags = RFlags::CF
        .union(RFlags::PF)
        .union(RFlags::AF)
        .union(RFlags::ZF)
        .union(RFlags::SF)
        .union(RFlags::TF)
        .union(RFlags::IF)
        .union(RFlags::DF)
        .union(RFlags::OF)
        .union(RFlags::IOPL)
        .union(RFlags::NT)
        .union(RFlags::RF)
        .union(RFlags::VM)
        .union(RFlags::AC)
        .union(RFlags::VIF)
        .union(RFlags::VIP)
        .union(RFlags::ID);

    /// What RFLAGS holds where all of `value` is loaded into it.
    pub const fn loaded(value: u64) -> u64 {
        value & Self::CHANGEABLE.bits() | Self::ONE.bits()
    }
}

/// Value of DR6 with no condition reported.
pub const DR6_DEFAULT: u64 = 0xffff_0ff0;
/// Value of DR7 with no breakpoint enabled.
pub const DR7_DEFAULT: u64 = 0x400;
/// DR7.GD: the next access to a debug register raises #DB.
pub const DR7_GENERAL_DETECT: u64 = 1 << 13;

/// Whether a 48-bit virtual address is canonical: bits 63 to 47 are equal.
pub const fn is_canonical(address: u64) -> bool {
    ((address << 16) as i64 >> 16) as u64 == address
}

/// Exceptions by number (SDM vol. 3, table 6-1; APM vol. 2, table 8-1).
pub enum Vector {}

impl Vector {
    /// Divide error (#DE).
    pub const DIVIDE_ERROR: u8 = 0;
    /// Debug (#DB).
    pub const DEBUG: u8 = 1;
    /// Non-maskable interrupt.
    pub const NMI: u8 = 2;
    /// Breakpoint, INT3 (#BP).
    pub const BREAKPOINT: u8 = 3;
    /// Overflow, INTO (#OF).
    pub const OVERFLOW: u8 = 4;
    /// Bound range exceeded (#BR).
    pub const BOUND_RANGE: u8 = 5;
    /// Invalid opcode (#UD).
    pub const INVALID_OPCODE: u8 = 6;
    /// FPU not available (#NM).
    pub const DEVICE_NOT_AVAILABLE: u8 = 7;
    /// Double fault (#DF); error code 0.
    pub const DOUBLE_FAULT: u8 = 8;
    /// Invalid TSS (#TS); error code.
    pub const INVALID_TSS: u8 = 10;
    /// Segment not present (#NP); error code.
    pub const SEGMENT_NOT_PRESENT: u8 = 11;
    /// Stack segment fault (#SS); error code.
    pub const STACK_FAULT: u8 = 12;
    /// General protection (#GP); error code.
    pub const GENERAL_PROTECTION: u8 = 13;
    /// Page fault (#PF); error code.
    pub const PAGE_FAULT: u8 = 14;
    /// x87 error (#MF).
    pub const X87_ERROR: u8 = 16;
    /// Alignment check (#AC); error code.
    pub const ALIGNMENT_CHECK: u8 = 17;
    /// Machine check (#MC).
    pub const MACHINE_CHECK: u8 = 18;
    /// SIMD error (#XM).
    pub const SIMD_ERROR: u8 = 19;
    /// Virtualisation exception (#VE).
    pub const VIRTUALIZATION: u8 = 20;
    /// Control protection (#CP); error code.
    pub const CONTROL_PROTECTION: u8 = 21;
    /// Hypervisor injection (#HV, AMD).
    pub const HYPERVISOR_INJECTION: u8 = 28;
    /// VMM communication (#VC, AMD); error code.
    pub const VMM_COMMUNICATION: u8 = 29;
    /// Security exception (#SX, AMD); error code.
    pub const SECURITY: u8 = 30;

    /// Vectors whose exceptions push an error code, as bits.
    pub const WITH_ERROR_CODE: u32 = 0x6022_7d00;

    /// Whether the exception pushes an error code.
    pub const fn has_error_code(vector: u8) -> bool {
        vector < 32 && Self::WITH_ERROR_CODE >> vector & 1 != 0
    }

    /// The exception's short name, as in `#PF`.
    pub const fn name(vector: u8) -> &'static str {
        const NAMES: [&str; 32] = [
            "#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", "CSO", "#TS", "#NP", "#SS", "#GP", "#PF",
            "15", "#MF", "#AC", "#MC", "#XM", "#VE", "#CP", "22", "23", "24", "25", "26", "27", "#HV", "#VC", "#SX",
            "31",
        ];
        if (vector as usize) < NAMES.len() { NAMES[vector as usize] } else { "interrupt" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_addresses() {
        for good in [0, 0x7fff_ffff_ffff, 0xffff_8000_0000_0000, !0] {
            assert!(is_canonical(good), "{good:#x}");
        }
        for bad in [0x8000_0000_0000, 0xffff_7fff_ffff_ffff, 1 << 63, 0x0001_0000_0000_0000] {
            assert!(!is_canonical(bad), "{bad:#x}");
        }
    }

    #[test]
    fn flags_that_are_none_are_not_loaded() {
        assert_eq!([RFlags::loaded(0), RFlags::loaded(!0), RFlags::loaded(0x246)], [2, 0x3f_7fd7, 0x246]);
    }

    #[test]
    fn error_codes_go_with_names() {
        let with: Vec<&str> = (0..=255).filter(|v| Vector::has_error_code(*v)).map(Vector::name).collect();
        assert_eq!(with, ["#DF", "#TS", "#NP", "#SS", "#GP", "#PF", "#AC", "#CP", "#VC", "#SX"]);
        assert_eq!(Vector::name(200), "interrupt");
    }
}
