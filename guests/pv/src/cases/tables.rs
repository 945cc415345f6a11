//! Pinning page tables, base pointers, descriptor tables, and stores into tables without a hypercall.

use super::{Case, table};
use crate::attempt;
use crate::call::{call2, call4, mmu_update, mmuext, mmuext_of, update_va};
use crate::memory::{GLOBAL, Guest, READ_ONLY, WRITABLE, page};
use crate::memory::{peek, poke};
use crate::report::Outcome;
use crate::say;
use xen_abi::xen::*;

/// A page that becomes a table.
const TABLE: usize = 4;
/// A page that a table refers to.
const DATA: usize = 5;
/// A page of descriptors.
const DESCRIPTORS: usize = 6;
/// A flat data segment of privilege level 3.
const FLAT_DATA: u64 = 0x00cf_f300_0000_ffff;

/// Runs the group.
pub fn run(guest: &Guest) {
    for (level, pin) in
        [MMUEXT_PIN_L1_TABLE, MMUEXT_PIN_L2_TABLE, MMUEXT_PIN_L3_TABLE, MMUEXT_PIN_L4_TABLE].into_iter().enumerate()
    {
        let level = level + 1;
        for (name, entry) in contents(guest) {
            let outcome = pin_page(guest, pin, entry);
            say!("tables.pin-l{level}-with-{name}: {outcome}");
        }
        let frame = guest.page_frame(TABLE);
        let outcome = Outcome::Code(mmuext(pin, frame, 0));
        say!("tables.pin-l{level}-mapped-writable: {outcome}");
        for (name, frame) in [("frame-0", 0), ("frame-1", 1), ("beyond-memory", 1 << 28), ("last", !0)] {
            let outcome = Outcome::Code(mmuext(pin, frame, 0));
            say!("tables.pin-l{level}-{name}: {outcome}");
        }
    }
    table(guest, "tables", CASES);
    for (name, descriptor) in DESCRIPTOR_CASES {
        let outcome = descriptor_case(guest, *descriptor);
        say!("tables.descriptor-{name}: {outcome}");
    }
}

/// Contents of a page to be pinned: its entry 0.
fn contents(guest: &Guest) -> [(&'static str, u64); 7] {
    let data = guest.page_frame(DATA) << 12;
    let itself = guest.page_frame(TABLE) << 12;
    let (_, l1) = guest.table(page(TABLE), 1);
    [
        ("nothing", 0),
        ("data", data | WRITABLE),
        ("itself-writable", itself | WRITABLE),
        ("l1-table-writable", l1 << 12 | WRITABLE),
        ("frame-1", 0x1000 | WRITABLE),
        ("frame-beyond-memory", 1 << 44 | WRITABLE),
        ("reserved-bits", data | 1 << 51 | WRITABLE),
    ]
}

fn map(guest: &Guest, index: usize, flags: u64) -> i64 {
    update_va(page(index), guest.page_frame(index) << 12 | flags, UVMF_INVLPG)
}

/// Pins a page with one entry; unpins it again where that worked.
fn pin_page(guest: &Guest, pin: u32, entry: u64) -> Outcome {
    poke(TABLE, 0, entry);
    assert!(map(guest, TABLE, READ_ONLY) == 0, "cannot map read-only");
    let frame = guest.page_frame(TABLE);
    let result = mmuext(pin, frame, 0);
    if result == 0 {
        let unpinned = mmuext(MMUEXT_UNPIN_TABLE, frame, 0);
        assert!(unpinned == 0, "cannot unpin: {unpinned}");
    }
    writable_again(guest);
    Outcome::Code(result)
}

fn writable_again(guest: &Guest) {
    let result = map(guest, TABLE, WRITABLE);
    assert!(result == 0, "cannot map writably again: {result}");
    // All of it: the hypervisor writes its own entries into a top-level table.
    for word in 0..512 {
        poke(TABLE, word, 0);
    }
}

/// With the table page pinned as an empty level-1 table.
fn with_l1(guest: &Guest, case: fn(&Guest) -> Outcome) -> Outcome {
    let frame = guest.page_frame(TABLE);
    map(guest, TABLE, READ_ONLY);
    let result = mmuext(MMUEXT_PIN_L1_TABLE, frame, 0);
    if result != 0 {
        writable_again(guest);
        return Outcome::Code(result);
    }
    let outcome = case(guest);
    mmu_update(frame << 12, 0);
    mmuext(MMUEXT_UNPIN_TABLE, frame, 0);
    writable_again(guest);
    outcome
}

/// Stores into entry 0 of the table page without asking anybody.
fn store(value: u64) -> Outcome {
    attempt!("mov [rdi], rax"; in("rdi") page(TABLE), in("rax") value)
}

fn stored(outcome: Outcome, want: u64) -> Outcome {
    match outcome {
        // The global bit is the hypervisor's.
        Outcome::Code(0) if peek(TABLE, 0) & !GLOBAL == want => Outcome::Text("stored"),
        Outcome::Code(0) => Outcome::Text("ignored"),
        other => other,
    }
}

fn assist(command: u32, on: bool) -> i64 {
    let enable = if on { VMASST_CMD_ENABLE } else { VMASST_CMD_DISABLE };
    call2(HYPERVISOR_VM_ASSIST, u64::from(enable), u64::from(command))
}

fn with_assist(case: impl Fn() -> Outcome) -> Outcome {
    let result = assist(VMASST_TYPE_WRITABLE_PAGETABLES, true);
    if result != 0 {
        return Outcome::Code(result);
    }
    let outcome = case();
    assist(VMASST_TYPE_WRITABLE_PAGETABLES, false);
    outcome
}

fn code(result: i64) -> Outcome {
    Outcome::Code(result)
}

const CASES: &[Case] = &[
    ("map-pinned-writable", |g| with_l1(g, |g| code(map(g, TABLE, WRITABLE)))),
    ("pin-twice", |g| with_l1(g, |g| code(mmuext(MMUEXT_PIN_L1_TABLE, g.page_frame(TABLE), 0)))),
    ("pin-l1-as-l2", |g| with_l1(g, |g| code(mmuext(MMUEXT_PIN_L2_TABLE, g.page_frame(TABLE), 0)))),
    ("unpin-not-pinned", |g| code(mmuext(MMUEXT_UNPIN_TABLE, g.page_frame(DATA), 0))),
    ("unpin-frame-of-nobody", |_| code(mmuext(MMUEXT_UNPIN_TABLE, 1, 0))),
    ("unpin-beyond-memory", |_| code(mmuext(MMUEXT_UNPIN_TABLE, 1 << 28, 0))),
    ("pin-for-domain-0", |g| code(mmuext_of(MMUEXT_PIN_L1_TABLE, g.page_frame(DATA), 0, 0))),
    ("store-in-table", |g| {
        with_l1(g, |g| {
            let entry = g.page_frame(DATA) << 12 | WRITABLE;
            stored(store(entry), entry)
        })
    }),
    ("store-in-table-with-assist", |g| {
        with_l1(g, |g| {
            let entry = g.page_frame(DATA) << 12 | WRITABLE;
            with_assist(|| stored(store(entry), entry))
        })
    }),
    ("store-foreign-in-table-with-assist", |g| {
        with_l1(g, |_| with_assist(|| stored(store(0x1000 | WRITABLE), 0x1000 | WRITABLE)))
    }),
    ("store-table-in-table-with-assist", |g| {
        with_l1(g, |g| {
            let entry = g.page_frame(TABLE) << 12 | WRITABLE;
            with_assist(|| stored(store(entry), entry))
        })
    }),
    ("store-half-in-table-with-assist", |g| {
        with_l1(g, |g| {
            let entry = g.page_frame(DATA) << 12 | WRITABLE;
            with_assist(|| {
                stored(attempt!("mov [rdi], eax"; in("rdi") page(TABLE), in("rax") entry), entry & 0xffff_ffff)
            })
        })
    }),
    ("exchange-in-table-with-assist", |g| {
        with_l1(g, |g| {
            let entry = g.page_frame(DATA) << 12 | WRITABLE;
            with_assist(|| {
                stored(
                    attempt!("lock cmpxchg [rdi], rcx"; in("rdi") page(TABLE), in("rcx") entry, inout("rax") 0u64 => _),
                    entry,
                )
            })
        })
    }),
    ("store-in-top-table-with-assist", |g| {
        let (top, _) = g.table(page(TABLE), 4);
        with_assist(|| attempt!("mov qword ptr [rdi + 2400], 0"; in("rdi") top))
    }),
    ("store-in-top-table", |g| {
        let (top, _) = g.table(page(TABLE), 4);
        attempt!("mov qword ptr [rdi + 2400], 0"; in("rdi") top)
    }),
    ("base-data-page", |g| code(mmuext(MMUEXT_NEW_BASEPTR, g.page_frame(DATA), 0))),
    ("base-l3-table", |g| code(mmuext(MMUEXT_NEW_BASEPTR, g.table(page(TABLE), 3).1, 0))),
    ("base-0", |_| code(mmuext(MMUEXT_NEW_BASEPTR, 0, 0))),
    ("base-beyond-memory", |_| code(mmuext(MMUEXT_NEW_BASEPTR, 1 << 28, 0))),
    ("base-same", |g| code(mmuext(MMUEXT_NEW_BASEPTR, g.table(page(TABLE), 4).1, 0))),
    ("user-base-data-page", |g| code(mmuext(MMUEXT_NEW_USER_BASEPTR, g.page_frame(DATA), 0))),
    ("user-base-frame-1", |_| code(mmuext(MMUEXT_NEW_USER_BASEPTR, 1, 0))),
    ("user-base-none", |_| code(mmuext(MMUEXT_NEW_USER_BASEPTR, 0, 0))),
    ("clear-own-page", |g| {
        poke(DATA, 7, 7);
        let result = mmuext(MMUEXT_CLEAR_PAGE, g.page_frame(DATA), 0);
        if result == 0 { Outcome::Hex(peek(DATA, 7)) } else { code(result) }
    }),
    ("clear-table", |g| code(mmuext(MMUEXT_CLEAR_PAGE, g.table(page(TABLE), 1).1, 0))),
    ("clear-frame-1", |_| code(mmuext(MMUEXT_CLEAR_PAGE, 1, 0))),
    ("clear-beyond-memory", |_| code(mmuext(MMUEXT_CLEAR_PAGE, 1 << 28, 0))),
    ("copy-own-page", |g| {
        poke(TABLE, 9, 0x99);
        let result = mmuext(MMUEXT_COPY_PAGE, g.page_frame(DATA), g.page_frame(TABLE));
        if result == 0 { Outcome::Hex(peek(DATA, 9)) } else { code(result) }
    }),
    ("copy-from-frame-1", |g| code(mmuext(MMUEXT_COPY_PAGE, g.page_frame(DATA), 1))),
    ("copy-onto-table", |g| code(mmuext(MMUEXT_COPY_PAGE, g.table(page(TABLE), 1).1, g.page_frame(DATA)))),
    ("mark-super", |_| code(mmuext(MMUEXT_MARK_SUPER, 0, 0))),
    ("command-14", |_| code(mmuext(14, 0, 0))),
    ("command-21", |_| code(mmuext(21, 0, 0))),
    ("command-max", |_| code(mmuext(!0, 0, 0))),
    ("ldt-wild", |_| code(mmuext(MMUEXT_SET_LDT, 0x7000_0000_0000, 16))),
    ("ldt-hypervisor", |_| code(mmuext(MMUEXT_SET_LDT, 0xffff_82d0_8020_0000, 16))),
    ("ldt-non-canonical", |_| code(mmuext(MMUEXT_SET_LDT, 0x8000_0000_0000, 16))),
    ("ldt-unaligned", |_| code(mmuext(MMUEXT_SET_LDT, page(DESCRIPTORS) + 8, 16))),
    ("ldt-8192", |_| code(mmuext(MMUEXT_SET_LDT, 0, 8192))),
    ("ldt-8193", |_| code(mmuext(MMUEXT_SET_LDT, page(DESCRIPTORS), 8193))),
    ("ldt-none", |_| code(mmuext(MMUEXT_SET_LDT, 0, 0))),
    ("gdt-frame-1", |_| gdt(1)),
    ("gdt-beyond-memory", |_| gdt(1 << 28)),
    ("gdt-mapped-writable", |g| gdt(g.page_frame(DESCRIPTORS))),
    ("gdt-page-table", |g| gdt(g.table(page(TABLE), 1).1)),
    ("gdt", |g| with_gdt(g, |_| load_selector(8))),
    ("gdt-not-present", |g| with_gdt(g, |_| load_selector(16))),
    ("gdt-map-writable", |g| with_gdt(g, |g| code(map(g, DESCRIPTORS, WRITABLE)))),
    ("gdt-store", |g| with_gdt(g, |_| attempt!("mov [rdi], rax"; in("rdi") page(DESCRIPTORS), in("rax") FLAT_DATA))),
];

fn gdt(frame: u64) -> Outcome {
    let frames = [frame];
    Outcome::Code(call2(HYPERVISOR_SET_GDT, frames.as_ptr() as u64, 512))
}

/// With a descriptor table of one page, whose entry 1 is a flat data segment.
fn with_gdt(guest: &Guest, case: fn(&Guest) -> Outcome) -> Outcome {
    poke(DESCRIPTORS, 1, FLAT_DATA);
    map(guest, DESCRIPTORS, READ_ONLY);
    let set = gdt(guest.page_frame(DESCRIPTORS));
    let outcome = if set == Outcome::Code(0) { case(guest) } else { set };
    call2(HYPERVISOR_SET_GDT, 0, 0);
    map(guest, DESCRIPTORS, WRITABLE);
    outcome
}

/// Loads DS with a selector of the table, then with none.
fn load_selector(selector: u64) -> Outcome {
    let outcome = attempt!("mov ds, eax"; in("rax") selector | 3);
    let none = attempt!("mov ds, eax"; in("rax") 0u64);
    if none == Outcome::Code(0) { outcome } else { none }
}

/// Descriptors that a guest may or may not have.
const DESCRIPTOR_CASES: &[(&str, u64)] = &[
    ("none", 0),
    ("data", FLAT_DATA),
    ("code", 0x00af_fb00_0000_ffff),
    ("data-privileged", 0x00cf_9300_0000_ffff),
    ("code-privileged", 0x00af_9b00_0000_ffff),
    ("code-conforming", 0x00af_9f00_0000_ffff),
    ("not-present", 0x00cf_7300_0000_ffff),
    ("call-gate", 0xffff_ec00_0008_1234),
    ("task-gate", 0x0000_e500_0008_0000),
    ("local-table", 0x0000_e200_0000_ffff),
    ("task-state", 0x0000_e900_0000_0067),
    ("interrupt-gate", 0xffff_ee00_0008_1234),
];

/// Writes a descriptor into a page of descriptors by hypercall.
fn descriptor_case(guest: &Guest, descriptor: u64) -> Outcome {
    poke(DESCRIPTORS, 1, 0);
    map(guest, DESCRIPTORS, READ_ONLY);
    let frame = guest.page_frame(DESCRIPTORS);
    let outcome = match gdt(frame) {
        Outcome::Code(0) => Outcome::Code(call2(HYPERVISOR_UPDATE_DESCRIPTOR, (frame << 12) + 8, descriptor)),
        refused => refused,
    };
    call2(HYPERVISOR_SET_GDT, 0, 0);
    map(guest, DESCRIPTORS, WRITABLE);
    // Without a table in use the page is one of data.
    let again = call4(HYPERVISOR_UPDATE_DESCRIPTOR, frame << 12, FLAT_DATA, 0, 0);
    if again == 0 { outcome } else { Outcome::Code(again) }
}
