//! What a hypervisor has to give: versions, time, events, timers, grants to oneself, a second processor.

use super::{Case, table};
use crate::memory::{Guest, page, peek, poke};
use crate::report::{Outcome, yes};
use crate::shared::*;
use crate::trap::UPCALLS;
use crate::{call, entry, pvh, second};
use core::arch::asm;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};
use xen_abi::event_channel::*;
use xen_abi::vcpu::*;
use xen_abi::version::{FeatureInfo, XENVER_GET_FEATURES};
use xen_abi::xen::*;

/// A page for records.
const RECORD: usize = 47;
/// What the second processor found, and that it was there.
static SECOND: AtomicU64 = AtomicU64::new(0);

/// Runs the group.
pub fn run(guest: &Guest) {
    if !pvh::is_translated() {
        table(guest, "self", START);
    }
    table(guest, "self", CASES);
}

/// What the builder of a paravirtualised guest tells it.
const START: &[Case] = &[
    ("flags", |g| Outcome::Hex(u64::from(g.start().flags))),
    ("magic", |g| yes(g.start().magic.starts_with(b"xen-3.0-x86_64"))),
    ("machine-to-physical", |g| yes(g.owns(g.page_frame(1)))),
];

const CASES: &[Case] = &[
    ("version", |_| Outcome::Hex(call::call2(HYPERVISOR_XEN_VERSION, 0, 0) as u64)),
    ("version-through-page", |_| through_page()),
    ("features", |_| {
        let mut info = FeatureInfo { submap_idx: 0, submap: 0 };
        match call::op(HYPERVISOR_XEN_VERSION, XENVER_GET_FEATURES, &mut info) {
            0 => Outcome::Hex(u64::from(info.submap)),
            error => Outcome::Code(error),
        }
    }),
    ("time-advances", |_| {
        let before = now();
        yes((0..1000).try_fold(before, |last, _| (now() >= last).then(now)).is_some() && now() > before)
    }),
    ("wall-clock", |_| {
        let seconds = word(offset_of!(SharedInfo, wc_version)).load(SeqCst) >> 32;
        yes(seconds > 1_600_000_000)
    }),
    ("event-to-self", |_| {
        let port = ipi_port();
        mask_events(false);
        let result = event_op(EVTCHNOP_SEND, &mut Send { port });
        mask_events(true);
        Outcome::Code(if result == 0 { i64::from(fired(port)) } else { result })
    }),
    ("event-while-masked", |_| masked_event()),
    ("event-while-port-masked", |_| masked_port()),
    ("poll-time-out", |_| {
        // Any event for this processor ends a poll, such as the console's.
        for _ in 0..10 {
            let end = now() + 5 * MS;
            let result = call::poll(&[], end);
            if now() >= end || result != 0 {
                return Outcome::Code(result);
            }
        }
        Outcome::Text("too early")
    }),
    ("poll-port", |_| {
        let port = ipi_port();
        mask_port(port, true);
        event_op(EVTCHNOP_SEND, &mut Send { port });
        let result = call::poll(&[port], now() + 500 * MS);
        yes(result == 0 && pending(port))
    }),
    ("timer", |_| timer(|at| call::call1(HYPERVISOR_SET_TIMER_OP, at))),
    ("single-shot-timer", |_| {
        timer(|at| {
            let mut set = SetSingleshotTimer { timeout_abs_ns: at, flags: 0, _gap0: [0; 4] };
            vcpu_op(VCPUOP_SET_SINGLESHOT_TIMER, 0, &mut set)
        })
    }),
    ("single-shot-timer-in-the-past", |_| {
        let mut set = SetSingleshotTimer { timeout_abs_ns: 1, flags: VCPU_SSHOTTMR_FUTURE, _gap0: [0; 4] };
        Outcome::Code(vcpu_op(VCPUOP_SET_SINGLESHOT_TIMER, 0, &mut set))
    }),
    ("periodic-timer", |_| periodic_timer()),
    ("run-state", |_| run_state()),
    ("run-state-adds-up", |_| run_state_adds_up()),
    ("run-state-by-frame", run_state_by_frame),
    ("second-processor", second_processor),
    ("second-processor-down", |_| yes(wait(|| call::call3(HYPERVISOR_VCPU_OP, u64::from(VCPUOP_IS_UP), 1, 0) == 0))),
];

/// The record in a page that is not mapped while the hypervisor writes there.
fn run_state_by_frame(guest: &Guest) -> Outcome {
    poke(RECORD, 9, 0);
    let entry = guest.entry_value(page(RECORD), 1);
    let mut area = RegisterRunstateMemoryArea { addr: (guest.page_frame(RECORD) << 12) + 64 };
    let registered = vcpu_op(VCPUOP_REGISTER_RUNSTATE_PHYS_AREA, 0, &mut area);
    if registered != 0 {
        return Outcome::Code(registered);
    }
    call::update_va(page(RECORD), 0, UVMF_INVLPG);
    call::poll(&[], now() + 20_000_000);
    call::update_va(page(RECORD), entry, UVMF_INVLPG);
    let (state, since, slept) = (peek(RECORD, 8), peek(RECORD, 9), peek(RECORD, 12));
    vcpu_op(VCPUOP_REGISTER_RUNSTATE_PHYS_AREA, 0, &mut !0u64);
    yes(state as i32 == RUNSTATE_RUNNING && since != 0 && since & XEN_RUNSTATE_UPDATE == 0 && slept >= 10_000_000)
}

/// `xen_version` by the stub that the builder wrote.
fn through_page() -> Outcome {
    let result: u64;
    // SAFETY: the stub does what `call` does.
    unsafe {
        asm!("call r12", in("r12") entry::hypercall_stub(HYPERVISOR_XEN_VERSION), inout("rdi") 0u64 => _,
             inout("rsi") 0u64 => _, out("rax") result, out("rcx") _, out("rdx") _, out("r8") _, out("r9") _,
             out("r10") _, out("r11") _);
    }
    Outcome::Hex(result)
}

fn masked_event() -> Outcome {
    let port = ipi_port();
    mask_events(true);
    event_op(EVTCHNOP_SEND, &mut Send { port });
    let early = fired(port);
    // Clearing the mask by hand delivers nothing; the next entry into the hypervisor does.
    mask_events(false);
    call::call2(HYPERVISOR_XEN_VERSION, 0, 0);
    mask_events(true);
    yes(early == 0 && fired(port) == 1)
}

fn masked_port() -> Outcome {
    let port = ipi_port();
    mask_port(port, true);
    mask_events(false);
    event_op(EVTCHNOP_SEND, &mut Send { port });
    let early = fired(port);
    let waits = pending(port);
    let result = event_op(EVTCHNOP_UNMASK, &mut Unmask { port });
    mask_events(true);
    yes(early == 0 && waits && result == 0 && fired(port) == 1)
}

/// The port of the timer's virtual interrupt, which is bound once.
fn timer_port() -> core::result::Result<u32, i64> {
    static PORT: AtomicU32 = AtomicU32::new(0);
    if PORT.load(SeqCst) == 0 {
        let mut bind = BindVirq { virq: VIRQ_TIMER, vcpu: 0, port: 0 };
        let result = event_op(EVTCHNOP_BIND_VIRQ, &mut bind);
        if result != 0 {
            return Err(result);
        }
        PORT.store(bind.port, SeqCst);
    }
    let port = PORT.load(SeqCst);
    mask_port(port, false);
    Ok(port)
}

/// The periodic timer ticks while the vCPU runs, and not more often than its period says.
fn periodic_timer() -> Outcome {
    const TICKS: u32 = 5;
    let port = match timer_port() {
        Ok(port) => port,
        Err(code) => return Outcome::Code(code),
    };
    let (before, start) = (fired(port), now());
    let result = vcpu_op(VCPUOP_SET_PERIODIC_TIMER, 0, &mut SetPeriodicTimer { period_ns: 2 * MS });
    if result != 0 {
        return Outcome::Code(result);
    }
    mask_events(false);
    let ticked = wait(|| fired(port) >= before + TICKS);
    let early = now() < start + u64::from(TICKS - 1) * 2 * MS;
    let result = call::call3(HYPERVISOR_VCPU_OP, u64::from(VCPUOP_STOP_PERIODIC_TIMER), 0, 0);
    let stopped = fired(port);
    let end = now() + 10 * MS;
    while now() < end {}
    mask_events(true);
    // One may have been on its way.
    yes(ticked && !early && result == 0 && fired(port) <= stopped + 1)
}

/// Times of a vCPU's states: together they are its age, and while it sleeps it does not run.
fn run_state_adds_up() -> Outcome {
    let read = || {
        let mut info = RunstateInfo { state: -1, _gap0: [0; 4], state_entry_time: 0, time: [0; 4] };
        vcpu_op(VCPUOP_GET_RUNSTATE_INFO, 0, &mut info);
        (info.time, now())
    };
    // The clock is read a little after the record is: later than that, if the machine is not given time in between.
    yes((0..4).any(|_| {
        let (before, start) = read();
        let slept = timer(|at| call::call1(HYPERVISOR_SET_TIMER_OP, at + 20 * MS));
        let (after, end) = read();
        let passed: u64 = after.iter().sum::<u64>() - before.iter().sum::<u64>();
        let exact = passed.abs_diff(end - start) < 5 * MS;
        let blocked = after[RUNSTATE_BLOCKED as usize] - before[RUNSTATE_BLOCKED as usize];
        matches!(slept, Outcome::Text("yes")) && exact && blocked >= 10 * MS && blocked <= passed
    }))
}

/// Sets a timer and waits blocked for its event.
fn timer(set: impl Fn(u64) -> i64) -> Outcome {
    let port = match timer_port() {
        Ok(port) => port,
        Err(code) => return Outcome::Code(code),
    };
    // It ticks from the vCPU's start on, for the same virtual interrupt.
    let stopped = call::call3(HYPERVISOR_VCPU_OP, u64::from(VCPUOP_STOP_PERIODIC_TIMER), 0, 0);
    upcall();
    let (before, start) = (fired(port), now());
    let result = if stopped == 0 { set(start + 3 * MS) } else { stopped };
    if result != 0 {
        return Outcome::Code(result);
    }
    while fired(port) == before {
        call::block();
    }
    mask_events(true);
    if now() < start + 3 * MS {
        return Outcome::Text("early");
    }
    yes(UPCALLS.load(SeqCst) > 0 && fired(port) == before + 1)
}

fn run_state() -> Outcome {
    let mut info = RunstateInfo { state: -1, _gap0: [0; 4], state_entry_time: 0, time: [0; 4] };
    let result = vcpu_op(VCPUOP_GET_RUNSTATE_INFO, 0, &mut info);
    if result != 0 {
        return Outcome::Code(result);
    }
    yes(info.state == RUNSTATE_RUNNING && info.time[0] > 0 && info.state_entry_time <= now())
}

fn second_processor(guest: &Guest) -> Outcome {
    let (entry, stack) = entry::second();
    let result = if pvh::is_translated() {
        second::initialise_translated(1, |_| {})
    } else {
        second::initialise(guest, 1, |context| {
            context.user_regs.rip = entry;
            context.user_regs.rsp = stack;
            context.kernel_sp = stack;
        })
    };
    if result != 0 {
        return Outcome::Code(result);
    }
    let result = call::call3(HYPERVISOR_VCPU_OP, u64::from(VCPUOP_UP), 1, 0);
    if result != 0 {
        return Outcome::Code(result);
    }
    if !wait(|| SECOND.load(SeqCst) != 0) {
        return Outcome::Text("never came");
    }
    Outcome::Hex(SECOND.load(SeqCst))
}

/// Where the second processor runs: says which Xen it found, and goes down.
pub fn second_main() -> ! {
    SECOND.store(call::call2(HYPERVISOR_XEN_VERSION, 0, 0) as u64, SeqCst);
    loop {
        call::call3(HYPERVISOR_VCPU_OP, u64::from(VCPUOP_DOWN), 1, 0);
    }
}
