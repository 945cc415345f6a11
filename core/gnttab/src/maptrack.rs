//! The mapping side: a domain's handles of other domains' grants that it has mapped.

use crate::access::Access;
use crate::status::Status;
use crate::table::Reference;
use alloc::boxed::Box;
use alloc::vec::Vec;
use platform::sync::Mutex;
use types::{DomId, Mfn};

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
    /// The frame behind the entry, which is pinned while it is mapped.
    pub mfn: Mfn,
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
    /// What is mapped, and whether the host and the device part are being unmapped.
    Used { mapping: Mapping, claimed: [bool; 2] },
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
            Slot::Used { mapping, .. } if mapping.access.is_any() => Some(*mapping),
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
        let mut inner = self.inner.lock();
        if let Some(slot @ Slot::Reserved) = inner.slot(handle) {
            *slot = Slot::Used { mapping, claimed: [false; 2] };
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
            Some(Slot::Used { mapping, claimed }) if mapping.access.is_any() => {
                let left = &mut mapping.access;
                let access = Access { host: host && left.host, device: device && left.device, ..*left };
                left.host &= !access.host;
                left.device &= !access.device;
                claimed[0] |= access.host;
                claimed[1] |= access.device;
                Ok(Claim { handle, mapping: Mapping { access, ..*mapping } })
            }
            _ => Err(Status::BadHandle),
        }
    }

    /// What was claimed is unmapped; the handle is free once nothing is left of it.
    pub fn finish(&self, claim: &Claim) {
        self.end(claim, false);
    }

    /// What was claimed could not be unmapped and stays.
    pub fn restore(&self, claim: &Claim) {
        self.end(claim, true);
    }

    fn end(&self, claim: &Claim, keep: bool) {
        let mut inner = self.inner.lock();
        let Some(Slot::Used { mapping, claimed }) = inner.slot(claim.handle) else {
            return;
        };
        let access = claim.mapping.access;
        if access.host && claimed[0] {
            claimed[0] = false;
            mapping.access.host = keep;
        }
        if access.device && claimed[1] {
            claimed[1] = false;
            mapping.access.device = keep;
        }
        if !mapping.access.is_any() && *claimed == [false; 2] {
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
