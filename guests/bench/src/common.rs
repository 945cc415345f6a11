//! Operations that every kind of guest has.

use crate::meter::Meter;
use crate::stubs;
use core::hint::black_box;
use guest_kernel::call::{call1, call2, call3};
use guest_kernel::grants::*;
use guest_kernel::memory::{Guest, page};
use guest_kernel::report::Outcome;
use guest_kernel::shared::*;
use guest_kernel::{entry, pvh};
use xen_abi::event_channel::{BindVirq, EVTCHNOP_BIND_VIRQ, EVTCHNOP_SEND, Send};
use xen_abi::grant_table::*;
use xen_abi::memory::XENMEM_MAXIMUM_RAM_PAGE;
use xen_abi::sched::SCHEDOP_YIELD;
use xen_abi::vcpu::*;
use xen_abi::xen::*;

/// An address of the lower half where nothing is.
const NOWHERE: u64 = 0x7000_0000_0000;
const UNDEFINED: u8 = 6;
const PAGE_FAULT: u8 = 14;

/// Measures them.
pub fn run(guest: &Guest, meter: &mut Meter) {
    hypercalls(meter);
    events(meter);
    timers(meter);
    faults(meter);
    copies(guest, meter);
}

fn hypercalls(meter: &mut Meter) {
    meter.measure("hypercall.xen_version", || _ = call2(HYPERVISOR_XEN_VERSION, 0, 0));
    let call = MulticallEntry { op: HYPERVISOR_XEN_VERSION.into(), result: 0, args: [0; 6] };
    let mut calls = [call; 8];
    let list = (&raw mut calls) as u64;
    meter.measure("hypercall.multicall-8", || _ = call2(HYPERVISOR_MULTICALL, list, 8));
    black_box(&calls);
    meter.measure("hypercall.unknown", || _ = call1(63, 0));
    meter.measure("hypercall.maximum_ram_page", || _ = call2(HYPERVISOR_MEMORY_OP, XENMEM_MAXIMUM_RAM_PAGE.into(), 0));
    let mut info = RunstateInfo { state: 0, _gap0: [0; 4], state_entry_time: 0, time: [0; 4] };
    meter.measure("hypercall.get_runstate", || _ = vcpu_op(VCPUOP_GET_RUNSTATE_INFO, 0, &mut info));
    meter.measure("schedule.yield-alone", || _ = call1(HYPERVISOR_SCHED_OP, SCHEDOP_YIELD.into()));
}

/// Sends an event to oneself.
pub fn send(port: u32) {
    event_op(EVTCHNOP_SEND, &mut Send { port });
}

fn events(meter: &mut Meter) {
    let port = ipi_port();
    mask_port(port, true);
    meter.measure("event.send-pending", || send(port));
    meter.measure("event.send-masked", || {
        clear(port);
        send(port);
    });
    clear(port);
    mask_port(port, false);
    mask_events(true);
    meter.measure("event.send-fresh", || {
        forget_upcalls();
        clear(port);
        send(port);
    });
    forget_upcalls();
    clear(port);
    hear_by(stubs::upcall());
    mask_events(false);
    meter.measure("event.send-with-upcall", || send(port));
    mask_events(true);
    hear_by(if pvh::is_translated() { entry::interrupt_stub(pvh::EVENTS) } else { entry::event() });
    mask_port(port, true);
}

/// Has events come to a handler.
fn hear_by(handler: u64) {
    if pvh::is_translated() {
        pvh::set_gate(pvh::EVENTS, handler);
    } else {
        call3(HYPERVISOR_SET_CALLBACKS, handler, entry::failsafe(), entry::syscall());
    }
}

fn timers(meter: &mut Meter) {
    // Beyond the end of all that is measured.
    let far = now() + 1_000_000 * MS;
    let mut set = SetSingleshotTimer { timeout_abs_ns: far, flags: 0, _gap0: [0; 4] };
    meter.measure("timer.set_singleshot", || _ = vcpu_op(VCPUOP_SET_SINGLESHOT_TIMER, 0, &mut set));
    meter.measure("timer.set_timer_op", || _ = call1(HYPERVISOR_SET_TIMER_OP, far));
    meter.measure("timer.set-and-stop", || {
        vcpu_op(VCPUOP_SET_SINGLESHOT_TIMER, 0, &mut set);
        call3(HYPERVISOR_VCPU_OP, VCPUOP_STOP_SINGLESHOT_TIMER.into(), 0, 0);
    });
    call1(HYPERVISOR_SET_TIMER_OP, 0);

    let mut bind = BindVirq { virq: VIRQ_TIMER, vcpu: 0, port: 0 };
    let result = event_op(EVTCHNOP_BIND_VIRQ, &mut bind);
    assert!(result == 0, "no port for the timer: {result}");
    let port = bind.port;
    mask_port(port, true);
    // A time that is past: it fires at once.
    let mut past = SetSingleshotTimer { timeout_abs_ns: 1, ..set };
    meter.measure("timer.set-and-fire", || {
        clear(port);
        vcpu_op(VCPUOP_SET_SINGLESHOT_TIMER, 0, &mut past);
        while !pending(port) {}
    });
}

fn faults(meter: &mut Meter) {
    guest_kernel::trap::set_handler(UNDEFINED, stubs::undefined());
    guest_kernel::trap::set_handler(PAGE_FAULT, stubs::page_fault());
    // SAFETY: the handler goes on behind the instruction.
    meter.measure("trap.undefined-opcode", || unsafe { core::arch::asm!("ud2") });
    // SAFETY: as above.
    meter.measure("trap.page-fault", || unsafe { core::arch::asm!("mov [rdi], rdi", in("rdi") NOWHERE) });
    guest_kernel::trap::install();
}

fn copies(guest: &Guest, meter: &mut Meter) {
    let opened = open_table(guest);
    assert!(opened == Outcome::Code(0), "no table of grants: {opened}");
    let own = own_domain();
    grant(REFERENCE, GTF_PERMIT_ACCESS, own, guest.page_frame(GIVEN));
    let copied = copy_page(guest, own);
    assert!(copied == Outcome::Text("okay"), "no copy: {copied}");
    meter.measure("grant.copy-4096", || _ = copy_page(guest, own));
    if pvh::is_translated() {
        return;
    }
    let (mapped, handle) = map(own, REFERENCE, WRITE, page(TAKEN));
    assert!(mapped == Outcome::Text("okay"), "no mapping: {mapped}");
    unmap(handle, page(TAKEN));
    meter.measure("grant.map-and-unmap", || {
        let (_, handle) = map(own, REFERENCE, WRITE, page(TAKEN));
        unmap(handle, page(TAKEN));
    });
}

/// Copies the page of a grant into another one.
fn copy_page(guest: &Guest, own: u16) -> Outcome {
    let to = copy_end(guest.page_frame(TAKEN), DOMID_SELF, 0);
    copy(copy_end(REFERENCE.into(), own, 0), to, 4096, GNTCOPY_SOURCE_GREF)
}
