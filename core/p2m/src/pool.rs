//! Frames for tables.

use core::sync::atomic::Ordering;
use platform::{Frames, Preempt};
use types::{Errno, Mfn, Progress, Result};

/// Where a pool's frames come from: the frame allocator. They are nobody's (`Memory::allocate_anonymous`).
pub trait Supply {
    /// A frame that nobody else refers to; `None` if there is none.
    fn allocate_frame(&self) -> Option<Mfn>;
    /// Gives it back. Its contents may be a table's.
    fn free_frame(&self, mfn: Mfn);
}

/// The frames that a domain's tables may take (`XEN_DOMCTL_get_paging_mempool_size`). Free ones are linked through their
/// first words; nobody else can reach them.
#[derive(Debug, Default)]
pub struct Pool {
    /// First free frame.
    head: Option<Mfn>,
    free: u64,
    used: u64,
}

impl Pool {
    /// Frames in all.
    pub fn total(&self) -> u64 {
        self.free + self.used
    }

    /// Frames that are tables.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// Takes a frame out, zeroed. `ENOMEM`.
    pub fn take(&mut self, frames: &dyn Frames) -> Result<Mfn> {
        let mfn = self.pop(frames).ok_or(Errno::NOMEM)?;
        if !frames.zero(mfn) {
            return Err(Errno::NOMEM);
        }
        self.used += 1;
        Ok(mfn)
    }

    /// Puts back a frame that [`Pool::take`] gave.
    pub fn give(&mut self, frames: &dyn Frames, mfn: Mfn) {
        self.used -= 1;
        self.push(frames, mfn);
    }

    /// Makes it `pages` frames in all, or as many as are tables where these are more. `ENOMEM`: it has grown in part.
    /// `Again`: repeat.
    pub fn resize<H: Frames + Supply>(&mut self, host: &H, pages: u64, preempt: &dyn Preempt) -> Result<Progress<()>> {
        let goal = pages.saturating_sub(self.used);
        while self.free != goal {
            if self.free < goal {
                let mfn = host.allocate_frame().ok_or(Errno::NOMEM)?;
                if !self.push(host, mfn) {
                    return Err(Errno::NOMEM);
                }
            } else if let Some(mfn) = self.pop(host) {
                host.free_frame(mfn);
            }
            if preempt.should_yield() {
                return Ok(Progress::Again(0));
            }
        }
        Ok(Progress::Done(()))
    }

    /// False, and the frame is lost, if it is not lendable.
    fn push(&mut self, frames: &dyn Frames, mfn: Mfn) -> bool {
        let Some(table) = frames.table(mfn) else {
            log::error!("p2m: frame {mfn:#x} of a pool is not lendable; given up");
            return false;
        };
        table[0].store(self.head.map_or(0, |next| next.0 + 1), Ordering::Relaxed);
        self.head = Some(mfn);
        self.free += 1;
        true
    }

    fn pop(&mut self, frames: &dyn Frames) -> Option<Mfn> {
        let mfn = self.head?;
        let link = frames.table(mfn).map_or(0, |table| table[0].load(Ordering::Relaxed));
        self.head = link.checked_sub(1).map(Mfn);
        self.free = if self.head.is_some() { self.free - 1 } else { 0 };
        Some(mfn)
    }
}
