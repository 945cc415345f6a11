//! This CPU's local APIC, by memory or by MSRs (SDM vol. 3, 11). Soundness: docs/soundness/hal-irq.md.

use crate::registers::Registers;
use crate::vectors;
use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use hal::cpu;
use hal::io::{IoRegion, map_io};
use spin::Once;
use types::Result;
use x86_defs::apic::*;

const NONE: u8 = 0;
const XAPIC: u8 = 1;
const X2APIC: u8 = 2;

static MODE: AtomicU8 = AtomicU8::new(NONE);
static REGION: Once<IoRegion> = Once::new();
/// Whether the timer takes a TSC value.
static DEADLINE: AtomicU8 = AtomicU8::new(0);
static SPURIOUS: AtomicU32 = AtomicU32::new(0);

fn read_msr(msr: u32) -> u64 {
    // SAFETY: called for APIC registers only, in the mode that has them; reading one has no effect on memory.
    unsafe { cpu::read_msr(msr) }
}

/// # Safety
/// The register exists in the APIC's present mode, and the value causes nothing but interrupts at vectors that the IDT has.
unsafe fn write_msr(msr: u32, value: u64) {
    // SAFETY: the caller's promise.
    unsafe { cpu::write_msr(msr, value) };
}

fn read(register: LapicRegister) -> u32 {
    match (MODE.load(Ordering::Relaxed), REGION.get()) {
        (X2APIC, _) => read_msr(register.msr()) as u32,
        (_, Some(region)) => region.read32(register.0 as usize),
        _ => 0,
    }
}

fn write(register: LapicRegister, value: u32) {
    match (MODE.load(Ordering::Relaxed), REGION.get()) {
        // SAFETY: this module writes registers that exist in x2APIC mode, with vectors of `vectors`.
        (X2APIC, _) => unsafe { write_msr(register.msr(), value.into()) },
        (_, Some(region)) => region.write32(register.0 as usize, value),
        _ => (),
    }
}

/// Chooses the mode (x2APIC if firmware left it on or the CPU has it and `prefer_x2apic`), maps the registers in the other
/// case, and sets this CPU's APIC up. Once, on the boot CPU, before other CPUs run. `address` is the MADT's.
///
/// # Errors
/// Those of `map_io`.
pub fn init_bsp(address: u64, prefer_x2apic: bool) -> Result<()> {
    let features = cpu::cpuid(1, 0).ecx;
    let left_on = read_msr(MSR_APIC_BASE) & APIC_BASE_X2APIC != 0;
    DEADLINE.store((features >> 24 & 1) as u8, Ordering::Relaxed);
    if left_on || (prefer_x2apic && features >> 21 & 1 != 0) {
        MODE.store(X2APIC, Ordering::Relaxed);
    } else {
        let region = map_io(address, 0x1000, true)?;
        REGION.call_once(|| region);
        MODE.store(XAPIC, Ordering::Relaxed);
    }
    init_this_cpu();
    Ok(())
}

/// Sets up this CPU's APIC as [`init_bsp`] chose: on, all pins masked but LINT1 (NMI), error and spurious vectors, timer
/// stopped, nothing held back. Whatever was in service is ended.
pub fn init_this_cpu() {
    let base = read_msr(MSR_APIC_BASE);
    let wanted = match MODE.load(Ordering::Relaxed) {
        NONE => return,
        X2APIC => APIC_BASE_ENABLE | APIC_BASE_X2APIC,
        _ => APIC_BASE_ENABLE,
    };
    if base & (APIC_BASE_ENABLE | APIC_BASE_X2APIC) != wanted {
        // SAFETY: off to xAPIC to x2APIC are the transitions that the CPU has (SDM vol. 3, figure 11-27); the registers stay
        // where they are, and `MODE` says how to reach them.
        unsafe {
            write_msr(MSR_APIC_BASE, base | APIC_BASE_ENABLE);
            write_msr(MSR_APIC_BASE, base | wanted);
        }
    }
    write(LapicRegister::TASK_PRIORITY, 0);
    for lvt in [LapicRegister::LVT_TIMER, LapicRegister::LVT_LINT0, LapicRegister::LVT_ERROR] {
        write(lvt, LVT_MASKED);
    }
    let entries = (read(LapicRegister::VERSION) >> 16 & 0xff) + 1;
    if entries >= 5 {
        write(LapicRegister::LVT_PERFORMANCE, LVT_MASKED);
    }
    if entries >= 6 {
        write(LapicRegister::LVT_THERMAL, LVT_MASKED);
    }
    write(LapicRegister::LVT_LINT1, DeliveryMode::Nmi.bits());
    write(LapicRegister::SPURIOUS, SPURIOUS_ENABLE | u32::from(vectors::SPURIOUS));
    for word in (0..8).rev() {
        for _ in 0..read(LapicRegister::IN_SERVICE.word(word)).count_ones() {
            eoi();
        }
    }
    write(LapicRegister::ERROR_STATUS, 0);
    write(LapicRegister::LVT_ERROR, u32::from(vectors::ERROR));
    write(LapicRegister::ERROR_STATUS, 0);
    let mode = if has_deadline_timer() { LVT_TIMER_TSC_DEADLINE } else { 0 };
    write(LapicRegister::TIMER_DIVIDE, DIVIDE_BY_1);
    write(LapicRegister::LVT_TIMER, mode | u32::from(vectors::TIMER));
    // A memory-mapped write of the mode comes before an MSR write of the deadline only if fenced (SDM vol. 3, 11.5.4.1).
    core::sync::atomic::fence(Ordering::SeqCst);
}

/// This CPU's APIC id.
pub fn id() -> u32 {
    match MODE.load(Ordering::Relaxed) {
        XAPIC => read(LapicRegister::ID) >> 24,
        _ => read(LapicRegister::ID),
    }
}

/// Whether the APIC is driven by MSRs.
pub fn is_x2apic() -> bool {
    MODE.load(Ordering::Relaxed) == X2APIC
}

/// The version register: version in bits 0 to 7, highest LVT entry in bits 16 to 23.
pub fn version() -> u32 {
    read(LapicRegister::VERSION)
}

/// Ends the interrupt of highest priority that is in service.
#[inline]
pub fn eoi() {
    write(LapicRegister::EOI, 0);
}

/// Sends an interrupt, or another signal, to one CPU.
pub fn send(apic_id: u32, mode: DeliveryMode, vector: u8) {
    let level = if mode == DeliveryMode::Init { COMMAND_LEVEL } else { 0 };
    command(apic_id, mode.bits() | COMMAND_ASSERT | level | u32::from(vector));
}

/// Sends to all CPUs but this one, even such as were never started.
pub fn send_all_but_self(mode: DeliveryMode, vector: u8) {
    command(0, mode.bits() | COMMAND_ASSERT | COMMAND_ALL_BUT_SELF | u32::from(vector));
}

fn command(apic_id: u32, low: u32) {
    // What was stored before must be visible to the CPU that the interrupt reaches; writing the MSR does not see to that
    // (SDM vol. 3, 11.12.3).
    core::sync::atomic::fence(Ordering::SeqCst);
    if is_x2apic() {
        // SAFETY: the command register; callers send vectors that the IDT has, and start-ups to the trampoline only.
        unsafe { write_msr(LapicRegister::COMMAND.msr(), u64::from(apic_id) << 32 | u64::from(low)) };
        return;
    }
    wait_until_sent();
    write(LapicRegister::COMMAND_HIGH, apic_id << 24);
    write(LapicRegister::COMMAND, low);
}

/// Waits until the last command has left; bounded.
pub fn wait_until_sent() {
    if is_x2apic() {
        return;
    }
    for _ in 0..1_000_000 {
        if read(LapicRegister::COMMAND) & COMMAND_BUSY == 0 {
            return;
        }
        core::hint::spin_loop();
    }
}

/// Reads and clears the error status (SDM vol. 3, 11.5.3).
pub fn take_errors() -> u32 {
    write(LapicRegister::ERROR_STATUS, 0);
    read(LapicRegister::ERROR_STATUS)
}

/// Notes a spurious interrupt; returns how many there were on all CPUs.
pub fn note_spurious() -> u32 {
    SPURIOUS.fetch_add(1, Ordering::Relaxed) + 1
}

/// Whether the vector is in service.
pub fn is_in_service(vector: u8) -> bool {
    read(LapicRegister::IN_SERVICE.word(u32::from(vector / 32))) >> (vector % 32) & 1 != 0
}

/// Whether any vector waits to be delivered: with interrupts off, that something should be attended to.
pub fn is_anything_requested() -> bool {
    (1..8).any(|word| read(LapicRegister::REQUEST.word(word)) != 0)
}

/// Whether the timer compares with the TSC.
pub fn has_deadline_timer() -> bool {
    DEADLINE.load(Ordering::Relaxed) != 0
}

/// Lets the timer fire when the TSC reaches `tsc`; 0 stops it. Only with [`has_deadline_timer`].
pub fn set_deadline_tsc(tsc: u64) {
    if has_deadline_timer() {
        // SAFETY: CPUID says that the register exists; it makes nothing but the timer's interrupt.
        unsafe { write_msr(MSR_TSC_DEADLINE, tsc) };
    }
}

/// Lets the timer fire after `count` of its own ticks; 0 stops it. Only without [`has_deadline_timer`].
pub fn set_timer_count(count: u32) {
    write(LapicRegister::TIMER_INITIAL, count);
}

/// What the timer has left, in its own ticks.
pub fn timer_count() -> u32 {
    read(LapicRegister::TIMER_CURRENT)
}

impl Registers for IoRegion {
    fn read32(&self, offset: usize) -> u32 {
        if offset + 4 <= self.length() { IoRegion::read32(self, offset) } else { u32::MAX }
    }

    fn write32(&self, offset: usize, value: u32) {
        if offset + 4 <= self.length() {
            IoRegion::write32(self, offset, value);
        }
    }
}
