//! Grant tables. The answers are the status fields of structures that have one.

use super::values::{Kind::*, Value, Value::*};
use super::{At, Field, LIST, Op, Part, op, plain};
use xen_abi::grant_table::*;
use xen_abi::xen::*;

const NUMBER: u32 = HYPERVISOR_GRANT_TABLE_OP;
const SELF: Value = Is(DOMID_SELF as u64);
/// A page that is copied.
const PLAY: usize = 36;

const fn command(command: u32) -> [Value; 5] {
    [Is(command as u64), Is(0), Is(1), Is(0), Is(0)]
}

/// Lengths and places within a page.
const BYTES: &[(&str, Value)] = &[
    ("0", Is(0)),
    ("1", Is(1)),
    ("4095", Is(4095)),
    ("4096", Is(4096)),
    ("4097", Is(4097)),
    ("sign", Is(1 << 15)),
    ("max", Is(0xffff)),
];

pub const OPS: &[Op] = &[
    plain!("grant.command", NUMBER, {
        "number" @ 0: Command => Is(13),
        "structure" @ 1: Pointer => Page(LIST),
        "count" @ 2: Count => Is(1),
    }),
    op!("grant.setup_table", NUMBER, command(GNTTABOP_SETUP_TABLE), 1, SetupTable,
        { dom: Domain => SELF, nr_frames: Count => Is(1), frame_list: Pointer => Page(LIST) }, answer status),
    op!("grant.query_size", NUMBER, command(GNTTABOP_QUERY_SIZE), 1, QuerySize, { dom: Domain => SELF }, answer status),
    op!("grant.map", NUMBER, command(GNTTABOP_MAP_GRANT_REF), 1, MapGrantRef, {
        host_addr: Pointer => Page(LIST),
        flags: Number => Is(GNTMAP_HOST_MAP as u64),
        r#ref: Reference => Is(20),
        dom: Domain => Own,
    }, answer status),
    op!("grant.unmap", NUMBER, command(GNTTABOP_UNMAP_GRANT_REF), 1, UnmapGrantRef,
        { host_addr: Pointer => Page(LIST), dev_bus_addr: Address => Is(0), handle: Reference => Is(77) }, answer status),
    op!("grant.unmap_and_replace", NUMBER, command(GNTTABOP_UNMAP_AND_REPLACE), 1, UnmapAndReplace,
        { host_addr: Pointer => Page(LIST), new_addr: Pointer => Page(PLAY), handle: Reference => Is(77) }, answer status),
    op!("grant.transfer", NUMBER, command(GNTTABOP_TRANSFER), 1, Transfer,
        { mfn: Frame => Is(1), domid: Domain => Own, r#ref: Reference => Is(20) }, answer status),
    op!("grant.copy", NUMBER, command(GNTTABOP_COPY), 1, Copy, {
        source.u: Frame => FrameOf(PLAY),
        source.domid: Domain => SELF,
        source.offset: Values(BYTES) => Is(0),
        dest.u: Values(&[("0", Is(0)), ("1", Is(1)), ("l1-table", Table(1)), ("beyond-memory", Is(1 << 28)), ("last", Is(!0))])
            => FrameOf(LIST),
        dest.domid: Domain => SELF,
        dest.offset: Values(BYTES) => Is(0),
        len: Values(BYTES) => Is(8),
        flags: Number => Is(0),
    }, answer status),
    op!("grant.copy_references", NUMBER, command(GNTTABOP_COPY), 1, Copy, {
        source.u: Reference => Is(20),
        source.domid: Domain => Own,
        source.offset: Values(BYTES) => Is(0),
        dest.u: Reference => Is(20),
        dest.domid: Domain => Own,
        len: Values(BYTES) => Is(8),
        flags: Number => Is((GNTCOPY_SOURCE_GREF | GNTCOPY_DEST_GREF) as u64),
    }, answer status),
    op!("grant.set_version", NUMBER, command(GNTTABOP_SET_VERSION), 1, SetVersion,
        { version: Values(&[("0", Is(0)), ("3", Is(3)), ("sign", Is(1 << 31)), ("max", Is(!0))]) => Is(1) }),
    op!("grant.get_status_frames", NUMBER, command(GNTTABOP_GET_STATUS_FRAMES), 1, GetStatusFrames,
        { nr_frames: Count => Is(1), dom: Domain => SELF, frame_list: Pointer => Page(LIST) }, answer status),
    op!("grant.get_version", NUMBER, command(GNTTABOP_GET_VERSION), 1, GetVersion, { dom: Domain => SELF, pad: Number => Is(0) }),
    op!("grant.swap", NUMBER, command(GNTTABOP_SWAP_GRANT_REF), 1, SwapGrantRef,
        { ref_a: Reference => Is(20), ref_b: Reference => Is(21) }, answer status),
    op!("grant.cache_flush", NUMBER, command(GNTTABOP_CACHE_FLUSH), 1, CacheFlush, {
        a: Address => Machine(PLAY, 0),
        offset: Values(BYTES) => Is(0),
        length: Values(BYTES) => Is(64),
        op: Number => Is((GNTTAB_CACHE_CLEAN | GNTTAB_CACHE_INVAL) as u64),
    }),
    op!("grant.cache_flush_nothing", NUMBER, command(GNTTABOP_CACHE_FLUSH), 1, CacheFlush,
        { a: Address => Machine(PLAY, 0), offset: Values(BYTES) => Is(0), length: Values(BYTES) => Is(0), op: Number => Is(3) }),
    op!("grant.cache_flush_resumed", NUMBER, command(GNTTABOP_CACHE_FLUSH | 5 << 12), 1, CacheFlush,
        { a: Address => Machine(PLAY, 0), length: Values(BYTES) => Is(64), op: Number => Is(1) }),
    op!("grant.dump_table", NUMBER, command(GNTTABOP_DUMP_TABLE), 1, DumpTable, { dom: Domain => SELF }),
];
