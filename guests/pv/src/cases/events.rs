//! Event channels: ports, domains and processors that are not there or not the caller's.

use super::{Case, table};
use crate::memory::{Guest, page};
use crate::report::{Outcome, yes};
use crate::say;
use crate::shared::{event_op, ipi_port, own_domain};
use xen_abi::event_channel::*;
use xen_abi::xen::*;

/// Pages for the FIFO layout.
const CONTROL: usize = 20;

/// Runs the group.
pub fn run(guest: &Guest) {
    for virq in (0..=24).chain([!0]) {
        let outcome = bind_virq(virq, 0);
        say!("events.virq-{virq}: {outcome}");
    }
    table(guest, "events", CASES);
}

fn close(port: u32) -> i64 {
    event_op(EVTCHNOP_CLOSE, &mut Close { port })
}

/// Zero where it worked, whatever the port; the port is closed again.
fn opened(result: i64, port: u32) -> Outcome {
    if result != 0 {
        return Outcome::Code(result);
    }
    Outcome::Code(close(port))
}

fn bind_virq(virq: u32, vcpu: u32) -> Outcome {
    let mut bind = BindVirq { virq, vcpu, port: 0 };
    opened(event_op(EVTCHNOP_BIND_VIRQ, &mut bind), bind.port)
}

fn bind_ipi(vcpu: u32) -> Outcome {
    let mut bind = BindIpi { vcpu, port: 0 };
    opened(event_op(EVTCHNOP_BIND_IPI, &mut bind), bind.port)
}

fn unbound(dom: u16, remote_dom: u16) -> (i64, u32) {
    let mut alloc = AllocUnbound { dom, remote_dom, port: 0 };
    (event_op(EVTCHNOP_ALLOC_UNBOUND, &mut alloc), alloc.port)
}

fn interdomain(remote_dom: u16, remote_port: u32) -> (i64, u32) {
    let mut bind = BindInterdomain { remote_dom, _gap0: [0; 2], remote_port, local_port: 0 };
    (event_op(EVTCHNOP_BIND_INTERDOMAIN, &mut bind), bind.local_port)
}

fn send(port: u32) -> Outcome {
    Outcome::Code(event_op(EVTCHNOP_SEND, &mut Send { port }))
}

fn status(dom: u16, port: u32) -> Result<Status, i64> {
    let mut status = Status { dom, _gap0: [0; 2], port, status: !0, vcpu: !0, u: xen_abi::Union([0; 2]) };
    match event_op(EVTCHNOP_STATUS, &mut status) {
        0 => Ok(status),
        error => Err(error),
    }
}

fn status_of(dom: u16, port: u32) -> Outcome {
    match status(dom, port) {
        Ok(status) => Outcome::Hex(u64::from(status.status)),
        Err(error) => Outcome::Code(error),
    }
}

fn bind_vcpu(port: u32, vcpu: u32) -> Outcome {
    Outcome::Code(event_op(EVTCHNOP_BIND_VCPU, &mut BindVcpu { port, vcpu }))
}

fn control(guest: &Guest, gfn: u64, offset: u32, vcpu: u32) -> Outcome {
    let _ = guest;
    let mut init = InitControl { control_gfn: gfn, offset, vcpu, link_bits: 0, _pad: [0; 7] };
    match event_op(EVTCHNOP_INIT_CONTROL, &mut init) {
        0 => Outcome::Hex(u64::from(init.link_bits)),
        error => Outcome::Code(error),
    }
}

fn code(result: i64) -> Outcome {
    Outcome::Code(result)
}

const CASES: &[Case] = &[
    ("virq-vcpu-77", |_| bind_virq(VIRQ_TIMER, 77)),
    ("virq-global-on-vcpu-1", |_| bind_virq(VIRQ_CONSOLE, 1)),
    ("virq-twice", |_| {
        let mut bind = BindVirq { virq: VIRQ_DEBUG, vcpu: 0, port: 0 };
        let first = event_op(EVTCHNOP_BIND_VIRQ, &mut bind);
        let port = bind.port;
        let second = event_op(EVTCHNOP_BIND_VIRQ, &mut bind);
        close(port);
        if first == 0 { code(second) } else { code(first) }
    }),
    ("ipi", |_| bind_ipi(0)),
    ("ipi-vcpu-1", |_| bind_ipi(1)),
    ("ipi-vcpu-77", |_| bind_ipi(77)),
    ("ipi-vcpu-max", |_| bind_ipi(!0)),
    ("send-port-0", |_| send(0)),
    ("send-closed", |_| send(60)),
    ("send-4095", |_| send(4095)),
    ("send-4096", |_| send(4096)),
    ("send-131072", |_| send(131_072)),
    ("send-max", |_| send(!0)),
    ("close-port-0", |_| code(close(0))),
    ("close-closed", |_| code(close(60))),
    ("close-max", |_| code(close(!0))),
    ("close-twice", |_| {
        let port = ipi_port();
        close(port);
        code(close(port))
    }),
    ("unmask-port-0", |_| code(event_op(EVTCHNOP_UNMASK, &mut Unmask { port: 0 }))),
    ("unmask-closed", |_| code(event_op(EVTCHNOP_UNMASK, &mut Unmask { port: 60 }))),
    ("unmask-max", |_| code(event_op(EVTCHNOP_UNMASK, &mut Unmask { port: !0 }))),
    ("status-port-0", |_| status_of(DOMID_SELF, 0)),
    ("status-closed", |_| status_of(DOMID_SELF, 60)),
    ("status-ipi", |_| {
        let port = ipi_port();
        let outcome = status_of(DOMID_SELF, port);
        close(port);
        outcome
    }),
    ("status-console", |g| status_of(DOMID_SELF, g.console().1)),
    ("status-max", |_| status_of(DOMID_SELF, !0)),
    ("status-domain-0", |_| status_of(0, 1)),
    ("status-no-domain", |_| status_of(0x7000, 1)),
    ("status-invalid-domain", |_| status_of(DOMID_INVALID, 1)),
    ("unbound-self", |_| {
        let (result, port) = unbound(DOMID_SELF, DOMID_SELF);
        opened(result, port)
    }),
    ("unbound-send", |_| {
        let (result, port) = unbound(DOMID_SELF, 0);
        let outcome = send(port);
        close(port);
        if result == 0 { outcome } else { code(result) }
    }),
    ("unbound-no-domain", |_| {
        let (result, port) = unbound(DOMID_SELF, 0x7000);
        opened(result, port)
    }),
    ("unbound-in-domain-0", |_| code(unbound(0, DOMID_SELF).0)),
    ("unbound-in-no-domain", |_| code(unbound(0x7000, DOMID_SELF).0)),
    ("bind-to-domain-0", |_| code(interdomain(0, 1).0)),
    ("bind-to-domain-0-port-0", |_| code(interdomain(0, 0).0)),
    ("bind-to-domain-0-port-max", |_| code(interdomain(0, !0).0)),
    ("bind-to-no-domain", |_| code(interdomain(0x7000, 1).0)),
    ("bind-to-idle", |_| code(interdomain(DOMID_IDLE, 1).0)),
    ("bind-to-hypervisor", |_| code(interdomain(DOMID_XEN, 1).0)),
    ("bind-to-self", |_| loop_back()),
    ("bind-to-port-of-domain-0", |_| {
        let (_, port) = unbound(DOMID_SELF, 0);
        let (result, _) = interdomain(DOMID_SELF, port);
        close(port);
        code(result)
    }),
    ("pirq", |_| {
        let mut bind = BindPirq { pirq: 1, flags: 0, port: 0 };
        code(event_op(EVTCHNOP_BIND_PIRQ, &mut bind))
    }),
    ("pirq-max", |_| {
        let mut bind = BindPirq { pirq: !0, flags: 0, port: 0 };
        code(event_op(EVTCHNOP_BIND_PIRQ, &mut bind))
    }),
    ("move-ipi", |_| {
        let port = ipi_port();
        let outcome = bind_vcpu(port, 0);
        close(port);
        outcome
    }),
    ("move-closed", |_| bind_vcpu(60, 0)),
    ("move-to-none", |g| bind_vcpu(g.console().1, 77)),
    ("move-max", |_| bind_vcpu(!0, !0)),
    ("reset-domain-0", |_| code(event_op(EVTCHNOP_RESET, &mut Reset { dom: 0 }))),
    ("reset-no-domain", |_| code(event_op(EVTCHNOP_RESET, &mut Reset { dom: 0x7000 }))),
    ("priority-max", |_| {
        let mut set = SetPriority { port: !0, priority: 0 };
        code(event_op(EVTCHNOP_SET_PRIORITY, &mut set))
    }),
    ("priority-16", |g| {
        let mut set = SetPriority { port: g.console().1, priority: 16 };
        code(event_op(EVTCHNOP_SET_PRIORITY, &mut set))
    }),
    ("ports-run-out", |_| ports_run_out()),
    ("fifo-array-first", |g| {
        let mut expand = ExpandArray { array_gfn: g.page_frame(CONTROL) };
        code(event_op(EVTCHNOP_EXPAND_ARRAY, &mut expand))
    }),
    ("fifo-frame-1", |g| control(g, 1, 0, 0)),
    ("fifo-beyond-memory", |g| control(g, 1 << 28, 0, 0)),
    ("fifo-table", |g| control(g, g.table(page(CONTROL), 1).1, 0, 0)),
    ("fifo-unaligned", |g| control(g, g.page_frame(CONTROL), 3, 0)),
    ("fifo-off-the-page", |g| control(g, g.page_frame(CONTROL), 4096 - 64, 0)),
    ("fifo-vcpu-77", |g| control(g, g.page_frame(CONTROL), 0, 77)),
];

/// A channel between two ports of this domain; an event at one end comes to the other.
fn loop_back() -> Outcome {
    let own = own_domain();
    let (result, far) = unbound(DOMID_SELF, own);
    if result != 0 {
        return code(result);
    }
    let (result, near) = interdomain(own, far);
    if result != 0 {
        close(far);
        return code(result);
    }
    crate::shared::mask_port(far, true);
    let sent = send(near);
    let came = crate::shared::pending(far);
    crate::shared::clear(far);
    close(near);
    let after = status_of(DOMID_SELF, far);
    close(far);
    yes(sent == Outcome::Code(0) && came && after == Outcome::Hex(u64::from(EVTCHNSTAT_UNBOUND)))
}

/// Opens ports until there are no more, and closes them.
fn ports_run_out() -> Outcome {
    let mut highest = 0;
    let error = loop {
        let mut bind = BindIpi { vcpu: 0, port: 0 };
        match event_op(EVTCHNOP_BIND_IPI, &mut bind) {
            0 => highest = bind.port,
            error => break error,
        }
        if highest >= EVTCHN_FIFO_NR_CHANNELS {
            break 0;
        }
    };
    say!("events.highest-port: {highest}");
    for port in (1..=highest).rev() {
        if status(DOMID_SELF, port).is_ok_and(|s| s.status == EVTCHNSTAT_IPI) {
            close(port);
        }
    }
    code(error)
}
