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
    let rip = current.state.event.rip;
    traps::deliver(current, Bounce::plain(Callback { rip, masks_events: true }));
}

#[cold]
fn deliver_nmi(current: &mut Current<'_>) {
    current.vcpu.nmi_pending.store(false, SeqCst);
    let handler = current.state.traps[usize::from(Vector::NMI)].handler;
    let rip = if current.state.nmi != 0 { current.state.nmi } else { handler.rip };
    if rip != 0 {
        traps::deliver(current, Bounce::plain(Callback { rip, masks_events: true }));
    }
}
