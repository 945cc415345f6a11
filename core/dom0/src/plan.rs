//! Where everything goes: virtual addresses and guest frames of the control domain at its start.

use crate::Error;
use crate::elf::Kernel;
use crate::tables::{Mapping, TableEntry};
use core::ops::Range;
use types::{PAGE_SHIFT, PAGE_SIZE};
use xen_abi::xen::{Dom0VgaConsoleInfo, StartInfo};

const PAGE: u64 = PAGE_SIZE as u64;
/// The initial mapping ends at a multiple of this, in bytes.
const END_ALIGN: u64 = 4 << 20;
/// Mapped bytes that are left after the boot stack at least.
const SPARE: u64 = 512 << 10;
/// P2M entries in a page.
const P2M_PER_PAGE: u64 = 512;
/// Top-level slots that belong to the hypervisor (xen.h, `HYPERVISOR_VIRT_START` and `_END`).
const HYPERVISOR_SLOTS: Range<u64> = 256..272;

/// What the plan depends on beside the kernel.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Memory of the domain, in pages.
    pub pages: u64,
    /// Length of the initrd in bytes; 0 without one.
    pub initrd_length: u64,
}

/// Virtual addresses at the start. All begin at a page's start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layout {
    /// All that is mapped, from guest frame 0 on.
    pub mapped: Range<u64>,
    /// The kernel.
    pub kernel: Range<u64>,
    /// The initrd; empty if it is not mapped.
    pub initrd: Range<u64>,
    /// The P2M list.
    pub p2m: Range<u64>,
    /// start_info and the console's data after it.
    pub start_info: Range<u64>,
    /// Page tables, the top-level table first.
    pub page_tables: Range<u64>,
    /// The boot stack.
    pub stack: Range<u64>,
}

/// The plan. Ranges of guest frames (PFN) do not overlap and together are `0..pages`, except that `page_tables` lies in
/// `initial`, and so does `initrd` if it is mapped.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Virtual addresses.
    pub layout: Layout,
    /// Memory of the domain, in pages.
    pub pages: u64,
    /// Frames of the initial mapping.
    pub initial: Range<u64>,
    /// Frames of the initial mapping's page tables; all are mapped read-only. The first is the top-level table.
    pub page_tables: Range<u64>,
    /// Frames that hold the initrd.
    pub initrd: Range<u64>,
    /// Frames that hold the P2M list.
    pub p2m: Range<u64>,
    /// Frames of the page tables that map the P2M list; not mapped themselves. Empty if the list lies in `initial`.
    pub p2m_tables: Range<u64>,
    /// All other frames.
    pub rest: Range<u64>,
    /// Guest frame of the hypercall page, if the kernel has one.
    pub hypercall_page: Option<u64>,
    /// Length of the initrd in bytes.
    pub initrd_length: u64,
    pub(crate) entry: u64,
    pub(crate) pae: bool,
    initial_map: Mapping,
    p2m_map: Option<Mapping>,
}

fn page_up(address: u64) -> Option<u64> {
    address.checked_next_multiple_of(PAGE)
}

const IMPOSSIBLE: Error = Error::Overlap("it does not fit into the address space above VIRT_BASE");

impl Layout {
    /// Places everything in a row from the kernel on.
    fn new(kernel: &Kernel<'_>, config: &Config) -> Result<Layout, Error> {
        let base = kernel.virt_base;
        let after = |start: u64, length: u64| start.checked_add(length).and_then(page_up).ok_or(IMPOSSIBLE);
        let kernel_end = page_up(kernel.end).ok_or(IMPOSSIBLE)?;
        let unmapped = kernel.notes().mod_start_pfn || config.initrd_length == 0;
        let initrd_end = if unmapped { kernel_end } else { after(kernel_end, config.initrd_length)? };
        let list = config.pages.checked_mul(8).ok_or(IMPOSSIBLE)?;
        let (p2m, start_info) = match kernel.notes().init_p2m {
            Some(start) => (start..after(start, list)?, initrd_end),
            None => (initrd_end..after(initrd_end, list)?, after(initrd_end, list)?),
        };
        let used = size_of::<StartInfo>() + size_of::<Dom0VgaConsoleInfo>();
        let tables = after(start_info, used as u64)?;
        // More tables may need more room, which may need more tables.
        let mut count = 1;
        loop {
            let stack = after(tables, count * PAGE)?;
            let stack_end = after(stack, PAGE)?;
            let mut end = stack_end.checked_next_multiple_of(END_ALIGN).ok_or(IMPOSSIBLE)?;
            if end - stack_end < SPARE {
                end = end.checked_add(END_ALIGN).ok_or(IMPOSSIBLE)?;
            }
            let needed = 1 + Mapping::new(base, end, 0, 0).table_count();
            if needed <= count {
                return Ok(Layout {
                    mapped: base..end,
                    kernel: kernel.start..kernel.end,
                    initrd: if unmapped { 0..0 } else { kernel_end..initrd_end },
                    p2m,
                    start_info: start_info..tables,
                    page_tables: tables..stack,
                    stack: stack..stack_end,
                });
            }
            count = needed;
        }
    }
}

impl Plan {
    /// Lays out the domain.
    pub fn new(kernel: &Kernel<'_>, config: &Config) -> Result<Plan, Error> {
        if kernel.virt_base % PAGE != 0 || kernel.notes().init_p2m.is_some_and(|address| address % PAGE != 0) {
            return Err(Error::Overlap("VIRT_BASE or INIT_P2M is no page's start"));
        }
        let needed = |pages: u64| Error::MemoryTooSmall { given: config.pages, needed: pages };
        // Without this much no list would have an entry, so nothing could be placed.
        if config.pages == 0 {
            return Err(needed(1));
        }
        let layout = Layout::new(kernel, config)?;
        let base = layout.mapped.start;
        let frames = |range: &Range<u64>| (range.start - base) >> PAGE_SHIFT..(range.end - base) >> PAGE_SHIFT;
        let initial = frames(&layout.mapped);
        let page_tables = frames(&layout.page_tables);
        let initial_map = Mapping::new(base, layout.mapped.end, 0, page_tables.start + 1);
        let initrd_pages = config.initrd_length.div_ceil(PAGE);
        let initrd = if layout.initrd.is_empty() {
            initial.end..initial.end.checked_add(initrd_pages).ok_or(IMPOSSIBLE)?
        } else {
            frames(&layout.initrd)
        };
        let mut next = initial.end.max(initrd.end);
        let (p2m, p2m_tables, p2m_map) = if kernel.notes().init_p2m.is_some() {
            let p2m = next..next + config.pages.div_ceil(P2M_PER_PAGE);
            let map = Mapping::new(layout.p2m.start, layout.p2m.end, p2m.start, p2m.end);
            next = p2m.end + map.table_count();
            (p2m.clone(), p2m.end..next, Some(map))
        } else {
            (frames(&layout.p2m), next..next, None)
        };
        if next > config.pages {
            return Err(needed(next));
        }
        check_slots(&initial_map, p2m_map.as_ref())?;
        let hypercall_page = match kernel.notes().hypercall_page {
            None => None,
            Some(address) if layout.kernel.contains(&address) && address % PAGE == 0 => {
                Some((address - base) >> PAGE_SHIFT)
            }
            Some(_) => {
                return Err(Error::BadNote { note: "HYPERCALL_PAGE", what: "is no page of the kernel" });
            }
        };
        Ok(Plan {
            pages: config.pages,
            initial,
            page_tables,
            initrd,
            p2m,
            p2m_tables,
            rest: next..config.pages,
            hypercall_page,
            initrd_length: config.initrd_length,
            entry: kernel.entry,
            pae: kernel.notes().pae,
            initial_map,
            p2m_map,
            layout,
        })
    }

    /// All entries of the page tables, each once; entries that are not named are empty. The slots of the hypervisor in the
    /// top-level table are not among them.
    pub fn page_table_entries(&self) -> impl Iterator<Item = TableEntry> {
        let top = self.page_tables.start;
        let p2m = self.p2m_map.into_iter().flat_map(move |map| map.entries(top, 0..0));
        self.initial_map.entries(top, self.page_tables.clone()).chain(p2m)
    }

    /// Where the P2M entry for the guest frame `pfn` is: a guest frame of `p2m`, and the index of the 8-byte word in it.
    /// Entries after that for the last page are to be all ones.
    pub fn p2m_slot(&self, pfn: u64) -> (u64, usize) {
        (self.p2m.start + pfn / P2M_PER_PAGE, (pfn % P2M_PER_PAGE) as usize)
    }
}

/// Neither mapping may touch the hypervisor's part of the top-level table, nor both the same slot.
fn check_slots(initial: &Mapping, p2m: Option<&Mapping>) -> Result<(), Error> {
    let meet = |a: &Range<u64>, b: &Range<u64>| a.start < b.end && b.start < a.end;
    let slots = initial.top_slots();
    let p2m_slots = p2m.map_or(0..0, Mapping::top_slots);
    if meet(&slots, &HYPERVISOR_SLOTS) || meet(&p2m_slots, &HYPERVISOR_SLOTS) {
        return Err(Error::Overlap("it is linked to addresses of the hypervisor"));
    }
    if meet(&slots, &p2m_slots) {
        return Err(Error::Overlap("INIT_P2M is less than 512 GiB away from VIRT_BASE"));
    }
    Ok(())
}
