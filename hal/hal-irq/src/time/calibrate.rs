//! Measuring the TSC and the local timer against a reference.

use super::clock::tsc;
use super::reference::Reference;
use super::scale::{SECOND, mul_div};
use crate::lapic;

/// How long is measured, in nanoseconds: an error of a microsecond at either end is then 80 ppm at most.
const WINDOW: u64 = 25_000_000;
/// How often a moment is taken, of which the best counts: an emulator or a SMI may cut into any of them.
const TRIES: usize = 24;
/// Reads after which a reference counts as dead.
const PATIENCE: u64 = 50_000_000;

/// Frequencies, in Hz.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frequencies {
    /// TSC.
    pub tsc: u64,
    /// Local timer at divider 1; 0 if it uses the TSC.
    pub timer: u64,
}

/// A counter's value, and the TSC at that moment.
fn moment(read: impl Fn() -> u64) -> (u64, u64) {
    let mut best = (u64::MAX, 0, 0);
    for _ in 0..TRIES {
        let before = tsc();
        let value = read();
        let width = tsc().wrapping_sub(before);
        if width < best.0 {
            best = (width, before.wrapping_add(width / 2), value);
        }
    }
    (best.1, best.2)
}

/// Measures for [`WINDOW`]; `None` if the reference stands still.
pub(super) fn measure(reference: &Reference) -> Option<Frequencies> {
    let mask = u64::MAX >> (64 - reference.bits());
    let wanted = mul_div(WINDOW, reference.hz(), SECOND);
    let with_timer = !lapic::has_deadline_timer();
    if with_timer {
        lapic::set_timer_count(u32::MAX);
    }
    let (start_tsc, start) = moment(|| reference.read());
    let timer_start = moment(|| lapic::timer_count().into());
    let mut reads = 0;
    while reference.read().wrapping_sub(start) & mask < wanted {
        reads += 1;
        if reads > PATIENCE {
            return None;
        }
    }
    let (end_tsc, end) = moment(|| reference.read());
    let timer_end = moment(|| lapic::timer_count().into());
    if with_timer {
        lapic::set_timer_count(0);
    }
    let tsc_hz = mul_div(end_tsc.wrapping_sub(start_tsc), reference.hz(), end.wrapping_sub(start) & mask);
    // The timer counts down.
    let timer_ticks = timer_start.1.saturating_sub(timer_end.1);
    let timer = mul_div(timer_ticks, tsc_hz, timer_end.0.wrapping_sub(timer_start.0));
    Some(Frequencies { tsc: tsc_hz, timer: if with_timer { timer } else { 0 } })
}
