//! All domains by number.

use crate::{Arch, Domain};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use platform::sync::RwLock;
use spin::Once;
use types::{DomId, Errno, Result};

/// Domains in one chunk of the table.
const CHUNK: usize = 256;

type Slot<A> = RwLock<Option<Arc<Domain<A>>>>;

/// The table of domains. Each number has a lock of its own, so that look-ups of different domains never meet; chunks of
/// numbers come into being when first used.
pub struct DomainTable<A: Arch> {
    chunks: [Once<Box<[Slot<A>]>>; DomId::FIRST_RESERVED.0 as usize / CHUNK + 1],
}

impl<A: Arch> Default for DomainTable<A> {
    fn default() -> Self {
        DomainTable { chunks: core::array::from_fn(|_| Once::new()) }
    }
}

impl<A: Arch> DomainTable<A> {
    fn slot(&self, id: DomId) -> Option<&Slot<A>> {
        if !id.is_real() {
            return None;
        }
        let chunk = self.chunks.get(usize::from(id.0) / CHUNK)?.get()?;
        chunk.get(usize::from(id.0) % CHUNK)
    }

    /// The domain with this number.
    pub fn get(&self, id: DomId) -> Option<Arc<Domain<A>>> {
        self.slot(id)?.read().clone()
    }

    /// The first domain whose number is `id` or higher.
    pub fn first_from(&self, id: DomId) -> Option<Arc<Domain<A>>> {
        let mut number = id.0;
        while number < DomId::FIRST_RESERVED.0 {
            if !self.chunks[usize::from(number) / CHUNK].is_completed() {
                number = (number / CHUNK as u16 + 1) * CHUNK as u16;
                continue;
            }
            if let Some(domain) = self.get(DomId(number)) {
                return Some(domain);
            }
            number += 1;
        }
        None
    }

    /// Puts a domain in.
    ///
    /// # Errors
    /// `EEXIST` if its number is taken, `EINVAL` if it is no domain's number.
    pub fn insert(&self, domain: Arc<Domain<A>>) -> Result<()> {
        let id = domain.id;
        if !id.is_real() {
            return Err(Errno::INVAL);
        }
        self.chunks[usize::from(id.0) / CHUNK]
            .call_once(|| (0..CHUNK).map(|_| RwLock::new(None)).collect::<Vec<_>>().into_boxed_slice());
        let mut slot = self.slot(id).ok_or(Errno::INVAL)?.write();
        if slot.is_some() {
            return Err(Errno::EXIST);
        }
        *slot = Some(domain);
        Ok(())
    }

    /// Takes a domain out.
    pub fn remove(&self, id: DomId) -> Option<Arc<Domain<A>>> {
        self.slot(id)?.write().take()
    }
}
