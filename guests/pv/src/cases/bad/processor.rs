//! vCPUs, scheduling, time, traps, and what the hypervisor says of itself.

use super::values::{Kind::*, Value, Value::*};
use super::{At, Field, LIST, LONGEST, Op, Part, op, plain};
use crate::call::{call1, call3};
use crate::shared::vcpu_op;
use xen_abi::callback;
use xen_abi::sched::*;
use xen_abi::vcpu::*;
use xen_abi::version::*;
use xen_abi::xen::*;

const PLAY: usize = 36;

const fn command(command: u32) -> [Value; 5] {
    [Is(command as u64), Is(0), Is(0), Is(0), Is(0)]
}

/// An operation on vCPU 1, which is down.
const fn vcpu(command: u32) -> [Value; 5] {
    [Is(command as u64), Is(1), Is(0), Is(0), Is(0)]
}

fn no_timer(_: &[u8; LONGEST]) {
    call1(HYPERVISOR_SET_TIMER_OP, 0);
}

/// Without timers, and without records anywhere.
fn as_before(_: &[u8; LONGEST]) {
    for vcpu in 0..=2 {
        vcpu_op(VCPUOP_STOP_PERIODIC_TIMER, vcpu, &mut 0u64);
        for command in [VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA, VCPUOP_REGISTER_VCPU_TIME_MEMORY_AREA] {
            vcpu_op(command, vcpu, &mut 0u64);
        }
        for command in [VCPUOP_REGISTER_RUNSTATE_PHYS_AREA, VCPUOP_REGISTER_VCPU_TIME_PHYS_AREA] {
            vcpu_op(command, vcpu, &mut !0u64);
        }
    }
    vcpu_op(VCPUOP_STOP_SINGLESHOT_TIMER, 0, &mut 0u64);
}

fn no_breakpoints(_: &[u8; LONGEST]) {
    for register in [0, 1, 2, 3, 6, 7] {
        call3(HYPERVISOR_SET_DEBUGREG, register, 0, 0);
    }
}

/// Types of callbacks that there are not, or that can be done without.
const TYPES: &[(&str, Value)] =
    &[("6", Is(6)), ("8", Is(8)), ("255", Is(255)), ("15-bit", Is(1 << 15)), ("max", Is(!0))];

pub const OPS: &[Op] = &[
    plain!("vcpu.command", HYPERVISOR_VCPU_OP,
        { "number" @ 0: Command => Is(16), "vcpu" @ 1: Vcpu => Is(0), "structure" @ 2: Pointer => Page(LIST) }),
    plain!("vcpu.up", HYPERVISOR_VCPU_OP, { "number" @ 0: Values(&[]) => Is(VCPUOP_UP as u64), "vcpu" @ 1: Vcpu => Is(77) }),
    plain!("vcpu.down", HYPERVISOR_VCPU_OP, { "number" @ 0: Values(&[]) => Is(VCPUOP_DOWN as u64), "vcpu" @ 1: Vcpu => Is(77) }),
    plain!("vcpu.is_up", HYPERVISOR_VCPU_OP, { "number" @ 0: Values(&[]) => Is(VCPUOP_IS_UP as u64), "vcpu" @ 1: Vcpu => Is(77) }),
    plain!("vcpu.stop_periodic_timer", HYPERVISOR_VCPU_OP,
        { "number" @ 0: Values(&[]) => Is(VCPUOP_STOP_PERIODIC_TIMER as u64), "vcpu" @ 1: Vcpu => Is(77) }),
    plain!("vcpu.stop_singleshot_timer", HYPERVISOR_VCPU_OP,
        { "number" @ 0: Values(&[]) => Is(VCPUOP_STOP_SINGLESHOT_TIMER as u64), "vcpu" @ 1: Vcpu => Is(77) }),
    plain!("vcpu.send_nmi", HYPERVISOR_VCPU_OP, {
        "number" @ 0: Values(&[]) => Is(VCPUOP_SEND_NMI as u64),
        "vcpu" @ 1: Vcpu => Is(77),
        "structure" @ 2: Pointer => Is(0),
    }),
    op!("vcpu.get_runstate_info", HYPERVISOR_VCPU_OP, vcpu(VCPUOP_GET_RUNSTATE_INFO), 2, RunstateInfo, {}),
    op!("vcpu.get_physid", HYPERVISOR_VCPU_OP, vcpu(VCPUOP_GET_PHYSID), 2, GetPhysId, {}),
    op!("vcpu.set_periodic_timer", HYPERVISOR_VCPU_OP, vcpu(VCPUOP_SET_PERIODIC_TIMER), 2, SetPeriodicTimer,
        { period_ns: Count => Is(0) }, undo as_before),
    op!("vcpu.set_singleshot_timer", HYPERVISOR_VCPU_OP, vcpu(VCPUOP_SET_SINGLESHOT_TIMER), 2, SetSingleshotTimer,
        { timeout_abs_ns: Count => Is(1), flags: Number => Is(0) }, undo as_before),
    op!("vcpu.set_own_singleshot_timer", HYPERVISOR_VCPU_OP, command(VCPUOP_SET_SINGLESHOT_TIMER), 2, SetSingleshotTimer,
        { timeout_abs_ns: Count => Is(1), flags: Number => Is(0) }, undo as_before),
    op!("vcpu.register_runstate", HYPERVISOR_VCPU_OP, vcpu(VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA), 2, RegisterRunstateMemoryArea,
        { addr: Pointer => Page(PLAY) }, undo as_before),
    op!("vcpu.register_own_runstate", HYPERVISOR_VCPU_OP, command(VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA), 2,
        RegisterRunstateMemoryArea, { addr: Pointer => Page(PLAY) }, undo as_before),
    op!("vcpu.register_time", HYPERVISOR_VCPU_OP, vcpu(VCPUOP_REGISTER_VCPU_TIME_MEMORY_AREA), 2, RegisterTimeMemoryArea,
        { addr: Pointer => Page(PLAY) }, undo as_before),
    op!("vcpu.register_own_time", HYPERVISOR_VCPU_OP, command(VCPUOP_REGISTER_VCPU_TIME_MEMORY_AREA), 2, RegisterTimeMemoryArea,
        { addr: Pointer => Page(PLAY) }, undo as_before),
    op!("vcpu.register_runstate_phys", HYPERVISOR_VCPU_OP, vcpu(VCPUOP_REGISTER_RUNSTATE_PHYS_AREA), 2,
        RegisterRunstateMemoryArea, { addr: Address => Machine(PLAY, 8) }, undo as_before),
    op!("vcpu.register_own_runstate_phys", HYPERVISOR_VCPU_OP, command(VCPUOP_REGISTER_RUNSTATE_PHYS_AREA), 2,
        RegisterRunstateMemoryArea, { addr: Address => Machine(PLAY, 8) }, undo as_before),
    op!("vcpu.register_time_phys", HYPERVISOR_VCPU_OP, vcpu(VCPUOP_REGISTER_VCPU_TIME_PHYS_AREA), 2, RegisterTimeMemoryArea,
        { addr: Address => Machine(PLAY, 8) }, undo as_before),
    op!("vcpu.register_own_time_phys", HYPERVISOR_VCPU_OP, command(VCPUOP_REGISTER_VCPU_TIME_PHYS_AREA), 2,
        RegisterTimeMemoryArea, { addr: Address => Machine(PLAY, 8) }, undo as_before),
    op!("vcpu.register_info", HYPERVISOR_VCPU_OP, vcpu(VCPUOP_REGISTER_VCPU_INFO), 2, RegisterVcpuInfo,
        { mfn: Frame => Is(1), offset: Offset => Is(0), rsvd: Number => Is(0) }),
    plain!("sched.command", HYPERVISOR_SCHED_OP, { "number" @ 0: Command => Is(8), "structure" @ 1: Pointer => Page(LIST) }),
    op!("sched.poll", HYPERVISOR_SCHED_OP, command(SCHEDOP_POLL), 1, Poll,
        { ports: Pointer => Page(LIST), nr_ports: Count => Is(0), timeout: Values(&[("1", Is(1)), ("1000", Is(1000))]) => Is(1) }),
    op!("sched.poll_one", HYPERVISOR_SCHED_OP, command(SCHEDOP_POLL), 1, Poll,
        { ports: Pointer => Page(LIST), nr_ports: Count => Is(1), timeout: Values(&[("1", Is(1))]) => Is(1) }),
    op!("sched.remote_shutdown", HYPERVISOR_SCHED_OP, command(SCHEDOP_REMOTE_SHUTDOWN), 1, RemoteShutdown,
        { domain_id: Other => Is(0), reason: Number => Is(0) }),
    op!("sched.watchdog", HYPERVISOR_SCHED_OP, command(SCHEDOP_WATCHDOG), 1, Watchdog, { id: Number => Is(77), timeout: Count => Is(1000) }),
    op!("sched.pin_override", HYPERVISOR_SCHED_OP, command(SCHEDOP_PIN_OVERRIDE), 1, PinOverride, { pcpu: Number => Is(0) }),
    plain!("set_timer_op", HYPERVISOR_SET_TIMER_OP, { "timeout" @ 0: Count => Is(0) }, undo no_timer),
    plain!("set_debugreg", HYPERVISOR_SET_DEBUGREG, { "register" @ 0: Number => Is(0), "value" @ 1: Pointer => Is(0) }, undo no_breakpoints),
    plain!("get_debugreg", HYPERVISOR_GET_DEBUGREG, { "register" @ 0: Number => Is(0) }),
    plain!("stack_switch", HYPERVISOR_STACK_SWITCH, { "selector" @ 0: Number => Is(0xe02b), "pointer" @ 1: Pointer => Is(0) }),
    plain!("set_segment_base", HYPERVISOR_SET_SEGMENT_BASE, {
        "which" @ 0: Values(&[("4", Is(4)), ("8", Is(8)), ("sign", Is(1 << 31)), ("wide", Is(1 << 32 | 4)), ("max", Is(!0))]) => Is(4),
        "base" @ 1: Pointer => Is(0),
    }),
    plain!("vm_assist", HYPERVISOR_VM_ASSIST, { "command" @ 0: Number => Is(1), "type" @ 1: Number => Is(0) }),
    plain!("set_gdt", HYPERVISOR_SET_GDT, { "frames" @ 0: Pointer => Page(LIST), "entries" @ 1: Count => Is(0) }),
    op!("set_gdt_of", HYPERVISOR_SET_GDT, [Is(0), Is(1), Is(0), Is(0), Is(0)], 0, GetPhysId, { phys_id: Frame => Is(1) }),
    op!("callback.register", HYPERVISOR_CALLBACK_OP, command(callback::CALLBACKOP_REGISTER), 1, callback::Register,
        { r#type: Values(TYPES) => Is(6), flags: Number => Is(0), address: Pointer => Is(0) }),
    op!("callback.unregister", HYPERVISOR_CALLBACK_OP, command(callback::CALLBACKOP_UNREGISTER), 1, callback::Unregister,
        { r#type: Number => Is(0) }),
    plain!("callback.command", HYPERVISOR_CALLBACK_OP, { "number" @ 0: Command => Is(2), "structure" @ 1: Pointer => Page(LIST) }),
    plain!("nmi.command", HYPERVISOR_NMI_OP, { "number" @ 0: Command => Is(2), "structure" @ 1: Pointer => Page(LIST) }),
    op!("version.get_features", HYPERVISOR_XEN_VERSION, command(XENVER_GET_FEATURES), 1, FeatureInfo, { submap_idx: Count => Is(0) }),
    op!("version.build_id", HYPERVISOR_XEN_VERSION, command(XENVER_BUILD_ID), 1, Varbuf, { len: Count => Is(0) }),
    op!("version.extraversion2", HYPERVISOR_XEN_VERSION, command(XENVER_EXTRAVERSION2), 1, Varbuf, { len: Values(&[("0", Is(0)), ("1", Is(1))]) => Is(0) }),
    op!("version.commandline2", HYPERVISOR_XEN_VERSION, command(XENVER_COMMANDLINE2), 1, Varbuf, { len: Count => Is(0) }),
    plain!("version.command", HYPERVISOR_XEN_VERSION, { "number" @ 0: Command => Is(16), "structure" @ 1: Pointer => Page(LIST) }),
    op!("multicall", HYPERVISOR_MULTICALL, [Is(0), Is(1), Is(0), Is(0), Is(0)], 0, MulticallEntry,
        { op: Values(&[("13", Is(13)), ("43", Is(43)), ("63", Is(63)), ("sign", Is(1 << 31)), ("wide", Is(1 << 32 | 17)), ("max", Is(!0))]) => Is(63) },
        answer result),
    plain!("console_io", HYPERVISOR_CONSOLE_IO, { "command" @ 0: Number => Is(2), "count" @ 1: Count => Is(0), "buffer" @ 2: Pointer => Page(LIST) }),
];
