//! The per-CPU area: one region of virtual memory per CPU, aligned to its size, so that the stack pointer alone tells which
//! CPU this is. GS and FS belong to the guest at all times.
//!
//! Pages of an area: 0 entry stubs, 1 [`CpuInfo`], 3-4 NMI stack, 6-7 #MC stack, 9-10 #DF stack, 12-13 #DB stack, 16-31 main
//! stack, 32-47 GDT, 48-63 LDT. The others are never mapped: an overflow of any stack is a fault.
//! Soundness: docs/soundness/hal-cpu.md.

use crate::tables::Window;
use core::arch::asm;
use core::cell::Cell;
use core::sync::atomic::AtomicU64;
use types::CpuId;
use x86_defs::control::Xcr0;
use x86_defs::descriptor::Tss;

/// Base-2 logarithm of [`AREA_SIZE`].
pub const AREA_SHIFT: u32 = 18;
/// Bytes of an area, and its alignment.
pub const AREA_SIZE: u64 = 1 << AREA_SHIFT;
/// Address of CPU 0's area; the next CPUs' follow.
pub const AREA_BASE: u64 = hal::layout::WINDOWS;
/// How many CPUs can be used.
pub const MAX_CPUS: usize = types::CpuMask::CPUS;

pub(crate) const PAGE: u64 = 4096;
/// Offset of the [`CpuInfo`].
pub(crate) const INFO: u64 = PAGE;
/// First pages and page count of the four interrupt stacks, in the order of their IST numbers.
pub(crate) const IST_STACKS: [u64; 4] = [3, 6, 9, 12];
pub(crate) const IST_STACK_PAGES: u64 = 2;
/// First page of the main stack.
pub(crate) const MAIN_STACK: u64 = 16;
pub(crate) const MAIN_STACK_PAGES: u64 = 16;
/// Offset of the window that the GDT is read through.
pub(crate) const GDT: u64 = 32 * PAGE;
/// Offset of the window that the LDT is read through.
pub(crate) const LDT: u64 = 48 * PAGE;
/// Pages of each window.
pub(crate) const WINDOW_PAGES: usize = 16;

/// What the entry code and this crate keep for one CPU. The first three fields are known to entry.S.
#[repr(C)]
pub(crate) struct CpuInfo {
    /// The guest's stack pointer, between two instructions of the SYSCALL stub.
    pub scratch: Cell<u64>,
    /// The CPU's number.
    pub cpu: Cell<u32>,
    /// RSP0 is the end of the running guest's register frame.
    pub tss: Cell<Tss>,
    /// Entries in use of the guest's LDT.
    pub ldt_entries: Cell<u32>,
    /// The flat segments are a 32-bit guest's.
    pub narrow: Cell<bool>,
    /// The guest's part of the GDT window; where it has no frames is the empty page.
    pub gdt: Window,
    /// The LDT window.
    pub ldt: Window,
    /// Page-table entry of the first page of the GDT window; those of the 31 pages behind it follow.
    pub window: Cell<*const AtomicU64>,
    /// Entry of the page without descriptors.
    pub empty_entry: Cell<u64>,
    /// Bits of CR4 that may follow the guest.
    pub cr4_supported: Cell<u64>,
    /// Bits that XCR0 may have.
    pub xcr0_supported: Cell<u64>,
    /// CR4 as it is.
    pub cr4: Cell<u64>,
    /// XCR0 as it is; 0 where there is no XSAVE.
    pub xcr0: Cell<u64>,
}

impl CpuInfo {
    /// Bits that XCR0 may have.
    pub fn xcr0_supported(&self) -> Xcr0 {
        Xcr0::from_bits_retain(self.xcr0_supported.get())
    }
}

const _: () = assert!(AREA_BASE % (AREA_SIZE * MAX_CPUS as u64) == 0);
const _: () = assert!(AREA_SIZE * MAX_CPUS as u64 <= hal::layout::WINDOWS_SIZE / 2);
const _: () = assert!(size_of::<CpuInfo>() <= PAGE as usize);

/// Address of the area of `cpu`.
pub(crate) const fn area(cpu: usize) -> u64 {
    AREA_BASE + ((cpu as u64) << AREA_SHIFT)
}

/// First address above the main stack of `cpu`, aligned to 16 bytes.
pub const fn stack_top(cpu: CpuId) -> u64 {
    area(cpu.index()) + (MAIN_STACK + MAIN_STACK_PAGES) * PAGE
}

#[inline(always)]
fn stack_pointer() -> u64 {
    let rsp;
    // SAFETY: copies a register.
    unsafe { asm!("mov {}, rsp", out(reg) rsp, options(nomem, nostack, preserves_flags)) };
    rsp
}

/// Which CPU's area a stack pointer lies in, whichever of the stacks.
const fn owner(rsp: u64) -> Option<usize> {
    let index = rsp.wrapping_sub(AREA_BASE) >> AREA_SHIFT;
    if index < MAX_CPUS as u64 { Some(index as usize) } else { None }
}

/// Whether a stack pointer within an area is on the main stack.
const fn is_on_main_stack(rsp: u64) -> bool {
    rsp & (AREA_SIZE - 1) >= MAIN_STACK * PAGE
}

/// The CPU that runs this; `None` on the boot stack, before [`crate::start_bsp`].
#[inline]
pub fn try_cpu_id() -> Option<CpuId> {
    owner(stack_pointer()).map(|index| CpuId(index as u32))
}

/// The CPU that runs this.
///
/// # Panics
/// On the boot stack, before [`crate::start_bsp`].
#[inline]
pub fn cpu_id() -> CpuId {
    match try_cpu_id() {
        Some(cpu) => cpu,
        None => not_here(),
    }
}

#[cold]
fn not_here() -> ! {
    panic!("per-CPU state used on the boot stack or in an NMI handler")
}

/// The CPU's index, if per-CPU data may be touched: not within an NMI, which may have cut into another access.
#[inline(always)]
fn index() -> usize {
    let rsp = stack_pointer();
    match owner(rsp) {
        Some(index) if is_on_main_stack(rsp) => index,
        _ => not_here(),
    }
}

/// The running CPU's own page.
#[inline(always)]
pub(crate) fn info() -> &'static CpuInfo {
    let address = area(index()) + INFO;
    // SAFETY: code runs on a stack in an area only after `prepare` has mapped that area for good, with a zeroed page here, for
    // which all fields are valid. Other CPUs never touch it, and an NMI handler is refused above.
    unsafe { &*(address as *const CpuInfo) }
}

/// A value for each CPU, reached only by the CPU that it is for. As the hypervisor is never interrupted but where it asks for
/// it, a `Cell` or `RefCell` inside is enough. Made with [`crate::per_cpu`].
pub struct PerCpu<T> {
    slots: [Slot<T>; MAX_CPUS],
}

/// One CPU's value, on cache lines of its own.
#[repr(align(64))]
pub struct Slot<T>(T);

impl<T> Slot<T> {
    /// A slot that holds `value`.
    pub const fn new(value: T) -> Slot<T> {
        Slot(value)
    }
}

// SAFETY: each CPU reaches only its own slot, and a reference to a `T` that is not `Sync` cannot be sent to another CPU. NMI
// handlers, which can cut into an access, are refused by `index`.
unsafe impl<T: Send> Sync for PerCpu<T> {}

impl<T: Send> PerCpu<T> {
    /// From one slot per CPU; [`crate::per_cpu`] calls it.
    pub const fn from_slots(slots: [Slot<T>; MAX_CPUS]) -> PerCpu<T> {
        PerCpu { slots }
    }

    /// The running CPU's value.
    ///
    /// # Panics
    /// On the boot stack and in an NMI handler.
    #[inline]
    pub fn get(&self) -> &T {
        &self.slots[index()].0
    }
}

/// A [`PerCpu`] whose every slot starts as the constant expression given: `static N: PerCpu<Cell<u32>> = per_cpu!(Cell::new(0));`
#[macro_export]
macro_rules! per_cpu {
    ($value:expr) => {
        $crate::PerCpu::from_slots([const { $crate::Slot::new($value) }; $crate::MAX_CPUS])
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::offset_of;

    #[test]
    fn offsets_are_what_the_entry_code_uses() {
        assert_eq!(offset_of!(CpuInfo, scratch), 0);
        assert_eq!(offset_of!(CpuInfo, tss) + offset_of!(Tss, rsp), 16);
    }

    #[test]
    fn stack_pointers_name_their_cpu() {
        for cpu in [0, 1, MAX_CPUS - 1] {
            let top = stack_top(CpuId(cpu as u32));
            assert_eq!(owner(top - 8), Some(cpu));
            assert!(is_on_main_stack(top - 8));
            let nmi = area(cpu) + (IST_STACKS[0] + IST_STACK_PAGES) * PAGE - 8;
            assert_eq!(owner(nmi), Some(cpu));
            assert!(!is_on_main_stack(nmi));
        }
        assert_eq!(owner(AREA_BASE - 8), None);
        assert_eq!(owner(area(MAX_CPUS)), None);
        assert_eq!(owner(hal::layout::IMAGE), None);
    }

    #[test]
    fn stacks_have_guards() {
        let mut mapped = [false; 64];
        let stacks = IST_STACKS.map(|first| (first, IST_STACK_PAGES));
        for (first, pages) in stacks.into_iter().chain([(MAIN_STACK, MAIN_STACK_PAGES), (0, 2)]) {
            for page in first..first + pages {
                assert!(!core::mem::replace(&mut mapped[page as usize], true));
            }
        }
        for first in IST_STACKS.into_iter().chain([MAIN_STACK]) {
            assert!(!mapped[first as usize - 1]);
        }
        assert!(!mapped[32..].iter().any(|used| *used));
    }

    #[test]
    #[should_panic(expected = "per-CPU state")]
    fn a_desk_is_no_cpu() {
        static VALUE: PerCpu<Cell<u32>> = per_cpu!(Cell::new(0));
        VALUE.get();
    }
}
