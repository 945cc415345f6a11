//! Starting the other CPUs (SDM vol. 3, 9.4.4). Soundness: docs/soundness/hal-irq.md.

use crate::acpi::{LocalApic, Madt};
use crate::time::{self, Offset};
use crate::{MAX_CPUS, cpus, lapic};
use core::arch::global_asm;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use hal::paging;
use spin::Once;
use types::{CpuId, Errno, Result};
use x86_defs::apic::DeliveryMode;

global_asm!(include_str!("trampoline.S"), options(att_syntax));

unsafe extern "C" {
    static ap_trampoline: [u8; 0];
    static ap_trampoline_end: [u8; 0];
    static ap_parameters: [u8; 0];
}

/// What the trampoline reads; the layout is trampoline.S's.
#[repr(C)]
struct Parameters {
    root: u64,
    stack: u64,
    function: u64,
    argument: u64,
}

/// How long a CPU may take from its start-up to its first word, in nanoseconds: an emulator may be slow.
const PATIENCE: u64 = 3 * time::SECOND;
/// Exchanges that compare two TSCs, and how long they may take at most, in nanoseconds.
const ROUNDS: u64 = 64;
const COMPARISON: u64 = 20_000_000;

static MAIN: Once<fn(CpuId) -> !> = Once::new();
/// The number of the CPU that has come up last, plus 1.
static ARRIVED: AtomicU32 = AtomicU32::new(0);
/// Question and answer of the TSC comparison: the boot CPU counts up, the other one stores its TSC and then that count.
static QUESTION: AtomicU64 = AtomicU64::new(0);
static ANSWER: AtomicU64 = AtomicU64::new(0);
static ANSWERED: AtomicU64 = AtomicU64::new(0);
/// Question that ends the comparison.
const ENOUGH: u64 = u64::MAX;

/// Starts the CPUs that firmware calls usable, one after another, until `max` run (the boot CPU counted). Each one ends up in
/// `main`, on its own stack, with interrupts off. Returns how many run. A CPU that does not answer is logged and left out.
///
/// Needs `lapic::init_bsp` and `time::init`; once, on the boot CPU, which is number 0.
pub fn start_others(madt: &Madt, max: usize, main: fn(CpuId) -> !) -> usize {
    MAIN.call_once(|| main);
    let boot = lapic::id();
    let others = madt.cpus.iter().filter(|cpu| cpu.enabled && cpu.apic_id != boot);
    let max = max.min(MAX_CPUS);
    for cpu in others {
        let next = CpuId(cpus::count() as u32);
        if next.index() >= max {
            break;
        }
        if let Err(error) = start(next, cpu) {
            log::error!("CPU with APIC id {:#x} does not start ({}): going on without it", cpu.apic_id, error.text());
        }
    }
    cpus::count()
}

fn start(cpu: CpuId, apic: &LocalApic) -> Result<()> {
    if !lapic::is_x2apic() && apic.apic_id > 0xfe {
        return Err(Errno::RANGE);
    }
    let page = hal::boot::trampoline().filter(|page| page >> 20 == 0).ok_or(Errno::NOMEM)?;
    // The area may be left from a CPU that did not come up.
    hal_cpu::prepare(cpu).or_else(|error| if error == Errno::EXIST { Ok(()) } else { Err(error) })?;
    cpus::set_apic_id(cpu, apic.apic_id);
    ARRIVED.store(0, Ordering::SeqCst);
    QUESTION.store(0, Ordering::SeqCst);
    ANSWERED.store(0, Ordering::SeqCst);
    write_trampoline(page, cpu);
    lapic::send(apic.apic_id, DeliveryMode::Init, 0);
    lapic::wait_until_sent();
    time::delay(10_000);
    for wait in [1_000_000, PATIENCE] {
        lapic::send(apic.apic_id, DeliveryMode::StartUp, (page >> 12) as u8);
        lapic::wait_until_sent();
        if wait_until(wait, || ARRIVED.load(Ordering::Acquire) == cpu.0 + 1) {
            compare_tsc(cpu);
            return if wait_until(PATIENCE, || cpus::is_online(cpu)) { Ok(()) } else { Err(Errno::IO) };
        }
    }
    // A late start-up must not run on a stack that the next CPU gets.
    lapic::send(apic.apic_id, DeliveryMode::Init, 0);
    Err(Errno::NXIO)
}

fn wait_until(nanoseconds: u64, mut done: impl FnMut() -> bool) -> bool {
    let end = time::system_time().saturating_add(nanoseconds);
    while !done() {
        if time::system_time() > end {
            return done();
        }
        core::hint::spin_loop();
    }
    true
}

fn write_trampoline(page: u64, cpu: CpuId) {
    let (code, end) = ((&raw const ap_trampoline).cast::<u8>(), (&raw const ap_trampoline_end).cast::<u8>());
    let offset = (&raw const ap_parameters).addr() - code.addr();
    let parameters = Parameters {
        root: paging::identity_root(),
        stack: hal_cpu::stack_top(cpu),
        function: ap_entry as extern "C" fn(u64) -> ! as usize as u64,
        argument: u64::from(cpu.0),
    };
    let to = paging::direct::<u8>(page);
    // SAFETY: hal keeps this page for the trampoline and maps it writable; code and parameters are less than a page, from a
    // section of the image; no CPU runs there now, as the last one has arrived or was sent back to its reset state.
    unsafe {
        core::ptr::copy_nonoverlapping(code, to, end.addr() - code.addr());
        to.add(offset).cast::<Parameters>().write_volatile(parameters);
    }
}

/// The first Rust code on another CPU: its own stack, the table of [`paging::identity_root`], no descriptors yet.
extern "C" fn ap_entry(number: u64) -> ! {
    let cpu = CpuId(number as u32);
    paging::load_root();
    // SAFETY: `start` prepared the area, and starts one CPU at a time with this number.
    unsafe { hal_cpu::start_ap(cpu, cpu, ap_main) }
}

/// The CPU is set up but for its local APIC.
fn ap_main(cpu: CpuId) -> ! {
    lapic::init_this_cpu();
    ARRIVED.store(cpu.0 + 1, Ordering::Release);
    answer_comparison();
    cpus::set_online(cpu);
    match MAIN.get() {
        Some(main) => main(cpu),
        None => hal::cpu::halt_forever(),
    }
}

/// On the boot CPU: asks the other one for its TSC, and notes by how much it differs.
fn compare_tsc(cpu: CpuId) {
    let mut offset = Offset::UNKNOWN;
    let end = time::system_time().saturating_add(COMPARISON);
    for round in 1..=ROUNDS {
        let before = time::tsc();
        QUESTION.store(round, Ordering::SeqCst);
        while ANSWERED.load(Ordering::Acquire) != round && time::system_time() < end {
            core::hint::spin_loop();
        }
        let after = time::tsc();
        if ANSWERED.load(Ordering::Acquire) != round || time::system_time() >= end {
            break;
        }
        offset.exchange(before, ANSWER.load(Ordering::Acquire), after);
    }
    if !offset.may_be_zero() {
        let (ticks, within) = (offset.estimate(), offset.uncertainty());
        log::warn!("CPU{}: TSC is {ticks} ticks (+-{within}) from CPU0's; corrected", cpu.0);
        time::set_offset(cpu, ticks);
    }
    QUESTION.store(ENOUGH, Ordering::SeqCst);
}

fn answer_comparison() {
    let mut last = 0;
    loop {
        let question = QUESTION.load(Ordering::SeqCst);
        if question == ENOUGH {
            return;
        }
        if question != last {
            ANSWER.store(time::tsc(), Ordering::Release);
            ANSWERED.store(question, Ordering::Release);
            last = question;
        }
        core::hint::spin_loop();
    }
}
