//! A request, apart from its place in a page.

use xen_abi::ioreq::*;

/// What is accessed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// An I/O port.
    Port = IOREQ_TYPE_PIO,
    /// An address.
    Memory = IOREQ_TYPE_COPY,
    /// PCI configuration space; made of [`Kind::Port`] by [`crate::Servers::send`].
    PciConfig = IOREQ_TYPE_PCI_CONFIG,
    /// Nothing: the guest has set its clock.
    TimeOffset = IOREQ_TYPE_TIMEOFFSET,
    /// Nothing: mappings of guest memory are to be dropped.
    Invalidate = IOREQ_TYPE_INVALIDATE,
}

/// Which way data goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Direction {
    /// From the guest.
    Write = IOREQ_WRITE,
    /// To the guest.
    Read = IOREQ_READ,
}

/// What an emulator is asked to do (`ioreq_t`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// What is accessed.
    pub kind: Kind,
    /// Which way data goes.
    pub direction: Direction,
    /// The port or guest-physical address.
    pub address: u64,
    /// What is written, or the guest-physical address of the data.
    pub data: u64,
    /// Bytes of one access: 1, 2, 4 or 8.
    pub size: u32,
    /// How often it is repeated; 1 at least.
    pub count: u32,
    /// Repetitions go downwards (RFLAGS.DF).
    pub downwards: bool,
    /// `data` is an address.
    pub data_is_address: bool,
}

impl Request {
    /// A single access.
    pub const fn single(kind: Kind, direction: Direction, address: u64, data: u64, size: u32) -> Request {
        Request { kind, direction, address, data, size, count: 1, downwards: false, data_is_address: false }
    }

    /// Whether the answer has something for the instruction, so that this has to be run again with it.
    pub fn needs_completion(&self) -> bool {
        !self.data_is_address && (self.kind != Kind::Port || self.direction == Direction::Read)
    }

    /// First and last byte that the repetitions touch; `None` where they wrap around.
    pub(crate) fn extent(&self) -> Option<(u64, u64)> {
        let more = u64::from(self.count.max(1) - 1) * u64::from(self.size);
        let (first, start) = if self.downwards {
            (self.address.checked_sub(more)?, self.address)
        } else {
            (self.address, self.address.checked_add(more)?)
        };
        Some((first, start.checked_add(u64::from(self.size.max(1) - 1))?))
    }

    /// The last word of an `ioreq_t`: event channel, flags, type; with no state.
    pub(crate) fn last_word(&self, port: u32) -> u64 {
        let flags =
            u64::from(self.data_is_address) << 4 | (self.direction as u64) << 5 | u64::from(self.downwards) << 6;
        u64::from(port) | flags << 48 | (self.kind as u64) << 56
    }

    /// The request as one slot of the ring, and the slot for the upper half of eight bytes; `None` if it does not fit.
    pub(crate) fn as_slots(&self) -> Option<(u64, Option<u64>)> {
        if self.address > 0xf_ffff || self.data_is_address || self.count != 1 {
            return None;
        }
        let size = match self.size {
            1 | 2 | 4 | 8 => self.size.trailing_zeros(),
            _ => return None,
        };
        let head = self.kind as u64 | (self.direction as u64) << 9 | u64::from(size) << 10 | self.address << 12;
        let slot = |data: u64| head | data << 32;
        Some((slot(self.data), (self.size == 8).then(|| slot(self.data >> 32))))
    }
}
