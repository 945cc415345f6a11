//! Making the hypervisor's address space, heap and machine-to-physical table.

use super::{EARLY_LIMIT, LOW_END, SHARES, Stage, boot_stack_guard, image_parts, max_page, take, take_table};
use crate::layout::{DIRECT_MAP, FIRST_SLOT, IMAGE, M2P, M2P_GUEST, SLOTS};
use crate::mapper::{self, Tables};
use crate::paging::{self, CODE, CONSTANT, DATA, DirectTables, direct};
use crate::{cpu, fatal, heap as heap_module, m2p as m2p_module};
use core::sync::atomic::Ordering;
use x86_defs::pte::PteFlags;

/// Least size of the heap, to which 1/64 of all memory is added.
const HEAP: u64 = 16 << 20;
const HUGE_PAGE: u64 = 2 << 20;

fn must_map(root: u64, virt: u64, physical: u64, length: u64, flags: PteFlags, largest: u32) {
    if let Err(error) = mapper::map(&DirectTables, root, virt, physical, length, flags, largest) {
        fatal!(
            "Cannot map {length:#x} bytes at {virt:#x} for the hypervisor ({error:?}): give the machine more memory"
        );
    }
}

fn must_take_table() -> u64 {
    take_table().unwrap_or_else(|| fatal!("Not enough memory below 4 GiB for page tables: give the machine more"))
}

/// Builds the final tables: the image with code, constants and data apart, and all RAM; and switches to them.
pub(super) fn address_space() {
    cpu::set_controls();
    let root = must_take_table();
    let largest = if cpu::has_gigabyte_pages() { 3 } else { 2 };
    let [start, rodata, data, end] = image_parts();
    must_map(root, IMAGE + start, start, rodata - start, CODE, 2);
    must_map(root, IMAGE + rodata, rodata, data - rodata, CONSTANT, 2);
    must_map(root, IMAGE + data, data, end - data, DATA, 1);
    if let Ok(guard) = mapper::entry(&DirectTables, root, boot_stack_guard(), 1, None) {
        guard.store(0, Ordering::Relaxed);
    }

    let mut plain = SHARES.lock().ram.clone();
    plain.remove(super::Range { start: 0, end: LOW_END });
    plain.remove(super::Range { start, end });
    must_map(root, DIRECT_MAP, 0, LOW_END, DATA, 1);
    must_map(root, DIRECT_MAP + start, start, data - start, CONSTANT, 1);
    must_map(root, DIRECT_MAP + data, data, end - data, DATA, 1);
    for range in plain.as_slice() {
        must_map(root, DIRECT_MAP + range.start, range.start, range.end - range.start, DATA, largest);
    }
    // SAFETY: these tables map the image, its stack among it, and all RAM.
    unsafe { paging::install(root) };
}

/// Takes the heap's memory.
pub(super) fn heap(size: Option<u64>) {
    let size = {
        let mut shares = SHARES.lock();
        shares.stage = Stage::Ready;
        size.unwrap_or(HEAP + shares.ram.total() / 64).max(HEAP / 4)
    };
    let start = take(size, HUGE_PAGE, u64::MAX, "the heap");
    // SAFETY: private memory, taken for the heap alone.
    unsafe { heap_module::init(direct(start), size as usize & !0xfff) };
}

/// Takes a 2 MiB page of a machine-to-physical table, in which no frame has a number yet.
fn take_m2p_page() -> u64 {
    let physical = take(HUGE_PAGE, HUGE_PAGE, u64::MAX, "the machine-to-physical table");
    // SAFETY: private memory, just taken.
    unsafe { direct::<u8>(physical).write_bytes(0xff, HUGE_PAGE as usize) };
    physical
}

/// Makes the machine-to-physical tables: for every GiB that has RAM, and for all of the first 4 GiB below the last RAM.
pub(super) fn m2p() {
    let root = paging::root_mfn().address();
    let (last, ram) = {
        let shares = SHARES.lock();
        (max_page(&shares), shares.ram.clone())
    };
    for chunk in 0..last.div_ceil(m2p_module::FRAMES_PER_CHUNK) {
        let (from, to) = (chunk << 30, (chunk + 1) << 30);
        if chunk >= 4 && !ram.as_slice().iter().any(|range| range.start < to && from < range.end) {
            continue;
        }
        let physical = take_m2p_page();
        must_map(root, M2P + chunk * HUGE_PAGE, physical, HUGE_PAGE, DATA, 2);
        must_map(root, M2P_GUEST + chunk * HUGE_PAGE, physical, HUGE_PAGE, CONSTANT | PteFlags::USER, 2);
        // SAFETY: mapped and filled above.
        unsafe { m2p_module::publish(chunk) };
    }
    let chunks = last.div_ceil(m2p_module::FRAMES_PER_NARROW_CHUNK);
    for chunk in 0..(chunks as usize).min(m2p_module::NARROW_CHUNKS) {
        let (from, to) = ((chunk as u64) << 31, (chunk as u64 + 1) << 31);
        if chunk < 2 || ram.as_slice().iter().any(|range| range.start < to && from < range.end) {
            // SAFETY: taken for this alone, and filled.
            unsafe { m2p_module::publish_narrow(chunk, take_m2p_page()) };
        }
    }
}

/// Makes the root table that other CPUs start on.
pub(super) fn identity_root() {
    let address = take(4096, 4096, EARLY_LIMIT, "page tables");
    must_map(address, 0, 0, HUGE_PAGE, PteFlags::WRITABLE | PteFlags::ACCESSED | PteFlags::DIRTY, 2);
    let (from, to) = (DirectTables.table(paging::root_mfn().address()), DirectTables.table(address));
    for slot in FIRST_SLOT..FIRST_SLOT + SLOTS {
        to[slot].store(from[slot].load(Ordering::Relaxed), Ordering::Relaxed);
    }
    paging::set_identity_root(address);
}
