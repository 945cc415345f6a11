//! The measurement of one operation.

use core::arch::asm;
use core::hint::black_box;
use guest_kernel::say;

/// Operations in a run.
const CALLS: u64 = 2000;
/// Runs, of which the cheapest counts: in the others dom0 or a tick came in between.
const RUNS: usize = 5;
/// Room for results.
const RESULTS: usize = 64;

/// How long a single operation goes on, in ticks.
const LONG: u64 = 400_000_000;

/// What was measured so far.
pub struct Meter<'a> {
    /// What an empty round of the loop costs, in ticks a run.
    empty: u64,
    results: [(&'static str, u64); RESULTS],
    count: usize,
    /// The only operation wanted, which goes on for long; empty: all are measured.
    only: &'a str,
}

impl<'a> Meter<'a> {
    /// A meter without results, that knows what its own loop costs.
    pub fn new(only: &'a str) -> Self {
        let mut meter = Self { empty: 0, results: [("", 0); RESULTS], count: 0, only };
        meter.empty = run(CALLS, &mut || {});
        meter
    }

    /// Whether an operation is carried out at all.
    pub fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only == name
    }

    /// Measures what `act` costs.
    pub fn measure(&mut self, name: &'static str, act: impl FnMut()) {
        self.measure_few(name, CALLS, act);
    }

    /// Measures an operation that takes long, by fewer calls.
    pub fn measure_few(&mut self, name: &'static str, calls: u64, mut act: impl FnMut()) {
        let empty = self.empty;
        self.measure_long(name, calls, move |calls| run(calls, &mut act).saturating_sub(calls * empty / CALLS));
    }

    /// Measures what `ticks` says that so many operations took.
    pub fn measure_long(&mut self, name: &'static str, calls: u64, mut ticks: impl FnMut(u64) -> u64) {
        if !self.wants(name) {
            return;
        }
        if !self.only.is_empty() {
            return self.go_on(calls, ticks);
        }
        let least = [(); RUNS].map(|()| ticks(calls)).into_iter().min().unwrap_or(0);
        assert!(self.count < RESULTS, "no room for {name}");
        self.results[self.count] = (name, least / calls);
        self.count += 1;
    }

    /// Has the operation carried out for long, to see where its time goes.
    fn go_on(&self, calls: u64, mut ticks: impl FnMut(u64) -> u64) {
        say!("begins");
        crate::let_dom0_finish();
        let start = counter();
        while counter() - start < LONG {
            ticks(calls);
        }
        say!("ends");
    }

    /// Prints all of it: at the end, so that what dom0 does with it is not measured.
    pub fn report(&self) {
        for (name, cost) in &self.results[..self.count] {
            say!("cost {name} {cost}");
        }
    }
}

/// The time-stamp counter.
pub fn counter() -> u64 {
    let (low, high): (u64, u64);
    // SAFETY: reads the time-stamp counter.
    unsafe { asm!("rdtsc", out("rax") low, out("rdx") high) };
    high << 32 | low
}

/// Ticks that so many calls take.
fn run(calls: u64, act: &mut impl FnMut()) -> u64 {
    let start = counter();
    for call in 0..calls {
        black_box(call);
        act();
    }
    counter() - start
}
