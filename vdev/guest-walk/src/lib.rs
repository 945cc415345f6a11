//! A guest's own page tables, as its CPU would walk them: from virtual to guest-physical addresses.
//!
//! For HVM guests, whose tables the hypervisor has no part in: to copy what a hypercall points at, and for instructions that
//! are emulated. The tables are read through [`Memory`], one entry at a time and each once; the guest may change them
//! meanwhile, as it may under its CPU.
//!
//! Sections are those of SDM vol. 3, chapter 4, and of APM vol. 2, chapter 5; where these differ, AMD's rule holds. Protection
//! keys, shadow stacks and PCIDs (which do not change what an address means) are not known here.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod entry;
mod trail;
mod walk;

pub use trail::{Places, Trail};
pub use walk::{Stopped, for_each_piece, walk};

use bitflags::bitflags;
use x86_defs::control::{Cr0, Cr4, Efer};

/// The guest's physical memory: its second-stage table, and the frames behind it.
pub trait Memory {
    /// Reads the entry of `width` bytes (4 or 8) at a guest-physical address, which is aligned to it; `None` if there is no
    /// memory.
    fn read(&self, gpa: u64, width: u8) -> Option<u64>;
    /// Replaces the entry, unless it is not `old` any more. Only accessed and dirty bits are set so; whoever tracks writes
    /// to guest memory notes this one.
    fn compare_exchange(&self, gpa: u64, width: u8, old: u64, new: u64);
}

/// What of a vCPU's state decides about addresses.
#[derive(Clone, Copy, Debug)]
pub struct Mode {
    /// CR0.
    pub cr0: Cr0,
    /// CR4.
    pub cr4: Cr4,
    /// EFER.
    pub efer: Efer,
    /// CR3.
    pub cr3: u64,
    /// RFLAGS.AC: the kernel may touch user memory in spite of CR4.SMAP.
    pub alignment_check: bool,
    /// Bits of physical addresses (CPUID leaf 0x80000008), 36 to 52.
    pub address_bits: u8,
    /// CPUID says that 2-level tables have large pages above 4 GiB.
    pub pse36: bool,
    /// CPUID says that there are 1 GiB pages.
    pub gib_pages: bool,
}

/// How tables are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Paging {
    /// 32-bit entries, two levels (4.3).
    Legacy,
    /// 64-bit entries, three levels, four entries in the root (4.4).
    Pae,
    /// 64-bit entries, four or five levels (4.5).
    Long(u8),
}

impl Mode {
    /// `None` while paging is off.
    pub(crate) fn paging(&self) -> Option<Paging> {
        if !self.cr0.contains(Cr0::PG) {
            None
        } else if self.efer.contains(Efer::LMA) {
            Some(Paging::Long(if self.cr4.contains(Cr4::LA57) { 5 } else { 4 }))
        } else if self.cr4.contains(Cr4::PAE) {
            Some(Paging::Pae)
        } else {
            Some(Paging::Legacy)
        }
    }

    /// Whether the CPU tells instruction fetches from reads.
    pub(crate) fn no_execute(&self) -> bool {
        self.efer.contains(Efer::NXE) && (self.efer.contains(Efer::LMA) || self.cr4.contains(Cr4::PAE))
    }
}

/// What is to be done at an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Access {
    /// Writing.
    pub write: bool,
    /// Fetching an instruction.
    pub fetch: bool,
    /// From ring 3.
    pub user: bool,
    /// By the CPU itself, for its tables (GDT, TSS ...): as ring 0, and RFLAGS.AC does not help.
    pub implicit: bool,
}

impl Access {
    /// Reading by the kernel.
    pub const READ: Access = Access { write: false, fetch: false, user: false, implicit: false };
    /// Writing by the kernel.
    pub const WRITE: Access = Access { write: true, ..Access::READ };
    /// The same access from ring 3.
    pub const fn from_user(self) -> Access {
        Access { user: true, ..self }
    }
}

bitflags! {
    /// The error code of a page fault (SDM vol. 3, 4.7).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct FaultCode: u32 {
        /// There is a page; the access was not allowed.
        const PRESENT = 1 << 0;
        /// It was a write.
        const WRITE = 1 << 1;
        /// It came from ring 3.
        const USER = 1 << 2;
        /// An entry has a bit that must be 0.
        const RESERVED = 1 << 3;
        /// It was an instruction fetch.
        const FETCH = 1 << 4;
    }
}

/// Why there is no translation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The guest would get #PF with this code.
    Page(FaultCode),
    /// The address is none in 64-bit mode: #GP, or #SS.
    NotCanonical,
    /// A table is at this guest-physical address, where there is no memory.
    NoMemory(u64),
}

/// Where a virtual address leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Translation {
    /// The guest-physical address of just this byte.
    pub gpa: u64,
    /// Base-2 logarithm of the page's size in bytes.
    pub page_bits: u8,
    /// The entries allow writes.
    pub writable: bool,
    /// They allow ring 3.
    pub user: bool,
    /// They allow instruction fetches.
    pub executable: bool,
}
