//! Two virtual processors on one CPU: what it costs to change between them.

use crate::common::send;
use crate::meter::Meter;
use core::sync::atomic::{AtomicU32, Ordering::SeqCst};
use guest_kernel::call::{call1, call3, poll};
use guest_kernel::memory::Guest;
use guest_kernel::shared::{clear, event_op, mask_port};
use guest_kernel::{entry, pvh, second};
use xen_abi::event_channel::{BindIpi, EVTCHNOP_BIND_IPI};
use xen_abi::sched::SCHEDOP_YIELD;
use xen_abi::vcpu::{VCPUOP_DOWN, VCPUOP_UP};
use xen_abi::xen::{HYPERVISOR_SCHED_OP, HYPERVISOR_VCPU_OP};

/// What the second processor does: it yields, answers events, or ends.
const YIELDS: u32 = 1;
const ANSWERS: u32 = 2;
const ENDS: u32 = 3;

static TASK: AtomicU32 = AtomicU32::new(YIELDS);
/// Rounds of the second processor.
static ROUNDS: AtomicU32 = AtomicU32::new(0);
/// The ports by which the first processor calls, and the second one answers.
static CALL: AtomicU32 = AtomicU32::new(0);
static ANSWER: AtomicU32 = AtomicU32::new(0);

fn give_way() {
    call1(HYPERVISOR_SCHED_OP, SCHEDOP_YIELD.into());
}

/// What the second processor does.
pub fn second() -> ! {
    loop {
        ROUNDS.fetch_add(1, SeqCst);
        match TASK.load(SeqCst) {
            YIELDS => give_way(),
            ANSWERS => {
                let call = CALL.load(SeqCst);
                poll(&[call], 0);
                clear(call);
                send(ANSWER.load(SeqCst));
            }
            _ => _ = call3(HYPERVISOR_VCPU_OP, VCPUOP_DOWN.into(), 1, 0),
        }
    }
}

/// A masked port for events to a processor.
fn port(vcpu: u32) -> u32 {
    let mut bind = BindIpi { vcpu, port: 0 };
    let result = event_op(EVTCHNOP_BIND_IPI, &mut bind);
    assert!(result == 0 && bind.port < 64, "no port: {result}");
    mask_port(bind.port, true);
    bind.port
}

/// Measures it.
pub fn run(guest: &Guest, meter: &mut Meter) {
    let (start, stack) = entry::second();
    let result = if pvh::is_translated() {
        second::initialise_translated(1, |_| {})
    } else {
        second::initialise(guest, 1, |context| {
            context.user_regs.rip = start;
            context.user_regs.rsp = stack;
            context.kernel_sp = stack;
        })
    };
    assert!(result == 0, "no second processor: {result}");
    CALL.store(port(1), SeqCst);
    ANSWER.store(port(0), SeqCst);
    let result = call3(HYPERVISOR_VCPU_OP, VCPUOP_UP.into(), 1, 0);
    assert!(result == 0, "the second processor does not start: {result}");
    while ROUNDS.load(SeqCst) < 10 {
        give_way();
    }
    meter.measure("schedule.yield-there-and-back", give_way);
    TASK.store(ANSWERS, SeqCst);
    let (call, answer) = (CALL.load(SeqCst), ANSWER.load(SeqCst));
    meter.measure("schedule.event-there-and-back", || {
        send(call);
        poll(&[answer], 0);
        clear(answer);
    });
    TASK.store(ENDS, SeqCst);
    send(call);
}
