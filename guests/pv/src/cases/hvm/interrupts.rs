//! The board's interrupt controllers: registers, and a tick of the interval timer by each of them.

use super::{Case, byte, code, table};
use crate::memory::Guest;
use crate::pvh::board::*;
use crate::pvh::{self, allow_interrupts, came};
use crate::report::{Outcome, yes};
use crate::say;
use crate::shared::{self, MS, now};
use xen_abi::event_channel::{EVTCHNOP_SEND, Send};
use xen_abi::hvm_params::{HVM_PARAM_CALLBACK_IRQ, HVM_PARAM_CONSOLE_EVTCHN, HVM_PARAM_STORE_EVTCHN};

/// The I/O APIC: its window, and the local one's register that takes a line's interrupts from the older controllers.
const IO_APIC: u64 = 0xfec0_0000;
const LOCAL_LINE: u64 = 0xfee0_0350;
const LOCAL_ON: u64 = 0xfee0_00f0;
/// In an entry.
const MASKED: u32 = 1 << 16;
/// The interval timer is on this line of the I/O APIC.
const TIMER: u32 = 2;
/// A line for events, and vectors.
const LINE: u32 = 20;
const TICK: u8 = 0x61;
const EVENT: u8 = 0x62;

/// Runs the group.
pub fn run(guest: &Guest) {
    table(guest, "interrupts", OLD);
    for register in 0..0x10 {
        say!("interrupts.io-apic-{register:#x}: {:#x}", io(register));
    }
    for register in [0x10, 0x11, 0x14, 0x38, 0x6e, 0x6f, 0x70, 0xff] {
        let before = io(register);
        set_io(register, 0xffff_fff0);
        let ones = io(register);
        set_io(register, before);
        say!("interrupts.io-apic-{register:#x}-entry: {before:#x} {ones:#x}");
    }
    table(guest, "interrupts", NEW);
}

fn io(register: u32) -> u32 {
    set_device(IO_APIC, register);
    device(IO_APIC + 0x10)
}

fn set_io(register: u32, value: u32) {
    set_device(IO_APIC, register);
    set_device(IO_APIC + 0x10, value);
}

fn set_line(line: u32, value: u32) {
    set_io(0x11 + 2 * line, 0);
    set_io(0x10 + 2 * line, value);
}

/// Masks the ports of the store and of the console.
fn mask_others(masked: bool) {
    for parameter in [HVM_PARAM_STORE_EVTCHN, HVM_PARAM_CONSOLE_EVTCHN] {
        shared::mask_port(pvh::parameter(parameter).unwrap_or(0) as u32, masked);
    }
}

/// Has the interval timer tick once, in a millisecond: in mode 4, since Xen's has no tick at the end of mode 0.
fn tick() {
    set_port(0x43, 0x38);
    set_port(0x40, 0xa9);
    set_port(0x40, 4);
}

/// How often `vector` comes while something is done and four milliseconds longer.
fn heard(vector: u8, act: impl FnOnce()) -> u32 {
    let before = came(vector);
    allow_interrupts(true);
    act();
    let end = now() + 4 * MS;
    while now() < end {}
    allow_interrupts(false);
    came(vector) - before
}

/// Whether `vector` comes once something is done, however long the machine is about it.
fn hears(vector: u8, act: impl FnOnce()) -> Outcome {
    let before = came(vector);
    allow_interrupts(true);
    act();
    let comes = shared::wait(|| came(vector) > before);
    allow_interrupts(false);
    yes(comes)
}

/// The masks of both older controllers after a write.
fn masks(first: u8, second: u8) -> Outcome {
    set_port(FIRST_PIC + 1, first);
    set_port(SECOND_PIC + 1, second);
    let value = u64::from(port(FIRST_PIC + 1)) << 8 | u64::from(port(SECOND_PIC + 1));
    set_port(FIRST_PIC + 1, 0xff);
    set_port(SECOND_PIC + 1, 0xff);
    Outcome::Hex(value)
}

/// Requests (10) or what is in service (11), of the first controller.
fn pic(which: u8) -> u8 {
    set_port(FIRST_PIC, which);
    port(FIRST_PIC)
}

const OLD: &[Case] = &[
    ("pic-masks", |_| masks(0x5a, 0xa5)),
    ("pic-masks-none", |_| {
        set_port(0x43, 0x30);
        masks(0, 0)
    }),
    ("pic-masks-while-it-begins", |_| {
        set_port(FIRST_PIC, 0x11);
        let during = port(FIRST_PIC + 1);
        hush();
        Outcome::Hex(u64::from(during) << 8 | u64::from(port(FIRST_PIC + 1)))
    }),
    ("pic-edges", |_| Outcome::Hex(u64::from(port(0x4d0)) << 8 | u64::from(port(0x4d1)))),
    ("pic-edges-ones", |_| {
        set_port(0x4d0, 0xff);
        set_port(0x4d1, 0xff);
        let value = u64::from(port(0x4d0)) << 8 | u64::from(port(0x4d1));
        set_port(0x4d0, 0);
        set_port(0x4d1, 0);
        Outcome::Hex(value)
    }),
    ("pic-request-after-tick", |_| {
        tick();
        let end = now() + 3 * MS;
        while now() < end {}
        byte(pic(10))
    }),
    ("pic-poll-without-request", |_| {
        set_port(FIRST_PIC, 0xc);
        byte(port(FIRST_PIC))
    }),
    ("pic-poll", |_| {
        set_port(FIRST_PIC + 1, 0xfe);
        set_port(FIRST_PIC, 0xc);
        let polled = port(FIRST_PIC);
        set_port(FIRST_PIC + 1, 0xff);
        byte(polled)
    }),
    ("pic-in-service-after-poll", |_| {
        let served = pic(11);
        set_port(FIRST_PIC, 0x20);
        Outcome::Hex(u64::from(served) << 8 | u64::from(pic(11)))
    }),
    ("pic-local-line-at-first", |_| Outcome::Hex(device(LOCAL_LINE).into())),
    ("pic-tick", |_| {
        set_device(LOCAL_ON, 0x1ff);
        set_device(LOCAL_LINE, 0x700);
        set_port(FIRST_PIC + 1, 0xfe);
        hears(PIC_VECTORS, tick)
    }),
    ("pic-in-service", |_| byte(pic(11))),
    ("pic-no-tick-while-in-service", |_| code(heard(PIC_VECTORS, tick).into())),
    ("pic-tick-after-end", |_| hears(PIC_VECTORS, || set_port(FIRST_PIC, 0x20))),
    ("pic-tick-ended-by-itself", |_| {
        // With automatic ends.
        set_port(FIRST_PIC, 0x20);
        for value in [PIC_VECTORS, 4, 3, 0xfe] {
            if value == PIC_VECTORS {
                set_port(FIRST_PIC, 0x11);
            }
            set_port(FIRST_PIC + 1, value);
        }
        // Others may run all the while that one is listened for; without an end there is none after the first, however often.
        yes((0..4).any(|_| heard(PIC_VECTORS, tick) + heard(PIC_VECTORS, tick) > 1))
    }),
    ("pic-hushed", |_| {
        hush();
        set_device(LOCAL_LINE, MASKED);
        code(heard(PIC_VECTORS, tick).into())
    }),
];

const NEW: &[Case] = &[
    ("io-apic-index", |_| {
        set_device(IO_APIC, 0x1ff);
        Outcome::Hex(device(IO_APIC).into())
    }),
    ("io-apic-elsewhere", |_| Outcome::Hex(device(IO_APIC + 0x20).into())),
    ("io-apic-identity-ones", |_| {
        let before = io(0);
        set_io(0, !0);
        let value = io(0);
        set_io(0, before);
        Outcome::Hex(value.into())
    }),
    ("io-apic-version-ones", |_| {
        set_io(1, !0);
        Outcome::Hex(io(1).into())
    }),
    ("io-apic-tick", |_| {
        set_line(TIMER, TICK.into());
        hears(TICK, tick)
    }),
    ("io-apic-periodic-ticks", |_| {
        let before = came(TICK);
        heard(TICK, || {
            set_port(0x43, 0x34);
            set_port(0x40, 0xa9);
            set_port(0x40, 4);
            shared::wait(|| came(TICK) > before + 5);
        });
        yes(came(TICK) > before + 5)
    }),
    ("io-apic-ticks-masked", |_| {
        set_line(TIMER, MASKED | u32::from(TICK));
        heard(TICK, || {});
        let ticks = heard(TICK, tick);
        set_port(0x43, 0x30);
        code(ticks.into())
    }),
    ("event-by-line", |_| {
        // Not the store's and the console's, which come when they like.
        mask_others(true);
        set_line(LINE, EVENT.into());
        let set = pvh::set_parameter(HVM_PARAM_CALLBACK_IRQ, LINE.into());
        let port = shared::ipi_port();
        assert!(set == 0, "no callback: {set}");
        // By its edge: the line stays raised until the event is taken.
        let send = || _ = shared::event_op(EVTCHNOP_SEND, &mut Send { port });
        let first = heard(EVENT, send);
        let second = heard(EVENT, send);
        shared::upcall();
        // The line falls where the guest is next entered.
        pvh::cpuid(0, 0);
        Outcome::Hex(u64::from(first << 8 | second << 4 | heard(EVENT, send)))
    }),
    ("event-by-line-taken", |_| {
        shared::upcall();
        code(heard(EVENT, || {}).into())
    }),
    ("event-by-vector-again", |_| {
        set_line(LINE, MASKED);
        mask_others(false);
        code(pvh::hear_events())
    }),
];
