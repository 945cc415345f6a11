//! Page tables mapped writably, frames of nobody and of others, entries with bits that are not the guest's.

use super::{Case, table};
use crate::call::{mmu_update, mmu_update_of, mmuext, update_va};
use crate::memory::poke;
use crate::memory::{GLOBAL, Guest, READ_ONLY, WRITABLE, page};
use crate::report::Outcome;
use crate::{call, say};
use xen_abi::arch_x86::HYPERVISOR_VIRT_START;
use xen_abi::xen::*;

/// A page that is mapped in turn to what should not be.
const PLAY: usize = 2;
/// A page whose entries of upper levels are changed; behind it nothing else is.
const FAR: u64 = 0xffff_ff00_0000_0000;
/// Frames that no guest owns or that are beyond the machine's memory.
const FOREIGN: &[(&str, u64)] = &[
    ("frame-0", 0),
    ("frame-1", 1),
    ("display", 0xb8),
    ("local-apic", 0xfee00),
    ("io-apic", 0xfec00),
    ("beyond-memory", 0x1000_0000),
    ("last", 0xff_ffff_ffff),
];

/// Runs the group.
pub fn run(guest: &Guest) {
    table(guest, "mmu", CASES);
    for (name, frame) in FOREIGN {
        for (how, flags) in [("writable", WRITABLE), ("read-only", READ_ONLY)] {
            let outcome = map(guest, *frame, flags);
            say!("mmu.map-{name}-{how}: {outcome}");
        }
    }
    foreign_sweep(guest);
    for bit in (3..12).chain(36..64) {
        let outcome = entry_bit(guest, 1 << bit);
        say!("mmu.l1-bit-{bit}: {outcome}");
    }
    for level in 2..=4 {
        for bit in [3, 4, 5, 6, 7, 8, 9, 10, 11, 52, 58, 59, 62, 63] {
            let outcome = upper_bit(guest, level, bit);
            say!("mmu.l{level}-bit-{bit}: {outcome}");
        }
    }
    for slot in [255, 256, 257, 258, 259, 260, 261, 262, 271, 272, 273, 510] {
        let (_, frame) = guest.table(page(PLAY), 4);
        let outcome = Outcome::Code(mmu_update((frame << 12) + 8 * slot, 0));
        say!("mmu.clear-top-slot-{slot}: {outcome}");
        let (_, below) = guest.table(page(PLAY), 3);
        let outcome = Outcome::Code(mmu_update((frame << 12) + 8 * slot, below << 12 | WRITABLE));
        say!("mmu.set-top-slot-{slot}: {outcome}");
        if !(256..272).contains(&slot) {
            mmu_update((frame << 12) + 8 * slot, 0);
        }
    }
}

/// Maps `frame` at the play page, then the play page's own again.
fn map(guest: &Guest, frame: u64, flags: u64) -> Outcome {
    let result = update_va(page(PLAY), frame << 12 | flags, UVMF_INVLPG);
    restore(guest);
    Outcome::Code(result)
}

fn restore(guest: &Guest) {
    let own = guest.page_frame(PLAY);
    let result = update_va(page(PLAY), own << 12 | WRITABLE, UVMF_INVLPG);
    assert!(result == 0, "cannot map the play page again: {result}");
}

/// Frames all over the machine that are not this domain's: none may be mapped, not even to be read.
fn foreign_sweep(guest: &Guest) {
    let highest = call::call2(HYPERVISOR_MEMORY_OP, u64::from(xen_abi::memory::XENMEM_MAXIMUM_RAM_PAGE), 0) as u64;
    let shared = guest.start().shared_info >> 12;
    let (mut tried, mut mapped) = (0, 0);
    for frame in (0..highest).step_by(251).filter(|f| *f != shared && !guest.owns(*f)) {
        tried += 1;
        mapped += u64::from(update_va(page(PLAY), frame << 12 | READ_ONLY, UVMF_INVLPG) == 0);
    }
    restore(guest);
    say!("mmu.foreign-sweep-tried-many: {}", crate::report::yes(tried > 1000));
    say!("mmu.foreign-sweep-mapped: {mapped}");
}

/// A bit in the entry that maps the play page.
fn entry_bit(guest: &Guest, flag: u64) -> Outcome {
    map(guest, guest.page_frame(PLAY), WRITABLE ^ flag)
}

/// A bit in an upper entry, written into the top of a table of that level whose slot is not used.
fn upper_bit(guest: &Guest, level: u32, bit: u32) -> Outcome {
    let (_, table) = guest.table(page(PLAY), level);
    let (_, below) = guest.table(page(PLAY), level - 1);
    // The last slot of the level-2 and level-3 tables and slot 300 of the top one are free.
    let slot = match level {
        4 => 300,
        3 => 509,
        _ => 500,
    };
    let at = (table << 12) + 8 * slot;
    let result = mmu_update(at, (below << 12 | WRITABLE) ^ 1 << bit);
    mmu_update(at, 0);
    Outcome::Code(result)
}

fn code(result: i64) -> Outcome {
    Outcome::Code(result)
}

const CASES: &[Case] = &[
    ("map-own-page", |g| map(g, g.page_frame(PLAY), WRITABLE)),
    ("map-l1-table-writable", |g| map(g, g.table(page(PLAY), 1).1, WRITABLE)),
    ("map-l1-table-read-only", |g| map(g, g.table(page(PLAY), 1).1, READ_ONLY)),
    ("map-l2-table-writable", |g| map(g, g.table(page(PLAY), 2).1, WRITABLE)),
    ("map-l3-table-writable", |g| map(g, g.table(page(PLAY), 3).1, WRITABLE)),
    ("map-l4-table-writable", |g| map(g, g.table(page(PLAY), 4).1, WRITABLE)),
    ("map-l4-table-read-only", |g| map(g, g.table(page(PLAY), 4).1, READ_ONLY)),
    ("make-table-mapping-writable", |g| {
        // The builder's read-only mapping of the level-1 table, made writable where it is.
        let (table, frame) = g.table(page(PLAY), 1);
        code(mmu_update(g.entry(table, 1), frame << 12 | WRITABLE))
    }),
    ("map-shared-page-again", |g| map(g, g.start().shared_info >> 12, WRITABLE)),
    ("update-unaligned", |g| code(mmu_update(g.entry(page(PLAY), 1) + 4, 0))),
    ("update-no-translate", |g| {
        let entry = g.entry_value(page(PLAY), 1);
        code(mmu_update(g.entry(page(PLAY), 1) | u64::from(MMU_PT_UPDATE_NO_TRANSLATE), entry))
    }),
    ("update-preserve-ad", |g| {
        let entry = g.entry_value(page(PLAY), 1);
        let result = mmu_update(g.entry(page(PLAY), 1) | u64::from(MMU_PT_UPDATE_PRESERVE_AD), entry & !0x60);
        if result == 0 { Outcome::Hex(g.entry_value(page(PLAY), 1) & 0xfff & !GLOBAL) } else { code(result) }
    }),
    ("update-data-page", |g| {
        let at = g.page_frame(PLAY) << 12;
        let result = mmu_update(at + 16, 0x1122_3344);
        if result == 0 { Outcome::Hex(crate::memory::peek(PLAY, 2)) } else { code(result) }
    }),
    ("update-frame-of-nobody", |_| code(mmu_update(0x1000, 0))),
    ("update-beyond-memory", |_| code(mmu_update(1 << 44, 0))),
    ("update-last-address", |_| code(mmu_update(!7, 0))),
    ("update-table-of-frames-own", |g| {
        let frame = g.page_frame(PLAY);
        let result = mmu_update(frame << 12 | u64::from(MMU_MACHPHYS_UPDATE), 0x1234);
        // SAFETY: the table is readable for own frames.
        let seen = unsafe { crate::memory::read(HYPERVISOR_VIRT_START + 8 * frame) };
        let number = (page(PLAY) - 0xffff_ffff_8000_0000) >> 12;
        mmu_update(frame << 12 | u64::from(MMU_MACHPHYS_UPDATE), number);
        if result == 0 { Outcome::Hex(seen) } else { code(result) }
    }),
    ("update-table-of-frames-foreign", |_| code(mmu_update(0x1000 | u64::from(MMU_MACHPHYS_UPDATE), 7))),
    ("update-table-of-frames-beyond", |_| code(mmu_update(1 << 50 | u64::from(MMU_MACHPHYS_UPDATE), 7))),
    ("update-for-domain-0", |g| of_domain(g, 0)),
    ("update-for-domain-1", |g| of_domain(g, 1)),
    ("update-for-no-domain", |g| of_domain(g, 0x7000)),
    ("update-for-io", |g| of_domain(g, u64::from(DOMID_IO))),
    ("update-for-hypervisor", |g| of_domain(g, u64::from(DOMID_XEN))),
    ("update-for-invalid", |g| of_domain(g, u64::from(DOMID_INVALID))),
    ("update-table-of-domain-0", |g| of_domain(g, 1 << 16)),
    ("update-table-of-no-domain", |g| of_domain(g, 0x7001 << 16)),
    ("va-hypervisor", |g| at_address(g, HYPERVISOR_VIRT_START)),
    ("va-image", |g| at_address(g, 0xffff_82d0_8020_0000)),
    ("va-non-canonical", |g| at_address(g, 0x8000_0000_0000)),
    ("va-without-table", |g| at_address(g, FAR)),
    ("va-last", |g| at_address(g, !0)),
    ("va-other-domain-0", |g| other_domain(g, 0)),
    ("va-other-domain-self", |g| other_domain(g, u64::from(DOMID_SELF))),
    ("map-data-as-l1", |g| as_table(g, 2, 501)),
    ("map-data-as-l2", |g| as_table(g, 3, 508)),
    ("map-data-as-l3", |g| as_table(g, 4, 301)),
    ("map-l1-as-l3", |g| {
        let (_, top) = g.table(page(PLAY), 4);
        let (_, below) = g.table(page(PLAY), 1);
        code(mmu_update((top << 12) + 8 * 301, below << 12 | WRITABLE))
    }),
    ("map-l4-into-itself-writable", |g| linear(g, WRITABLE)),
    ("map-l4-into-itself-read-only", |g| linear(g, READ_ONLY)),
    ("flush-local", |_| code(mmuext(MMUEXT_TLB_FLUSH_LOCAL, 0, 0))),
    ("flush-all", |_| code(mmuext(MMUEXT_TLB_FLUSH_ALL, 0, 0))),
    ("flush-page-wild", |_| code(mmuext(MMUEXT_INVLPG_LOCAL, 0x8000_0000_0000, 0))),
    ("flush-page-hypervisor", |_| code(mmuext(MMUEXT_INVLPG_ALL, 0xffff_82d0_8020_0000, 0))),
    ("flush-some-wild", |_| code(mmuext(MMUEXT_TLB_FLUSH_MULTI, 0, 0x7000_0000_0000))),
    ("flush-page-some-wild", |_| code(mmuext(MMUEXT_INVLPG_MULTI, 0, 0xffff_8300_0000_0000))),
    ("flush-cache", |_| code(mmuext(MMUEXT_FLUSH_CACHE, 0, 0))),
    ("flush-cache-everywhere", |_| code(mmuext(MMUEXT_FLUSH_CACHE_GLOBAL, 0, 0))),
];

/// An update that names another domain: as owner of the frame, or (upper half) of the table.
fn of_domain(guest: &Guest, domain: u64) -> Outcome {
    let entry = guest.entry_value(page(PLAY), 1);
    Outcome::Code(mmu_update_of(guest.entry(page(PLAY), 1), entry, domain))
}

fn at_address(guest: &Guest, address: u64) -> Outcome {
    Outcome::Code(update_va(address, guest.page_frame(PLAY) << 12 | WRITABLE, 0))
}

fn other_domain(guest: &Guest, domain: u64) -> Outcome {
    let entry = guest.page_frame(PLAY) << 12 | WRITABLE;
    Outcome::Code(call::call4(HYPERVISOR_UPDATE_VA_MAPPING_OTHERDOMAIN, page(PLAY), entry, 0, domain))
}

/// Writes the play page, which is mapped writably, as a table into a free slot of a table of level `level`.
fn as_table(guest: &Guest, level: u32, slot: u64) -> Outcome {
    poke(PLAY, 2, 0);
    let (_, table) = guest.table(page(PLAY), level);
    Outcome::Code(mmu_update((table << 12) + 8 * slot, guest.page_frame(PLAY) << 12 | WRITABLE))
}

fn linear(guest: &Guest, flags: u64) -> Outcome {
    let (_, top) = guest.table(page(PLAY), 4);
    let at = (top << 12) + 8 * 302;
    let result = mmu_update(at, top << 12 | flags);
    mmu_update(at, 0);
    Outcome::Code(result)
}
