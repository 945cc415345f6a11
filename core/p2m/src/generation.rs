//! Tells readers that take no lock whether a table that they read may have become something else.
//!
//! The writer takes a table out of the tree, raises the generation, and only then lets the table's words change. A reader
//! notes the generation, reads, and asks whether it is still the same. A reader that came late cannot find the table; one
//! that came early and read a changed word finds the generation raised.

use super::atomics::{AtomicU64, Ordering, fence};

/// A count of the tables taken out of a tree.
pub(crate) struct Generation(AtomicU64);

/// A generation that a reader has noted.
#[derive(Clone, Copy)]
pub(crate) struct Noted(u64);

impl Generation {
    pub fn new() -> Generation {
        Generation(AtomicU64::new(0))
    }

    /// To be called before reading the root.
    pub fn note(&self) -> Noted {
        Noted(self.0.load(Ordering::Acquire))
    }

    /// Whether what was read since is what the tree said.
    pub fn is_same(&self, noted: Noted) -> bool {
        fence(Ordering::Acquire);
        self.0.load(Ordering::Relaxed) == noted.0
    }

    /// To be called after a table was taken out, by the one who holds the lock, and before its words change.
    pub fn raise(&self) {
        self.0.fetch_add(1, Ordering::Release);
        fence(Ordering::Release);
    }
}
