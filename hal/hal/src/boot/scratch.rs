//! Memory for the time of boot only.

use super::{Module, SHARES, Stage};
use crate::paging::direct;
use alloc::string::String;
use types::{Mfn, PAGE_SIZE};

/// Contiguous memory that is given up again, as a module's is.
#[derive(Debug)]
pub struct Scratch(Module);

/// Takes `length` bytes, whose contents are of no meaning; `None` if there is no such piece, or after [`super::finish`].
pub fn scratch(length: usize) -> Option<Scratch> {
    let mut shares = SHARES.lock();
    if shares.stage == Stage::Finished {
        return None;
    }
    let taken = shares.free.take(length as u64, PAGE_SIZE as u64, u64::MAX)?;
    shares.held.add(taken);
    let range = super::ranges::Range { start: taken.start, end: taken.start + length as u64 };
    Some(Scratch(Module { range, frames: taken, command_line: String::new() }))
}

impl Scratch {
    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }

    /// Its bytes, to be written.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let range = self.0.range;
        // SAFETY: the range is RAM in the direct map, held for this value alone, hence for this borrow.
        unsafe { core::slice::from_raw_parts_mut(direct(range.start), (range.end - range.start) as usize) }
    }

    /// Gives it up; as [`Module::release`].
    pub fn release(self) -> Option<(Mfn, Mfn)> {
        self.0.release()
    }
}
