//! Outcome of preemptible work.

/// What a piece of preemptible work came to: finished, or cut off at a point from which it can go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "unfinished work has to be continued"]
pub enum Progress<T, C = usize> {
    /// Finished, with its result.
    Done(T),
    /// Cut off so that something else can run; call again with this cursor.
    Again(C),
}

impl<T, C> Progress<T, C> {
    /// Maps the result of finished work.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Progress<U, C> {
        match self {
            Progress::Done(value) => Progress::Done(f(value)),
            Progress::Again(cursor) => Progress::Again(cursor),
        }
    }
}
