//! What the kernel finds when it starts: start_info (xen.h) and registers.

use crate::plan::Plan;
use types::PAGE_SIZE;
use xen_abi::xen::{
    Dom0VgaConsoleInfo, SIF_INITDOMAIN, SIF_MOD_START_PFN, SIF_PM_MASK, SIF_PRIVILEGED, StartInfo, StartInfoConsoleDom0,
};
use zerocopy::{FromZeros, IntoBytes};

/// What start_info tells beside the plan.
#[derive(Clone, Copy, Debug, Default)]
pub struct StartParameters<'a> {
    /// Machine address of the shared_info page, in bytes.
    pub shared_info: u64,
    /// Command line of the kernel; what exceeds 1023 bytes is cut off.
    pub command_line: &'a [u8],
    /// Power management that is left to the domain (`XEN_PROCESSOR_PM_*` of platform.h).
    pub power_management: u32,
    /// The screen, if there is one.
    pub console: Option<&'a Dom0VgaConsoleInfo>,
}

/// Registers of the first vCPU; those that are not named are zero. The top-level page table is the first frame of
/// [`Plan::page_tables`]. Its upcall mask is set in all of shared_info's slots.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EntryState {
    /// Instruction pointer.
    pub rip: u64,
    /// Stack pointer: the end of the boot stack.
    pub rsp: u64,
    /// Virtual address of start_info.
    pub rsi: u64,
    /// Flags: interrupts on.
    pub rflags: u64,
    /// Code segment, ring 3.
    pub cs: u16,
    /// Stack segment, ring 3; the data segments are null.
    pub ss: u16,
}

impl Plan {
    /// Fills the page at [`crate::Layout::start_info`]; returns its guest frame.
    pub fn write_start_page(&self, parameters: &StartParameters<'_>, page: &mut [u8; PAGE_SIZE]) -> u64 {
        let info = self.start_info(parameters);
        page.fill(0);
        let (start, rest) = page.split_at_mut(size_of::<StartInfo>());
        start.copy_from_slice(info.as_bytes());
        if let Some(console) = parameters.console {
            rest[..size_of::<Dom0VgaConsoleInfo>()].copy_from_slice(console.as_bytes());
        }
        (self.layout.start_info.start - self.layout.mapped.start) >> types::PAGE_SHIFT
    }

    fn start_info(&self, parameters: &StartParameters<'_>) -> StartInfo {
        let mut info = StartInfo::new_zeroed();
        let magic: &[u8] = if self.pae { b"xen-3.0-x86_64p" } else { b"xen-3.0-x86_64" };
        info.magic[..magic.len()].copy_from_slice(magic);
        info.nr_pages = self.pages;
        info.shared_info = parameters.shared_info;
        info.flags = SIF_PRIVILEGED | SIF_INITDOMAIN | parameters.power_management << 8 & SIF_PM_MASK;
        info.pt_base = self.layout.page_tables.start;
        info.nr_pt_frames = self.page_tables.end - self.page_tables.start;
        info.mfn_list = self.layout.p2m.start;
        if self.initrd_length != 0 {
            info.mod_len = self.initrd_length;
            if self.layout.initrd.is_empty() {
                info.flags |= SIF_MOD_START_PFN;
                info.mod_start = self.initrd.start;
            } else {
                info.mod_start = self.layout.initrd.start;
            }
        }
        let line = parameters.command_line;
        let length = line.len().min(info.cmd_line.len() - 1);
        info.cmd_line[..length].copy_from_slice(&line[..length]);
        if !self.p2m_tables.is_empty() {
            info.first_p2m_pfn = self.p2m.start;
            info.nr_p2m_frames = self.p2m_tables.end - self.p2m.start;
        }
        if parameters.console.is_some() {
            info.console.write(&StartInfoConsoleDom0 {
                info_off: size_of::<StartInfo>() as u32,
                info_size: size_of::<Dom0VgaConsoleInfo>() as u32,
            });
        }
        info
    }

    /// Registers of the first vCPU (abi: public/arch-x86/xen-x86_64.h for the selectors).
    pub fn entry_state(&self) -> EntryState {
        EntryState {
            rip: self.entry,
            rsp: self.layout.stack.end,
            rsi: self.layout.start_info.start,
            rflags: 0x200,
            cs: 0xe033,
            ss: 0xe02b,
        }
    }
}
