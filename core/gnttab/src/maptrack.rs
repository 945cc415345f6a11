//! The mapping side: a domain's handles of other domains' grants that it has mapped.

use crate::access::Access;
use crate::status::Status;
use crate::table::Reference;
use alloc::boxed::Box;
use alloc::vec::Vec;
use platform::sync::Mutex;
use types::DomId;

/// Handle of a mapping (`grant_handle_t`), as a guest gave it or as we gave it out.
pub type Handle = u32;

/// Handles of a maptrack frame, the unit in which their number is limited.
const PER_FRAME: u32 = 256;
/// End of the list of free handles.
const END: u32 = u32::MAX;

/// What a handle stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mapping {
    /// The domain whose grant it is.
    pub granter: DomId,
    /// Its entry.
    pub reference: Reference,
    /// What is mapped.
    pub access: Access,
    /// The place of the mapping was given as a page-table entry (`GNTMAP_contains_pte`), and so it is when it is unmapped.
    pub by_entry: bool,
}

/// What is being unmapped: nobody else can take it. Ends with [`MapTrack::finish`] or [`MapTrack::restore`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "the mapping is neither there nor gone"]
pub struct Claim {
    /// The handle.
    pub handle: Handle,
    /// Whose grant, and the part that was claimed: perhaps neither host nor device.
    pub mapping: Mapping,
}

#[derive(Clone, Copy, Debug)]
enum Slot {
    /// Next free handle.
    Free(u32),
    /// Given out, and not mapped yet.
    Reserved,
    Used {
        granter: DomId,
        reference: Reference,
        readonly: bool,
        by_entry: bool,
        /// Host and device parts that are mapped, and that are being unmapped.
        mapped: [bool; 2],
        claimed: [bool; 2],
    },
}

#[derive(Debug)]
struct Inner {
    chunks: Vec<Box<[Slot]>>,
    free: u32,
}

/// The handles of one domain.
#[derive(Debug)]
pub struct MapTrack {
    max_frames: u32,
    inner: Mutex<Inner>,
}

impl Inner {
    fn slot(&mut self, handle: Handle) -> Option<&mut Slot> {
        self.chunks.get_mut((handle / PER_FRAME) as usize)?.get_mut((handle % PER_FRAME) as usize)
    }

    fn mapping(&self, handle: Handle) -> Option<Mapping> {
        match self.chunks.get((handle / PER_FRAME) as usize)?.get((handle % PER_FRAME) as usize)? {
            Slot::Used { granter, reference, readonly, by_entry, mapped, .. } if *mapped != [false; 2] => {
                let access = Access { host: mapped[0], device: mapped[1], readonly: *readonly };
                Some(Mapping { granter: *granter, reference: *reference, access, by_entry: *by_entry })
            }
            _ => None,
        }
    }

    fn grow(&mut self, max_frames: u32) -> Result<(), Status> {
        let first = self.chunks.len() as u32 * PER_FRAME;
        if self.chunks.len() as u32 >= max_frames {
            return Err(Status::NoSpace);
        }
        let mut chunk = Vec::new();
        chunk.try_reserve_exact(PER_FRAME as usize).map_err(|_| Status::NoSpace)?;
        self.chunks.try_reserve(1).map_err(|_| Status::NoSpace)?;
        let next = |index: u32| {
            if index + 1 == PER_FRAME { self.free } else { first + index + 1 }
        };
        chunk.extend((0..PER_FRAME).map(|index| Slot::Free(next(index))));
        self.chunks.push(chunk.into_boxed_slice());
        self.free = first;
        Ok(())
    }

    fn put(&mut self, handle: Handle) {
        let free = self.free;
        if let Some(slot) = self.slot(handle) {
            *slot = Slot::Free(free);
            self.free = handle;
        }
    }
}

impl MapTrack {
    /// No handles yet; at most `max_frames * 256` (`max_maptrack_frames`).
    pub fn new(max_frames: u32) -> MapTrack {
        // Handles below `END` only.
        let max_frames = max_frames.min(END / PER_FRAME);
        MapTrack { max_frames, inner: Mutex::new(Inner { chunks: Vec::new(), free: END }) }
    }

    /// Takes a handle out for a mapping to be made; [`MapTrack::commit`] or [`MapTrack::cancel`] follows.
    ///
    /// # Errors
    /// `NoSpace`: the limit is reached, or no memory.
    pub fn reserve(&self) -> Result<Handle, Status> {
        let mut inner = self.inner.lock();
        if inner.free == END {
            inner.grow(self.max_frames)?;
        }
        let handle = inner.free;
        let slot = inner.slot(handle).ok_or(Status::NoSpace)?;
        let Slot::Free(next) = *slot else {
            return Err(Status::NoSpace);
        };
        *slot = Slot::Reserved;
        inner.free = next;
        Ok(handle)
    }

    /// Gives a reserved handle back.
    pub fn cancel(&self, handle: Handle) {
        let mut inner = self.inner.lock();
        if matches!(inner.slot(handle), Some(Slot::Reserved)) {
            inner.put(handle);
        }
    }

    /// Makes a reserved handle stand for a mapping.
    pub fn commit(&self, handle: Handle, mapping: Mapping) {
        let Mapping { granter, reference, access, by_entry } = mapping;
        let mut inner = self.inner.lock();
        if let Some(slot @ Slot::Reserved) = inner.slot(handle) {
            let mapped = [access.host, access.device];
            *slot = Slot::Used { granter, reference, readonly: access.readonly, by_entry, mapped, claimed: [false; 2] };
        }
    }

    /// What a handle stands for, without what is being unmapped.
    ///
    /// # Errors
    /// `BadHandle`: nothing.
    pub fn get(&self, handle: Handle) -> Result<Mapping, Status> {
        self.inner.lock().mapping(handle).ok_or(Status::BadHandle)
    }

    /// Claims the host part, the device part, or both, as far as they are mapped, so that exactly one caller unmaps each.
    ///
    /// # Errors
    /// `BadHandle`: nothing is mapped under that handle.
    pub fn claim(&self, handle: Handle, host: bool, device: bool) -> Result<Claim, Status> {
        match self.inner.lock().slot(handle) {
            Some(Slot::Used { granter, reference, readonly, by_entry, mapped, claimed }) if *mapped != [false; 2] => {
                let parts = [host && mapped[0], device && mapped[1]];
                for (index, part) in parts.into_iter().enumerate() {
                    mapped[index] &= !part;
                    claimed[index] |= part;
                }
                let access = Access { host: parts[0], device: parts[1], readonly: *readonly };
                Ok(Claim {
                    handle,
                    mapping: Mapping { granter: *granter, reference: *reference, access, by_entry: *by_entry },
                })
            }
            _ => Err(Status::BadHandle),
        }
    }

    /// What was claimed is unmapped; the handle is free once nothing is left of it.
    pub fn finish(&self, claim: Claim) {
        self.end(claim, false);
    }

    /// What was claimed could not be unmapped and stays.
    pub fn restore(&self, claim: Claim) {
        self.end(claim, true);
    }

    fn end(&self, claim: Claim, keep: bool) {
        let mut inner = self.inner.lock();
        let Some(Slot::Used { mapped, claimed, .. }) = inner.slot(claim.handle) else {
            return;
        };
        let access = claim.mapping.access;
        for (index, part) in [access.host, access.device].into_iter().enumerate() {
            if part && claimed[index] {
                claimed[index] = false;
                mapped[index] = keep;
            }
        }
        if *mapped == [false; 2] && *claimed == [false; 2] {
            inner.put(claim.handle);
        }
    }

    /// The first mapping with a handle of `from` or more: to visit them all when the domain dies, with pauses. For each:
    /// [`MapTrack::claim`], [`crate::GrantTable::unmap`], its references, [`MapTrack::finish`].
    pub fn next(&self, from: Handle) -> Option<(Handle, Mapping)> {
        let mut at = from;
        while at < self.max_frames * PER_FRAME {
            // A chunk at a time under the lock, so that others are not kept waiting.
            let inner = self.inner.lock();
            if (at / PER_FRAME) as usize >= inner.chunks.len() {
                return None;
            }
            let end = (at / PER_FRAME + 1) * PER_FRAME;
            let found = (at..end).find_map(|handle| Some((handle, inner.mapping(handle)?)));
            if found.is_some() {
                return found;
            }
            at = end;
        }
        None
    }

    /// All mappings.
    pub fn mappings(&self) -> impl Iterator<Item = (Handle, Mapping)> + '_ {
        let mut from = Some(0);
        core::iter::from_fn(move || {
            let found = self.next(from?);
            from = found.and_then(|(handle, _)| handle.checked_add(1));
            found
        })
    }
}
