//! What is sent: values that are good, and bad ones by kind of input.

use crate::memory::{Guest, WRITABLE, page};
use crate::pvh;
use crate::shared::own_domain;
use xen_abi::xen::*;

/// A value; some are known only to a running guest.
#[derive(Clone, Copy)]
pub enum Value {
    /// This one.
    Is(u64),
    /// Address of a play page.
    Page(usize),
    /// Machine frame of a play page.
    FrameOf(usize),
    /// Machine address of a byte of a play page.
    Machine(usize, u64),
    /// Machine address of the page-table entry of a play page.
    EntryOf(usize),
    /// That entry.
    MappingOf(usize),
    /// The domain's number.
    Own,
    /// Machine frame of the shared page.
    Shared,
    /// Machine frame of the table of this level that leads to the play pages.
    Table(u32),
    /// Machine address of the same.
    TableAddress(u32),
    /// A writable entry that maps the same.
    TableEntry(u32),
}

/// What stands for shared page and tables in a translated guest. No hypervisor can tell them from other memory there, so that
/// nothing would stop the guest from harming itself.
const PLAIN: usize = 46;

fn table(guest: &Guest, level: u32) -> u64 {
    if pvh::is_translated() { guest.page_frame(PLAIN) } else { guest.table(page(0), level).1 }
}

impl Value {
    /// The value in this domain.
    pub fn of(self, guest: &Guest) -> u64 {
        match self {
            Value::Is(value) => value,
            Value::Page(index) => page(index),
            Value::FrameOf(index) => guest.page_frame(index),
            Value::Machine(index, byte) => (guest.page_frame(index) << 12) + byte,
            Value::EntryOf(index) => guest.entry(page(index), 1),
            Value::MappingOf(index) => guest.entry_value(page(index), 1),
            Value::Own => own_domain().into(),
            Value::Shared if pvh::is_translated() => guest.page_frame(PLAIN),
            Value::Shared => guest.start().shared_info >> 12,
            Value::Table(level) => table(guest, level),
            Value::TableAddress(level) => table(guest, level) << 12,
            Value::TableEntry(level) => table(guest, level) << 12 | WRITABLE,
        }
    }

    /// Whether an input of `width` bytes can hold it; all ones are cut to any width.
    pub fn fits(self, width: usize) -> bool {
        match self {
            Value::Is(value) => width == 8 || value == !0 || value >> (8 * width) == 0,
            _ => true,
        }
    }
}

/// What an input means.
#[derive(Clone, Copy)]
pub enum Kind {
    /// A domain.
    Domain,
    /// A domain, where the caller itself would be hit.
    Other,
    /// A machine frame.
    Frame,
    /// A machine address.
    Address,
    /// A page-table entry.
    Entry,
    /// A virtual address.
    Pointer,
    /// How many of something, or an order of how many.
    Count,
    /// An event channel.
    Port,
    /// A vCPU.
    Vcpu,
    /// A grant or a handle of one.
    Reference,
    /// A command, a type, or flags.
    Number,
    /// A command of a hypercall: all are unknown.
    Command,
    /// Bytes within a page.
    Offset,
    /// What the operation's table says.
    Values(&'static [(&'static str, Value)]),
}

const DOMAINS: &[(&str, Value)] = &[
    ("self", Value::Is(DOMID_SELF as u64)),
    ("own", Value::Own),
    ("0", Value::Is(0)),
    ("none", Value::Is(0x7000)),
    ("io", Value::Is(DOMID_IO as u64)),
    ("hypervisor", Value::Is(DOMID_XEN as u64)),
    ("cow", Value::Is(DOMID_COW as u64)),
    ("invalid", Value::Is(DOMID_INVALID as u64)),
    ("idle", Value::Is(DOMID_IDLE as u64)),
    ("max", Value::Is(!0)),
];
const FRAMES: &[(&str, Value)] = &[
    ("0", Value::Is(0)),
    ("1", Value::Is(1)),
    ("shared-page", Value::Shared),
    ("l1-table", Value::Table(1)),
    ("l4-table", Value::Table(4)),
    ("device", Value::Is(0xfee00)),
    ("beyond-memory", Value::Is(1 << 28)),
    ("beyond-machine", Value::Is(1 << 40)),
    ("last", Value::Is(!0)),
];
const ADDRESSES: &[(&str, Value)] = &[
    ("0", Value::Is(0)),
    ("frame-1", Value::Is(0x1000)),
    ("l1-table", Value::TableAddress(1)),
    ("l4-table", Value::TableAddress(4)),
    ("page-unaligned", Value::Machine(36, 4)),
    ("page-end", Value::Machine(36, 4092)),
    ("page-last-words", Value::Machine(36, 4072)),
    ("device", Value::Is(0xfee0_0000)),
    ("beyond-memory", Value::Is(1 << 40)),
    ("beyond-machine", Value::Is(1 << 56)),
    ("almost-last", Value::Is(!7)),
];
const ENTRIES: &[(&str, Value)] = &[
    ("none", Value::Is(0)),
    ("not-present", Value::Is(0x1000)),
    ("frame-1", Value::Is(0x1067)),
    ("l1-table", Value::TableEntry(1)),
    ("l4-table", Value::TableEntry(4)),
    ("device", Value::Is(0xfee0_0067)),
    ("beyond-memory", Value::Is(1 << 40 | 0x67)),
    ("beyond-machine", Value::Is(1 << 51 | 0x67)),
    ("all", Value::Is(!0)),
];
const POINTERS: &[(&str, Value)] = &[
    ("null", Value::Is(0)),
    ("unmapped", Value::Is(0x7000_0000_0000)),
    ("unaligned", Value::Is(0x7000_0000_0003)),
    ("non-canonical", Value::Is(1 << 63)),
    ("table-of-frames", Value::Is(0xffff_8000_0000_0000)),
    ("hypervisor", Value::Is(0xffff_82d0_8020_0000)),
    ("end-of-lower-half", Value::Is(0x7fff_ffff_fff8)),
    ("last", Value::Is(!7)),
];
const COUNTS: &[(&str, Value)] = &[
    ("0", Value::Is(0)),
    ("1", Value::Is(1)),
    ("33", Value::Is(33)),
    ("64", Value::Is(64)),
    ("1000", Value::Is(1000)),
    ("16-bit-sign", Value::Is(1 << 15)),
    ("31-bit-max", Value::Is(0x7fff_ffff)),
    ("32-bit-sign", Value::Is(1 << 31)),
    ("32-bit-max", Value::Is(0xffff_ffff)),
    ("33-bit", Value::Is(1 << 32)),
    ("wraps", Value::Is(1 << 61)),
    ("sign", Value::Is(1 << 63)),
    ("max", Value::Is(!0)),
];
const PORTS: &[(&str, Value)] = &[
    ("0", Value::Is(0)),
    ("closed", Value::Is(60)),
    ("4095", Value::Is(4095)),
    ("4096", Value::Is(4096)),
    ("131072", Value::Is(1 << 17)),
    ("max", Value::Is(!0)),
];
const VCPUS: &[(&str, Value)] = &[
    ("down", Value::Is(2)),
    ("none", Value::Is(3)),
    ("77", Value::Is(77)),
    ("8192", Value::Is(8192)),
    ("sign", Value::Is(1 << 31)),
    ("wide", Value::Is(1 << 32 | 77)),
    ("max", Value::Is(!0)),
];
const REFERENCES: &[(&str, Value)] = &[
    ("0", Value::Is(0)),
    ("8", Value::Is(8)),
    ("511", Value::Is(511)),
    ("512", Value::Is(512)),
    ("beyond", Value::Is(1 << 20)),
    ("sign", Value::Is(1 << 31)),
    ("max", Value::Is(!0)),
];
const NUMBERS: &[(&str, Value)] = &[
    ("0", Value::Is(0)),
    ("1", Value::Is(1)),
    ("2", Value::Is(2)),
    ("3", Value::Is(3)),
    ("4", Value::Is(4)),
    ("8", Value::Is(8)),
    ("16", Value::Is(16)),
    ("32", Value::Is(32)),
    ("64", Value::Is(64)),
    ("255", Value::Is(255)),
    ("15-bit", Value::Is(1 << 15)),
    ("31-bit", Value::Is(1 << 31)),
    ("32-bit", Value::Is(1 << 32)),
    ("63-bit", Value::Is(1 << 63)),
    ("max", Value::Is(!0)),
];
const COMMANDS: &[(&str, Value)] = &[
    ("40", Value::Is(40)),
    ("63", Value::Is(63)),
    ("100", Value::Is(100)),
    ("1000", Value::Is(1000)),
    ("sign", Value::Is(1 << 31)),
    ("wide", Value::Is(1 << 32 | 63)),
    ("max", Value::Is(!0)),
];
const OFFSETS: &[(&str, Value)] = &[
    ("0", Value::Is(0)),
    ("1", Value::Is(1)),
    ("4", Value::Is(4)),
    ("4032", Value::Is(4032)),
    ("4088", Value::Is(4088)),
    ("4095", Value::Is(4095)),
    ("4096", Value::Is(4096)),
    ("max", Value::Is(!0)),
];

impl Kind {
    /// Bad values, with their names; some are good for some operations.
    pub const fn values(self) -> &'static [(&'static str, Value)] {
        match self {
            Kind::Domain => DOMAINS,
            Kind::Other => DOMAINS.split_at(2).1,
            Kind::Frame => FRAMES,
            Kind::Address => ADDRESSES,
            Kind::Entry => ENTRIES,
            Kind::Pointer => POINTERS,
            Kind::Count => COUNTS,
            Kind::Port => PORTS,
            Kind::Vcpu => VCPUS,
            Kind::Reference => REFERENCES,
            Kind::Number => NUMBERS,
            Kind::Command => COMMANDS,
            Kind::Offset => OFFSETS,
            Kind::Values(values) => values,
        }
    }
}
