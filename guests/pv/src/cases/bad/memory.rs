//! Memory: memory_op, and the calls on page tables.

use super::values::{Kind::*, Value, Value::*};
use super::{At, Field, LIST, LONGEST, Op, Part, op, plain};
use crate::call::{call1, mmuext};
use xen_abi::memory::*;
use xen_abi::xen::*;

const SELF: Value = Is(DOMID_SELF as u64);
/// A page that entries map and that machine addresses name.
const PLAY: usize = 36;
/// A page whose entry is changed.
const MAPPED: usize = 37;

const fn command(command: u32) -> [Value; 5] {
    [Is(command as u64), Is(0), Is(0), Is(0), Is(0)]
}

/// mmu_update and mmuext_op: one structure of the caller's own.
const ONE: [Value; 5] = [Is(0), Is(1), Is(0), SELF, Is(0)];

const COUNT: &[(&str, Value)] = &[("0", Is(0)), ("32-bit-sign", Is(1 << 31)), ("33-bit", Is(1 << 32))];
/// What an update may not write; a table of level 1 would take it.
const WRITTEN: &[(&str, Value)] = &[
    ("0", Is(0)),
    ("frame-1", Is(0x1000)),
    ("l4-table", TableAddress(4)),
    ("page", Machine(PLAY, 0)),
    ("page-unaligned", Machine(PLAY, 4)),
    ("page-end", Machine(PLAY, 4092)),
    ("device", Is(0xfee0_0000)),
    ("beyond-memory", Is(1 << 40)),
    ("beyond-machine", Is(1 << 56)),
    ("almost-last", Is(!7)),
];
/// Both halves of a foreign domain: that of the frames, and that of the tables plus one.
const TWO_DOMAINS: &[(&str, Value)] = &[
    ("self", SELF),
    ("own", Own),
    ("0", Is(0)),
    ("none", Is(0x7000)),
    ("io", Is(DOMID_IO as u64)),
    ("hypervisor", Is(DOMID_XEN as u64)),
    ("invalid", Is(DOMID_INVALID as u64)),
    ("tables-of-0", Is(1 << 16 | DOMID_SELF as u64)),
    ("tables-of-none", Is(0x7001 << 16 | DOMID_SELF as u64)),
    ("all-of-0", Is(1 << 16)),
    ("max", Is(!0)),
];
/// Addresses that are not to be written: what there is of pages is the guest's own.
const MAPPABLE: &[(&str, Value)] = &[
    ("null", Is(0)),
    ("unmapped", Is(0x7000_0000_0000)),
    ("unaligned", Is(0x7000_0000_0003)),
    ("non-canonical", Is(1 << 63)),
    ("table-of-frames", Is(0xffff_8000_0000_0000)),
    ("hypervisor", Is(0xffff_82d0_8020_0000)),
    ("last", Is(!7)),
];

/// Without an LDT.
fn no_ldt(_: &[u8; LONGEST]) {
    mmuext(MMUEXT_SET_LDT, 0, 0);
}

fn no_task_switch(_: &[u8; LONGEST]) {
    call1(HYPERVISOR_FPU_TASKSWITCH, 0);
}

macro_rules! reservation {
    ($name:literal, $command:expr) => {
        op!($name, HYPERVISOR_MEMORY_OP, command($command), 1, MemoryReservation, {
            extent_start: Pointer => Page(LIST),
            nr_extents: Count => Is(0),
            extent_order: Count => Is(0),
            mem_flags: Number => Is(0),
            domid: Domain => SELF,
        })
    };
}

macro_rules! extended {
    ($name:literal, $command:expr, $arg1:expr => $good1:expr, $arg2:expr => $good2:expr $(, undo $undo:expr)?) => {
        op!($name, HYPERVISOR_MMUEXT_OP, ONE, 0, MmuextOp, {
            cmd: Values(&[]) => Is($command as u64),
            arg1: $arg1 => $good1,
            arg2: $arg2 => $good2,
        } $(, undo $undo)?)
    };
}

/// memory_op.
pub const OPS: &[Op] = &[
    plain!("memory.command", HYPERVISOR_MEMORY_OP, { "number" @ 0: Command => Is(29), "structure" @ 1: Pointer => Page(LIST) }),
    reservation!("memory.increase_reservation", XENMEM_INCREASE_RESERVATION),
    reservation!("memory.decrease_reservation", XENMEM_DECREASE_RESERVATION),
    reservation!("memory.populate_physmap", XENMEM_POPULATE_PHYSMAP),
    op!("memory.exchange", HYPERVISOR_MEMORY_OP, command(XENMEM_EXCHANGE), 1, MemoryExchange, {
        r#in.extent_start: Pointer => Page(LIST),
        r#in.nr_extents: Count => Is(0),
        r#in.extent_order: Count => Is(0),
        r#in.domid: Domain => SELF,
        out.extent_start: Pointer => Page(LIST),
        out.nr_extents: Count => Is(0),
        out.extent_order: Count => Is(0),
        out.mem_flags: Number => Is(0),
        out.domid: Domain => SELF,
        nr_exchanged: Count => Is(0),
    }),
    op!("memory.exchange_one", HYPERVISOR_MEMORY_OP, command(XENMEM_EXCHANGE), 1, MemoryExchange, {
        r#in.extent_start: Pointer => Page(LIST),
        r#in.nr_extents: Count => Is(1),
        r#in.extent_order: Count => Is(0),
        r#in.domid: Domain => SELF,
        out.extent_start: Pointer => Page(LIST),
        out.nr_extents: Count => Is(1),
        out.extent_order: Count => Is(0),
        out.domid: Domain => SELF,
        nr_exchanged: Count => Is(0),
    }),
    op!("memory.current_reservation", HYPERVISOR_MEMORY_OP, command(XENMEM_CURRENT_RESERVATION), 1, MemoryDomain,
        { domid: Domain => SELF }),
    op!("memory.maximum_reservation", HYPERVISOR_MEMORY_OP, command(XENMEM_MAXIMUM_RESERVATION), 1, MemoryDomain,
        { domid: Domain => SELF }),
    op!("memory.maximum_gpfn", HYPERVISOR_MEMORY_OP, command(XENMEM_MAXIMUM_GPFN), 1, MemoryDomain, { domid: Domain => SELF }),
    op!("memory.machphys_mfn_list", HYPERVISOR_MEMORY_OP, command(XENMEM_MACHPHYS_MFN_LIST), 1, MachphysMfnList,
        { max_extents: Count => Is(1), extent_start: Pointer => Page(LIST) }),
    op!("memory.machphys_compat_mfn_list", HYPERVISOR_MEMORY_OP, command(XENMEM_MACHPHYS_COMPAT_MFN_LIST), 1, MachphysMfnList,
        { max_extents: Count => Is(1), extent_start: Pointer => Page(LIST) }),
    op!("memory.machphys_mapping", HYPERVISOR_MEMORY_OP, command(XENMEM_MACHPHYS_MAPPING), 1, MachphysMapping, {}),
    op!("memory.add_to_physmap", HYPERVISOR_MEMORY_OP, command(XENMEM_ADD_TO_PHYSMAP), 1, AddToPhysmap, {
        domid: Domain => SELF,
        size: Count => Is(1),
        space: Number => Is(XENMAPSPACE_GRANT_TABLE as u64),
        idx: Number => Is(0),
        gpfn: Frame => Is(1),
    }),
    op!("memory.add_to_physmap_batch", HYPERVISOR_MEMORY_OP, command(XENMEM_ADD_TO_PHYSMAP_BATCH), 1, AddToPhysmapBatch, {
        domid: Domain => SELF,
        space: Number => Is(XENMAPSPACE_GRANT_TABLE as u64),
        size: Count => Is(1),
        u: Domain => Is(0),
        idxs: Pointer => Page(LIST),
        gpfns: Pointer => Page(LIST),
        errs: Pointer => Page(LIST),
    }),
    op!("memory.remove_from_physmap", HYPERVISOR_MEMORY_OP, command(XENMEM_REMOVE_FROM_PHYSMAP), 1, RemoveFromPhysmap,
        { domid: Domain => SELF, gpfn: Frame => Is(1) }),
    op!("memory.memory_map", HYPERVISOR_MEMORY_OP, command(XENMEM_MEMORY_MAP), 1, MemoryMap,
        { nr_entries: Count => Is(1), buffer: Pointer => Page(LIST) }),
    op!("memory.machine_memory_map", HYPERVISOR_MEMORY_OP, command(XENMEM_MACHINE_MEMORY_MAP), 1, MemoryMap,
        { nr_entries: Count => Is(1), buffer: Pointer => Page(LIST) }),
    op!("memory.set_memory_map", HYPERVISOR_MEMORY_OP, command(XENMEM_SET_MEMORY_MAP), 1, ForeignMemoryMap,
        { domid: Domain => SELF, map.nr_entries: Count => Is(0), map.buffer: Pointer => Page(LIST) }),
    op!("memory.set_pod_target", HYPERVISOR_MEMORY_OP, command(XENMEM_SET_POD_TARGET), 1, PodTarget,
        { target_pages: Count => Is(0), domid: Domain => SELF }),
    op!("memory.get_pod_target", HYPERVISOR_MEMORY_OP, command(XENMEM_GET_POD_TARGET), 1, PodTarget,
        { target_pages: Count => Is(0), domid: Domain => SELF }),
    op!("memory.paging_op", HYPERVISOR_MEMORY_OP, command(20), 1, MemPagingOp,
        { op: Number => Is(0), domain: Domain => SELF, buffer: Pointer => Page(LIST), gfn: Frame => Is(1) }),
    op!("memory.access_op", HYPERVISOR_MEMORY_OP, command(21), 1, MemAccessOp,
        { op: Number => Is(0), access: Number => Is(0), domid: Domain => SELF, nr: Count => Is(0), pfn: Frame => Is(1) }),
    op!("memory.sharing_op", HYPERVISOR_MEMORY_OP, command(22), 1, MemSharingOp,
        { op: Number => Is(0), domain: Domain => SELF }),
    op!("memory.claim_pages", HYPERVISOR_MEMORY_OP, command(XENMEM_CLAIM_PAGES), 1, MemoryReservation, {
        extent_start: Pointer => Is(0),
        nr_extents: Count => Is(0),
        extent_order: Count => Is(0),
        mem_flags: Number => Is(0),
        domid: Domain => SELF,
    }),
    op!("memory.get_vnumainfo", HYPERVISOR_MEMORY_OP, command(XENMEM_GET_VNUMAINFO), 1, VnumaTopologyInfo, {
        domid: Domain => SELF,
        pad: Number => Is(0),
        nr_vnodes: Count => Is(1),
        nr_vcpus: Count => Is(1),
        nr_vmemranges: Count => Is(1),
    }),
    op!("memory.reserved_device_memory_map", HYPERVISOR_MEMORY_OP, command(27), 1, ReservedDeviceMemoryMap,
        { flags: Number => Is(0), nr_entries: Count => Is(1), buffer: Pointer => Page(LIST) }),
    op!("memory.acquire_resource", HYPERVISOR_MEMORY_OP, command(XENMEM_ACQUIRE_RESOURCE), 1, MemAcquireResource, {
        domid: Domain => SELF,
        r#type: Number => Is(1),
        id: Number => Is(0),
        nr_frames: Count => Is(1),
        pad: Number => Is(0),
        frame: Count => Is(0),
        frame_list: Pointer => Page(LIST),
    }),
];

/// Page tables and descriptors.
pub const TABLES: &[Op] = &[
    op!("mmu.update", HYPERVISOR_MMU_UPDATE, ONE, 0, MmuUpdate, { ptr: Values(WRITTEN) => EntryOf(MAPPED), val: Entry => MappingOf(MAPPED) }),
    op!("mmu.update_keeping", HYPERVISOR_MMU_UPDATE, ONE, 0, MmuUpdate, {
        ptr: Values(&[("2", Is(2)), ("frame-1", Is(0x1002)), ("page", Machine(PLAY, 2)), ("3", Is(3)), ("last", Is(!0))])
            => Machine(PLAY, 10),
        val: Entry => Is(0),
    }),
    op!("mmu.update_translation", HYPERVISOR_MMU_UPDATE, ONE, 0, MmuUpdate,
        { ptr: Values(&[("0", Is(1)), ("frame-1", Is(0x1001)), ("beyond-memory", Is(1 << 40 | 1))]) => Is(0x1001), val: Frame => Is(1) }),
    plain!("mmu.update_arguments", HYPERVISOR_MMU_UPDATE,
        { "count" @ 1: Values(COUNT) => Is(0), "done" @ 2: Pointer => Is(0), "domain" @ 3: Values(TWO_DOMAINS) => SELF }),
    plain!("mmu.ext_arguments", HYPERVISOR_MMUEXT_OP,
        { "count" @ 1: Values(COUNT) => Is(0), "done" @ 2: Pointer => Is(0), "domain" @ 3: Values(TWO_DOMAINS) => SELF }),
    extended!("mmu.ext_command", 21, Frame => Is(1), Number => Is(0)),
    extended!("mmu.ext_command_14", 14, Frame => Is(1), Number => Is(0)),
    extended!("mmu.pin_l1", MMUEXT_PIN_L1_TABLE, Frame => Is(1), Number => Is(0)),
    extended!("mmu.pin_l2", MMUEXT_PIN_L2_TABLE, Frame => Is(1), Number => Is(0)),
    extended!("mmu.pin_l3", MMUEXT_PIN_L3_TABLE, Frame => Is(1), Number => Is(0)),
    extended!("mmu.unpin", MMUEXT_UNPIN_TABLE,
        Values(&[("0", Is(0)), ("1", Is(1)), ("page", FrameOf(PLAY)), ("l1-table", Table(1)), ("beyond-memory", Is(1 << 28)), ("last", Is(!0))])
        => Is(1), Number => Is(0)),
    extended!("mmu.new_baseptr", MMUEXT_NEW_BASEPTR,
        Values(&[("0", Is(0)), ("1", Is(1)), ("page", FrameOf(PLAY)), ("l1-table", Table(1)), ("beyond-memory", Is(1 << 28)), ("last", Is(!0))])
        => Is(1), Number => Is(0)),
    extended!("mmu.new_user_baseptr", MMUEXT_NEW_USER_BASEPTR,
        Values(&[("0", Is(0)), ("1", Is(1)), ("page", FrameOf(PLAY)), ("l1-table", Table(1)), ("beyond-memory", Is(1 << 28)), ("last", Is(!0))])
        => Is(1), Number => Is(0)),
    extended!("mmu.flush_local", MMUEXT_TLB_FLUSH_LOCAL, Pointer => Is(0), Pointer => Is(0)),
    extended!("mmu.flush_page_local", MMUEXT_INVLPG_LOCAL, Pointer => Is(0), Pointer => Is(0)),
    extended!("mmu.flush_some", MMUEXT_TLB_FLUSH_MULTI, Pointer => Is(0), Pointer => Page(LIST)),
    extended!("mmu.flush_page_some", MMUEXT_INVLPG_MULTI, Pointer => Is(0), Pointer => Page(LIST)),
    extended!("mmu.flush_all", MMUEXT_TLB_FLUSH_ALL, Pointer => Is(0), Pointer => Is(0)),
    extended!("mmu.flush_page_all", MMUEXT_INVLPG_ALL, Pointer => Is(0), Pointer => Is(0)),
    extended!("mmu.flush_cache", MMUEXT_FLUSH_CACHE, Pointer => Is(0), Pointer => Is(0)),
    extended!("mmu.flush_cache_global", MMUEXT_FLUSH_CACHE_GLOBAL, Pointer => Is(0), Pointer => Is(0)),
    extended!("mmu.set_ldt", MMUEXT_SET_LDT, Pointer => Page(LIST), Count => Is(0), undo no_ldt),
    extended!("mmu.set_ldt_1", MMUEXT_SET_LDT, Pointer => Page(LIST), Count => Is(1), undo no_ldt),
    extended!("mmu.clear_page", MMUEXT_CLEAR_PAGE, Frame => Is(1), Number => Is(0)),
    extended!("mmu.copy_page_to", MMUEXT_COPY_PAGE, Frame => Is(1), Frame => FrameOf(PLAY)),
    extended!("mmu.copy_page_from", MMUEXT_COPY_PAGE, Frame => FrameOf(PLAY), Frame => Is(1)),
    extended!("mmu.mark_super", 19, Frame => Is(1), Number => Is(0)),
    extended!("mmu.unmark_super", 20, Frame => Is(1), Number => Is(0)),
    plain!("mmu.update_va_mapping", HYPERVISOR_UPDATE_VA_MAPPING, {
        "address" @ 0: Values(MAPPABLE) => Page(MAPPED),
        "entry" @ 1: Entry => MappingOf(MAPPED),
        "flags" @ 2: Number => Is(2),
    }),
    plain!("mmu.update_va_mapping_otherdomain", HYPERVISOR_UPDATE_VA_MAPPING_OTHERDOMAIN, {
        "address" @ 0: Values(MAPPABLE) => Page(MAPPED),
        "entry" @ 1: Entry => MappingOf(MAPPED),
        "flags" @ 2: Number => Is(2),
        "domain" @ 3: Domain => SELF,
    }),
    plain!("mmu.update_descriptor", HYPERVISOR_UPDATE_DESCRIPTOR, {
        "address" @ 0: Address => Machine(PLAY, 0),
        "descriptor" @ 1: Values(&[
            ("none", Is(0)),
            ("ring-0", Is(0x00af_9b00_0000_ffff)),
            ("ring-3", Is(0x00af_fb00_0000_ffff)),
            ("call-gate", Is(0x0000_ec00_e008_0000)),
            ("task", Is(0x0000_8900_0000_0067)),
            ("all", Is(!0)),
        ]) => Is(0),
    }),
    plain!("mmu.fpu_taskswitch", HYPERVISOR_FPU_TASKSWITCH, { "on" @ 0: Number => Is(0) }, undo no_task_switch),
];
