//! What a guest frame can be.

use types::{Gfn, Mfn};

/// The kind of a guest frame (Xen's `p2m_type_t`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Type {
    /// Ordinary memory.
    RamRw = 0,
    /// Nothing, and so it is stored: [`Entry::HOLE`] is what reads find.
    Invalid = 1,
    /// Memory whose first write has to be noted.
    RamLogdirty = 2,
    /// Read-only memory: writes are discarded.
    RamRo = 3,
    /// The device model's: nothing is mapped.
    MmioDm = 4,
    /// A device's frame.
    MmioDirect = 5,
    /// Memory that is allocated when first touched.
    PopulateOnDemand = 6,
    /// Another domain's granted frame, writable.
    GrantMapRw = 8,
    /// Another domain's granted frame, read-only.
    GrantMapRo = 9,
    /// Memory with a hardware fault.
    RamBroken = 13,
    /// Another domain's frame.
    MapForeign = 14,
    /// Memory whose writes an ioreq server sees.
    IoreqServer = 15,
}

impl Type {
    pub(crate) const fn from_bits(bits: u64) -> Type {
        match bits {
            0 => Type::RamRw,
            2 => Type::RamLogdirty,
            3 => Type::RamRo,
            4 => Type::MmioDm,
            5 => Type::MmioDirect,
            6 => Type::PopulateOnDemand,
            8 => Type::GrantMapRw,
            9 => Type::GrantMapRo,
            13 => Type::RamBroken,
            14 => Type::MapForeign,
            15 => Type::IoreqServer,
            _ => Type::Invalid,
        }
    }

    /// Whether entries of this type name a frame, and hold a reference to it.
    pub const fn has_frame(self) -> bool {
        !self.is_hole() && !matches!(self, Type::PopulateOnDemand)
    }

    /// Whether nothing is there.
    pub const fn is_hole(self) -> bool {
        matches!(self, Type::Invalid | Type::MmioDm)
    }

    /// Whether it is the domain's own memory as the guest sees it (`p2m_is_ram`).
    pub const fn is_ram(self) -> bool {
        matches!(self, Type::RamRw | Type::RamLogdirty | Type::RamRo)
    }

    /// Whether an entry may be changed between this type and the others of which this holds, its frame staying.
    pub const fn is_own_frame(self) -> bool {
        self.is_ram() || matches!(self, Type::IoreqServer | Type::RamBroken)
    }
}

/// What the guest may do with a frame beyond its type, for introspection (Xen's `p2m_access_t`; numbers of
/// `XENMEM_access_*`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Access {
    /// Nothing.
    N = 0,
    /// Read.
    R = 1,
    /// Write; the hardware cannot refuse reads then.
    W = 2,
    /// Read and write.
    Rw = 3,
    /// Execute, and for the hardware read.
    X = 4,
    /// Read and execute.
    Rx = 5,
    /// Write and execute, and for the hardware read.
    Wx = 6,
    /// Everything: the default.
    Rwx = 7,
    /// As [`Access::Rx`]; becomes [`Access::Rw`] at a write.
    Rx2Rw = 8,
    /// As [`Access::N`]; becomes [`Access::Rwx`] at the first access.
    N2Rwx = 9,
}

impl Access {
    /// The access with this number of `XENMEM_access_*`.
    pub const fn from_number(number: u8) -> Option<Access> {
        Some(match number {
            0 => Access::N,
            1 => Access::R,
            2 => Access::W,
            3 => Access::Rw,
            4 => Access::X,
            5 => Access::Rx,
            6 => Access::Wx,
            7 => Access::Rwx,
            8 => Access::Rx2Rw,
            9 => Access::N2Rwx,
            _ => return None,
        })
    }

    /// Whether anything is allowed.
    pub const fn is_any(self) -> bool {
        !matches!(self, Access::N | Access::N2Rwx)
    }

    /// Whether the hardware refuses an access of this kind: for an instruction, else a write, else a read. It grants reads wherever
    /// it grants anything.
    pub const fn refuses(self, write: bool, fetch: bool) -> bool {
        if fetch {
            !self.may_execute()
        } else if write {
            !self.may_write()
        } else {
            !self.is_any()
        }
    }

    /// Whether writes are.
    pub const fn may_write(self) -> bool {
        matches!(self, Access::W | Access::Rw | Access::Wx | Access::Rwx)
    }

    /// Whether instruction fetches are.
    pub const fn may_execute(self) -> bool {
        matches!(self, Access::X | Access::Rx | Access::Wx | Access::Rwx | Access::Rx2Rw)
    }
}

/// What is at a guest frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The machine frame of just this guest frame; [`Mfn::INVALID`] where [`Type::has_frame`] does not hold.
    pub mfn: Mfn,
    /// What it is.
    pub ty: Type,
    /// What the guest may do with it.
    pub access: Access,
    /// The entry is for the aligned 2^`order` guest frames around. Of a hole, a power of 512.
    pub order: u8,
}

impl Entry {
    /// Nothing there, as Xen reports it.
    pub const fn hole(order: u8) -> Entry {
        Entry { mfn: Mfn::INVALID, ty: Type::MmioDm, access: Access::Rwx, order }
    }

    /// First guest frame past the entry that holds `gfn`.
    pub const fn end(&self, gfn: Gfn) -> Gfn {
        Gfn(((gfn.0 >> self.order) + 1) << self.order)
    }
}

/// Whether CPUs may have translations that no longer hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "the guest may go on with what it had until `P2m::flush`"]
pub enum Flush {
    /// They have none.
    Unneeded,
    /// They may, until [`crate::P2m::flush`].
    Needed,
}

impl Flush {
    /// Needed if either is.
    pub const fn or(self, other: Flush) -> Flush {
        match self {
            Flush::Needed => Flush::Needed,
            Flush::Unneeded => other,
        }
    }
}
