//! Two virtual processors on one CPU: what it costs to change between them.

use crate::common::send;
use crate::meter::Meter;
use crate::stubs;
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

/// No such processor (errno.h of Xen's).
const ENOENT: i32 = 2;

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

/// Gives a processor a state; false if the guest has no such one.
fn initialise(guest: &Guest, vcpu: u32, start: u64) -> bool {
    let result = if pvh::is_translated() {
        second::initialise_translated(vcpu, |registers| registers.rip = start)
    } else {
        second::initialise(guest, vcpu, |context| context.user_regs.rip = start)
    };
    assert!(result == 0 || result == i64::from(-ENOENT), "processor {vcpu} has no state: {result}");
    result == 0
}

fn start(vcpu: u32) {
    let result = call3(HYPERVISOR_VCPU_OP, VCPUOP_UP.into(), vcpu.into(), 0);
    assert!(result == 0, "processor {vcpu} does not start: {result}");
}

/// Starts the processors from the third on, which wait.
pub fn start_others(guest: &Guest) {
    (2..).take_while(|vcpu| initialise(guest, *vcpu, stubs::wait())).for_each(start);
}

/// Measures it.
pub fn run(guest: &Guest, meter: &mut Meter) {
    if !initialise(guest, 1, entry::second().0) {
        return;
    }
    CALL.store(port(1), SeqCst);
    ANSWER.store(port(0), SeqCst);
    start(1);
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
