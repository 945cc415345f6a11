//! Runs a fuzzer: cases from seeds, for a time. The fuzzers themselves are in `tests/devices`, all in one program, so that they
//! run beside each other.
//!
//! `XENOLITH_FUZZ_SECONDS` sets how long each runs: a fraction of a second by default, over the same cases each time. With it, cases
//! are others each time. `XENOLITH_FUZZ_SEED` runs the one case that a failure named.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod random;

pub use random::Random;

use std::io::Write;
use std::panic::{RefUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long a fuzzer runs when nobody says.
const SHORT: Duration = Duration::from_millis(300);
/// Cases that are made in any event.
const LEAST: u64 = 10;
/// A case takes milliseconds; one that takes this long does not end.
const TOO_LONG: Duration = Duration::from_secs(120);

/// Runs cases while there is time. Each gives how often it got to what the fuzzer is about (an interrupt taken, a translation found):
/// fewer than one a case, and the fuzzer tests nothing.
///
/// # Panics
/// Where a case does, naming its seed; where the cases got nowhere; where a variable is no number.
pub fn run(case: impl Fn(&mut Random) -> u64 + RefUnwindSafe) {
    if let Some(seed) = variable("XENOLITH_FUZZ_SEED") {
        case(&mut Random::new(seed));
        return;
    }
    match variable("XENOLITH_FUZZ_SECONDS") {
        None => run_from(0, SHORT, case),
        Some(seconds) => run_from(clock(), Duration::from_secs(seconds), case),
    }
}

fn run_from(first: u64, time: Duration, case: impl Fn(&mut Random) -> u64 + RefUnwindSafe) {
    let end = Instant::now() + time;
    let thread = std::thread::current();
    let name = thread.name().unwrap_or_default();
    let (begins, receiver) = channel();
    let (mut cases, mut reached) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(move || watch(name, &receiver));
        // Dropped when this is over, which ends the watch.
        let begins = begins;
        while cases < LEAST || Instant::now() < end {
            let seed = first + cases;
            begins.send(seed).expect("the watch waits");
            match catch_unwind(|| case(&mut Random::new(seed))) {
                Ok(times) => reached += times,
                Err(_) => panic!("XENOLITH_FUZZ_SEED={seed} cargo test -p fuzz {name}"),
            }
            cases += 1;
        }
    });
    assert!(reached >= cases, "{cases} cases got there only {reached} times");
}

/// Ends the program, naming the case, if one does not end.
fn watch(name: &str, begins: &Receiver<u64>) {
    let mut seed = 0;
    loop {
        match begins.recv_timeout(TOO_LONG) {
            Ok(next) => seed = next,
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                // Not by a macro, whose output tests keep back.
                let text = format!("no end: XENOLITH_FUZZ_SEED={seed} cargo test -p fuzz {name}\n");
                let _ = std::io::stderr().write_all(text.as_bytes());
                std::process::abort();
            }
        }
    }
}

/// A first seed that no run before had.
fn clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64 * 1000)
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(case: impl Fn(&mut Random) -> u64 + RefUnwindSafe) -> String {
        let panic = catch_unwind(|| run_from(0, Duration::ZERO, &case)).expect_err("it failed");
        *panic.downcast::<String>().expect("a message")
    }

    #[test]
    fn failure_names_its_seed() {
        let seventh = Random::new(7).next();
        let text = failure(|random| if random.next() == seventh { panic!("planted") } else { 1 });
        assert!(text.starts_with("XENOLITH_FUZZ_SEED=7 "), "{text}");
    }

    #[test]
    fn fuzzer_that_gets_nowhere_fails() {
        assert_eq!(failure(|_| 0), "10 cases got there only 0 times");
        run_from(0, Duration::ZERO, |_| 1);
    }
}
