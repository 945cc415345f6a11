//! Delivery of events and NMIs to a PV vCPU on its way into the guest.

use super::bounce::Bounce;
use super::state::Callback;
use super::traps;
use crate::current::Current;
use core::sync::atomic::Ordering::SeqCst;
use evtchn::Info;
use x86_defs::control::Vector;

/// Makes the vCPU enter its event callback if events wait and are not masked. A guest that unmasks events without a
/// callback is crashed.
#[inline]
pub fn deliver_pending(current: &mut Current<'_>) {
    if current.vcpu.nmi_pending.load(SeqCst) {
        deliver_nmi(current);
    }
    if !current.state.info.is_some_and(Info::is_upcall_due) {
        return;
    }
    let to = Callback { masks_events: true, ..current.state.event };
    traps::deliver(current, Bounce::plain(to));
}

#[cold]
fn deliver_nmi(current: &mut Current<'_>) {
    current.vcpu.nmi_pending.store(false, SeqCst);
    let handler = current.state.traps[usize::from(Vector::NMI)].handler;
    let own = current.state.nmi;
    let to = if current.state.is_place(&own) { own } else { handler };
    if current.state.is_place(&to) {
        traps::deliver(current, Bounce::plain(Callback { masks_events: true, ..to }));
    }
}
