//! System time: nanoseconds since [`init`], out of the TSC.

use super::calibrate;
use super::reference::Reference;
use super::scale::Scale;
use crate::{MAX_CPUS, lapic};
use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use spin::Once;
use types::{CpuId, Errno, Result};

struct Machine {
    tsc_hz: u64,
    scale: Scale,
    /// Whether the TSC's rate never changes.
    invariant: bool,
    /// TSC of the boot CPU at system time 0.
    base: u64,
    /// Local timer; `None` if it takes a TSC value.
    timer: Option<Scale>,
}

static MACHINE: Once<Machine> = Once::new();
/// Whether TSCs differ between CPUs; then [`OFFSETS`] count.
static SKEWED: AtomicBool = AtomicBool::new(false);
/// Each CPU's TSC less the boot CPU's, in ticks.
static OFFSETS: [AtomicI64; MAX_CPUS] = [const { AtomicI64::new(0) }; MAX_CPUS];
/// The latest time that was given out while skewed.
static LATEST: AtomicU64 = AtomicU64::new(0);

/// How a CPU's TSC turns into system time, as `vcpu_time_info` (public/xen.h) wants it. It holds from boot on: guests that
/// compute with it get the hypervisor's own time to the nanosecond.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimeRecord {
    /// TSC value to count from.
    pub tsc_timestamp: u64,
    /// System time at that value, in nanoseconds.
    pub system_time: u64,
    /// Multiplier, a fraction of 2^32.
    pub tsc_to_system_mul: u32,
    /// Shift before multiplication.
    pub tsc_shift: i8,
}

/// This CPU's TSC, not read ahead of what comes before.
#[inline]
pub fn tsc() -> u64 {
    // SAFETY: waits for earlier instructions, nothing else.
    unsafe { asm!("lfence", options(nostack, preserves_flags)) };
    hal::cpu::rdtsc()
}

/// Measures the TSC and, where it counts by itself, the local timer, and starts system time at 0. Once, on the boot CPU, after
/// `lapic::init_bsp`; takes 25 ms. Returns the frequency of the TSC and of the timer (0 if it takes TSC values), in Hz.
///
/// # Errors
/// `EIO` if the reference stands still, `EBUSY` the second time.
pub fn init(reference: Reference) -> Result<(u64, u64)> {
    if MACHINE.get().is_some() {
        return Err(Errno::BUSY);
    }
    let measured = calibrate::measure(&reference).filter(|found| found.tsc != 0).ok_or(Errno::IO)?;
    MACHINE.call_once(|| Machine {
        tsc_hz: measured.tsc,
        scale: Scale::from_hz(measured.tsc),
        invariant: has_invariant_tsc(),
        base: tsc(),
        timer: (!lapic::has_deadline_timer()).then(|| Scale::from_hz(measured.timer)),
    });
    Ok((measured.tsc, measured.timer))
}

fn has_invariant_tsc() -> bool {
    const INVARIANT: u32 = 1 << 8;
    hal_cpu::cpuid(0x8000_0000, 0).eax >= 0x8000_0007 && hal_cpu::cpuid(0x8000_0007, 0).edx & INVARIANT != 0
}

fn this_offset() -> i64 {
    hal_cpu::try_cpu_id().map_or(0, |cpu| OFFSETS[cpu.index()].load(Ordering::Relaxed))
}

/// Nanoseconds since [`init`]; 0 before.
#[inline]
pub fn system_time() -> u64 {
    system_time_at(tsc())
}

/// System time when this CPU's TSC read `tsc`.
#[inline]
pub fn system_time_at(tsc: u64) -> u64 {
    let Some(machine) = MACHINE.get() else { return 0 };
    if SKEWED.load(Ordering::Relaxed) {
        let ticks = tsc.wrapping_sub(machine.base.wrapping_add_signed(this_offset()));
        let now = machine.scale.nanoseconds((ticks as i64).max(0) as u64);
        return LATEST.fetch_max(now, Ordering::Relaxed).max(now);
    }
    machine.scale.nanoseconds((tsc.wrapping_sub(machine.base) as i64).max(0) as u64)
}

/// This CPU's TSC when system time is `time`; saturates.
pub fn tsc_at(time: u64) -> u64 {
    MACHINE.get().map_or(u64::MAX, |machine| {
        let base = machine.base.wrapping_add_signed(if skewed() { this_offset() } else { 0 });
        base.saturating_add(machine.scale.ticks(time))
    })
}

/// The TSC's frequency, in Hz; 0 before [`init`].
pub fn tsc_hz() -> u64 {
    MACHINE.get().map_or(0, |machine| machine.tsc_hz)
}

/// How TSC ticks become nanoseconds.
pub fn scale() -> Scale {
    MACHINE.get().map_or(Scale { mul: 0, shift: 0 }, |machine| machine.scale)
}

/// What a guest on `cpu` computes system time from.
pub fn time_record(cpu: CpuId) -> TimeRecord {
    let scale = scale();
    let base = MACHINE.get().map_or(0, |machine| machine.base);
    let offset = OFFSETS.get(cpu.index()).filter(|_| skewed()).map_or(0, |offset| offset.load(Ordering::Relaxed));
    TimeRecord {
        tsc_timestamp: base.wrapping_add_signed(offset),
        system_time: 0,
        tsc_to_system_mul: scale.mul,
        tsc_shift: scale.shift,
    }
}

/// Whether TSCs differ between CPUs, so that a guest's record depends on the CPU.
pub fn skewed() -> bool {
    SKEWED.load(Ordering::Relaxed)
}

/// Whether a guest can take the TSC for system time on all CPUs alike: they agree, and it never stops or changes its rate
/// (APM vol. 3, CPUID 0x80000007).
pub fn is_stable() -> bool {
    MACHINE.get().is_some_and(|machine| machine.invariant) && !skewed()
}

/// Notes that the TSC of `cpu` is that far from the boot CPU's. Before that CPU runs anything else.
pub fn set_offset(cpu: CpuId, ticks: i64) {
    if let Some(offset) = OFFSETS.get(cpu.index()).filter(|_| ticks != 0) {
        offset.store(ticks, Ordering::Relaxed);
        SKEWED.store(true, Ordering::Relaxed);
    }
}

/// Lets this CPU's timer interrupt (`Irq::Timer`) when system time reaches `deadline`, at once if that is past; `None` stops
/// it. It may come early where the deadline is beyond the timer's reach (seconds): look at the time and set it again.
pub fn set_deadline(deadline: Option<u64>) {
    let Some(machine) = MACHINE.get() else { return };
    match (&machine.timer, deadline) {
        (None, None) => lapic::set_deadline_tsc(0),
        // 0 would stop the timer; any past value fires at once.
        (None, Some(time)) => lapic::set_deadline_tsc(tsc_at(time).max(1)),
        (Some(_), None) => lapic::set_timer_count(0),
        (Some(scale), Some(time)) => {
            let ticks = scale.ticks(time.saturating_sub(system_time()));
            lapic::set_timer_count(u32::try_from(ticks).unwrap_or(u32::MAX).max(1));
        }
    }
}

/// Waits for so many nanoseconds; before [`init`] for as many TSC ticks times four.
pub fn delay(nanoseconds: u64) {
    let ticks = if MACHINE.get().is_some() { scale().ticks(nanoseconds) } else { nanoseconds.saturating_mul(4) };
    let start = tsc();
    while tsc().wrapping_sub(start) < ticks {
        core::hint::spin_loop();
    }
}
