//! Mapping a grant and letting it go.

use crate::entry::{CACHE_MASK, Entry, READING, WRITING, Wanted};
use crate::status::Status;
use crate::table::{Active, Backing, GrantTable, Pins, Reference};
use platform::Frames;
use types::{DomId, Gfn, Mfn};

/// What a mapping is for. At least one of `host` and `device`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Access {
    /// For CPUs (`GNTMAP_host_map`).
    pub host: bool,
    /// For devices (`GNTMAP_device_map`).
    pub device: bool,
    /// Not for writing (`GNTMAP_readonly`).
    pub readonly: bool,
}

/// A grant that may be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "the grant is pinned"]
pub struct Granted {
    /// The frame.
    pub mfn: Mfn,
    /// Cache attributes that the entry asks for (`GTF_PAT | GTF_PWT | GTF_PCD` as there).
    pub cache: u16,
}

/// What letting a grant go came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Released {
    /// The frame, whose references the caller drops.
    pub mfn: Mfn,
    /// Nobody uses the entry any more.
    pub last: bool,
}

impl Access {
    /// Whether there is any mapping.
    pub fn is_any(self) -> bool {
        self.host || self.device
    }

    /// What to add to an entry's pins.
    pub(crate) fn pins(self) -> Pins {
        let (read, write) = (self.readonly, !self.readonly);
        Pins::new([self.device && read, self.device && write, self.host && read, self.host && write])
    }
}

impl Active {
    /// Whether `peer` may use the entry `pins` times more.
    ///
    /// # Errors
    /// `GeneralError`: another domain uses it, or a count would overflow.
    pub(crate) fn check_room(&self, peer: DomId, pins: Pins) -> Result<(), Status> {
        if self.is_pinned() && (self.peer != peer || self.pins.with(pins).is_none()) {
            return Err(Status::GeneralError);
        }
        Ok(())
    }

    /// Uses it so many times more, after [`Active::check_room`].
    pub(crate) fn add(&mut self, pins: Pins) {
        self.pins = self.pins.with(pins).unwrap_or(self.pins);
    }

    /// Marks the shared entry unless it is marked enough, and takes over what it grants if it was not in use.
    pub(crate) fn mark(
        &mut self,
        entry: Entry<'_>,
        wanted: Wanted,
        resolve: impl FnOnce(Gfn, bool) -> Result<Mfn, Status>,
    ) -> Result<(), Status> {
        if wanted.pinned && (wanted.readonly || self.is_write_pinned()) {
            return Ok(());
        }
        let seen = entry.mark(wanted)?;
        if wanted.pinned {
            return Ok(());
        }
        let mfn = match resolve(seen.gfn, wanted.readonly) {
            Ok(mfn) => mfn,
            Err(status) => {
                self.clear_marks(entry, wanted.readonly);
                return Err(status);
            }
        };
        *self = Active {
            pins: Pins::default(),
            mfn,
            peer: wanted.peer,
            range: seen.range,
            backing: if seen.part { Backing::Part } else { Backing::Full },
        };
        Ok(())
    }

    /// Clears the marks that no pin needs any more, after a use that was or was not for reading only.
    pub(crate) fn clear_marks(&self, entry: Entry<'_>, readonly: bool) {
        let mut marks = 0;
        if !readonly && !self.is_write_pinned() {
            marks |= WRITING;
        }
        if !self.is_pinned() {
            marks |= READING;
        }
        if marks != 0 {
            entry.clear(marks);
        }
    }

    /// Takes pins off; `GeneralError` if there are not so many.
    pub(crate) fn remove(&mut self, pins: Pins) -> Result<(), Status> {
        self.pins = self.pins.without(pins).ok_or(Status::GeneralError)?;
        Ok(())
    }
}

impl GrantTable {
    /// Pins a grant so that `mapper` can map it (GNTTABOP_map_grant_ref). The order of the whole operation is:
    ///
    /// 1. [`crate::MapTrack::reserve`] on the mapper's side (`NoSpace` comes first);
    /// 2. this, on the granter's table. The first user's `resolve` turns the granter's frame number into a machine frame
    ///    (for a PV guest they are equal) and checks that it is the granter's; `BadPage` if not. It runs under the entry's
    ///    lock and takes no reference;
    /// 3. a reference of the frame, which must still be the granter's, and a writable type unless `readonly`; the page
    ///    table entry;
    /// 4. [`crate::MapTrack::commit`].
    ///
    /// If step 3 fails: [`GrantTable::unmap`] with the same arguments, then [`crate::MapTrack::cancel`].
    ///
    /// # Errors
    /// `BadReference`: no such entry, or neither host nor device is asked for. `GeneralError`: it is not granted to that
    /// domain, or not for writing, or only a part of the frame or of a third domain's is granted, or too many mappings.
    /// Those of `resolve`.
    pub fn map<M: Frames + ?Sized>(
        &self,
        frames: &M,
        reference: Reference,
        mapper: DomId,
        access: Access,
        resolve: impl FnOnce(Gfn, bool) -> Result<Mfn, Status>,
    ) -> Result<Granted, Status> {
        if !access.is_any() {
            return Err(Status::BadReference);
        }
        let inner = self.inner.read();
        let mut active = inner.active(reference)?;
        let entry = inner.entry(frames, reference)?;
        let pins = access.pins();
        active.check_room(mapper, pins)?;
        let pinned = active.is_pinned();
        if pinned && active.backing != Backing::Full {
            return Err(Status::GeneralError);
        }
        let wanted = Wanted { peer: mapper, readonly: access.readonly, mapping: true, pinned };
        active.mark(entry, wanted, resolve)?;
        active.add(pins);
        Ok(Granted { mfn: active.mfn, cache: entry.read().flags & CACHE_MASK })
    }

    /// Takes back what [`GrantTable::map`] pinned, or a part of it: host or device. The order of GNTTABOP_unmap_grant_ref:
    ///
    /// 1. [`crate::MapTrack::claim`] on the mapper's side, which says whose grant it is, its frame, and what is to be taken back;
    /// 2. the page table entry is removed, if it has that frame; if it has not: [`crate::MapTrack::restore`] and the status;
    /// 3. the translations of the whole batch are flushed;
    /// 4. this, the mapping's references, and [`crate::MapTrack::finish`].
    ///
    /// # Errors
    /// `BadReference`, `GeneralError`: it was not pinned so; a mistake of the caller.
    pub fn unmap<M: Frames + ?Sized>(
        &self,
        frames: &M,
        reference: Reference,
        access: Access,
    ) -> Result<Released, Status> {
        let inner = self.inner.read();
        let mut active = inner.active(reference)?;
        let entry = inner.entry(frames, reference)?;
        active.remove(access.pins())?;
        active.clear_marks(entry, access.readonly);
        Ok(Released { mfn: active.mfn, last: !active.is_pinned() })
    }

    /// Uses of an entry: device read, device write, host read, host write.
    pub fn pins(&self, reference: Reference) -> [u16; 4] {
        self.inner.read().active(reference).map_or([0; 4], |active| active.pins.counts())
    }
}
