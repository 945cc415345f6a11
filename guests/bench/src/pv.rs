//! Operations of paravirtualised guests: page tables, privileged instructions, user mode.

use crate::meter::{Meter, counter};
use crate::stubs;
use core::arch::asm;
use core::hint::black_box;
use guest_kernel::call::{call1, call2, call3, call4, mmuext, update_va};
use guest_kernel::entry;
use guest_kernel::memory::{Guest, READ_ONLY, WRITABLE, page, peek, poke};
use xen_abi::arch_x86::{FLAT_KERNEL_SS, SEGBASE_FS};
use xen_abi::xen::*;

/// A page whose mapping changes.
const PLAY: usize = 2;
/// Pages that become tables of levels 1 to 4.
const TABLES: [usize; 4] = [4, 5, 6, 7];
/// The first of the pages that a batch of updates maps, and how many there are.
const BATCH: usize = 8;
const BATCH_PAGES: usize = 12;
/// The kernel's stack for system calls.
const STACK: usize = 21;
/// Entries of a table.
const ENTRIES: u64 = 512;
/// Pins of a whole tree in a run, and system calls.
const PINS: u64 = 200;
const SYSCALLS: u64 = 2000;

/// Measures them.
pub fn run(guest: &Guest, meter: &mut Meter) {
    processor(meter);
    instructions(meter);
    mappings(guest, meter);
    for (name, updates) in [("memory.mmu_update-1", 1), ("memory.mmu_update-16", 16), ("memory.mmu_update-128", 128)] {
        batch(guest, meter, name, updates);
    }
    tree(guest, meter);
    store(guest, meter);
    user(guest, meter);
}

/// Calls about the processor's state.
fn processor(meter: &mut Meter) {
    meter.measure("hypercall.set_debugreg", || _ = call2(HYPERVISOR_SET_DEBUGREG, 0, 0));
    let stack = page(STACK) + 4096;
    meter.measure("hypercall.stack_switch", || _ = call2(HYPERVISOR_STACK_SWITCH, FLAT_KERNEL_SS.into(), stack));
    meter.measure("hypercall.set_segment_base", || _ = call2(HYPERVISOR_SET_SEGMENT_BASE, SEGBASE_FS.into(), 0));
    meter.measure("hypercall.fpu_taskswitch", || _ = call1(HYPERVISOR_FPU_TASKSWITCH, 0));
    meter.measure("memory.flush-local", || _ = mmuext(MMUEXT_TLB_FLUSH_LOCAL, 0, 0));
    meter.measure("memory.invlpg-local", || _ = mmuext(MMUEXT_INVLPG_LOCAL, page(PLAY), 0));
}

/// Instructions that the hypervisor carries out for the kernel.
fn instructions(meter: &mut Meter) {
    // SAFETY: CR0 is written as it is; the others only read.
    meter.measure("instruction.write-cr0", || unsafe { asm!("mov {0}, cr0", "mov cr0, {0}", out(reg) _) });
    // SAFETY: as above.
    meter.measure("instruction.read-cr0", || unsafe { asm!("mov {0}, cr0", out(reg) _) });
    meter.measure("instruction.rdmsr-efer", || _ = black_box(guest_kernel::pvh::read_msr(0xc000_0080)));
    meter.measure("instruction.cpuid-forced", || {
        // SAFETY: the prefix and CPUID, of which the hypervisor knows; RBX is the compiler's.
        unsafe {
            asm!("mov r11, rbx", ".byte 0x0f, 0x0b, 0x78, 0x65, 0x6e, 0x0f, 0xa2", "mov rbx, r11",
                inout("rax") 0u64 => _, inout("rcx") 0u64 => _, out("rdx") _, out("r11") _);
        }
    });
}

fn own(guest: &Guest, index: usize, flags: u64) -> u64 {
    guest.page_frame(index) << 12 | flags
}

fn mappings(guest: &Guest, meter: &mut Meter) {
    let (writable, read_only) = (own(guest, PLAY, WRITABLE), own(guest, PLAY, READ_ONLY));
    meter.measure("memory.update_va-unchanged", || _ = update_va(page(PLAY), writable, 0));
    meter.measure("memory.update_va-ro-and-rw", || {
        update_va(page(PLAY), read_only, UVMF_INVLPG);
        update_va(page(PLAY), writable, UVMF_INVLPG);
    });
}

/// So many updates in a call; each makes a mapping read-only, or writable again.
fn batch(guest: &Guest, meter: &mut Meter, name: &'static str, count: usize) {
    if !meter.wants(name) {
        return;
    }
    let mut updates = [MmuUpdate { ptr: 0, val: 0 }; 128];
    for (number, update) in updates.iter_mut().enumerate() {
        let index = BATCH + number / 2 % BATCH_PAGES;
        let flags = if number % 2 == 0 { READ_ONLY } else { WRITABLE };
        *update = MmuUpdate { ptr: guest.entry(page(index), 1), val: own(guest, index, flags) };
    }
    let mut which = 0;
    let mut done = 0u32;
    meter.measure_few(name, (8000 / count as u64).min(2000), || {
        // A single update alternates, so that it always changes something.
        let list = (&raw const updates[if count == 1 { which } else { 0 }]) as u64;
        which ^= 1;
        call4(HYPERVISOR_MMU_UPDATE, list, count as u64, (&raw mut done) as u64, DOMID_SELF.into());
    });
    assert!(black_box(done) as usize == count, "{name}: {done} updates");
    guest_kernel::call::mmu_update(updates[1].ptr, updates[1].val);
}

/// Makes pages a tree of tables, of which the lowest is full, and read-only as tables have to be.
fn grow_tree(guest: &Guest) {
    for entry in 0..ENTRIES {
        poke(TABLES[0], entry, own(guest, BATCH + entry as usize % BATCH_PAGES, READ_ONLY));
    }
    for level in 1..4 {
        poke(TABLES[level], 0, own(guest, TABLES[level - 1], WRITABLE));
    }
    for table in TABLES {
        let result = update_va(page(table), own(guest, table, READ_ONLY), UVMF_INVLPG);
        assert!(result == 0, "no table: {result}");
    }
}

/// Makes pages of the tree's what they were.
fn fell_tree(guest: &Guest) {
    for table in TABLES {
        let result = update_va(page(table), own(guest, table, WRITABLE), UVMF_INVLPG);
        assert!(result == 0, "still a table: {result}");
        for entry in 0..ENTRIES {
            poke(table, entry, 0);
        }
    }
}

fn tree(guest: &Guest, meter: &mut Meter) {
    grow_tree(guest);
    let root = guest.page_frame(TABLES[3]);
    let pinned = mmuext(MMUEXT_PIN_L4_TABLE, root, 0);
    assert!(pinned == 0, "not pinned: {pinned}");
    mmuext(MMUEXT_UNPIN_TABLE, root, 0);
    meter.measure_few("memory.pin-and-unpin-tree", PINS, || {
        mmuext(MMUEXT_PIN_L4_TABLE, root, 0);
        mmuext(MMUEXT_UNPIN_TABLE, root, 0);
    });
    fell_tree(guest);
    let own = guest.table(page(PLAY), 4).1;
    meter.measure("memory.new_baseptr-same", || _ = mmuext(MMUEXT_NEW_BASEPTR, own, 0));
}

/// A store into a page table, which the hypervisor carries out.
fn store(guest: &Guest, meter: &mut Meter) {
    const NAME: &str = "memory.store-in-table";
    if !meter.wants(NAME) {
        return;
    }
    let frame = guest.page_frame(TABLES[0]);
    update_va(page(TABLES[0]), own(guest, TABLES[0], READ_ONLY), UVMF_INVLPG);
    let pinned = mmuext(MMUEXT_PIN_L1_TABLE, frame, 0);
    assert!(pinned == 0, "not pinned: {pinned}");
    call2(HYPERVISOR_VM_ASSIST, VMASST_CMD_ENABLE.into(), VMASST_TYPE_WRITABLE_PAGETABLES.into());
    let entries = [own(guest, BATCH, READ_ONLY), own(guest, BATCH, WRITABLE)];
    let mut which = 0;
    meter.measure(NAME, || {
        poke(TABLES[0], 0, entries[which]);
        which ^= 1;
    });
    assert!(peek(TABLES[0], 0) & 1 != 0, "nothing was stored");
    poke(TABLES[0], 0, 0);
    call2(HYPERVISOR_VM_ASSIST, VMASST_CMD_DISABLE.into(), VMASST_TYPE_WRITABLE_PAGETABLES.into());
    mmuext(MMUEXT_UNPIN_TABLE, frame, 0);
    writable_again(guest, TABLES[0]);
}

fn writable_again(guest: &Guest, index: usize) {
    update_va(page(index), own(guest, index, WRITABLE), UVMF_INVLPG);
}

/// System calls of user code, which has a top table of its own with the kernel's half.
fn user(guest: &Guest, meter: &mut Meter) {
    let table = TABLES[3];
    let (_, upper) = guest.table(page(PLAY), 3);
    poke(table, ENTRIES - 1, upper << 12 | WRITABLE);
    update_va(page(table), own(guest, table, READ_ONLY), UVMF_INVLPG);
    let frame = guest.page_frame(table);
    let pinned = mmuext(MMUEXT_PIN_L4_TABLE, frame, 0);
    let based = mmuext(MMUEXT_NEW_USER_BASEPTR, frame, 0);
    assert!((pinned, based) == (0, 0), "no tables for user mode: {pinned}, {based}");
    call2(HYPERVISOR_STACK_SWITCH, FLAT_KERNEL_SS.into(), page(STACK) + 4096);
    call3(HYPERVISOR_SET_CALLBACKS, entry::event(), entry::failsafe(), stubs::syscall());
    meter.measure_long("trap.system-call", SYSCALLS, |calls| {
        let start = counter();
        // SAFETY: handler, stack and tables are as it wants them.
        unsafe { stubs::user(calls) };
        counter() - start
    });
    guest_kernel::trap::install();
    mmuext(MMUEXT_NEW_USER_BASEPTR, 0, 0);
    mmuext(MMUEXT_UNPIN_TABLE, frame, 0);
    writable_again(guest, table);
}
