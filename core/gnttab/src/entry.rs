//! An entry of the shared table. The guest may change any of it at any time: whatever is decided is decided on one value
//! that was read once.
//!
//! Version 1 keeps the flags that we set in the same word as the guest's, so both are changed by compare-and-swap; version 2
//! keeps ours in a separate status word, and the guest's are looked at again after ours are set.

use crate::status::Status;
use core::sync::atomic::{AtomicU64, Ordering};
use types::{DomId, Gfn, Mfn};
use xen_abi::grant_table::{GTF_PAT, GTF_PCD, GTF_PWT};

pub(crate) use xen_abi::grant_table::{
    GTF_ACCEPT_TRANSFER as ACCEPT_TRANSFER, GTF_PERMIT_ACCESS as PERMIT_ACCESS, GTF_READING as READING,
    GTF_READONLY as READONLY, GTF_SUB_PAGE as SUB_PAGE, GTF_TRANSFER_COMMITTED as TRANSFER_COMMITTED,
    GTF_TRANSFER_COMPLETED as TRANSFER_COMPLETED, GTF_TRANSITIVE as TRANSITIVE, GTF_TYPE_MASK as TYPE_MASK,
    GTF_WRITING as WRITING,
};

/// Cache attributes of an entry.
pub(crate) const CACHE_MASK: u16 = GTF_PAT | GTF_PWT | GTF_PCD;

/// How often a change is tried on an entry that the guest keeps changing. A guest has no reason to touch an entry that is
/// in use, so a few rounds are generous.
const ROUNDS: usize = 5;

/// The words of an entry.
#[derive(Clone, Copy)]
pub(crate) enum Entry<'a> {
    /// flags 16, domain 16, frame 32.
    V1(&'a AtomicU64),
    /// flags 16, domain 16, and what the kind of entry needs; then the frame. `status` is the word with the 16 bits of
    /// status from bit `shift` on.
    V2 { head: &'a AtomicU64, frame: &'a AtomicU64, status: &'a AtomicU64, shift: u32 },
}

/// An entry as it was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Snapshot {
    pub(crate) flags: u16,
    pub(crate) domain: DomId,
    /// Whether only a part of the frame is granted.
    pub(crate) part: bool,
    /// First byte and number of bytes that may be used.
    pub(crate) range: (u16, u16),
    pub(crate) gfn: Gfn,
    /// Domain and reference that a transitive entry names.
    pub(crate) target: (DomId, u32),
}

/// What is wanted of an entry.
#[derive(Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) peer: DomId,
    pub(crate) readonly: bool,
    /// To be mapped, as opposed to copied.
    pub(crate) mapping: bool,
    /// The entry is in use already, so its kind and domain have been checked.
    pub(crate) pinned: bool,
}

impl Wanted {
    /// What is set where it is granted.
    fn marks(self) -> u16 {
        if self.readonly { READING } else { READING | WRITING }
    }
}

/// Marks an entry of version 1, whose word has flags of both sides.
#[inline]
fn mark_v1(word: &AtomicU64, wanted: Wanted, mut meanwhile: impl FnMut()) -> Result<Snapshot, Status> {
    let mut seen = word.load(Ordering::SeqCst);
    for _ in 0..ROUNDS {
        let entry = Snapshot::new(seen, 0, false);
        entry.check(wanted, false)?;
        let marked = seen | u64::from(wanted.marks());
        meanwhile();
        match word.compare_exchange(seen, marked, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => return Ok(entry),
            Err(found) => seen = found,
        }
    }
    Err(Status::GeneralError)
}

impl Snapshot {
    #[inline]
    fn new(head: u64, frame: u64, v2: bool) -> Snapshot {
        let flags = head as u16;
        let sub_page = v2 && flags & SUB_PAGE != 0 && flags & TYPE_MASK == PERMIT_ACCESS;
        Snapshot {
            flags,
            domain: DomId((head >> 16) as u16),
            part: sub_page,
            range: if sub_page { ((head >> 32) as u16, (head >> 48) as u16) } else { (0, 4096) },
            gfn: Gfn(if v2 { frame } else { head >> 32 }),
            target: (DomId((head >> 32) as u16), frame as u32),
        }
    }

    pub(crate) fn kind(&self) -> u16 {
        self.flags & TYPE_MASK
    }

    /// Whether the entry allows what is wanted.
    fn check(&self, wanted: Wanted, v2: bool) -> Result<(), Status> {
        let right_kind = match self.kind() {
            PERMIT_ACCESS => !(wanted.mapping && self.flags & SUB_PAGE != 0),
            TRANSITIVE => v2 && !wanted.mapping,
            _ => false,
        };
        let allowed = wanted.pinned || right_kind && self.domain == wanted.peer;
        if !allowed || !wanted.readonly && self.flags & READONLY != 0 {
            return Err(Status::GeneralError);
        }
        Ok(())
    }
}

impl Entry<'_> {
    pub(crate) fn read(self) -> Snapshot {
        match self {
            Entry::V1(word) => Snapshot::new(word.load(Ordering::SeqCst), 0, false),
            Entry::V2 { head, frame, .. } => {
                Snapshot::new(head.load(Ordering::SeqCst), frame.load(Ordering::SeqCst), true)
            }
        }
    }

    /// Checks that the entry allows what is wanted, and marks it as being read, or read and written, in one step as the
    /// guest sees it: once it is marked, the guest cannot take the grant back.
    ///
    /// # Errors
    /// `GeneralError`: it does not allow it, or the guest keeps changing it.
    #[inline]
    pub(crate) fn mark(self, wanted: Wanted) -> Result<Snapshot, Status> {
        self.mark_after(wanted, || {})
    }

    /// As [`Entry::mark`]; `meanwhile` runs between the first look and the mark, where a guest may do anything.
    #[inline]
    fn mark_after(self, wanted: Wanted, meanwhile: impl FnMut()) -> Result<Snapshot, Status> {
        match self {
            Entry::V1(word) => mark_v1(word, wanted, meanwhile),
            Entry::V2 { status, shift, .. } => self.mark_v2((status, shift), wanted, meanwhile),
        }
    }

    /// The same of an entry of version 2, whose status is apart.
    #[inline(never)]
    fn mark_v2(
        self,
        (status, shift): (&AtomicU64, u32),
        wanted: Wanted,
        mut meanwhile: impl FnMut(),
    ) -> Result<Snapshot, Status> {
        self.read().check(wanted, true)?;
        meanwhile();
        let marks = wanted.marks();
        let before = (status.fetch_or(u64::from(marks) << shift, Ordering::SeqCst) >> shift) as u16;
        // The guest may have taken the grant back before it could see the mark.
        let entry = self.read();
        entry.check(wanted, true).inspect_err(|_| self.clear(marks & !before))?;
        Ok(entry)
    }

    /// Clears marks.
    pub(crate) fn clear(self, marks: u16) {
        match self {
            Entry::V1(word) => word.fetch_and(!u64::from(marks), Ordering::SeqCst),
            Entry::V2 { status, shift, .. } => status.fetch_and(!(u64::from(marks) << shift), Ordering::SeqCst),
        };
    }

    /// Commits to a transfer from `peer`: the guest must leave the entry alone until it is completed.
    ///
    /// # Errors
    /// `GeneralError`: the entry does not accept it.
    pub(crate) fn commit_transfer(self, peer: DomId) -> Result<(), Status> {
        let (Entry::V1(head) | Entry::V2 { head, .. }) = self;
        let mut seen = head.load(Ordering::SeqCst);
        for _ in 0..ROUNDS {
            if seen as u32 != u32::from(ACCEPT_TRANSFER) | u32::from(peer.0) << 16 {
                return Err(Status::GeneralError);
            }
            let committed = seen | u64::from(TRANSFER_COMMITTED);
            match head.compare_exchange(seen, committed, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return Ok(()),
                Err(found) => seen = found,
            }
        }
        Err(Status::GeneralError)
    }

    /// Writes the transferred frame's number (its low 32 bits in version 1), then says so.
    pub(crate) fn complete_transfer(self, mfn: Mfn) {
        match self {
            Entry::V1(word) => {
                // Two locked operations on the half that holds the frame, so that flags that the guest sets survive.
                word.fetch_and(0xffff_ffff, Ordering::SeqCst);
                word.fetch_or(mfn.0 << 32, Ordering::SeqCst);
                word.fetch_or(u64::from(TRANSFER_COMPLETED), Ordering::SeqCst);
            }
            Entry::V2 { head, frame, .. } => {
                frame.store(mfn.0, Ordering::SeqCst);
                head.fetch_or(u64::from(TRANSFER_COMPLETED), Ordering::SeqCst);
            }
        }
    }

    /// Exchanges the contents of two entries that are not in use.
    pub(crate) fn swap(self, other: Entry<'_>) {
        let swap = |a: &AtomicU64, b: &AtomicU64| {
            let was = a.swap(b.load(Ordering::SeqCst), Ordering::SeqCst);
            b.store(was, Ordering::SeqCst);
        };
        match (self, other) {
            (Entry::V1(a), Entry::V1(b)) => swap(a, b),
            (Entry::V2 { head: a, frame: x, .. }, Entry::V2 { head: b, frame: y, .. }) => {
                swap(a, b);
                swap(x, y);
            }
            // Entries of one table have one version.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: Wanted = Wanted { peer: DomId(7), readonly: false, mapping: true, pinned: false };
    const GRANT: u64 = PERMIT_ACCESS as u64 | 7 << 16;

    #[test]
    fn a_grant_taken_back_before_the_mark_is_refused() {
        let words = [const { AtomicU64::new(0) }; 3];
        let (v1, v2) =
            (Entry::V1(&words[0]), Entry::V2 { head: &words[0], frame: &words[1], status: &words[2], shift: 16 });
        for (entry, taken_back) in [(v1, 0), (v2, 0), (v1, GRANT | u64::from(READONLY)), (v2, GRANT + (1 << 16))] {
            words[0].store(GRANT, Ordering::SeqCst);
            let result = entry.mark_after(WANTED, || words[0].store(taken_back, Ordering::SeqCst));
            assert_eq!(result, Err(Status::GeneralError));
            assert_eq!(words[0].load(Ordering::SeqCst), taken_back);
            assert_eq!(words[2].load(Ordering::SeqCst), 0, "no mark is left");
        }
    }

    #[test]
    fn a_failed_mark_leaves_the_marks_of_others() {
        let words = [const { AtomicU64::new(0) }; 3];
        let entry = Entry::V2 { head: &words[0], frame: &words[1], status: &words[2], shift: 16 };
        words[0].store(GRANT, Ordering::SeqCst);
        entry.mark(Wanted { readonly: true, ..WANTED }).unwrap();
        let pinned = Wanted { pinned: true, ..WANTED };
        let readonly = || words[0].store(GRANT | u64::from(READONLY), Ordering::SeqCst);
        assert_eq!(entry.mark_after(pinned, readonly), Err(Status::GeneralError));
        assert_eq!(words[2].load(Ordering::SeqCst), u64::from(READING) << 16);
    }

    #[test]
    fn an_entry_that_keeps_changing_is_given_up() {
        let word = AtomicU64::new(GRANT);
        let mut rounds = 0;
        let result = Entry::V1(&word).mark_after(WANTED, || {
            rounds += 1;
            word.fetch_add(1 << 32, Ordering::SeqCst);
        });
        assert_eq!((result, rounds), (Err(Status::GeneralError), ROUNDS));
    }
}
