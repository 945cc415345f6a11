//! What the domain builder gave, and where things are in memory.

use crate::attempt;
use crate::report::Outcome;
use core::cell::UnsafeCell;
use xen_abi::arch_x86::MACH2PHYS_VIRT_START;
use xen_abi::xen::StartInfo;

/// Virtual address of the first pseudo-physical page.
const VIRT_BASE: u64 = 0xffff_ffff_8000_0000;
/// Bits of a page-table entry that hold the frame.
const FRAME: u64 = 0x000f_ffff_ffff_f000;
/// Flags of an ordinary writable entry: present, writable, user, accessed, dirty.
pub const WRITABLE: u64 = 0x67;
/// The flag of an entry that outlives a change of tables; a hypervisor may set or clear it as it likes.
pub const GLOBAL: u64 = 1 << 8;
/// Flags of a read-only one.
pub const READ_ONLY: u64 = 0x65;

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

/// The domain, as the builder describes it.
pub struct Guest {
    start: &'static StartInfo,
}

impl Guest {
    /// Takes the start information at `address`.
    ///
    /// # Safety
    /// The builder has to have put it there.
    pub unsafe fn new(address: u64) -> Self {
        // SAFETY: the page stays mapped, and nobody writes it.
        let start = unsafe { &*(address as *const StartInfo) };
        Self { start }
    }

    /// The start information.
    pub fn start(&self) -> &StartInfo {
        self.start
    }

    /// The kernel's command line.
    pub fn command_line(&self) -> &str {
        let bytes = &self.start.cmd_line;
        let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
        core::str::from_utf8(&bytes[..end]).unwrap_or("")
    }

    /// Machine frame and port of the console.
    pub fn console(&self) -> (u64, u32) {
        (self.start.console.0[0], self.start.console.0[1] as u32)
    }

    /// Machine frame of pseudo-physical page `number`.
    pub fn frame(&self, number: u64) -> u64 {
        assert!(number < self.start.nr_pages, "page {number:#x} is none of ours");
        // SAFETY: the builder's table has that many entries and is mapped.
        unsafe { read(self.start.mfn_list + 8 * number) }
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
        there == Outcome::Code(0) && number < self.start.nr_pages && self.frame(number) == frame
    }

    /// Address of machine frame `frame` of this domain in the initial mapping.
    pub fn address_of(&self, frame: u64) -> Option<u64> {
        (0..self.start.nr_pages).find(|n| self.frame(*n) == frame).map(|n| VIRT_BASE + (n << 12))
    }

    /// Address and machine frame of the table of level `level` (4 to 1) that leads to `address`.
    pub fn table(&self, address: u64, level: u32) -> (u64, u64) {
        let mut table = self.start.pt_base;
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
