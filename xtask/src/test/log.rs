//! Watching what a machine writes to its serial line.

use anyhow::Result;
use std::fs;
use std::path::Path;
use std::process::Child;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// All that was written so far.
pub fn read(log: &Path) -> String {
    String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned()
}

/// Waits for a text behind the first `from` bytes; where it ends, `None` if it does not come while the machine runs and
/// the time lasts.
///
/// # Errors
/// Where the machine's process cannot be looked at.
pub fn appears(child: &mut Child, log: &Path, from: usize, text: &str, limit: Duration) -> Result<Option<usize>> {
    let start = Instant::now();
    loop {
        // Looked at before the log, so that the last words of a machine that has gone are not missed.
        let over = child.try_wait()?.is_some() || start.elapsed() > limit;
        let found = find(&read(log), from, text);
        if found.is_some() || over {
            return Ok(found);
        }
        sleep(Duration::from_millis(100));
    }
}

fn find(log: &str, from: usize, text: &str) -> Option<usize> {
    log.get(from..)?.find(text).map(|at| from + at + text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_is_found_behind_the_one_before() {
        let log = "one two one";
        assert_eq!(find(log, 0, "one"), Some(3));
        assert_eq!(find(log, 3, "one"), Some(11));
        assert_eq!(find(log, 11, "one"), None);
        assert_eq!(find(log, 99, "one"), None);
    }
}
