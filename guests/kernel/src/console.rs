//! The console: a ring of bytes in a page that the guest shares with dom0's console daemon.

use crate::call;
use crate::memory::Guest;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};
use xen_abi::event_channel::{EVTCHNOP_SEND, Send};
use xen_abi::sched::SCHEDOP_YIELD;
use xen_abi::xen::{HYPERVISOR_EVENT_CHANNEL_OP, HYPERVISOR_SCHED_OP};

/// Size of the outgoing ring in bytes (io/console.h: `out` behind 1024 bytes of `in`).
const OUT: u32 = 2048;
const OUT_AT: u64 = 1024;
/// Where the counters `out_cons` and `out_prod` are.
const CONSUMED_AT: u64 = OUT_AT + OUT as u64 + 8;
const PRODUCED_AT: u64 = CONSUMED_AT + 4;

static RING: AtomicU64 = AtomicU64::new(0);
static PORT: AtomicU32 = AtomicU32::new(0);

/// Finds the ring.
pub fn open(guest: &Guest) {
    let (frame, port) = guest.console();
    PORT.store(port, Relaxed);
    if let Some(address) = guest.address_of(frame) {
        RING.store(address, Relaxed);
    }
}

fn counter(at: u64) -> &'static AtomicU32 {
    // SAFETY: the ring's page is mapped for ever; both sides use the counters as atomics.
    unsafe { &*((RING.load(Relaxed) + at) as *const AtomicU32) }
}

fn notify() {
    let mut send = Send { port: PORT.load(Relaxed) };
    call::op(HYPERVISOR_EVENT_CHANNEL_OP, EVTCHNOP_SEND, &mut send);
}

struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if RING.load(Relaxed) == 0 {
            return Err(fmt::Error);
        }
        for byte in text.bytes() {
            let produced = counter(PRODUCED_AT).load(Relaxed);
            while produced.wrapping_sub(counter(CONSUMED_AT).load(Acquire)) >= OUT {
                notify();
                call::call1(HYPERVISOR_SCHED_OP, u64::from(SCHEDOP_YIELD));
            }
            let at = RING.load(Relaxed) + OUT_AT + u64::from(produced % OUT);
            // SAFETY: within the ring, whose consumer reads this byte only after the counter moved.
            unsafe { (at as *mut u8).write_volatile(byte) };
            counter(PRODUCED_AT).store(produced.wrapping_add(1), Release);
        }
        Ok(())
    }
}

/// Writes one line.
pub fn line(text: fmt::Arguments<'_>) {
    let _ = Console.write_fmt(text);
    let _ = Console.write_str("\n");
    notify();
}

/// Prints a line on the console.
#[macro_export]
macro_rules! say {
    ($($argument:tt)*) => { $crate::console::line(format_args!($($argument)*)) };
}
