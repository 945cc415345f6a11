//! Guest handles.

use core::fmt;
use core::marker::PhantomData;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A guest virtual address that the guest says points to one or more `T` (`XEN_GUEST_HANDLE` in arch-x86/xen.h).
///
/// It proves nothing: the address may be unmapped, unaligned, not canonical or the hypervisor's own. Only the
/// guest-memory copy routines may use it.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct GuestHandle<T> {
    address: u64,
    target: PhantomData<T>,
}

impl<T> GuestHandle<T> {
    /// A handle for `address`.
    pub const fn new(address: u64) -> Self {
        Self { address, target: PhantomData }
    }

    /// The null handle, which several operations take as "no buffer, only tell the size".
    pub const fn null() -> Self {
        Self::new(0)
    }

    /// The guest virtual address.
    pub const fn address(self) -> u64 {
        self.address
    }

    /// Whether this is the null handle.
    pub const fn is_null(self) -> bool {
        self.address == 0
    }

    /// The handle of the element `index` elements further on; wraps around at the end of the address space like C
    /// pointer arithmetic on 64-bit x86, so check the range before trusting it.
    pub const fn offset(self, index: u64) -> Self {
        Self::new(self.address.wrapping_add(index.wrapping_mul(core::mem::size_of::<T>() as u64)))
    }

    /// The same address as a handle of another type.
    pub const fn cast<U>(self) -> GuestHandle<U> {
        GuestHandle::new(self.address)
    }
}

impl<T> Clone for GuestHandle<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for GuestHandle<T> {}

impl<T> PartialEq for GuestHandle<T> {
    fn eq(&self, other: &Self) -> bool {
        self.address == other.address
    }
}

impl<T> Eq for GuestHandle<T> {}

impl<T> fmt::Debug for GuestHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GuestHandle({:#x})", self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offset_counts_elements_and_wraps() {
        let handle = GuestHandle::<u64>::new(0x1000);
        assert_eq!(handle.offset(3).address(), 0x1018);
        assert_eq!(GuestHandle::<u64>::new(u64::MAX - 7).offset(1).address(), 0);
        assert_eq!(handle.offset(u64::MAX).address(), 0xff8);
    }

    #[test]
    fn null_is_address_zero() {
        assert!(GuestHandle::<u32>::null().is_null());
        assert!(!GuestHandle::<u32>::new(1).is_null());
        assert_eq!(GuestHandle::<u32>::null().as_bytes(), [0; 8]);
    }
}
