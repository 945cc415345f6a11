//! Video memory of a translated domain: which frames of it were written, for whoever draws its screen.
//!
//! A tracked frame is of type [`Type::RamLogdirty`], which cannot be written; the first write makes it plain RAM
//! ([`Domain::note_write`]), and that is what is asked for.

use crate::{Arch, Domain, Hypervisor};
use p2m::Type;
use types::{Errno, Gfn, Progress, Result};

/// Frames whose bits are told at once.
const CHUNK: u32 = 512;

impl<A: Arch> Hypervisor<A> {
    /// Which of `count` frames from `first` on were written since this was last asked of the same range; all, when it is asked for
    /// the first time. `tell` gets bits of frames, and the number of the first of them in the range. With a count of 0 nothing
    /// is tracked any more.
    ///
    /// # Errors
    /// `EINVAL` for a domain that is not translated, `ENOMEM`; those of `tell`.
    pub fn written_vram(
        &self,
        domain: &Domain<A>,
        first: Gfn,
        count: u32,
        mut tell: impl FnMut(u32, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let translated = domain.translated.as_ref().ok_or(Errno::INVAL)?;
        let wanted = first.0..first.0.checked_add(count.into()).ok_or(Errno::INVAL)?;
        let mut tracked = translated.vram.lock();
        let is_new = *tracked != wanted;
        if is_new {
            self.forget_tracking(domain, &tracked)?;
            *tracked = wanted.clone();
        }
        for done in (0..count).step_by(CHUNK as usize) {
            let mut bits = [0; CHUNK as usize / 8];
            let chunk = CHUNK.min(count - done);
            for index in 0..chunk {
                let gfn = Gfn(first.0 + u64::from(done + index));
                let written = translated.p2m.change_type(gfn, Type::RamRw, Type::RamLogdirty).is_ok();
                bits[index as usize / 8] |= u8::from(is_new || written) << (index % 8);
            }
            tell(done, &bits[..chunk.div_ceil(8) as usize])?;
        }
        let _rest = translated.p2m.flush(self.machine());
        Ok(())
    }

    fn forget_tracking(&self, domain: &Domain<A>, range: &core::ops::Range<u64>) -> Result<()> {
        let p2m = domain.p2m().ok_or(Errno::INVAL)?;
        let (mut first, end) = (Gfn(range.start), Gfn(range.end));
        while let Progress::Again(next) =
            p2m.change_type_range(first, end, Type::RamLogdirty, Type::RamRw, self.machine())?
        {
            first = next;
        }
        Ok(())
    }
}

impl<A: Arch> Domain<A> {
    /// A frame whose writes are tracked is about to be written.
    pub fn note_write(&self, gfn: Gfn) {
        if let Some(p2m) = self.p2m() {
            // Another CPU may have done so.
            let _more_rights = p2m.change_type(gfn, Type::RamLogdirty, Type::RamRw);
        }
    }
}
