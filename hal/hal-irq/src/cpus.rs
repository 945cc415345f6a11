//! Which CPUs run, and their APIC ids.

use crate::MAX_CPUS;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use types::{CpuId, CpuMask};

static APIC_IDS: [AtomicU32; MAX_CPUS] = [const { AtomicU32::new(u32::MAX) }; MAX_CPUS];
static ONLINE: [AtomicBool; MAX_CPUS] = [const { AtomicBool::new(false) }; MAX_CPUS];
/// One more than the highest number that was ever online.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// Notes a CPU's APIC id.
pub(crate) fn set_apic_id(cpu: CpuId, apic_id: u32) {
    if let Some(slot) = APIC_IDS.get(cpu.index()) {
        slot.store(apic_id, Ordering::Release);
    }
}

/// From now on the CPU is asked to flush and can be kicked.
pub(crate) fn set_online(cpu: CpuId) {
    if let Some(slot) = ONLINE.get(cpu.index()) {
        slot.store(true, Ordering::SeqCst);
        COUNT.fetch_max(cpu.0 + 1, Ordering::SeqCst);
    }
}

/// The CPU's APIC id; `None` for a CPU that was never started.
pub fn apic_id(cpu: CpuId) -> Option<u32> {
    APIC_IDS.get(cpu.index()).map(|slot| slot.load(Ordering::Acquire)).filter(|id| *id != u32::MAX)
}

/// Whether the CPU runs.
pub fn is_online(cpu: CpuId) -> bool {
    ONLINE.get(cpu.index()).is_some_and(|online| online.load(Ordering::Acquire))
}

/// How many CPUs run; their numbers are 0 to this less one.
pub fn count() -> usize {
    COUNT.load(Ordering::Acquire) as usize
}

/// All CPUs that run.
pub fn online() -> CpuMask {
    (0..count()).map(|cpu| CpuId(cpu as u32)).filter(|cpu| is_online(*cpu)).collect()
}
