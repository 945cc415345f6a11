//! Identifiers. Each is a number of its own type, so that a frame is never taken for a domain.

use core::fmt;

/// Base-2 logarithm of the size of a frame, in bytes.
pub const PAGE_SHIFT: u32 = 12;
/// Size of a frame, in bytes.
pub const PAGE_SIZE: usize = 1 << PAGE_SHIFT;

/// A domain's number (`domid_t`, xen.h). Real domains are below [`DomId::FIRST_RESERVED`]; the others are names for
/// owners of frames and for the caller itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DomId(pub u16);

impl DomId {
    /// The control domain.
    pub const DOM0: DomId = DomId(0);
    /// First number that is no real domain (`DOMID_FIRST_RESERVED`).
    pub const FIRST_RESERVED: DomId = DomId(0x7ff0);
    /// The caller (`DOMID_SELF`).
    pub const SELF: DomId = DomId(0x7ff0);
    /// Owner of memory-mapped I/O frames (`DOMID_IO`).
    pub const IO: DomId = DomId(0x7ff1);
    /// Owner of frames that the hypervisor shares (`DOMID_XEN`).
    pub const XEN: DomId = DomId(0x7ff2);
    /// Owner of copy-on-write frames (`DOMID_COW`).
    pub const COW: DomId = DomId(0x7ff3);
    /// No domain (`DOMID_INVALID`).
    pub const INVALID: DomId = DomId(0x7ff4);
    /// The idle domain (`DOMID_IDLE`).
    pub const IDLE: DomId = DomId(0x7fff);

    /// Whether the number can belong to a real domain.
    pub const fn is_real(self) -> bool {
        self.0 < Self::FIRST_RESERVED.0
    }
}

impl fmt::Display for DomId {
    /// Prints `d5`, as Xen's log lines do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            DomId::IO => f.write_str("d[IO]"),
            DomId::XEN => f.write_str("d[XEN]"),
            DomId::IDLE => f.write_str("d[IDLE]"),
            DomId(n) => write!(f, "d{n}"),
        }
    }
}

/// A virtual CPU's number within its domain.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct VcpuId(pub u32);

impl VcpuId {
    /// The number as an index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A physical CPU's number, dense from 0 (not its APIC id).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CpuId(pub u32);

impl CpuId {
    /// The number as an index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A machine frame number: a 4 KiB frame of the host's physical address space.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Mfn(pub u64);

impl Mfn {
    /// No frame (`INVALID_MFN`).
    pub const INVALID: Mfn = Mfn(!0);

    /// The frame that holds the physical address `address`, in bytes.
    pub const fn containing(address: u64) -> Mfn {
        Mfn(address >> PAGE_SHIFT)
    }

    /// Physical address of the frame's first byte.
    pub const fn address(self) -> u64 {
        self.0 << PAGE_SHIFT
    }

    /// The frame `count` frames further.
    pub const fn offset(self, count: u64) -> Mfn {
        Mfn(self.0.wrapping_add(count))
    }
}

impl fmt::LowerHex for Mfn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

/// A guest frame number: a frame of a guest's own physical address space.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Gfn(pub u64);

impl Gfn {
    /// No frame (`INVALID_GFN`).
    pub const INVALID: Gfn = Gfn(!0);
}

impl fmt::LowerHex for Gfn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}
