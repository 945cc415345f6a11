//! Status codes of grant operations.

use core::fmt;

/// Why a grant operation was refused (`GNTST_*`). [`Status::number`] is what its `status` field gets; success is 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(i16)]
pub enum Status {
    /// Anything without a code of its own.
    GeneralError = -1,
    /// No such domain.
    BadDomain = -2,
    /// No such grant reference, or none for this use.
    BadReference = -3,
    /// No such handle.
    BadHandle = -4,
    /// No address to map at.
    BadVirtualAddress = -5,
    /// Not the device address of the mapping.
    BadDeviceAddress = -6,
    /// No space in the I/O MMU.
    NoDeviceSpace = -7,
    /// Not allowed.
    PermissionDenied = -8,
    /// The frame cannot be used so.
    BadPage = -9,
    /// A copy would leave its page.
    BadCopyArgument = -10,
    /// The transferred frame's number is too large.
    AddressTooBig = -11,
    /// Not done; try again.
    Again = -12,
    /// Out of handles or memory.
    NoSpace = -13,
}

impl Status {
    /// The number in the interface, negative.
    pub const fn number(self) -> i16 {
        self as i16
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?} ({})", self.number())
    }
}

impl core::error::Error for Status {}
