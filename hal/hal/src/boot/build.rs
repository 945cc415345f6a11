//! Making the hypervisor's address space, heap and machine-to-physical table.

use super::{EARLY_LIMIT, LOW_END, Range, SHARES, Stage};
use super::{boot_stack_guard, image_parts, max_page, take, take_filled, take_table};
use crate::layout::{DIRECT_MAP, FIRST_SLOT, FRAME_TABLE, FRAME_TABLE_SIZE, IMAGE, M2P, M2P_GUEST, SLOTS};
use crate::mapper::{self, Tables};
use crate::paging::{self, CODE, CONSTANT, DATA, DirectTables};
use crate::{cpu, fatal, heap as heap_module, m2p as m2p_module};
use core::sync::atomic::Ordering;
use x86_defs::pte::{Pte, PteFlags};

/// What the heap begins with, where the command line says nothing.
const HEAP: u64 = 256 << 10;
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
    plain.remove(Range { start: 0, end: LOW_END });
    plain.remove(Range { start, end });
    must_map(root, DIRECT_MAP, 0, LOW_END, DATA, 1);
    must_map(root, DIRECT_MAP + start, start, data - start, CONSTANT, 1);
    must_map(root, DIRECT_MAP + data, data, end - data, DATA, 1);
    for range in plain.as_slice() {
        must_map(root, DIRECT_MAP + range.start, range.start, range.end - range.start, DATA, largest);
    }
    // SAFETY: these tables map the image, its stack among it, and all RAM.
    unsafe { paging::install(root) };
}

/// Takes the heap's first memory.
pub(super) fn heap(size: Option<u64>) {
    SHARES.lock().stage = Stage::Ready;
    if !heap_module::init(size.unwrap_or(HEAP).max(HEAP) as usize) {
        fatal!("Not enough memory for the heap: give the machine more");
    }
}

/// Maps one page, of physical address `page`, all over `length` bytes from `virt` on, both multiples of 2 MiB, by one table.
fn must_map_alike(root: u64, virt: u64, length: u64, page: u64, flags: PteFlags) {
    if length == 0 {
        return;
    }
    let table = take(4096, 4096, u64::MAX, "page tables");
    let entry = Pte::new(page >> 12, flags | PteFlags::PRESENT).0;
    DirectTables.table(table).iter().for_each(|slot| slot.store(entry, Ordering::Relaxed));
    let rights = PteFlags::PRESENT | PteFlags::WRITABLE | PteFlags::ACCESSED | flags & PteFlags::USER;
    for at in (virt..virt + length).step_by(HUGE_PAGE as usize) {
        match mapper::entry(&DirectTables, root, at, 2, Some(flags)) {
            Ok(slot) => slot.store(Pte::new(table >> 12, rights).0, Ordering::Release),
            Err(error) => fatal!("Cannot map {at:#x} for the hypervisor ({error:?}): give the machine more memory"),
        }
    }
}

/// Maps a zeroed table of entries of `size` bytes for `count` frames; its address. Pieces of 2 MiB that describe no RAM share a page.
pub(super) fn frame_table(size: u64, count: u64) -> u64 {
    let root = paging::root_mfn().address();
    let ram = SHARES.lock().ram.clone();
    let length = (size * count).next_multiple_of(HUGE_PAGE);
    if length > FRAME_TABLE_SIZE {
        fatal!("Too much memory for the frame table");
    }
    let zeros = take_filled(4096, 4096, u64::MAX, 0, "the frame table");
    let mut at = 0;
    while at < length {
        let is_ram = |from: u64| {
            let frames = from / size..(from + HUGE_PAGE).div_ceil(size);
            ram.touches(Range { start: frames.start << 12, end: frames.end << 12 })
        };
        if is_ram(at) {
            let physical = take_filled(HUGE_PAGE, HUGE_PAGE, u64::MAX, 0, "the frame table");
            must_map(root, FRAME_TABLE + at, physical, HUGE_PAGE, DATA, 2);
            at += HUGE_PAGE;
            continue;
        }
        let from = at;
        while at < length && !is_ram(at) {
            at += HUGE_PAGE;
        }
        must_map_alike(root, FRAME_TABLE + from, at - from, zeros, CONSTANT);
    }
    FRAME_TABLE
}

/// Makes the machine-to-physical table, in which no frame has a number yet: for every GiB that has RAM. Of the first 4 GiB guests find the
/// others too, without a number.
pub(super) fn m2p() {
    let root = paging::root_mfn().address();
    let (last, ram) = {
        let shares = SHARES.lock();
        (max_page(&shares), shares.ram.clone())
    };
    let none = take_filled(4096, 4096, u64::MAX, 0xff, "the machine-to-physical table");
    for chunk in 0..last.div_ceil(m2p_module::FRAMES_PER_CHUNK) {
        let offset = chunk * HUGE_PAGE;
        if ram.touches(Range { start: chunk << 30, end: (chunk + 1) << 30 }) {
            let physical = take_filled(HUGE_PAGE, HUGE_PAGE, u64::MAX, 0xff, "the machine-to-physical table");
            must_map(root, M2P + offset, physical, HUGE_PAGE, DATA, 2);
            must_map(root, M2P_GUEST + offset, physical, HUGE_PAGE, CONSTANT | PteFlags::USER, 2);
            // SAFETY: mapped and filled above.
            unsafe { m2p_module::publish(chunk) };
        } else if chunk < 4 {
            must_map_alike(root, M2P_GUEST + offset, HUGE_PAGE, none, CONSTANT | PteFlags::USER);
        }
    }
}

/// Makes the root table that other CPUs start on.
pub(super) fn identity_root() {
    let address = take_filled(4096, 4096, EARLY_LIMIT, 0, "page tables");
    must_map(address, 0, 0, HUGE_PAGE, PteFlags::WRITABLE | PteFlags::ACCESSED | PteFlags::DIRTY, 2);
    let (from, to) = (DirectTables.table(paging::root_mfn().address()), DirectTables.table(address));
    for slot in FIRST_SLOT..FIRST_SLOT + SLOTS {
        to[slot].store(from[slot].load(Ordering::Relaxed), Ordering::Relaxed);
    }
    paging::set_identity_root(address);
}
