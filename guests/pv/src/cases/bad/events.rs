//! Event channels.

use super::values::{Kind::*, Value, Value::Is};
use super::{At, Field, LONGEST, Op, Part, op, plain};
use crate::shared::event_op;
use xen_abi::event_channel::*;
use xen_abi::xen::*;

const NUMBER: u32 = HYPERVISOR_EVENT_CHANNEL_OP;
const SELF: Value = Is(DOMID_SELF as u64);

const fn command(command: u32) -> [Value; 5] {
    [Is(command as u64), Is(0), Is(0), Is(0), Is(0)]
}

/// Closes the port that is at this byte of the structure.
fn close<const AT: usize>(bytes: &[u8; LONGEST]) {
    let port = Part(AT, 4).read(bytes) as u32;
    // The ports below are the console's and the store's.
    if port > 2 {
        event_op(EVTCHNOP_CLOSE, &mut Close { port });
    }
}

pub const OPS: &[Op] = &[
    op!("event.bind_interdomain", NUMBER, command(EVTCHNOP_BIND_INTERDOMAIN), 1, BindInterdomain,
        { remote_dom: Domain => SELF, remote_port: Port => Is(60) }, undo close::<8>),
    op!("event.bind_virq", NUMBER, command(EVTCHNOP_BIND_VIRQ), 1, BindVirq,
        { virq: Number => Is(1), vcpu: Vcpu => Is(0) }, undo close::<8>),
    op!("event.bind_pirq", NUMBER, command(EVTCHNOP_BIND_PIRQ), 1, BindPirq,
        { pirq: Number => Is(1), flags: Number => Is(0) }, undo close::<8>),
    op!("event.close", NUMBER, command(EVTCHNOP_CLOSE), 1, Close, { port: Port => Is(60) }),
    op!("event.send", NUMBER, command(EVTCHNOP_SEND), 1, Send, { port: Port => Is(60) }),
    op!("event.status", NUMBER, command(EVTCHNOP_STATUS), 1, Status, { dom: Domain => SELF, port: Port => Is(60) }),
    op!("event.alloc_unbound", NUMBER, command(EVTCHNOP_ALLOC_UNBOUND), 1, AllocUnbound,
        { dom: Domain => SELF, remote_dom: Domain => SELF }, undo close::<4>),
    op!("event.bind_ipi", NUMBER, command(EVTCHNOP_BIND_IPI), 1, BindIpi, { vcpu: Vcpu => Is(0) }, undo close::<4>),
    op!("event.bind_vcpu", NUMBER, command(EVTCHNOP_BIND_VCPU), 1, BindVcpu, { port: Port => Is(60), vcpu: Vcpu => Is(0) }),
    op!("event.unmask", NUMBER, command(EVTCHNOP_UNMASK), 1, Unmask, { port: Port => Is(60) }),
    op!("event.reset", NUMBER, command(EVTCHNOP_RESET), 1, Reset, { dom: Other => Is(0x7000) }),
    op!("event.reset_cont", NUMBER, command(14), 1, Reset, { dom: Other => Is(0x7000) }),
    op!("event.init_control", NUMBER, command(EVTCHNOP_INIT_CONTROL), 1, InitControl,
        { control_gfn: Frame => Is(1), offset: Offset => Is(0), vcpu: Vcpu => Is(0), link_bits: Number => Is(0) }),
    op!("event.expand_array", NUMBER, command(EVTCHNOP_EXPAND_ARRAY), 1, ExpandArray, { array_gfn: Frame => Is(1) }),
    op!("event.set_priority", NUMBER, command(EVTCHNOP_SET_PRIORITY), 1, SetPriority,
        { port: Port => Is(60), priority: Number => Is(0) }),
    plain!("event.command", NUMBER, { "number" @ 0: Command => Is(15), "structure" @ 1: Pointer => Value::Page(28) }),
];
