//! Frames that another domain gives to this one (GNTTABOP_transfer).

use crate::status::Status;
use crate::table::{GrantTable, Reference};
use platform::Frames;
use types::{DomId, Gfn, Mfn};

impl GrantTable {
    /// Commits this domain to taking a frame from `peer`. Order of GNTTABOP_transfer: the frame is taken from its owner
    /// (`BadPage` if that fails; from then on it is gone for the caller); this; the frame is assigned to this domain;
    /// [`GrantTable::complete_transfer`]. If this fails the frame is freed.
    ///
    /// # Errors
    /// `GeneralError`: no such entry, it does not accept a frame from that domain, or the guest keeps changing it.
    pub fn prepare_transfer<M: Frames + ?Sized>(
        &self,
        frames: &M,
        reference: Reference,
        peer: DomId,
    ) -> Result<(), Status> {
        let inner = self.inner.read();
        let find = || -> Result<(), Status> {
            let _active = inner.active(reference)?;
            inner.entry(frames, reference)?.commit_transfer(peer)
        };
        find().map_err(|_| Status::GeneralError)
    }

    /// Tells the guest which frame it got; a version 1 entry has room for its low 32 bits. What the guest wants to call the
    /// frame, which it wrote there before; `None` where the table has gone meanwhile.
    pub fn complete_transfer<M: Frames + ?Sized>(&self, frames: &M, reference: Reference, mfn: Mfn) -> Option<Gfn> {
        let inner = self.inner.read();
        let _active = inner.active(reference).ok()?;
        let entry = inner.entry(frames, reference).ok()?;
        let name = entry.read().gfn;
        entry.complete_transfer(mfn);
        Some(name)
    }
}
