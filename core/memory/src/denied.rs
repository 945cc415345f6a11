//! Refusals, each with its reason, so that the caller can log one line that tells a guest's author what was wrong.

use crate::frame::FrameType;
use core::fmt;
use types::{DomId, Errno, Gfn, Mfn};

/// Result of an operation that may be refused.
pub type Outcome<T> = Result<T, Denied>;

/// A refusal: the error number for the guest, and the reason for the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Denied {
    /// What the guest is told.
    pub errno: Errno,
    /// What the log is told.
    pub why: Why,
    /// In which table, if the entry was met while tables were promoted: the innermost one.
    pub within: Option<Place>,
}

/// An entry of a page table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// The table.
    pub table: Mfn,
    /// Its level, 1 to 4.
    pub level: u32,
    /// The index of the entry.
    pub index: usize,
    /// What it holds.
    pub entry: u64,
}

impl Denied {
    /// A refusal.
    pub const fn new(errno: Errno, why: Why) -> Denied {
        Denied { errno, why, within: None }
    }

    /// Whether the frame was the right domain's, but in another use than the one that was wanted.
    pub const fn is_other_use(&self) -> bool {
        matches!(self.why, Why::WrongType { .. })
    }

    /// The refusal, for an entry of a table.
    pub(crate) fn within(self, place: Place) -> Denied {
        Denied { within: self.within.or(Some(place)), ..self }
    }
}

impl From<Denied> for Errno {
    fn from(denied: Denied) -> Errno {
        denied.errno
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Place { table, level, index, entry }) = self.within {
            write!(f, "L{level} table {table:#x}, entry {index} ({entry:#018x}): ")?;
        }
        write!(f, "{}: {}", self.why, self.errno.text())
    }
}

/// Why something was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Why {
    /// The frame is free, the hypervisor's, or no RAM.
    NotAllocated { mfn: Mfn },
    /// The domain, whose frame numbers are its own, has nothing at this one.
    Hole { gfn: Gfn, domain: DomId },
    /// Another domain owns the frame.
    WrongOwner { mfn: Mfn, owner: DomId, wanted: DomId },
    /// The count of references is full.
    TooManyReferences { mfn: Mfn },
    /// The frame is in another use.
    WrongType { mfn: Mfn, have: FrameType, uses: u32, want: FrameType },
    /// The hypervisor has no view of the frame.
    NotLendable { mfn: Mfn },
    /// The entry has bits that a guest must not set.
    BadFlags { level: u32, entry: u64 },
    /// The domain may not map this device frame.
    NoIoPermission { mfn: Mfn, domain: DomId },
    /// The domain may not use the other one's frames.
    NotPrivileged { domain: DomId, over: DomId },
    /// The slot belongs to the hypervisor.
    HypervisorSlot { slot: usize },
    /// A mapping of a table by one of its own level that is writable or would nest.
    BadLinearMapping { mfn: Mfn, entry: u64 },
    /// The entry changed under the operation.
    EntryChanged { table: Mfn, index: usize },
    /// No level-1 entry for the address.
    NotMapped { address: u64 },
    /// The entry does not hold the mapping that it should.
    WrongMapping { entry: u64, mfn: Mfn },
    /// The address or the command is malformed.
    BadRequest { value: u64 },
    /// The table is pinned already, or is not.
    Pin { mfn: Mfn, pinned: bool },
    /// A descriptor is of a kind that a guest must not have.
    BadDescriptor { mfn: Mfn, descriptor: u64 },
    /// The frame is referred to elsewhere.
    StillInUse { mfn: Mfn, references: u32, uses: u32 },
    /// More frames than the domain may have.
    OverAllocation { domain: DomId, pages: u64, limit: u64 },
    /// No block of the order below that width.
    NoMemory { order: u32, bits: u32 },
    /// The free list held a frame that is in use; the block was given up.
    CorruptFreeList { mfn: Mfn },
    /// The domain is being destroyed, or unknown.
    Dying { domain: DomId },
    /// A claim larger than what is free, or than the limit, or a second one.
    BadClaim { domain: DomId, pages: u64 },
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Why::NotAllocated { mfn } => write!(f, "frame {mfn:#x} belongs to no domain"),
            Why::Hole { gfn, domain } => write!(f, "{domain} has nothing at frame {:#x}", gfn.0),
            Why::WrongOwner { mfn, owner, wanted } => write!(f, "frame {mfn:#x} is owned by {owner}, not {wanted}"),
            Why::TooManyReferences { mfn } => write!(f, "frame {mfn:#x} has too many references"),
            Why::WrongType { mfn, have, uses, want } => {
                write!(f, "frame {mfn:#x} is {have} ({uses} uses), wanted as {want}")
            }
            Why::NotLendable { mfn } => write!(f, "frame {mfn:#x} is no guest memory"),
            Why::BadFlags { level, entry } => write!(f, "L{level} entry {entry:#018x} has forbidden bits"),
            Why::NoIoPermission { mfn, domain } => write!(f, "{domain} may not map device frame {mfn:#x}"),
            Why::NotPrivileged { domain, over } => write!(f, "{domain} has no rights over {over}"),
            Why::HypervisorSlot { slot } => write!(f, "L4 slot {slot} is the hypervisor's"),
            Why::BadLinearMapping { mfn, entry } => write!(f, "bad linear mapping {entry:#018x} in table {mfn:#x}"),
            Why::EntryChanged { table, index } => write!(f, "entry {index} of table {table:#x} changed meanwhile"),
            Why::NotMapped { address } => write!(f, "no L1 entry for address {address:#x}"),
            Why::WrongMapping { entry, mfn } => write!(f, "entry {entry:#018x} is not the mapping of frame {mfn:#x}"),
            Why::BadRequest { value } => write!(f, "malformed request {value:#x}"),
            Why::Pin { mfn, pinned: true } => write!(f, "frame {mfn:#x} is pinned already"),
            Why::Pin { mfn, pinned: false } => write!(f, "frame {mfn:#x} is not pinned"),
            Why::BadDescriptor { mfn, descriptor } => {
                write!(f, "descriptor {descriptor:#018x} in frame {mfn:#x} is not for guests")
            }
            Why::StillInUse { mfn, references, uses } => {
                write!(f, "frame {mfn:#x} still has {references} references and {uses} uses")
            }
            Why::OverAllocation { domain, pages, limit } => {
                write!(f, "{domain} would have {pages} frames, above its limit of {limit}")
            }
            Why::NoMemory { order, bits } => write!(f, "no free block of order {order} within {bits} address bits"),
            Why::CorruptFreeList { mfn } => write!(f, "frame {mfn:#x} was on the free list while in use"),
            Why::Dying { domain } => write!(f, "{domain} is being destroyed"),
            Why::BadClaim { domain, pages } => write!(f, "{domain} cannot claim {pages} frames"),
        }
    }
}
