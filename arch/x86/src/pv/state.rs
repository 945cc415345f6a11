//! What a PV vCPU has beside its registers.

use crate::vectors::Vectors;
use alloc::boxed::Box;
use arrayvec::ArrayVec;
use compat::Window;
use evtchn::Info;
use hal_cpu::{DebugRegs, GuestContext, SegmentState};
use types::{Mfn, Result};
use x86_emulate::Recent;
use xen_abi::arch_x86::{FLAT_KERNEL_SS64, cr3_to_pfn, pfn_to_cr3};

/// Pages of descriptors that a guest may have (FIRST_RESERVED_GDT_PAGE, arch-x86/xen.h).
pub const GDT_PAGES: usize = 14;

/// A place in the guest kernel that the hypervisor enters.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Callback {
    /// Address; 0 for none.
    pub rip: u64,
    /// Selector of its code segment. A 64-bit guest's kernel is entered in the flat one, whatever this is.
    pub cs: u16,
    /// Whether event delivery is masked on the way in.
    pub masks_events: bool,
}

/// Entry of the guest's trap table.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct TrapGate {
    /// Lowest privilege, as a ring number, that may raise the trap by an `int` instruction.
    pub dpl: u8,
    /// The handler.
    pub handler: Callback,
}

/// The guest's trap table.
pub type TrapTable = [TrapGate; 256];

/// What a vCPU of a 32-bit guest has beside the rest.
pub struct Narrow {
    /// The hypervisor's own table of level 4, whose first entry is the guest's root. No guest has a reference to it.
    pub top: Mfn,
    /// Room for translated arguments; away while a call is carried out.
    pub window: Option<Box<Window>>,
}

/// The state of a PV vCPU that belongs to whoever runs it.
pub struct VcpuState {
    /// General registers and the frame by which the guest is entered.
    pub context: GuestContext,
    /// Where its vcpu_info is; found anew whenever it begins to run.
    pub info: Option<Info<'static>>,
    /// Data segments and their bases, as last saved.
    pub segments: SegmentState,
    /// Vector registers.
    pub vectors: Vectors,
    /// TSC_AUX, which RDTSCP and RDPID show.
    pub tsc_aux: u32,
    /// The guest kernel runs, not its user.
    pub kernel_mode: bool,
    /// What it has as a vCPU of a 32-bit guest.
    pub narrow: Option<Box<Narrow>>,
    /// Top-level table of kernel mode, of a 32-bit guest the only one; a typed reference is held.
    pub root_kernel: Option<Mfn>,
    /// Top-level table of user mode; a typed reference is held.
    pub root_user: Option<Mfn>,
    /// Stack segment that the guest named with it; entry always uses the flat one.
    pub kernel_ss: u16,
    /// Top of the stack on which traps from user mode are delivered.
    pub kernel_sp: u64,
    /// Where traps are delivered.
    pub traps: Box<TrapTable>,
    /// Event upcall.
    pub event: Callback,
    /// Where the guest goes when its segment selectors cannot be loaded.
    pub failsafe: Callback,
    /// 64-bit system calls of its user code.
    pub syscall: Callback,
    /// 32-bit system calls by SYSCALL.
    pub syscall32: Callback,
    /// 32-bit system calls by SYSENTER.
    pub sysenter: Callback,
    /// Frames of the guest's descriptor table; a typed reference is held for each.
    pub gdt: ArrayVec<Mfn, GDT_PAGES>,
    /// Descriptors in it.
    pub gdt_entries: u32,
    /// Guest-virtual address of the local descriptor table.
    pub ldt_base: u64,
    /// Descriptors in it; 0 for no table.
    pub ldt_entries: u32,
    /// Frames of the local descriptor table that were faulted in, with typed references.
    pub ldt: [Option<Mfn>; 16],
    /// Debug registers.
    pub debug: DebugRegs,
    /// CR0.TS as the guest sees it.
    pub task_switched: bool,
    /// CR2 as the guest sees it.
    pub cr2: u64,
    /// Bits of CR4 that the guest owns.
    pub cr4: u64,
    /// I/O privilege level that the guest asked for.
    pub iopl: u8,
    /// Guest address of the I/O bitmap and the number of ports in it.
    pub io_bitmap: (u64, u32),
    /// What was last written to port 0xcf8.
    pub pci_address: u32,
    /// Where the last page fault was that was taken for spurious: rip and address.
    pub retried: (u64, u64),
    /// Stores to page tables that were decoded lately.
    pub recent: Recent,
    /// NMI handler that was registered by nmi_op; where there is none, trap 2 serves.
    pub nmi: Callback,
}

impl VcpuState {
    /// A vCPU as dom0's first one starts, but with no registers: no tables, everything masked.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new() -> Result<VcpuState> {
        Ok(VcpuState {
            context: GuestContext::new(),
            info: None,
            segments: SegmentState::default(),
            vectors: Vectors::new()?,
            tsc_aux: 0,
            kernel_mode: true,
            narrow: None,
            root_kernel: None,
            root_user: None,
            kernel_ss: FLAT_KERNEL_SS64,
            kernel_sp: 0,
            traps: Box::new([TrapGate::default(); 256]),
            event: Callback::default(),
            failsafe: Callback::default(),
            syscall: Callback::default(),
            syscall32: Callback::default(),
            sysenter: Callback::default(),
            gdt: ArrayVec::new(),
            gdt_entries: 0,
            ldt_base: 0,
            ldt_entries: 0,
            ldt: [None; 16],
            debug: DebugRegs::default(),
            task_switched: false,
            cr2: 0,
            cr4: 0,
            iopl: 0,
            io_bitmap: (0, 0),
            pci_address: 0,
            retried: (0, 0),
            recent: Recent::default(),
            nmi: Callback::default(),
        })
    }

    /// The table from which the CPU walks in the mode that runs.
    pub fn root(&self) -> Option<Mfn> {
        if self.kernel_mode || self.narrow.is_some() { self.kernel_root() } else { self.root_user }
    }

    /// The table from which the CPU walks in kernel mode.
    pub fn kernel_root(&self) -> Option<Mfn> {
        self.root_kernel.map(|root| self.narrow.as_ref().map_or(root, |own| own.top))
    }

    /// CR3 as the guest sees it, if it has page tables.
    pub fn cr3(&self) -> Option<u64> {
        let root = self.root_kernel?.0;
        Some(if self.narrow.is_some() { xen_abi::compat::pfn_to_cr3(root).into() } else { pfn_to_cr3(root) })
    }

    /// The top-level table that a value of CR3 names.
    pub fn root_of(&self, cr3: u64) -> Mfn {
        Mfn(if self.narrow.is_some() { xen_abi::compat::cr3_to_pfn(cr3 as u32) } else { cr3_to_pfn(cr3) })
    }

    /// The ring in which the kernel runs, which is the least that its selectors may ask for.
    pub fn kernel_ring(&self) -> u16 {
        if self.narrow.is_some() { 1 } else { 3 }
    }

    /// A selector of the kernel as the CPU may have it.
    pub fn kernel_selector(&self, selector: u16) -> u16 {
        let ring = self.kernel_ring();
        if selector & 3 >= ring { selector } else { selector & !3 | ring }
    }

    /// Whether a place in the kernel is one: address 0 is none to a 64-bit guest, the null segment to a 32-bit one.
    pub fn is_place(&self, place: &Callback) -> bool {
        if self.narrow.is_some() { place.cs & !3 != 0 } else { place.rip != 0 }
    }
}
