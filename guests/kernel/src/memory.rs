//! What the domain builder gave, and where things are in memory.

use crate::report::Outcome;
use crate::{attempt, pvh};
use core::arch::asm;
use core::cell::UnsafeCell;
use xen_abi::arch_x86::MACH2PHYS_VIRT_START;
use xen_abi::hvm_params::{HVM_PARAM_CONSOLE_EVTCHN, HVM_PARAM_CONSOLE_PFN};
use xen_abi::hvm_start_info::*;
use xen_abi::xen::StartInfo;

/// Virtual address of the first pseudo-physical page.
pub const VIRT_BASE: u64 = 0xffff_ffff_8000_0000;
/// Bits of a page-table entry that hold the frame.
const FRAME: u64 = 0x000f_ffff_ffff_f000;
/// Flags of an ordinary writable entry: present, writable, user, accessed, dirty.
pub const WRITABLE: u64 = 0x67;
/// The flag of an entry that outlives a change of tables; a hypervisor may set or clear it as it likes.
pub const GLOBAL: u64 = 1 << 8;
/// Flags of a read-only one.
pub const READ_ONLY: u64 = 0x65;

/// The first frame of the fourth GiB, which a translated guest has mapped behind the first.
const FOURTH_GIBIBYTE: u64 = 3 << 18;

/// Where the builder of an HVM guest says how many pages it has from address 0 on (hvm/hvm_info_table.h: `low_mem_pgend`).
const LOW_MEMORY_END: u64 = 0x9f800 + 20;

/// Pages that cases play with.
const PAGES: usize = 48;

/// One page.
#[repr(C, align(4096))]
struct Page(UnsafeCell<[u64; 512]>);

// SAFETY: only accessed by volatile operations through raw pointers.
unsafe impl Sync for Page {}

static POOL: [Page; PAGES] = [const { Page(UnsafeCell::new([0; 512])) }; PAGES];

/// Address of play page `index`; each case takes pages of its own group.
pub fn page(index: usize) -> u64 {
    POOL[index].0.get() as u64
}

/// Reads a word.
///
/// # Safety
/// It has to be mapped.
pub unsafe fn read(address: u64) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { (address as *const u64).read_volatile() }
}

/// Writes a word.
///
/// # Safety
/// It has to be mapped writably, and nothing of Rust's may be there.
pub unsafe fn write(address: u64, value: u64) {
    // SAFETY: the caller's promise.
    unsafe { (address as *mut u64).write_volatile(value) }
}

/// Reads a word of a play page.
pub fn peek(index: usize, word: u64) -> u64 {
    // SAFETY: callers ask for pages that are mapped.
    unsafe { read(page(index) + 8 * word) }
}

/// Writes a word of a play page.
pub fn poke(index: usize, word: u64, value: u64) {
    // SAFETY: callers ask for pages that are mapped writably.
    unsafe { write(page(index) + 8 * word, value) }
}

/// Writes the entry of level 1 that maps `address`, in the tables of a translated guest.
///
/// # Safety
/// The address has to be one of the first 4 MiB in the initial mapping, and nothing of Rust's may be in its page.
pub unsafe fn write_entry(address: u64, entry: u64) {
    let mut table = pvh::top_table();
    for level in [4, 3, 2] {
        // SAFETY: the tables are in the initial mapping.
        table = VIRT_BASE + (unsafe { read(table + 8 * index(address, level)) } & FRAME);
    }
    // SAFETY: the caller's promise.
    unsafe {
        write(table + 8 * index(address, 1), entry);
        asm!("invlpg [{}]", in(reg) address);
    }
}

/// The domain, as the builder describes it.
pub struct Guest {
    from: From,
}

/// What the builder left.
enum From {
    /// A paravirtualised guest's start information.
    Paravirtual(&'static StartInfo),
    /// A translated one's: its command line, and how many pages it has from address 0 on.
    Translated { command_line: &'static str, pages: u64 },
}

impl Guest {
    /// Takes the start information at `address`.
    ///
    /// # Safety
    /// The builder has to have put it there.
    pub unsafe fn new(address: u64) -> Self {
        // SAFETY: the page stays mapped, and nobody writes it.
        let start = unsafe { &*(address as *const StartInfo) };
        Self { from: From::Paravirtual(start) }
    }

    /// Takes the start information at physical address `address`.
    ///
    /// # Safety
    /// The builder of a translated guest has to have put it there.
    pub unsafe fn translated(address: u64) -> Self {
        // SAFETY: the builder puts it into the first GiB, which stays mapped, and nobody writes it.
        let start = unsafe { &*((VIRT_BASE + address) as *const HvmStartInfo) };
        assert!(start.magic == XEN_HVM_START_MAGIC_VALUE && start.version >= 1, "no start information");
        // SAFETY: it is the builder's.
        if let Some(line) = unsafe { firmware(start) } {
            pvh::begin_with_board();
            let command_line = core::str::from_utf8(line).unwrap_or("");
            // SAFETY: where there is firmware, the builder leaves this word too.
            let pages = u64::from(unsafe { ((VIRT_BASE + LOW_MEMORY_END) as *const u32).read_volatile() });
            return Self { from: From::Translated { command_line, pages } };
        }
        // SAFETY: as above.
        let (map, line) = unsafe {
            let map = (VIRT_BASE + start.memmap_paddr) as *const HvmMemmapTableEntry;
            let line = core::ffi::CStr::from_ptr((VIRT_BASE + start.cmdline_paddr) as *const _);
            (core::slice::from_raw_parts(map, start.memmap_entries as usize), line)
        };
        let memory = map.iter().find(|range| range.r#type == XEN_HVM_MEMMAP_TYPE_RAM && range.addr == 0);
        let pages = memory.map_or(0, |range| range.size >> 12);
        Self { from: From::Translated { command_line: line.to_str().unwrap_or(""), pages } }
    }

    /// The start information of a paravirtualised guest.
    pub fn start(&self) -> &StartInfo {
        match self.from {
            From::Paravirtual(start) => start,
            From::Translated { .. } => panic!("a translated guest has no such start information"),
        }
    }

    /// How many pages the domain began with.
    pub fn pages(&self) -> u64 {
        match self.from {
            From::Paravirtual(start) => start.nr_pages,
            From::Translated { pages, .. } => pages,
        }
    }

    /// The kernel's command line.
    pub fn command_line(&self) -> &str {
        let start = match self.from {
            From::Paravirtual(start) => start,
            From::Translated { command_line, .. } => return command_line,
        };
        let bytes = &start.cmd_line;
        let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
        core::str::from_utf8(&bytes[..end]).unwrap_or("")
    }

    /// Machine frame and port of the console.
    pub fn console(&self) -> (u64, u32) {
        match self.from {
            From::Paravirtual(start) => (start.console.0[0], start.console.0[1] as u32),
            From::Translated { .. } => {
                let parameter = |index| pvh::parameter(index).unwrap_or(0);
                (parameter(HVM_PARAM_CONSOLE_PFN), parameter(HVM_PARAM_CONSOLE_EVTCHN) as u32)
            }
        }
    }

    /// Machine frame of pseudo-physical page `number`.
    pub fn frame(&self, number: u64) -> u64 {
        assert!(number < self.pages(), "page {number:#x} is none of ours");
        match self.from {
            // SAFETY: the builder's table has that many entries and is mapped.
            From::Paravirtual(start) => unsafe { read(start.mfn_list + 8 * number) },
            From::Translated { .. } => number,
        }
    }

    /// Machine frame behind `address` in the initial mapping.
    pub fn frame_at(&self, address: u64) -> u64 {
        self.frame((address - VIRT_BASE) >> 12)
    }

    /// Machine frame of play page `index`.
    pub fn page_frame(&self, index: usize) -> u64 {
        self.frame_at(page(index))
    }

    /// Whether a machine frame is this domain's.
    pub fn owns(&self, frame: u64) -> bool {
        // The table has holes where the machine has no memory.
        let mut number = MACH2PHYS_VIRT_START + 8 * frame;
        let there = attempt!("mov rax, [rax]"; inout("rax") number);
        there == Outcome::Code(0) && number < self.pages() && self.frame(number) == frame
    }

    /// Address of machine frame `frame` of this domain in the initial mapping.
    pub fn address_of(&self, frame: u64) -> Option<u64> {
        if pvh::is_translated() && (FOURTH_GIBIBYTE..1 << 20).contains(&frame) {
            return Some(VIRT_BASE | frame << 12);
        }
        (0..self.pages()).find(|n| self.frame(*n) == frame).map(|n| VIRT_BASE + (n << 12))
    }

    /// Address and machine frame of the table of level `level` (4 to 1) that leads to `address`.
    pub fn table(&self, address: u64, level: u32) -> (u64, u64) {
        let mut table = match self.from {
            From::Paravirtual(start) => start.pt_base,
            From::Translated { .. } => pvh::top_table(),
        };
        let mut at = 4;
        while at > level {
            // SAFETY: the builder maps all of the initial page tables.
            let entry = unsafe { read(table + 8 * index(address, at)) };
            assert!(entry & 1 != 0, "no table of level {} for {address:#x}", at - 1);
            table = self.address_of((entry & FRAME) >> 12).expect("the tables are the domain's");
            at -= 1;
        }
        (table, self.frame_at(table))
    }

    /// Machine address of the entry of level `level` that leads to `address`.
    pub fn entry(&self, address: u64, level: u32) -> u64 {
        let (_, frame) = self.table(address, level);
        (frame << 12) + 8 * index(address, level)
    }

    /// The entry of level `level` that leads to `address`.
    pub fn entry_value(&self, address: u64, level: u32) -> u64 {
        let (table, _) = self.table(address, level);
        // SAFETY: the tables are mapped.
        unsafe { read(table + 8 * index(address, level)) }
    }
}

/// What an HVM guest's firmware is given as the BIOS that it is to start: this kernel takes it as its command line, since there is no other.
///
/// # Safety
/// The builder has to have made what `start` leads to.
unsafe fn firmware(start: &HvmStartInfo) -> Option<&'static [u8]> {
    // SAFETY: the caller's promise; the builder puts all this into the first GiB.
    unsafe {
        let modules = (VIRT_BASE + start.modlist_paddr) as *const HvmModlistEntry;
        let modules = core::slice::from_raw_parts(modules, start.nr_modules as usize);
        let name = |module: &HvmModlistEntry| core::ffi::CStr::from_ptr((VIRT_BASE + module.cmdline_paddr) as *const _);
        let bios = modules.iter().find(|module| module.cmdline_paddr != 0 && name(module) == c"firmware")?;
        Some(core::slice::from_raw_parts((VIRT_BASE + bios.paddr) as *const u8, bios.size as usize))
    }
}

/// Index of `address` in a table of level `level`.
fn index(address: u64, level: u32) -> u64 {
    address >> (12 + 9 * (level - 1)) & 511
}

#[cfg(test)]
mod tests {
    use super::index;

    #[test]
    fn indices_are_nine_bits_each() {
        let address = 0xffff_ffff_8020_3004;
        assert_eq!([4, 3, 2, 1].map(|l| index(address, l)), [511, 510, 1, 3]);
    }
}
