//! Reasons for a vCPU not to run, counted.

/// Counts who wants a vCPU or a domain to stand still. It may run while the count is 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PauseCount(u32);

impl PauseCount {
    /// Nobody wants it to stand still.
    pub const fn new() -> Self {
        PauseCount(0)
    }

    /// One more. Returns true if it could run until now, so that it has to be put to sleep; `None` if the count is full.
    pub fn pause(&mut self) -> Option<bool> {
        let was = self.0;
        self.0 = was.checked_add(1)?;
        Some(was == 0)
    }

    /// One less. Returns true if that was the last one, so that it has to be woken; `None` if there was none.
    pub fn unpause(&mut self) -> Option<bool> {
        self.0 = self.0.checked_sub(1)?;
        Some(self.0 == 0)
    }

    /// Whether anybody wants it to stand still.
    pub const fn is_paused(&self) -> bool {
        self.0 != 0
    }

    /// How many do.
    pub const fn count(&self) -> u32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_and_the_last_matter() {
        let mut count = PauseCount::new();
        assert_eq!((count.pause(), count.pause(), count.is_paused()), (Some(true), Some(false), true));
        assert_eq!((count.unpause(), count.unpause(), count.is_paused()), (Some(false), Some(true), false));
        assert_eq!((count.unpause(), count.count()), (None, 0));
        let mut full = PauseCount(u32::MAX);
        assert_eq!((full.pause(), full.count()), (None, u32::MAX));
    }
}
