//! The local APIC: its registers in memory and as model-specific ones, its timer, messages to oneself and to another processor.

use super::{Case, table, with_value};
use crate::attempt;
use crate::memory::{Guest, VIRT_BASE, read, write};
use crate::pvh::{allow_interrupts, came, cpuid, read_msr, write_msr};
use crate::report::{Outcome, yes};
use crate::say;
use crate::shared::{MS, now, wait};
use core::sync::atomic::{AtomicBool, AtomicU16, Ordering::SeqCst};

/// Where its registers are.
const BASE: u64 = VIRT_BASE | 0xfee0_0000;
/// Registers, by their place in the page.
const ID: u64 = 0x20;
const VERSION: u64 = 0x30;
const PRIORITY: u64 = 0x80;
const PROCESSOR_PRIORITY: u64 = 0xa0;
const END: u64 = 0xb0;
const SPURIOUS: u64 = 0xf0;
const SERVICE: u64 = 0x100;
const REQUEST: u64 = 0x200;
const ERROR: u64 = 0x280;
const COMMAND: u64 = 0x300;
const TARGET: u64 = 0x310;
const TIMER: u64 = 0x320;
const INITIAL: u64 = 0x380;
const CURRENT: u64 = 0x390;
const DIVISOR: u64 = 0x3e0;
/// Model-specific registers.
const APIC_BASE: u32 = 0x1b;
const DEADLINE: u32 = 0x6e0;
const X2APIC: u32 = 0x800;
/// In APIC_BASE: on, and as model-specific registers.
const ON: u64 = 1 << 11;
const BY_REGISTERS: u64 = 1 << 10;
/// Vectors.
const TICK: u8 = 0x41;
const LOW: u8 = 0x42;
const HIGH: u8 = 0x93;
const PERIODIC: u32 = 1 << 17;
const MASKED: u32 = 1 << 16;
const TO_SELF: u32 = 1 << 18;
const NMI: u32 = 4 << 8;
const INIT: u32 = 0x4500;
const START: u32 = 0x4600;
/// The page where a processor starts that is started by messages, and the word that it writes.
const START_PAGE: u64 = 8;
const START_WORD: u64 = 0x900;

/// Whether the APIC is reached by model-specific registers.
static IS_X2APIC: AtomicBool = AtomicBool::new(false);
/// Whether interrupts are to be ended by the handler.
static ENDS: AtomicBool = AtomicBool::new(true);

/// Runs the group.
pub fn run(guest: &Guest) {
    for at in (0..0x400).step_by(16).filter(|at| *at != CURRENT) {
        say!("apic.reset-{at:#x}: {:#x}", get(at));
    }
    table(guest, "apic", MEMORY);
    table(guest, "apic", COMMON);
    table(guest, "apic", MODES);
    for at in 0..0x40u32 {
        let (mut low, mut high) = (0u64, 0u64);
        let outcome = attempt!("rdmsr"; in("ecx") X2APIC + at, inout("rax") low, inout("rdx") high);
        // The timer runs.
        let low = if u64::from(at) == CURRENT >> 4 { 0 } else { low };
        say!("apic.x2-{at:#x}: {}", with_value(outcome, low | high << 32));
        let ones = attempt!("wrmsr"; in("ecx") X2APIC + at, in("rax") !0u64, in("rdx") !0u64);
        say!("apic.x2-{at:#x}-ones: {ones}");
    }
    reset();
    table(guest, "apic.x2", COMMON);
    table(guest, "apic", REGISTERS);
}

/// An interrupt from it.
pub fn handle(vector: u8) {
    if vector >= 32 && ENDS.load(SeqCst) {
        end();
    }
}

fn end() {
    set(END, 0);
}

fn get(at: u64) -> u32 {
    if IS_X2APIC.load(SeqCst) {
        return read_msr(X2APIC + (at >> 4) as u32) as u32;
    }
    // SAFETY: the page is mapped, and its registers are read so.
    unsafe { ((BASE + at) as *const u32).read_volatile() }
}

fn set(at: u64, value: u32) {
    if IS_X2APIC.load(SeqCst) {
        write_msr(X2APIC + (at >> 4) as u32, value.into());
        return;
    }
    // SAFETY: the page is mapped, and its registers are written so.
    unsafe { ((BASE + at) as *mut u32).write_volatile(value) }
}

/// Sends a message to oneself.
fn to_self(vector: u8) {
    set(COMMAND, TO_SELF | u32::from(vector));
}

/// On, with all as it is by default.
fn reset() {
    set(SPURIOUS, 0x1ff);
    set(PRIORITY, 0);
    set(TIMER, MASKED);
    set(INITIAL, 0);
    set(DIVISOR, 0xb);
}

/// Whether a bit of one of the three arrays of 256 is set.
fn bit(array: u64, vector: u8) -> bool {
    get(array + u64::from(vector / 32) * 16) >> (vector % 32) & 1 != 0
}

/// How often `vector` comes while something is done, and a little longer.
fn heard(vector: u8, act: impl FnOnce()) -> u32 {
    let before = came(vector);
    allow_interrupts(true);
    act();
    let end = now() + 2 * MS;
    while now() < end {}
    allow_interrupts(false);
    came(vector) - before
}

fn count(number: u32) -> Outcome {
    Outcome::Code(number.into())
}

/// What the APIC does either way that it is reached.
const COMMON: &[Case] = &[
    ("reset", |_| {
        reset();
        Outcome::Hex(get(SPURIOUS).into())
    }),
    ("message-to-self", |_| count(heard(LOW, || to_self(LOW)))),
    ("message-while-off", |_| {
        to_self(LOW);
        let waits = bit(REQUEST, LOW);
        yes(waits && heard(LOW, || {}) == 1 && !bit(REQUEST, LOW))
    }),
    ("message-twice-while-off", |_| {
        to_self(LOW);
        to_self(LOW);
        count(heard(LOW, || {}))
    }),
    ("in-service-until-ended", |_| {
        ENDS.store(false, SeqCst);
        let first = heard(LOW, || to_self(LOW));
        let second = heard(LOW, || to_self(LOW));
        let served = bit(SERVICE, LOW);
        let priority = get(PROCESSOR_PRIORITY);
        ENDS.store(true, SeqCst);
        let third = heard(LOW, end);
        yes((first, second, third) == (1, 0, 1) && served && priority == 0x40 && !bit(SERVICE, LOW))
    }),
    ("higher-goes-first", |_| {
        ENDS.store(false, SeqCst);
        heard(LOW, || to_self(LOW));
        let higher = heard(HIGH, || to_self(HIGH));
        let both = bit(SERVICE, LOW) && bit(SERVICE, HIGH);
        end();
        let left = bit(SERVICE, LOW) && !bit(SERVICE, HIGH);
        end();
        ENDS.store(true, SeqCst);
        yes(higher == 1 && both && left && !bit(SERVICE, LOW))
    }),
    ("priority-holds-back", |_| {
        set(PRIORITY, 0x50);
        let held = heard(LOW, || to_self(LOW));
        let higher = heard(HIGH, || to_self(HIGH));
        let later = heard(LOW, || set(PRIORITY, 0));
        yes((held, higher, later) == (0, 1, 1))
    }),
    ("priority-by-cr8", |_| {
        attempt!("mov cr8, rax"; in("rax") 5u64);
        let seen = get(PRIORITY);
        let held = heard(LOW, || to_self(LOW));
        let later = heard(LOW, || _ = attempt!("mov cr8, rax"; in("rax") 0u64));
        yes(seen == 0x50 && (held, later) == (0, 1))
    }),
    ("priority-to-cr8", |_| {
        set(PRIORITY, 0x73);
        let mut value = 0u64;
        attempt!("mov rax, cr8"; inout("rax") value);
        let processor = get(PROCESSOR_PRIORITY);
        set(PRIORITY, 0);
        Outcome::Hex(value << 8 | u64::from(processor))
    }),
    ("timer-once", |_| {
        set(DIVISOR, 0xb);
        set(TIMER, TICK.into());
        count(heard(TICK, || set(INITIAL, 100_000)))
    }),
    ("timer-counts-down", |_| {
        set(TIMER, MASKED | u32::from(TICK));
        set(INITIAL, !0);
        let first = get(CURRENT);
        let end = now() + MS;
        while now() < end {}
        let second = get(CURRENT);
        set(INITIAL, 0);
        yes(second < first && first > 0 && get(CURRENT) == 0)
    }),
    ("timer-rate", |_| {
        // Ticks in 8 ms of system time, in thousands.
        set(TIMER, MASKED | u32::from(TICK));
        let start = now();
        set(INITIAL, !0);
        while now() < start + 8 * MS {}
        let ticks = !0 - get(CURRENT);
        set(INITIAL, 0);
        yes((790_000..1_000_000).contains(&ticks))
    }),
    ("timer-divided", |_| {
        set(TIMER, MASKED | u32::from(TICK));
        set(DIVISOR, 0xa);
        let start = now();
        set(INITIAL, !0);
        while now() < start + 8 * MS {}
        let ticks = !0 - get(CURRENT);
        set(INITIAL, 0);
        set(DIVISOR, 0xb);
        yes((6_100..8_000).contains(&ticks))
    }),
    ("timer-periodic", |_| {
        set(TIMER, PERIODIC | u32::from(TICK));
        let ticks = heard(TICK, || {
            set(INITIAL, 200_000);
            let end = now() + 10 * MS;
            while now() < end {}
        });
        set(INITIAL, 0);
        yes((4..=7).contains(&ticks))
    }),
    ("timer-masked", |_| {
        set(TIMER, MASKED | u32::from(TICK));
        count(heard(TICK, || set(INITIAL, 1000)))
    }),
    ("timer-stopped", |_| {
        set(TIMER, TICK.into());
        set(INITIAL, 100_000_000);
        set(INITIAL, 0);
        count(heard(TICK, || {}))
    }),
    ("wakes-from-halt", |_| {
        set(TIMER, TICK.into());
        // Short ones end while the processor is on its way to wait.
        for ticks in (1..4000).step_by(7).chain([100_000, 1_000_000]) {
            let before = came(TICK);
            set(INITIAL, ticks);
            while came(TICK) == before {
                crate::pvh::halt();
            }
        }
        yes(true)
    }),
    ("nmi-to-self", |_| {
        let before = came(2);
        set(COMMAND, TO_SELF | NMI);
        yes(wait(|| came(2) == before + 1))
    }),
    ("off-takes-nothing", |_| {
        set(SPURIOUS, 0xff);
        let off = heard(LOW, || to_self(LOW));
        let masked = get(TIMER) & MASKED != 0;
        reset();
        yes(off == 0 && masked && heard(LOW, || {}) == 0)
    }),
    ("bad-vector", |_| {
        set(ERROR, 0);
        to_self(5);
        set(ERROR, 0);
        Outcome::Hex(get(ERROR).into())
    }),
    ("bad-timer-vector", |_| {
        set(ERROR, 0);
        set(TIMER, 7);
        set(ERROR, 0);
        let error = get(ERROR);
        set(TIMER, MASKED);
        Outcome::Hex(error.into())
    }),
    ("end-of-nothing", |_| {
        end();
        yes(heard(LOW, || to_self(LOW)) == 1)
    }),
];

/// Registers as memory.
const MEMORY: &[Case] = &[
    ("version", |_| Outcome::Hex(get(VERSION).into())),
    ("byte-of-id", |_| {
        let mut value = 0u64;
        let outcome = attempt!("mov al, [rdi]"; in("rdi") BASE + ID + 3, inout("rax") value);
        with_value(outcome, value)
    }),
    ("between-registers", |_| {
        let mut value = 0u64;
        let outcome = attempt!("mov eax, [rdi]"; in("rdi") BASE + VERSION + 4, inout("rax") value);
        with_value(outcome, value)
    }),
    ("write-to-version", |_| {
        set(VERSION, 0);
        Outcome::Hex(get(VERSION).into())
    }),
    ("write-to-id", |_| {
        let before = get(ID);
        set(ID, 7 << 24);
        let after = get(ID);
        set(ID, before);
        Outcome::Hex(after.into())
    }),
    ("beyond-registers", |_| {
        // SAFETY: the page is mapped.
        Outcome::Hex(unsafe { read(BASE + 0x800) } & 0xffff_ffff)
    }),
    ("write-beyond", |_| {
        // SAFETY: the page is mapped, and nothing is there.
        unsafe { write(BASE + 0x800, 0) };
        Outcome::Code(0)
    }),
    ("locked-or", |_| {
        set(PRIORITY, 0x10);
        let outcome = attempt!("lock or dword ptr [rdi], 0x20"; in("rdi") BASE + PRIORITY);
        let value = get(PRIORITY);
        set(PRIORITY, 0);
        with_value(outcome, value.into())
    }),
    ("exchange", |_| {
        let mut value = 0x30u64;
        let outcome = attempt!("xchg [rdi], eax"; in("rdi") BASE + PRIORITY, inout("rax") value);
        let after = get(PRIORITY);
        set(PRIORITY, 0);
        with_value(outcome, value << 8 | u64::from(after))
    }),
    ("string-to-priority", |_| {
        let words = [0x40u32, 0x60];
        let outcome = attempt!("movsd"; inout("rsi") words.as_ptr() => _, inout("rdi") BASE + PRIORITY => _);
        let after = get(PRIORITY);
        set(PRIORITY, 0);
        with_value(outcome, after.into())
    }),
    ("start-by-messages", |_| start_by_messages()),
    ("moved", |_| {
        let base = read_msr(APIC_BASE);
        let outcome = write_base(base & 0xfff | 0xfee1_0000);
        write_base(base);
        outcome
    }),
];

/// Starts processor 1 by INIT and two start-up messages in real mode, where it writes a word.
fn start_by_messages() -> Outcome {
    // mov word ptr cs:[START_WORD], 0x1616; cli; hlt
    const TEXT: [u8; 9] = [0x2e, 0xc7, 0x06, START_WORD as u8, (START_WORD >> 8) as u8, 0x16, 0x16, 0xfa, 0xf4];
    let at = VIRT_BASE + (START_PAGE << 12);
    // SAFETY: nothing of Rust's is in the pages below 1 MiB.
    let word = unsafe {
        core::ptr::copy_nonoverlapping(TEXT.as_ptr(), at as *mut u8, TEXT.len());
        &*((at + START_WORD) as *const AtomicU16)
    };
    word.store(0, SeqCst);
    // APIC ids are twice the processor's number.
    for message in [INIT, START | START_PAGE as u32, START | START_PAGE as u32] {
        set(TARGET, 2 << 24);
        set(COMMAND, message);
        let end = now() + MS;
        while now() < end {}
    }
    wait(|| word.load(SeqCst) != 0);
    Outcome::Hex(word.load(SeqCst).into())
}

fn write_base(value: u64) -> Outcome {
    attempt!("wrmsr"; in("ecx") APIC_BASE, in("rax") value, in("rdx") value >> 32)
}

/// From memory to model-specific registers, and what cannot be.
const MODES: &[Case] = &[
    ("base", |_| Outcome::Hex(read_msr(APIC_BASE))),
    ("registers-while-in-memory", |_| attempt!("rdmsr"; in("ecx") X2APIC + 2, out("rax") _, out("rdx") _)),
    ("base-reserved", |_| write_base(read_msr(APIC_BASE) | 1)),
    ("by-registers-while-off", |_| write_base(read_msr(APIC_BASE) & !ON | BY_REGISTERS)),
    ("by-registers", |_| {
        let outcome = write_base(read_msr(APIC_BASE) | BY_REGISTERS);
        IS_X2APIC.store(outcome == Outcome::Code(0), SeqCst);
        outcome
    }),
    ("memory-while-by-registers", |_| {
        let mut value = 0u64;
        let outcome = attempt!("mov eax, [rdi]"; in("rdi") BASE + VERSION, inout("rax") value);
        with_value(outcome, value)
    }),
    ("back-to-memory", |_| write_base(read_msr(APIC_BASE) & !BY_REGISTERS)),
];

/// Model-specific registers that have no place in memory.
const REGISTERS: &[Case] = &[
    ("self-register", |_| count(heard(LOW, || write_msr(X2APIC + 0x3f, LOW.into())))),
    ("has-deadline", |_| yes(cpuid(1, 0)[2] >> 24 & 1 != 0)),
    ("deadline-register", |_| attempt!("rdmsr"; in("ecx") DEADLINE, out("rax") _, out("rdx") _)),
    ("off", |_| {
        let outcome = write_base(read_msr(APIC_BASE) & !(ON | BY_REGISTERS));
        IS_X2APIC.store(false, SeqCst);
        outcome
    }),
    ("feature-while-off", |_| yes(cpuid(1, 0)[3] >> 9 & 1 != 0)),
    ("memory-while-off", |_| {
        let mut value = 0u64;
        let outcome = attempt!("mov eax, [rdi]"; in("rdi") BASE + VERSION, inout("rax") value);
        with_value(outcome, value)
    }),
    ("registers-while-off", |_| attempt!("rdmsr"; in("ecx") X2APIC + 2, out("rax") _, out("rdx") _)),
    ("on-again", |_| write_base(read_msr(APIC_BASE) | ON)),
    ("version-again", |_| Outcome::Hex(get(VERSION).into())),
];
