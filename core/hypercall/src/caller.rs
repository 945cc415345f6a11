//! Who calls, with what, and what came of it.

use alloc::sync::Arc;
use domain::{Arch, Domain, Hypervisor, Vcpu};
use types::{DomId, Errno, Result};
use xen_abi::GuestHandle;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

/// The arguments as they lay in the registers: at most five on x86-64, six in a multicall.
pub type Args = [u64; 6];

/// What came of a hypercall.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Outcome {
    /// Finished; the value for the result register, a negative error number among them.
    Done(i64),
    /// Cut off: to be issued again with these arguments.
    Again(Args),
}

impl From<Result<i64>> for Outcome {
    fn from(result: Result<i64>) -> Outcome {
        Outcome::Done(result.unwrap_or_else(Errno::as_return))
    }
}

impl From<Result<()>> for Outcome {
    fn from(result: Result<()>) -> Outcome {
        result.map(|()| 0).into()
    }
}

impl From<Errno> for Outcome {
    fn from(errno: Errno) -> Outcome {
        Outcome::Done(errno.as_return())
    }
}

/// The vCPU that makes a hypercall, on the CPU that runs it.
pub struct Caller<'a, A: Arch> {
    /// All there is.
    pub hypervisor: &'a Hypervisor<A>,
    /// The calling domain.
    pub domain: &'a Arc<Domain<A>>,
    /// The calling vCPU.
    pub vcpu: &'a Arc<Vcpu<A>>,
    /// Its addresses are those of the address space that this CPU has loaded ([`platform::GuestMemory::copy_in_loaded`]).
    pub is_loaded: bool,
}

impl<A: Arch> Caller<'_, A> {
    /// The machine.
    pub fn machine(&self) -> &A {
        self.hypervisor.machine()
    }

    /// Copies one structure in.
    ///
    /// # Errors
    /// `EFAULT` where the guest has not mapped it.
    #[inline]
    pub fn read<T: FromBytes + IntoBytes + FromZeros>(&self, handle: GuestHandle<T>) -> Result<T> {
        if !self.is_loaded {
            return self.read_elsewhere(handle);
        }
        let mut value = T::new_zeroed();
        self.machine().copy_in_loaded(handle.address(), value.as_mut_bytes())?;
        Ok(value)
    }

    /// Copies one structure in, over another one.
    ///
    /// # Errors
    /// `EFAULT` where the guest has not mapped it.
    #[inline]
    pub fn read_into<T: FromBytes + IntoBytes>(&self, handle: GuestHandle<T>, value: &mut T) -> Result<()> {
        if self.is_loaded {
            self.machine().copy_in_loaded(handle.address(), value.as_mut_bytes())
        } else {
            self.machine().copy_in(handle.address(), value.as_mut_bytes())
        }
    }

    #[inline(never)]
    fn read_elsewhere<T: FromBytes + IntoBytes + FromZeros>(&self, handle: GuestHandle<T>) -> Result<T> {
        let mut value = T::new_zeroed();
        self.machine().copy_in(handle.address(), value.as_mut_bytes())?;
        Ok(value)
    }

    /// Copies one structure out.
    ///
    /// # Errors
    /// `EFAULT` where the guest has not mapped it writably.
    #[inline]
    pub fn write<T: IntoBytes + Immutable>(&self, handle: GuestHandle<T>, value: &T) -> Result<()> {
        if !self.is_loaded {
            return self.write_elsewhere(handle, value);
        }
        self.machine().copy_out_loaded(handle.address(), value.as_bytes())
    }

    #[inline(never)]
    fn write_elsewhere<T: IntoBytes + Immutable>(&self, handle: GuestHandle<T>, value: &T) -> Result<()> {
        self.machine().copy_out(handle.address(), value.as_bytes())
    }

    /// The domain a guest names: itself by its number or DOMID_SELF, another only if the caller is privileged.
    ///
    /// # Errors
    /// `EPERM` without the right, `ESRCH` where there is none.
    pub fn target(&self, raw: u16) -> Result<Arc<Domain<A>>> {
        let id = DomId(raw);
        if id == DomId::SELF || id == self.domain.id {
            return Ok(self.domain.clone());
        }
        if !self.domain.is_privileged() {
            return Err(Errno::PERM);
        }
        self.hypervisor.domains.get(id).ok_or(Errno::SRCH)
    }

    /// Refuses callers that may not use the toolstack's calls.
    ///
    /// # Errors
    /// `EPERM`.
    pub fn require_privilege(&self) -> Result<Privileged> {
        if self.domain.is_privileged() { Ok(Privileged(())) } else { Err(Errno::PERM) }
    }
}

/// Proof that the caller may use the toolstack's calls.
#[derive(Clone, Copy)]
pub struct Privileged(());
