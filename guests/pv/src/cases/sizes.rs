//! Counts and sizes that no caller means: none, too many, so many that arithmetic on them wraps around.

use super::{Case, table};
use crate::call::{call2, call3, call4, op};
use crate::memory::{Guest, page};
use crate::report::{Outcome, sign};
use crate::say;
use core::mem::offset_of;
use xen_abi::GuestHandle;
use xen_abi::event_channel::{EVTCHNOP_STATUS, Status};
use xen_abi::memory::*;
use xen_abi::sched::{Poll, SCHEDOP_POLL};
use xen_abi::xen::*;

const SELF: u64 = DOMID_SELF as u64;
/// A page of zeros that stays so.
const ZEROS: usize = 1;

/// Runs the group.
pub fn run(guest: &Guest) {
    table(guest, "sizes", CASES);
    for command in [XENMEM_INCREASE_RESERVATION, XENMEM_DECREASE_RESERVATION, XENMEM_POPULATE_PHYSMAP] {
        for (name, extents, order) in RESERVATIONS {
            let outcome = reservation(command, *extents, *order);
            say!("sizes.memory_op.{command}.{name}: {outcome}");
        }
    }
}

/// Extents (of which there is no list) and orders of memory reservations.
const RESERVATIONS: &[(&str, u64, u32)] = &[
    ("no-extents", 0, 0),
    ("many-extents", 1 << 40, 0),
    ("most-extents", !0, 0),
    ("most-that-are-positive", i64::MAX as u64, 0),
    ("wrapping-extents", 1 << 61, 0),
    ("order-9", 1, 9),
    ("order-18", 1, 18),
    ("order-31", 1, 31),
    ("order-64", 1, 64),
    ("order-max", 1, !0),
];

fn reservation(command: u32, extents: u64, order: u32) -> Outcome {
    let mut reservation = MemoryReservation {
        extent_start: GuestHandle::new(0x7000_0000_0000),
        nr_extents: extents,
        extent_order: order,
        mem_flags: 0,
        domid: DOMID_SELF,
        _gap0: [0; 6],
    };
    sign(op(HYPERVISOR_MEMORY_OP, command, &mut reservation))
}

fn poll(ports: u64, count: u32) -> Outcome {
    let mut poll = Poll { ports: GuestHandle::new(ports), nr_ports: count, _gap0: [0; 4], timeout: 1 };
    Outcome::Code(op(HYPERVISOR_SCHED_OP, SCHEDOP_POLL, &mut poll))
}

/// A list whose first call writes the command of call `changed`: an unknown one becomes XENVER_version.
fn multicall_changing_itself(changed: usize) -> Outcome {
    let version = MulticallEntry { op: HYPERVISOR_XEN_VERSION.into(), result: 0, args: [0; 6] };
    let mut list = [version; 10];
    // The state of a port that is closed is 0; it goes to where the command is, and so the query to where the result is.
    const OVERLAP: u64 = offset_of!(Status, status) as u64 - 8;
    list[changed].result = SELF | 60 << 32;
    list[changed].args[0] = 99;
    let at = (&raw const list[changed].result) as u64;
    list[0] = MulticallEntry {
        op: HYPERVISOR_EVENT_CHANNEL_OP.into(),
        result: 0,
        args: [EVTCHNOP_STATUS.into(), at - OVERLAP, 0, 0, 0, 0],
    };
    let result = call2(HYPERVISOR_MULTICALL, (&raw mut list) as u64, list.len() as u64);
    let list = core::hint::black_box(&mut list);
    if result == 0 { Outcome::Hex(list[changed].result as u64) } else { code(result) }
}

fn code(result: i64) -> Outcome {
    Outcome::Code(result)
}

const CASES: &[Case] = &[
    ("mmu_update.0", |_| code(call4(HYPERVISOR_MMU_UPDATE, page(ZEROS), 0, 0, SELF))),
    ("mmu_update.0-wild", |_| code(call4(HYPERVISOR_MMU_UPDATE, 1, 0, 0, SELF))),
    ("mmu_update.max", |_| code(call4(HYPERVISOR_MMU_UPDATE, 0x7000_0000_0000, 0x7fff_ffff, 0, SELF))),
    ("mmu_update.preempted-0", |_| code(call4(HYPERVISOR_MMU_UPDATE, page(ZEROS), 1 << 31, 0, SELF))),
    ("mmu_update.preempted-max", |_| code(call4(HYPERVISOR_MMU_UPDATE, 0x7000_0000_0000, 0xffff_ffff, 0, SELF))),
    ("mmu_update.wide-count", |_| code(call4(HYPERVISOR_MMU_UPDATE, 0x7000_0000_0000, 1 << 32, 0, SELF))),
    ("mmuext_op.0", |_| code(call4(HYPERVISOR_MMUEXT_OP, page(ZEROS), 0, 0, SELF))),
    ("mmuext_op.max", |_| code(call4(HYPERVISOR_MMUEXT_OP, 0x7000_0000_0000, 0x7fff_ffff, 0, SELF))),
    ("mmuext_op.preempted-max", |_| code(call4(HYPERVISOR_MMUEXT_OP, 0x7000_0000_0000, 0xffff_ffff, 0, SELF))),
    ("multicall.0", |_| code(call2(HYPERVISOR_MULTICALL, 0x7000_0000_0000, 0))),
    ("multicall.max", |_| code(call2(HYPERVISOR_MULTICALL, 0x7000_0000_0000, 0xffff_ffff))),
    ("multicall.wrapping", |_| code(call2(HYPERVISOR_MULTICALL, 0x7000_0000_0000, 1 << 58))),
    ("multicall.runs-off-the-end", |_| code(call2(HYPERVISOR_MULTICALL, 0xffff_ffff_ffff_ffc0, 2))),
    ("multicall.in-read-only-memory", |g| {
        let (table, _) = g.table(page(ZEROS), 1);
        code(call2(HYPERVISOR_MULTICALL, table, 1))
    }),
    ("multicall.changes-the-next-entry", |_| multicall_changing_itself(1)),
    ("multicall.changes-a-later-entry", |_| multicall_changing_itself(9)),
    ("grant_table_op.0", |_| code(call3(HYPERVISOR_GRANT_TABLE_OP, 0, 0x7000_0000_0000, 0))),
    ("grant_table_op.max", |_| code(call3(HYPERVISOR_GRANT_TABLE_OP, 0, 0x7000_0000_0000, 0xffff_ffff))),
    ("grant_table_op.negative", |_| code(call3(HYPERVISOR_GRANT_TABLE_OP, 5, 0x7000_0000_0000, 1 << 31))),
    ("grant_table_op.wide-command", |_| code(call3(HYPERVISOR_GRANT_TABLE_OP, 1 << 32 | 10, 0x7000_0000_0000, 1))),
    ("set_gdt.0", |_| code(call2(HYPERVISOR_SET_GDT, page(ZEROS), 0))),
    ("set_gdt.7168-wild", |_| code(call2(HYPERVISOR_SET_GDT, 0x7000_0000_0000, 7168))),
    ("set_gdt.7169", |_| code(call2(HYPERVISOR_SET_GDT, page(ZEROS), 7169))),
    ("set_gdt.max", |_| code(call2(HYPERVISOR_SET_GDT, page(ZEROS), !0))),
    ("poll.128", |_| poll(0x7000_0000_0000, 128)),
    ("poll.129", |_| poll(0x7000_0000_0000, 129)),
    ("poll.max", |_| poll(page(ZEROS), !0)),
    ("poll.bad-port", |_| poll(page(ZEROS), 1)),
    ("console_io.write-0", |_| code(call3(HYPERVISOR_CONSOLE_IO, 0, 0, page(ZEROS)))),
    ("console_io.write-max", |_| code(call3(HYPERVISOR_CONSOLE_IO, 0, 0xffff_ffff, 0x7000_0000_0000))),
    ("console_io.read-max", |_| code(call3(HYPERVISOR_CONSOLE_IO, 1, 0xffff_ffff, 0x7000_0000_0000))),
    ("memory_op.resumed", |_| code(call2(HYPERVISOR_MEMORY_OP, 1 << 6 | 1, page(ZEROS)))),
    ("memory_op.resumed-max", |_| code(call2(HYPERVISOR_MEMORY_OP, !0 << 6 | 6, page(ZEROS)))),
    ("update_va_mapping.wild-multi", |g| {
        let entry = g.entry_value(page(ZEROS), 1);
        code(call3(HYPERVISOR_UPDATE_VA_MAPPING, page(ZEROS), entry, 0x7000_0000_0000 | UVMF_TLB_FLUSH))
    }),
];
