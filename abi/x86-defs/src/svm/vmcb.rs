//! The virtual machine control block, VMCB: one page, the control area and the guest's state (APM vol. 2, appendix B).

use super::Segment;
use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The control area (table B-1). Names in the manual that differ are given.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Control {
    /// Reads of CR0 to CR15 in the low half, writes in the high one.
    pub intercept_cr: u32,
    /// The same of DR0 to DR15.
    pub intercept_dr: u32,
    /// Exceptions, by vector.
    pub intercept_exceptions: u32,
    /// See [`super::Misc1`].
    pub intercept_misc1: u32,
    /// See [`super::Misc2`].
    pub intercept_misc2: u32,
    /// See [`super::Misc3`].
    pub intercept_misc3: u32,
    _reserved_018: [u8; 0x24],
    /// Ticks between two pauses above which they do not count as in a row (15.14.4).
    pub pause_filter_threshold: u16,
    /// Pauses in a row before an exit (15.14.4).
    pub pause_filter_count: u16,
    /// Physical address of the I/O permission map (15.10.1).
    pub iopm_base: u64,
    /// Physical address of the MSR permission map (15.11).
    pub msrpm_base: u64,
    /// Added to the TSC that the guest reads.
    pub tsc_offset: u64,
    /// Tag of the guest's translations; 0 is the host's (15.15).
    pub asid: u32,
    /// See [`tlb_control`].
    pub tlb_control: u32,
    /// See [`VirtualInterrupt`].
    pub virtual_interrupt: u64,
    /// See [`super::INTERRUPT_SHADOW`].
    pub interrupt_shadow: u64,
    /// EXITCODE, see [`super::ExitCode`].
    pub exit_code: u64,
    /// EXITINFO1.
    pub exit_info1: u64,
    /// EXITINFO2.
    pub exit_info2: u64,
    /// EXITINTINFO, see [`Event`]: what the CPU was delivering when the guest left (15.7.2).
    pub exit_event: u64,
    /// NP_ENABLE and, beside it, encryption.
    pub nested_control: u64,
    /// AVIC APIC_BAR.
    pub avic_bar: u64,
    /// Guest-physical address of the GHCB (SEV-ES).
    pub ghcb: u64,
    /// EVENTINJ, see [`Event`]: what the CPU delivers at the next entry (15.20).
    pub injected_event: u64,
    /// N_CR3: physical address of the nested root table (15.25.4).
    pub nested_cr3: u64,
    /// LBR virtualization, VMLOAD and VMSAVE virtualization.
    pub virtualized: u64,
    /// See [`Clean`].
    pub clean: u32,
    _reserved_0c4: u32,
    /// nRIP: the instruction behind the one that was intercepted; 0 where there is none (15.7.1).
    pub next_rip: u64,
    /// How many bytes of `fetched` are valid (15.8.4).
    pub fetched_count: u8,
    /// Bytes from the guest's rip on, at a page fault (15.8.4).
    pub fetched: [u8; 15],
    /// AVIC backing page.
    pub avic_backing_page: u64,
    _reserved_0e8: u64,
    /// AVIC logical table.
    pub avic_logical_table: u64,
    /// AVIC physical table.
    pub avic_physical_table: u64,
    _reserved_100: u64,
    /// Physical address of the encrypted state (SEV-ES).
    pub vmsa: u64,
    _reserved_110: [u8; 0x2f0],
}

/// The guest's state (table B-2). VMRUN and #VMEXIT switch it, but for the fields that only VMLOAD and VMSAVE do: FS, GS, TR,
/// LDTR with their hidden parts, KERNEL_GS_BASE, and the MSRs of SYSCALL and SYSENTER (15.5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs, reason = "the names are the registers' names")]
pub struct SaveArea {
    pub es: Segment,
    pub cs: Segment,
    pub ss: Segment,
    pub ds: Segment,
    pub fs: Segment,
    pub gs: Segment,
    /// Base and limit only.
    pub gdtr: Segment,
    pub ldtr: Segment,
    /// Base and limit only.
    pub idtr: Segment,
    pub tr: Segment,
    _reserved_0a0: [u8; 0x2b],
    /// Current privilege level. In real mode the CPU takes it as 0, in virtual-8086 mode as 3 (15.5.1).
    pub cpl: u8,
    _reserved_0cc: u32,
    /// SVME has to be set.
    pub efer: u64,
    _reserved_0d8: [u8; 0x70],
    pub cr4: u64,
    pub cr3: u64,
    pub cr0: u64,
    pub dr7: u64,
    pub dr6: u64,
    pub rflags: u64,
    pub rip: u64,
    _reserved_180: [u8; 0x58],
    pub rsp: u64,
    pub s_cet: u64,
    pub ssp: u64,
    pub isst_addr: u64,
    pub rax: u64,
    pub star: u64,
    pub lstar: u64,
    pub cstar: u64,
    pub sfmask: u64,
    pub kernel_gs_base: u64,
    pub sysenter_cs: u64,
    pub sysenter_esp: u64,
    pub sysenter_eip: u64,
    pub cr2: u64,
    _reserved_248: [u8; 0x20],
    /// The guest's page attribute table, in use with nested paging.
    pub g_pat: u64,
    /// In use with LBR virtualization, as the next four.
    pub dbgctl: u64,
    pub br_from: u64,
    pub br_to: u64,
    pub last_excp_from: u64,
    pub last_excp_to: u64,
    _reserved_298: [u8; 0x48],
    /// In use with [`super::Features::SPEC_CTRL`].
    pub spec_ctrl: u64,
    _reserved_2e8: [u8; 0x918],
}

/// The whole page.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(4096))]
pub struct VmcbPage {
    /// The control area.
    pub control: Control,
    /// The guest's state.
    pub save: SaveArea,
}

/// Values of the field TLB_CONTROL: what VMRUN flushes first (15.16.1).
pub mod tlb_control {
    /// Nothing.
    pub const NOTHING: u32 = 0;
    /// All translations of all ASIDs, the host's and global ones too.
    pub const ALL: u32 = 1;
    /// All translations of this guest's ASID; needs [`super::super::Features::FLUSH_BY_ASID`].
    pub const THIS_ASID: u32 = 3;
    /// The same without global ones.
    pub const THIS_ASID_NOT_GLOBAL: u32 = 7;
}

bitflags! {
    /// Parts of the control block that the CPU may take from its cache, as nobody has changed them since the last #VMEXIT on
    /// this CPU (15.15.3). What no bit stands for is always read: the event to inject, TLB_CONTROL, the interrupt shadow, rip,
    /// rsp, rax and rflags.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Clean: u32 {
        /// Intercepts, TSC offset, pause filter.
        const INTERCEPTS = 1 << 0;
        /// Addresses of the permission maps.
        const PERMISSION_MAPS = 1 << 1;
        /// ASID.
        const ASID = 1 << 2;
        /// The virtual interrupt.
        const INTERRUPT = 1 << 3;
        /// Nested paging, nested root, the guest's PAT.
        const NESTED = 1 << 4;
        /// CR0, CR3, CR4, EFER.
        const CONTROL_REGISTERS = 1 << 5;
        /// DR6, DR7.
        const DEBUG_REGISTERS = 1 << 6;
        /// GDTR, IDTR.
        const TABLES = 1 << 7;
        /// CS, DS, SS, ES, CPL.
        const SEGMENTS = 1 << 8;
        /// CR2.
        const CR2 = 1 << 9;
        /// Branch records.
        const LBR = 1 << 10;
        /// AVIC.
        const AVIC = 1 << 11;
        /// Control-flow enforcement.
        const CET = 1 << 12;
    }
}

impl Clean {
    /// The parts that are of the save area. (NESTED is both: the guest's PAT is here.)
    pub const SAVE_AREA: Clean = Clean::NESTED
        .union(Clean::CONTROL_REGISTERS)
        .union(Clean::DEBUG_REGISTERS)
        .union(Clean::TABLES)
        .union(Clean::SEGMENTS)
        .union(Clean::CR2)
        .union(Clean::LBR)
        .union(Clean::CET);
}

/// The field at offset 0x60: the guest's task priority, and an interrupt that becomes due when the guest can take it (15.21.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct VirtualInterrupt(pub u64);

impl VirtualInterrupt {
    /// V_TPR: CR8 of the guest.
    const TPR: u64 = 0xff;
    /// V_IRQ: an interrupt is pending.
    const PENDING: u64 = 1 << 8;
    const PRIORITY_SHIFT: u32 = 16;
    /// V_IGN_TPR: it is due whatever the task priority.
    const IGNORE_TPR: u64 = 1 << 20;
    /// V_INTR_MASKING: RFLAGS.IF and CR8 of the guest do not bear upon the machine's interrupts (15.21.1).
    pub const MASKING: u64 = 1 << 24;
    const VECTOR_SHIFT: u32 = 32;
    const REQUEST: u64 = Self::PENDING | 15 << Self::PRIORITY_SHIFT | Self::IGNORE_TPR | 0xff << Self::VECTOR_SHIFT;

    /// The guest's CR8.
    pub const fn task_priority(self) -> u8 {
        (self.0 & 15) as u8
    }

    /// With the guest's CR8, of which four bits count.
    pub const fn with_task_priority(self, cr8: u8) -> VirtualInterrupt {
        VirtualInterrupt(self.0 & !Self::TPR | cr8 as u64 & 15)
    }

    /// Whether an interrupt is pending.
    pub const fn is_pending(self) -> bool {
        self.0 & Self::PENDING != 0
    }

    /// With a pending interrupt of this vector and priority (0 to 15, as bits 7 to 4 of a vector).
    pub const fn with_pending(self, vector: u8, priority: u8, ignore_tpr: bool) -> VirtualInterrupt {
        let ignore = if ignore_tpr { Self::IGNORE_TPR } else { 0 };
        let request = Self::PENDING
            | (priority as u64 & 15) << Self::PRIORITY_SHIFT
            | ignore
            | (vector as u64) << Self::VECTOR_SHIFT;
        VirtualInterrupt(self.0 & !Self::REQUEST | request)
    }

    /// Without one.
    pub const fn without_pending(self) -> VirtualInterrupt {
        VirtualInterrupt(self.0 & !Self::REQUEST)
    }
}

/// Kinds of events (15.20).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EventKind {
    /// An interrupt of a device.
    Interrupt,
    /// An NMI.
    Nmi,
    /// An exception.
    Exception,
    /// INTn.
    Software,
}

/// An event in EVENTINJ or EXITINTINFO (15.20, 15.7.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Event(pub u64);

impl Event {
    const HAS_ERROR: u64 = 1 << 11;
    const VALID: u64 = 1 << 31;

    const fn new(vector: u8, kind: u64) -> Event {
        Event(vector as u64 | kind << 8 | Self::VALID)
    }

    /// A device's interrupt.
    pub const fn interrupt(vector: u8) -> Event {
        Event::new(vector, 0)
    }

    /// An NMI.
    pub const fn nmi() -> Event {
        Event::new(2, 2)
    }

    /// An exception, with the error code that it pushes.
    pub const fn exception(vector: u8, error_code: Option<u32>) -> Event {
        let event = Event::new(vector, 3);
        match error_code {
            Some(code) => Event(event.0 | Self::HAS_ERROR | (code as u64) << 32),
            None => event,
        }
    }

    /// INTn. The CPU pushes the rip of the save area, so that it has to be behind the instruction.
    pub const fn software(vector: u8) -> Event {
        Event::new(vector, 4)
    }

    /// Whether there is an event at all.
    pub const fn is_valid(self) -> bool {
        self.0 & Self::VALID != 0
    }

    /// Its vector.
    pub const fn vector(self) -> u8 {
        self.0 as u8
    }

    /// Its kind; `None` for those that are reserved.
    pub const fn kind(self) -> Option<EventKind> {
        match self.0 >> 8 & 7 {
            0 => Some(EventKind::Interrupt),
            2 => Some(EventKind::Nmi),
            3 => Some(EventKind::Exception),
            4 => Some(EventKind::Software),
            _ => None,
        }
    }

    /// The error code, if it has one.
    pub const fn error_code(self) -> Option<u32> {
        if self.0 & Self::HAS_ERROR != 0 { Some((self.0 >> 32) as u32) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::offset_of;

    #[test]
    fn control_area_is_where_table_b1_has_it() {
        macro_rules! at {
            ($($field:ident: $offset:literal,)*) => { $(assert_eq!(offset_of!(Control, $field), $offset, stringify!($field));)* };
        }
        at! {
            intercept_cr: 0x000, intercept_dr: 0x004, intercept_exceptions: 0x008, intercept_misc1: 0x00c,
            intercept_misc2: 0x010, intercept_misc3: 0x014, pause_filter_threshold: 0x03c, pause_filter_count: 0x03e,
            iopm_base: 0x040, msrpm_base: 0x048, tsc_offset: 0x050, asid: 0x058, tlb_control: 0x05c,
            virtual_interrupt: 0x060, interrupt_shadow: 0x068, exit_code: 0x070, exit_info1: 0x078, exit_info2: 0x080,
            exit_event: 0x088, nested_control: 0x090, avic_bar: 0x098, ghcb: 0x0a0, injected_event: 0x0a8,
            nested_cr3: 0x0b0, virtualized: 0x0b8, clean: 0x0c0, next_rip: 0x0c8, fetched_count: 0x0d0, fetched: 0x0d1,
            avic_backing_page: 0x0e0, avic_logical_table: 0x0f0, avic_physical_table: 0x0f8, vmsa: 0x108,
        }
        assert_eq!(size_of::<Control>(), 0x400);
    }

    #[test]
    fn save_area_is_where_table_b2_has_it() {
        macro_rules! at {
            ($($field:ident: $offset:literal,)*) => { $(assert_eq!(offset_of!(SaveArea, $field), $offset, stringify!($field));)* };
        }
        at! {
            es: 0x000, cs: 0x010, ss: 0x020, ds: 0x030, fs: 0x040, gs: 0x050, gdtr: 0x060, ldtr: 0x070, idtr: 0x080,
            tr: 0x090, cpl: 0x0cb, efer: 0x0d0, cr4: 0x148, cr3: 0x150, cr0: 0x158, dr7: 0x160, dr6: 0x168,
            rflags: 0x170, rip: 0x178, rsp: 0x1d8, s_cet: 0x1e0, ssp: 0x1e8, isst_addr: 0x1f0, rax: 0x1f8, star: 0x200,
            lstar: 0x208, cstar: 0x210, sfmask: 0x218, kernel_gs_base: 0x220, sysenter_cs: 0x228, sysenter_esp: 0x230,
            sysenter_eip: 0x238, cr2: 0x240, g_pat: 0x268, dbgctl: 0x270, br_from: 0x278, br_to: 0x280,
            last_excp_from: 0x288, last_excp_to: 0x290, spec_ctrl: 0x2e0,
        }
        assert_eq!(size_of::<SaveArea>(), 0xc00);
        assert_eq!(offset_of!(VmcbPage, save), 0x400);
        assert_eq!((size_of::<VmcbPage>(), align_of::<VmcbPage>()), (0x1000, 0x1000));
    }

    #[test]
    fn events_keep_their_parts() {
        let fault = Event::exception(14, Some(0x8000_0006));
        assert_eq!(fault.0, 0x8000_0006_8000_0b0e);
        assert_eq!(
            (fault.kind(), fault.vector(), fault.error_code()),
            (Some(EventKind::Exception), 14, Some(0x8000_0006))
        );
        assert_eq!(Event::exception(6, None).0, 0x8000_0306);
        assert_eq!(Event::interrupt(0xf3).0, 0x8000_00f3);
        assert_eq!(Event::nmi().0, 0x8000_0202);
        assert_eq!(Event::software(0x80).0, 0x8000_0480);
        assert!(!Event::default().is_valid() && fault.is_valid());
        assert_eq!(Event(0x8000_0100).kind(), None);
    }

    #[test]
    fn a_virtual_interrupt_leaves_its_neighbours_alone() {
        let start = VirtualInterrupt(VirtualInterrupt::MASKING).with_task_priority(0xf7);
        assert_eq!((start.0, start.task_priority()), (0x0100_0007, 7));
        let due = start.with_pending(0x41, 4, true);
        assert_eq!(due.0, 0x41_0114_0107);
        assert!(due.is_pending());
        assert_eq!(due.with_pending(0, 1, false).0, 0x0101_0107);
        assert_eq!(due.without_pending(), start);
    }
}
