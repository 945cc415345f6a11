//! AMD-V (SVM): the control block of a guest, why it leaves, and what it may be left for (APM vol. 2, chapter 15, appendices
//! B and C).

mod exit;
mod intercepts;
mod segment;
mod vmcb;

pub use exit::{ExitCode, IoAccess, NestedFault, TaskSwitch, cr_operand, dr_operand};
pub use intercepts::{Intercepts, Misc1, Misc2, Misc3};
pub use segment::{Attributes, Segment};
pub use vmcb::{Clean, Control, Event, EventKind, SaveArea, VirtualInterrupt, VmcbPage, tlb_control};

use bitflags::bitflags;

/// CPUID leaf of SVM's revision, ASIDs and features (APM vol. 3, E.4.9).
pub const CPUID_LEAF: u32 = 0x8000_000a;
/// Bit of CPUID 8000_0001, ecx, that tells of SVM (APM vol. 3, E.4.2).
pub const CPUID_SVM: u32 = 1 << 2;
/// Control block, bit of `nested_control`: nested paging (15.25.3).
pub const NESTED_PAGING: u64 = 1 << 0;
/// Control block, bit of `interrupt_shadow`: the guest is behind an STI or a MOV SS (15.21.5).
pub const INTERRUPT_SHADOW: u64 = 1 << 0;

bitflags! {
    /// CPUID 8000_000A, edx (APM vol. 3, E.4.9).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Features: u32 {
        /// Nested paging.
        const NESTED_PAGING = 1 << 0;
        /// Branch records of guests.
        const LBR = 1 << 1;
        /// VM_CR can be locked.
        const LOCK = 1 << 2;
        /// `next_rip` is filled in at exits.
        const NEXT_RIP = 1 << 3;
        /// A factor for the guest's TSC.
        const TSC_RATE = 1 << 4;
        /// The clean bits are heeded.
        const CLEAN_BITS = 1 << 5;
        /// The translations of one ASID can be flushed.
        const FLUSH_BY_ASID = 1 << 6;
        /// Exits by CR, DR, INVLPG, INTn and nested page fault come with operands and instruction bytes.
        const DECODE_ASSISTS = 1 << 7;
        /// Pauses in a row are counted.
        const PAUSE_FILTER = 1 << 10;
        /// Pauses count only if they are close together.
        const PAUSE_THRESHOLD = 1 << 12;
        /// Interrupt controller of guests.
        const AVIC = 1 << 13;
        /// VMLOAD and VMSAVE of guests.
        const VIRTUAL_VMLOAD = 1 << 15;
        /// Global interrupt flag of guests.
        const VIRTUAL_GIF = 1 << 16;
        /// Execution of user pages by a guest's supervisor can be forbidden in nested tables.
        const GMET = 1 << 17;
        /// AVIC with x2APIC registers.
        const X2AVIC = 1 << 18;
        /// Shadow stacks are checked in nested tables.
        const SHADOW_STACK_CHECK = 1 << 19;
        /// SPEC_CTRL of guests.
        const SPEC_CTRL = 1 << 20;
        /// Guests' page tables may be read-only in nested tables.
        const READ_ONLY_TABLES = 1 << 21;
        /// INVLPGB and TLBSYNC of guests.
        const TLB_BROADCAST = 1 << 24;
        /// NMIs of guests.
        const VIRTUAL_NMI = 1 << 25;
        /// VMRUN, VMLOAD and VMSAVE check the address that they are given.
        const ADDRESS_CHECK = 1 << 28;
        const _ = !0;
    }

    /// MSR VM_CR (15.30.1).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct VmCr: u64 {
        /// External debug port disabled.
        const DPD = 1 << 0;
        /// INIT becomes the exception #SX.
        const R_INIT = 1 << 1;
        /// No A20 masking.
        const DIS_A20M = 1 << 2;
        /// `SVMDIS` cannot be changed.
        const LOCK = 1 << 3;
        /// EFER.SVME cannot be set.
        const SVMDIS = 1 << 4;
        const _ = !0;
    }
}
