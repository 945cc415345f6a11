//! Grants used by GNTTABOP_copy, also those that pass on a grant of a third domain.

use crate::access::Access;
use crate::entry::{TRANSITIVE, Wanted};
use crate::status::Status;
use crate::table::{Active, Backing, GrantTable, Pins, Reference};
use platform::Frames;
use types::{DomId, Gfn, Mfn};

/// The tables of other domains.
pub trait Tables {
    /// Runs `action` on the table of a domain, which stays alive meanwhile; does nothing if there is no such domain. Called
    /// without locks of this crate.
    fn with_table(&self, domain: DomId, action: &mut dyn FnMut(&GrantTable));
}

/// A grant that is pinned for a copy. Give it back with [`GrantTable::release_copy`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "the grant is pinned"]
pub struct CopyGrant {
    /// The frame.
    pub mfn: Mfn,
    /// The domain whose frame it is: the granter, or the third domain of a transitive grant. The caller takes a reference
    /// of the frame for the time of the copy, and checks with it that this is the owner.
    pub owner: DomId,
    /// First byte that may be used.
    pub start: u16,
    /// Number of bytes that may be used.
    pub length: u16,
    reference: Reference,
    readonly: bool,
    /// Domain and reference of the grant behind a transitive one.
    via: Option<(DomId, Reference)>,
}

impl CopyGrant {
    /// Whether the bytes `offset..offset + length` of the frame may be used; GNTTABOP_copy answers `GeneralError` if not.
    pub fn allows(&self, offset: u16, length: u16) -> bool {
        let end = u32::from(offset) + u32::from(length);
        offset >= self.start && end <= u32::from(self.start) + u32::from(self.length) && end <= 4096
    }
}

/// Turns a frame number of a domain into a machine frame, for reading only or not.
type Resolve<'a> = &'a dyn Fn(DomId, Gfn, bool) -> Result<Mfn, Status>;

/// The pins of a copy.
fn access(readonly: bool) -> Access {
    Access { host: true, device: false, readonly }
}

impl GrantTable {
    /// Pins a grant for a copy from it (`readonly`) or to it, by `peer`. Order of GNTTABOP_copy for each operation: this for
    /// each end that is a reference; [`CopyGrant::allows`]; a reference of each frame (and a writable type of the
    /// destination's); [`Frames::copy_part`]; the references dropped; [`GrantTable::release_copy`] for each.
    ///
    /// `resolve` is as with [`GrantTable::map`], with the domain whose frame it is.
    ///
    /// # Errors
    /// `BadReference`: no such entry. `GeneralError`: not granted so, or too many uses, or a transitive grant of a transitive
    /// grant, or of a domain's own or of none. `Again`: the entry changed meanwhile. Those of `resolve`.
    pub fn acquire_for_copy<M: Frames + ?Sized>(
        &self,
        frames: &M,
        reference: Reference,
        peer: DomId,
        readonly: bool,
        resolve: Resolve<'_>,
        others: &dyn Tables,
    ) -> Result<CopyGrant, Status> {
        let (domain, through) = match self.acquire_direct(frames, reference, peer, readonly, resolve)? {
            Acquired::Grant(grant) => return Ok(grant),
            Acquired::Passes(domain, through) => (domain, through),
        };
        if domain == self.domain {
            return Err(Status::GeneralError);
        }
        let mut inner = Err(Status::GeneralError);
        others.with_table(domain, &mut |table| {
            inner = match table.acquire_direct(frames, through, self.domain, readonly, resolve) {
                Ok(Acquired::Grant(grant)) => Ok(grant),
                Ok(Acquired::Passes(..)) => Err(Status::GeneralError),
                Err(status) => Err(status),
            };
        });
        let inner = inner?;
        match self.pin_transitive(frames, reference, peer, readonly, (domain, through)) {
            Ok(()) => Ok(CopyGrant { reference, via: Some((domain, through)), ..inner }),
            Err(status) => {
                others.with_table(domain, &mut |table| table.release_one(frames, through, readonly));
                Err(status)
            }
        }
    }

    /// Gives a grant back that [`GrantTable::acquire_for_copy`] of the same table pinned.
    pub fn release_copy<M: Frames + ?Sized>(&self, frames: &M, grant: CopyGrant, others: &dyn Tables) {
        self.release_one(frames, grant.reference, grant.readonly);
        if let Some((domain, reference)) = grant.via {
            others.with_table(domain, &mut |table| table.release_one(frames, reference, grant.readonly));
        }
    }

    fn release_one<M: Frames + ?Sized>(&self, frames: &M, reference: Reference, readonly: bool) {
        // It was pinned, so the entry exists and has the pin.
        let _ = self.unmap(frames, reference, access(readonly));
    }

    /// Pins a grant of this domain's own frames, or tells what a transitive one refers to without pinning it.
    fn acquire_direct<M: Frames + ?Sized>(
        &self,
        frames: &M,
        reference: Reference,
        peer: DomId,
        readonly: bool,
        resolve: Resolve<'_>,
    ) -> Result<Acquired, Status> {
        let inner = self.inner.read();
        let mut active = inner.active(reference)?;
        let entry = inner.entry(frames, reference)?;
        let pins = access(readonly).pins();
        active.check_room(peer, pins)?;
        let pinned = active.is_pinned();
        let seen = entry.read();
        if inner.version == 2 && seen.kind() == TRANSITIVE && (!pinned || active.backing == Backing::Transitive) {
            return Ok(Acquired::Passes(seen.target.0, seen.target.1));
        }
        if pinned && active.backing == Backing::Transitive {
            return Err(Status::GeneralError);
        }
        let wanted = Wanted { peer, readonly, mapping: false, pinned };
        active.mark(entry, wanted, |gfn, readonly| resolve(self.domain, gfn, readonly))?;
        active.add(pins);
        let (start, length) = active.range;
        let (mfn, owner) = (active.mfn, self.domain);
        Ok(Acquired::Grant(CopyGrant { mfn, owner, start, length, reference, readonly, via: None }))
    }

    /// Pins a transitive entry whose target has been pinned, if it still refers to that.
    fn pin_transitive<M: Frames + ?Sized>(
        &self,
        frames: &M,
        reference: Reference,
        peer: DomId,
        readonly: bool,
        target: (DomId, Reference),
    ) -> Result<(), Status> {
        let inner = self.inner.read();
        let mut active = inner.active(reference)?;
        let entry = inner.entry(frames, reference)?;
        let pins = access(readonly).pins();
        active.check_room(peer, pins)?;
        let pinned = active.is_pinned();
        if inner.version != 2 || pinned && active.backing != Backing::Transitive {
            return Err(Status::Again);
        }
        let seen = entry.mark(Wanted { peer, readonly, mapping: false, pinned })?;
        if seen.kind() != TRANSITIVE || seen.target != target {
            active.clear_marks(entry, readonly);
            return Err(Status::Again);
        }
        if !pinned {
            *active =
                Active { pins: Pins::default(), mfn: Mfn::INVALID, peer, range: (0, 0), backing: Backing::Transitive };
        }
        active.add(pins);
        Ok(())
    }
}

/// What an entry turned out to be.
enum Acquired {
    Grant(CopyGrant),
    Passes(DomId, Reference),
}
