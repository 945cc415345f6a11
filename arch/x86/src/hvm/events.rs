//! Delivery of interrupts to an HVM vCPU on its way into the guest.

use super::VcpuState;
use super::apic;
use super::engine::Injection;
use crate::current::Current;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use evtchn::Info;
use virq::Callback;
use vlapic::Next;
use x86_defs::control::RFlags;
use xen_abi::hvm_params::HVM_PARAM_CALLBACK_IRQ;

/// What a vCPU is to be interrupted by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Due {
    Nothing,
    /// Event channels, by this vector; their bits stay until the guest clears them.
    Upcall(u8),
    /// The local APIC, by this vector.
    Apic(u8),
    /// The same, once the task priority allows it.
    Held(u8),
}

/// Has the next entry deliver what is due, or the guest leave once it can take it.
pub fn deliver(current: &mut Current<'_, VcpuState>) {
    apic::expire(current);
    if current.vcpu.nmi_pending.load(SeqCst) && !current.state.engine.has_injection() {
        current.vcpu.nmi_pending.store(false, SeqCst);
        current.state.engine.inject(Injection::Nmi);
    }
    let due = due(current);
    let state = &mut *current.state;
    let is_open =
        state.regs.rflags & RFlags::IF.bits() != 0 && !state.engine.is_in_shadow() && !state.engine.has_injection();
    match due {
        Due::Nothing => state.engine.await_window(None, false),
        Due::Upcall(vector) if is_open => state.engine.inject(Injection::Interrupt(vector)),
        Due::Apic(_) if is_open => {
            if let Some(vector) = state.lapic.accept(&current.vcpu.arch.apic) {
                state.engine.inject(Injection::Interrupt(vector));
            }
        }
        Due::Upcall(vector) => state.engine.await_window(Some(vector), true),
        Due::Apic(vector) | Due::Held(vector) => state.engine.await_window(Some(vector), false),
    }
}

fn due(current: &Current<'_, VcpuState>) -> Due {
    if let (Some(vector), true) = (callback(current), current.state.info.is_some_and(Info::is_upcall_due)) {
        return Due::Upcall(vector);
    }
    match current.state.lapic.next(&current.vcpu.arch.apic) {
        Next::None => Due::Nothing,
        Next::Ready(vector) => Due::Apic(vector),
        Next::Held(vector) => Due::Held(vector),
    }
}

/// The vector by which the guest hears of event channels, if it has named one.
fn callback(current: &Current<'_, VcpuState>) -> Option<u8> {
    let translated = current.domain.translated.as_ref()?;
    match Callback::from_parameter(translated.params[HVM_PARAM_CALLBACK_IRQ as usize].load(Relaxed)) {
        Callback::Vector(vector) => Some(vector),
        _ => None,
    }
}
