//! Delivery of events and NMIs to a PV vCPU on its way into the guest.

use super::bounce::Bounce;
use super::state::{Callback, VcpuState};
use super::traps;
use crate::current::Current;
use core::sync::atomic::Ordering::SeqCst;
use evtchn::Info;
use x86_defs::control::Vector;

/// Delivers an NMI or an event that waits.
#[inline]
pub fn deliver_pending(current: &mut Current<'_>) {
    deliver_nmi(current);
    if is_due(current.state) {
        deliver(current);
    }
}

/// Whether events wait and are not masked.
#[inline(always)]
pub fn is_due(state: &VcpuState) -> bool {
    state.info.is_some_and(Info::is_upcall_due)
}

/// Makes the vCPU enter its event callback. A guest that unmasks events without a callback is crashed.
pub fn deliver(current: &mut Current<'_>) {
    let to = Callback { masks_events: true, ..current.state.event };
    traps::deliver(current, Bounce::plain(to));
}

/// Delivers an NMI that waits.
#[inline(always)]
pub fn deliver_nmi(current: &mut Current<'_>) {
    if current.vcpu.nmi_pending.load(SeqCst) {
        take_nmi(current);
    }
}

#[cold]
fn take_nmi(current: &mut Current<'_>) {
    current.vcpu.nmi_pending.store(false, SeqCst);
    let handler = current.state.traps[usize::from(Vector::NMI)].handler;
    let own = current.state.nmi;
    let to = if current.state.is_place(&own) { own } else { handler };
    if current.state.is_place(&to) {
        traps::deliver(current, Bounce::plain(Callback { masks_events: true, ..to }));
    }
}
