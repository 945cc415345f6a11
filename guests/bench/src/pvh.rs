//! Operations of translated guests: what leaves the guest, and what the processor does without the hypervisor.

use crate::meter::Meter;
use crate::stubs;
use core::arch::asm;
use core::hint::black_box;
use guest_kernel::memory::{Guest, VIRT_BASE, write};
use guest_kernel::pvh::{allow_interrupts, cpuid, read_msr, set_gate, write_msr};

/// The local APIC's registers, and some of them by their place.
const APIC: u64 = VIRT_BASE | 0xfee0_0000;
const ID: u64 = 0x20;
const PRIORITY: u64 = 0x80;
const SPURIOUS: u64 = 0xf0;
const COMMAND: u64 = 0x300;
const TIMER: u64 = 0x320;
const INITIAL: u64 = 0x380;
/// In the command register: to oneself. In the timer's: masked.
const TO_SELF: u32 = 1 << 18;
const MASKED: u32 = 1 << 16;
const ON: u32 = 0x1ff;
/// Vector of a message.
const MESSAGE: u8 = 0x51;
/// Model-specific registers, and the mode of the APIC in which it is reached by such.
const APIC_BASE: u32 = 0x1b;
const EFER: u32 = 0xc000_0080;
const X2APIC: u32 = 0x800;
const BY_REGISTERS: u64 = 1 << 10;
/// Long mode, enabled and active.
const LONG_MODE: u64 = 0x500;

/// Memory that nothing of the guest is in, and that is populated when it is touched: where it begins, 2 MiB each, and how many of them a
/// run takes.
const FRESH: u64 = VIRT_BASE + (16 << 20);
const FRESH_SIZE: u64 = 2 << 20;
const FRESH_COUNT: u64 = 2;

/// Measures them.
pub fn run(guest: &Guest, meter: &mut Meter) {
    instructions(meter);
    apic(meter);
    populate(guest, meter);
}

/// The first access to memory of which the domain has less than it was told.
fn populate(guest: &Guest, meter: &mut Meter) {
    let end = VIRT_BASE + (guest.pages() << 12);
    let mut at = FRESH;
    meter.measure_few("memory.populate-2-mib", FRESH_COUNT, || {
        // Carried out for long, there is an end of it.
        if at < end {
            // What stays zero may be taken back.
            // SAFETY: the first GiB is mapped, and nothing is there.
            unsafe { write(at, !0) };
            at += FRESH_SIZE;
        }
    });
    assert!(at <= end, "no memory was left to populate");
}

fn instructions(meter: &mut Meter) {
    meter.measure("exit.cpuid", || _ = black_box(cpuid(0, 0)));
    meter.measure("exit.cpuid-of-hypervisor", || _ = black_box(cpuid(0x4000_0000, 0)));
    meter.measure("exit.rdmsr-efer", || _ = black_box(read_msr(EFER)));
    meter.measure("exit.wrmsr-efer", || write_msr(EFER, LONG_MODE));
    meter.measure("exit.rdmsr-apic-base", || _ = black_box(read_msr(APIC_BASE)));
    // SAFETY: the register is written as it is.
    meter.measure("exit.write-cr0", || unsafe { asm!("mov {0}, cr0", "mov cr0, {0}", out(reg) _) });
    // SAFETY: as above.
    meter.measure("exit.write-cr3", || unsafe { asm!("mov {0}, cr3", "mov cr3, {0}", out(reg) _) });
    // SAFETY: as above.
    meter.measure("exit.write-cr4", || unsafe { asm!("mov {0}, cr4", "mov cr4, {0}", out(reg) _) });
    // SAFETY: memory stays what it is.
    meter.measure("exit.wbinvd", || unsafe { asm!("wbinvd") });
    // SAFETY: the ports of a timer that is not there.
    meter.measure("exit.port-read", || unsafe { asm!("in al, 0x40", out("al") _) });
    // SAFETY: as above.
    meter.measure("exit.port-write", || unsafe { asm!("out 0x80, al", in("al") 0u8) });
}

fn get(at: u64) -> u32 {
    // SAFETY: the registers are mapped.
    unsafe { ((APIC + at) as *const u32).read_volatile() }
}

fn set(at: u64, value: u32) {
    // SAFETY: as above.
    unsafe { ((APIC + at) as *mut u32).write_volatile(value) }
}

fn apic(meter: &mut Meter) {
    set(SPURIOUS, ON);
    meter.measure("apic.read-id", || _ = black_box(get(ID)));
    meter.measure("apic.write-priority", || set(PRIORITY, 0));
    set(TIMER, MASKED | u32::from(MESSAGE));
    meter.measure("apic.set-timer", || set(INITIAL, !0));
    set(INITIAL, 0);
    set_gate(MESSAGE, stubs::message());
    allow_interrupts(true);
    meter.measure("apic.message-to-self-and-end", || set(COMMAND, TO_SELF | u32::from(MESSAGE)));
    allow_interrupts(false);
    write_msr(APIC_BASE, read_msr(APIC_BASE) | BY_REGISTERS);
    meter.measure("apic.x2-read-id", || _ = black_box(read_msr(X2APIC + (ID >> 4) as u32)));
    meter.measure("apic.x2-write-priority", || write_msr(X2APIC + (PRIORITY >> 4) as u32, 0));
}
