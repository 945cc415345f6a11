//! Descriptor tables: each CPU reads its GDT and LDT through a window of 16 pages each, whose first pages are frames of the
//! guest. Page 14 of the GDT is the hypervisor's. Soundness: docs/soundness/hal-cpu.md.

use crate::area::{self, CpuInfo, GDT, LDT, PAGE, WINDOW_PAGES};
use core::arch::asm;
use core::cell::Cell;
use core::sync::atomic::{AtomicU64, Ordering};
use hal::paging;
use types::{CpuId, Errno, Mfn, Result};
use x86_defs::descriptor::{Descriptor, TablePointer, selector};
use x86_defs::pte::{Pte, PteFlags};

/// Pages of the GDT that a guest provides.
pub const GUEST_GDT_PAGES: usize = selector::GUEST_PAGES;
/// Most entries of an LDT.
pub const MAX_LDT_ENTRIES: u32 = 8192;

/// Stands for no frame in [`Window`].
const NO_FRAME: u64 = !0;

/// The part of a CPU's GDT or LDT that a guest provides.
pub(crate) struct Window {
    /// Frame of each page, or [`NO_FRAME`].
    frames: [Cell<u64>; WINDOW_PAGES],
    /// From this page on there are none.
    used: Cell<usize>,
}

impl Window {
    /// One without frames.
    pub(crate) const fn empty() -> Window {
        Window { frames: [const { Cell::new(NO_FRAME) }; WINDOW_PAGES], used: Cell::new(0) }
    }
}

/// A page without descriptors.
#[repr(align(4096))]
struct EmptyPage([u8; 4096]);
static EMPTY_PAGE: EmptyPage = EmptyPage([0; 4096]);

/// The flat segments that a guest finds in the hypervisor's page of its GDT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FlatSegments {
    /// A 64-bit guest's (arch-x86/xen-x86_64.h).
    Wide,
    /// A 32-bit guest's (arch-x86/xen-x86_32.h).
    Narrow,
}

impl FlatSegments {
    /// Selectors, and what each names.
    const fn descriptors(self) -> [(u16, Descriptor); 4] {
        match self {
            FlatSegments::Wide => [
                (selector::UNUSED_BY_64BIT, Descriptor::NULL),
                (selector::FLAT_RING3_CS32, Descriptor::CODE32_RING3),
                (selector::FLAT_RING3_DS32, Descriptor::DATA_RING3),
                (selector::FLAT_RING3_CS64, Descriptor::CODE64_RING3),
            ],
            FlatSegments::Narrow => [
                (selector::NARROW_RING1_CS, Descriptor::CODE32_RING1),
                (selector::NARROW_RING1_DS, Descriptor::DATA_RING1),
                (selector::NARROW_RING3_CS, Descriptor::CODE32_RING3),
                (selector::NARROW_RING3_DS, Descriptor::DATA_RING3),
            ],
        }
    }
}

/// Makes the flat segments of this CPU's GDT those of the guest that runs next, whose data segments are loaded afterwards.
pub fn set_flat_segments(segments: FlatSegments) {
    let info = area::info();
    let narrow = segments == FlatSegments::Narrow;
    if info.narrow.replace(narrow) != narrow {
        let gdt = area::area(info.cpu.get() as usize) + GDT;
        for (name, descriptor) in segments.descriptors() {
            store_descriptor(gdt + u64::from(name & !7), descriptor.0);
        }
    }
}

/// Writes a word of the hypervisor's page of this CPU's GDT.
fn store_descriptor(address: u64, word: u64) {
    // SAFETY: that page is mapped for good and, while the CPU runs, only accessed here and by the CPU, which reads. Callers
    // write the LDT's two words and flat segments, none of which the hypervisor itself runs on.
    let place = unsafe { &*(address as *const AtomicU64) };
    place.store(word, Ordering::Release);
}

/// The entry for a guest's frame. The CPU sets accessed bits in descriptors, hence writable.
const fn frame_entry(frame: u64) -> u64 {
    let flags = PteFlags::PRESENT.bits()
        | PteFlags::WRITABLE.bits()
        | PteFlags::ACCESSED.bits()
        | PteFlags::DIRTY.bits()
        | PteFlags::GLOBAL.bits()
        | PteFlags::NO_EXECUTE.bits();
    Pte::new(frame, PteFlags::from_bits_retain(flags)).0
}

/// The entry for the page without descriptors.
pub(crate) fn empty_entry() -> Result<u64> {
    let physical = paging::physical_of(&raw const EMPTY_PAGE.0).ok_or(Errno::FAULT)?;
    Ok(Pte::new(physical >> 12, paging::CONSTANT).0)
}

/// The hypervisor's page of the GDT of `cpu`, whose TSS is at `tss` and whose LDT is empty.
pub(crate) fn own_page(cpu: CpuId, tss: u64) -> [u64; 512] {
    let mut page = [0; 512];
    let mut set = |name: u16, value: u64| page[usize::from(name >> 3) % 512] = value;
    set(selector::HYPERVISOR_CS64, Descriptor::CODE64_RING0.0);
    set(selector::HYPERVISOR_DS, Descriptor::DATA_RING0.0);
    for (name, descriptor) in FlatSegments::Wide.descriptors() {
        set(name, descriptor.0);
    }
    set(selector::PER_CPU, Descriptor::limit_carrier(cpu.0).0);
    let [low, high] = Descriptor::tss(tss, 103);
    set(selector::TSS, low);
    set(selector::TSS + 8, high);
    page
}

/// Loads the GDT, flat segments and the TSS of the CPU whose area is at `area`.
///
/// # Safety
/// The area is this CPU's, and was prepared.
pub(crate) unsafe fn load(area: u64) {
    let limit = (selector::GUEST_PAGES as u64 + 1) * PAGE - 1;
    let pointer = TablePointer { limit: limit as u16, base: area + GDT };
    // SAFETY: the window's page 14 holds flat segments at these selectors, and the TSS is in the area for good.
    unsafe {
        asm!(
            "lgdt [{pointer}]",
            "push {code}",
            "lea {scratch}, [rip + 2f]",
            "push {scratch}",
            "retfq",
            "2:",
            "mov ss, {data:e}",
            "xor {scratch:e}, {scratch:e}",
            "mov ds, {scratch:e}",
            "mov es, {scratch:e}",
            "mov fs, {scratch:e}",
            "mov gs, {scratch:e}",
            "lldt {scratch:x}",
            "ltr {tss:x}",
            pointer = in(reg) &pointer,
            code = const selector::HYPERVISOR_CS64,
            data = in(reg) u32::from(selector::HYPERVISOR_DS),
            tss = in(reg) u32::from(selector::TSS),
            scratch = out(reg) _,
        );
    }
}

/// Writes an entry of this CPU's windows, page `page` of 32, and drops the translation.
fn write_entry(info: &CpuInfo, page: usize, value: u64) {
    assert!(page < 2 * WINDOW_PAGES);
    // SAFETY: `prepare` stored the entry of the first of 32 pages, all in one page table: their alignment is 256 KiB.
    let entry = unsafe { &*info.window.get().add(page) };
    entry.store(value, Ordering::Release);
    paging::flush_page(area::area(info.cpu.get() as usize) + GDT + page as u64 * PAGE);
}

/// Makes the pages from `first` on those of a window that has `used` frames; further ones are empty.
fn set_window(
    info: &CpuInfo,
    window: &Window,
    first: usize,
    used: usize,
    frame: impl Fn(usize) -> Option<Mfn>,
    empty: u64,
) -> Result<()> {
    let touched = used.max(window.used.get());
    // Until all are set, and where one cannot be.
    window.used.set(touched);
    for (page, slot) in window.frames.iter().enumerate().take(touched) {
        set_slot(info, slot, first + page, if page < used { frame(page) } else { None }, empty)?;
    }
    window.used.set(used);
    Ok(())
}

fn set_slot(info: &CpuInfo, slot: &Cell<u64>, page: usize, frame: Option<Mfn>, empty: u64) -> Result<()> {
    let wanted = frame.map_or(NO_FRAME, |mfn| mfn.0);
    if slot.get() == wanted {
        return Ok(());
    }
    let value = match frame {
        Some(mfn) if !hal::frames::is_lendable(mfn) => return Err(Errno::PERM),
        Some(mfn) => frame_entry(mfn.0),
        None => empty,
    };
    write_entry(info, page, value);
    slot.set(wanted);
    Ok(())
}

/// Makes `frames` the guest's part of this CPU's GDT; further pages have no descriptors. Only what changed is rewritten.
/// `EINVAL` for more than 14 frames, `EPERM` for one that is not lendable.
///
/// The caller holds a descriptor-page reference on each frame while it is here: descriptors in it have privilege 3, or for a
/// 32-bit guest 1 to 3 and are not 64-bit code; no gates or system descriptors are among them.
pub fn set_guest_gdt(frames: &[Mfn]) -> Result<()> {
    if frames.len() > GUEST_GDT_PAGES {
        return Err(Errno::INVAL);
    }
    let info = area::info();
    set_window(info, &info.gdt, 0, frames.len(), |page| frames.get(page).copied(), info.empty_entry.get())
}

/// Makes `frames` this CPU's LDT of `entries` descriptors; 0 entries is no LDT. A page without a frame is not mapped: a
/// guest that uses a selector in it leaves with a page fault at an address that [`guest_ldt_offset`] knows. `EINVAL` for more
/// than 8192 entries, `EPERM` for a frame that is not lendable. The frames' contents are the caller's promise, as for
/// [`set_guest_gdt`].
pub fn set_guest_ldt(frames: &[Option<Mfn>], entries: u32) -> Result<()> {
    if entries > MAX_LDT_ENTRIES {
        return Err(Errno::INVAL);
    }
    let info = area::info();
    let used = if entries == 0 { 0 } else { frames.len() };
    set_window(info, &info.ldt, WINDOW_PAGES, used, |page| frames.get(page).copied().flatten(), 0)?;
    if info.ldt_entries.replace(entries) != entries {
        load_ldt(info, entries);
    }
    Ok(())
}

/// Makes this CPU have no LDT.
pub(crate) fn drop_ldt() {
    let info = area::info();
    if info.ldt_entries.replace(0) != 0 {
        load_ldt(info, 0);
    }
}

fn load_ldt(info: &CpuInfo, entries: u32) {
    let area = area::area(info.cpu.get() as usize);
    let words = Descriptor::ldt(area + LDT, (entries * 8).wrapping_sub(1));
    let slot = area + GDT + u64::from(selector::LDT);
    for (index, word) in words.into_iter().enumerate() {
        store_descriptor(slot + 8 * index as u64, if entries == 0 { 0 } else { word });
    }
    let name = if entries == 0 { 0 } else { selector::LDT };
    // SAFETY: null, or the descriptor just written, whose limit ends within the window.
    unsafe { asm!("lldt {:x}", in(reg) name, options(nostack, preserves_flags)) };
}

/// If `address` is in this CPU's LDT window, its byte offset in the LDT.
pub fn guest_ldt_offset(address: u64) -> Option<u32> {
    let start = area::area(area::cpu_id().index()) + LDT;
    let offset = address.wrapping_sub(start);
    (offset < WINDOW_PAGES as u64 * PAGE).then_some(offset as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_page_has_the_interfaces_selectors() {
        let page = own_page(CpuId(5), 0xffff_82c0_0000_1010);
        let at = |name: u16| Descriptor(page[usize::from(name >> 3) - usize::from(selector::FIRST_RESERVED_ENTRY)]);
        assert_eq!(at(0xe033), Descriptor::CODE64_RING3);
        assert_eq!(at(0xe02b), Descriptor::DATA_RING3);
        assert_eq!(at(0xe023), Descriptor::CODE32_RING3);
        assert_eq!(at(0xe008), Descriptor::CODE64_RING0);
        assert_eq!(at(0xe063).limit(), 5);
        assert_eq!(at(0xe040).kind(), 9);
        assert_eq!(page.iter().filter(|word| **word != 0).count(), 8);
    }

    #[test]
    fn no_flat_segment_of_a_32_bit_guest_is_64_bit_code() {
        for (name, descriptor) in FlatSegments::Narrow.descriptors() {
            assert!(!descriptor.has(Descriptor::LONG), "{name:#x}");
            assert_eq!(u16::from(descriptor.dpl()), name & 3);
        }
        // Both kinds of guest write the same places, so that nothing of one is left for the other.
        let places = |segments: FlatSegments| segments.descriptors().map(|(name, _)| name & !7);
        assert_eq!(places(FlatSegments::Narrow), places(FlatSegments::Wide));
    }

    /// SYSCALL loads CS from STAR\[47:32\] and SS from 8 beyond; SYSRET to 64-bit code loads CS from STAR\[63:48\] + 16 and SS
    /// from + 8, to 32-bit code CS from STAR\[63:48\] itself (SDM vol. 3, 5.8.8).
    #[test]
    fn star_yields_the_interfaces_selectors() {
        let star = crate::init::STAR_VALUE;
        let (call, ret) = ((star >> 32) as u16, (star >> 48) as u16);
        assert_eq!((call, call + 8), (selector::HYPERVISOR_CS64, selector::HYPERVISOR_DS));
        assert_eq!((ret, ret + 8, (ret + 16) | 3), (0xe023, 0xe02b, 0xe033));
    }
}
