//! Changing the table's version, and exchanging entries.

use crate::entry::{Entry, PERMIT_ACCESS, READING, WRITING};
use crate::status::Status;
use crate::table::{GrantTable, Inner, Reference, clear_frame};
use core::sync::atomic::Ordering;
use platform::Frames;
use types::{Errno, Mfn, Result};

/// Entries that keep what they grant when the version changes (`GNTTAB_NR_RESERVED_ENTRIES`).
const RESERVED: u32 = xen_abi::grant_table::GNTTAB_NR_RESERVED_ENTRIES;

/// An entry as both versions can say it.
#[derive(Clone, Copy, Default)]
struct Kept {
    flags: u16,
    domain: u16,
    frame: u64,
}

impl Inner {
    fn keep<M: Frames + ?Sized>(&self, frames: &M) -> [Kept; RESERVED as usize] {
        let mut kept = [Kept::default(); RESERVED as usize];
        for (reference, kept) in (0..).zip(&mut kept) {
            let Ok(entry) = self.entry(frames, reference) else {
                continue;
            };
            let seen = entry.read();
            *kept = Kept { flags: seen.flags, domain: seen.domain.0, frame: seen.gfn.0 };
            if let Entry::V2 { status, shift, .. } = entry {
                if seen.kind() == PERMIT_ACCESS {
                    kept.flags |= (status.load(Ordering::SeqCst) >> shift) as u16;
                } else {
                    // The other kinds of version 2 have no counterpart, and toolstacks make none in these entries.
                    *kept = Kept::default();
                }
            }
        }
        kept
    }

    fn put_back<M: Frames + ?Sized>(&self, frames: &M, kept: [Kept; RESERVED as usize]) {
        for (reference, kept) in (0..).zip(kept) {
            let domain = u64::from(kept.domain) << 16;
            match self.entry(frames, reference) {
                Ok(Entry::V1(word)) => {
                    word.store(u64::from(kept.flags) | domain | kept.frame << 32, Ordering::SeqCst);
                }
                Ok(Entry::V2 { head, frame, status, shift }) => {
                    let marks = kept.flags & (READING | WRITING);
                    frame.store(kept.frame, Ordering::SeqCst);
                    status.fetch_or(u64::from(marks) << shift, Ordering::SeqCst);
                    head.store(u64::from(kept.flags & !marks) | domain, Ordering::SeqCst);
                }
                Err(_) => {}
            }
        }
    }
}

impl GrantTable {
    /// The version of the table's entries, 1 or 2.
    pub fn version(&self) -> u8 {
        self.inner.read().version
    }

    /// Changes the version of the entries (GNTTABOP_set_version). All entries but the first 8 are emptied. `allocate` as
    /// with [`GrantTable::grow`]; `retract` gets the status frames when version 2 is left and takes them all from the guest,
    /// or refuses and takes none (`EBUSY` if the guest still maps one). Both run under the table's lock.
    ///
    /// # Errors
    /// `EINVAL`: no such version. `ENOSYS`: not allowed to this domain. `EBUSY`: an entry beyond the first 8 is in use.
    /// `ENOMEM`, and those of `retract`.
    pub fn set_version<M: Frames + ?Sized>(
        &self,
        frames: &M,
        version: u32,
        allocate: &mut dyn FnMut() -> Option<Mfn>,
        retract: &mut dyn FnMut(&[Mfn]) -> Result<()>,
    ) -> Result<()> {
        if version != 1 && version != 2 {
            return Err(Errno::INVAL);
        }
        if version > u32::from(self.limits.version) {
            return Err(Errno::NOSYS);
        }
        let mut inner = self.inner.write();
        if u32::from(inner.version) == version {
            return Ok(());
        }
        if inner.pinned_from(RESERVED).next().is_some() {
            return Err(Errno::BUSY);
        }
        let kept = inner.keep(frames);
        if version == 2 {
            let count = inner.shared.len();
            inner.grow_status(frames, count, allocate)?;
            inner.status.iter().for_each(|mfn| clear_frame(frames, *mfn));
        } else {
            retract(&inner.status)?;
            inner.status.clear();
        }
        inner.shared.iter().for_each(|mfn| clear_frame(frames, *mfn));
        inner.version = version as u8;
        inner.put_back(frames, kept);
        Ok(())
    }

    /// Exchanges two entries (GNTTABOP_swap_grant_ref).
    ///
    /// # Errors
    /// `BadReference`: no such entry. `Again`: one is in use.
    pub fn swap<M: Frames + ?Sized>(&self, frames: &M, a: Reference, b: Reference) -> core::result::Result<(), Status> {
        let inner = self.inner.read();
        let (first, second) = (inner.entry(frames, a.min(b))?, inner.entry(frames, a.max(b))?);
        if a == b {
            return Ok(());
        }
        let (low, high) = (inner.active(a.min(b))?, inner.active(a.max(b))?);
        if low.is_pinned() || high.is_pinned() {
            return Err(Status::Again);
        }
        first.swap(second);
        Ok(())
    }
}
