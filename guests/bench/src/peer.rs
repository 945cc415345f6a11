//! Another domain on the same CPU: what it costs to send it an event, and to get one back.

use crate::common::send;
use crate::meter::Meter;
use guest_kernel::call::poll;
use guest_kernel::shared::{clear, event_op, mask_port, own_domain};
use xen_abi::event_channel::{AllocUnbound, BindInterdomain, EVTCHNOP_ALLOC_UNBOUND, EVTCHNOP_BIND_INTERDOMAIN};
use xen_abi::xen::DOMID_SELF;

/// Ports among which the other domain's is: it opens one of its first.
const PORTS: u32 = 16;

/// What the other domain does: it answers the domain that was made next.
pub fn answer() -> ! {
    let mut open = AllocUnbound { dom: DOMID_SELF, remote_dom: own_domain() + 1, port: 0 };
    let result = event_op(EVTCHNOP_ALLOC_UNBOUND, &mut open);
    assert!(result == 0 && open.port < PORTS, "no port for another domain: {result}");
    mask_port(open.port, true);
    loop {
        poll(&[open.port], 0);
        clear(open.port);
        send(open.port);
    }
}

/// What a domain does that is only there.
pub fn wait() -> ! {
    loop {
        poll(&[], 0);
    }
}

/// Measures it, with the domain that was made before this one.
pub fn run(meter: &mut Meter) {
    let remote_dom = own_domain().wrapping_sub(1);
    let bind = |remote_port| {
        let mut bind = BindInterdomain { remote_dom, _gap0: [0; 2], remote_port, local_port: 0 };
        (event_op(EVTCHNOP_BIND_INTERDOMAIN, &mut bind) == 0).then_some(bind.local_port)
    };
    let Some(port) = (1..PORTS).find_map(bind) else { return };
    mask_port(port, true);
    let call = || {
        clear(port);
        send(port);
        poll(&[port], 0);
    };
    // The answer to the event by which the ends are joined.
    call();
    meter.measure("schedule.event-to-domain-and-back", call);
}
