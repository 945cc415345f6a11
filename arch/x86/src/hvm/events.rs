//! Delivery of interrupts to an HVM vCPU on its way into the guest.

use super::VcpuState;
use super::engine::{Control, Injection};
use super::{apic, board};
use crate::current::Current;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use domain::GivenEvent;
use evtchn::Info;
use virq::{Callback, Pending, Source};
use vlapic::Next;
use x86_defs::control::{RFlags, Vector};
use xen_abi::dm_op::*;
use xen_abi::hvm_params::HVM_PARAM_CALLBACK_IRQ;

/// In [`GivenEvent::error_code`]: there is none.
const NO_ERROR_CODE: u32 = !0;

/// Has the next entry deliver what is due, or the guest leave once it can take it.
pub fn deliver(current: &mut Current<'_, VcpuState>) {
    apic::expire(current);
    if let Some(event) = current.vcpu.arch.given.take() {
        take_given(current, &event);
    }
    let engine = &mut current.state.engine;
    if current.vcpu.nmi_pending.load(SeqCst) && !engine.is_nmi_masked() && !engine.has_injection() {
        current.vcpu.nmi_pending.store(false, SeqCst);
        engine.inject(Injection::Nmi);
    }
    let upcall = current.state.info.is_some_and(Info::is_upcall_due) && !current.vcpu.arch.has_upcall_vector();
    board::refresh(current, upcall);
    let next = current.state.lapic.next(&current.vcpu.arch.apic);
    let pending = Pending {
        upcall,
        takes_pic: board::has_pic_interrupt(current),
        apic: if let Next::Ready(vector) = next { Some(vector) } else { None },
        ..Pending::default()
    };
    let callback = if upcall { callback(current) } else { Callback::None };
    match (pending.first(callback), next) {
        (Source::None, Next::Held(vector)) => current.state.await_window(Some(vector), false),
        (Source::None, _) => current.state.await_window(None, false),
        (source, next) => take(current, source, next),
    }
}

/// The local APIC's interrupt that comes right behind the one that is taken. One of its own holds back all that could come next until
/// the guest ends it, which is an exit.
fn behind(source: Source, next: Next) -> Option<u8> {
    match (source, next) {
        (Source::Upcall(_) | Source::Pic, Next::Ready(vector)) => Some(vector),
        _ => None,
    }
}

/// Has the vCPU take the interrupt now, or leave once it can. `next` is what the local APIC has.
fn take(current: &mut Current<'_, VcpuState>, source: Source, next: Next) {
    let state = &mut *current.state;
    let is_open =
        state.regs.rflags & RFlags::IF.bits() != 0 && !state.engine.is_in_shadow() && !state.engine.has_injection();
    if !is_open {
        return match source {
            Source::Apic(vector) => state.await_window(Some(vector), false),
            Source::Upcall(vector) => state.await_window(Some(vector), true),
            // The task priority does not concern the 8259s, whatever their vector.
            Source::Pic => state.await_window(Some(0), true),
            Source::None | Source::Nmi | Source::MachineCheck => state.await_window(None, false),
        };
    }
    let vector = match source {
        Source::Upcall(vector) => Some(vector),
        Source::Pic => board::acknowledge_pic(current),
        Source::Apic(_) => {
            let taken = state.lapic.accept(&current.vcpu.arch.apic);
            taken.into_iter().for_each(|vector| board::accepted(current, vector));
            taken
        }
        Source::None | Source::Nmi | Source::MachineCheck => None,
    };
    if let Some(vector) = vector {
        current.state.engine.inject(Injection::Interrupt(vector));
    }
    current.state.await_window(behind(source, next), false);
}

/// Takes an event of a device emulator's. One that stands for an instruction goes on behind it.
fn take_given(current: &mut Current<'_, VcpuState>, event: &GivenEvent) {
    let state = &mut *current.state;
    if state.engine.has_injection() {
        // As on Xen, where two cannot come at once: the guest's own comes first, and this is lost.
        return;
    }
    let error_code = (event.error_code != NO_ERROR_CODE).then_some(event.error_code);
    if matches!(event.kind, XEN_DMOP_EVENT_SW_INT | XEN_DMOP_EVENT_PRI_SW_EXC | XEN_DMOP_EVENT_SW_EXC) {
        state.regs.rip = state.regs.rip.wrapping_add(event.length.into());
    }
    if event.kind == XEN_DMOP_EVENT_HW_EXC && event.vector == Vector::PAGE_FAULT {
        let control = Control { cr2: event.cr2, ..state.engine.control() };
        state.engine.set_control(&control);
    }
    state.engine.inject(match event.kind {
        XEN_DMOP_EVENT_NMI => Injection::Nmi,
        XEN_DMOP_EVENT_EXT_INT | XEN_DMOP_EVENT_SW_INT => Injection::Interrupt(event.vector),
        _ => Injection::Exception(event.vector, error_code),
    });
}

/// What the guest hears of event channels by.
pub fn callback(current: &Current<'_, VcpuState>) -> Callback {
    let Some(translated) = &current.domain.translated else { return Callback::None };
    Callback::from_parameter(translated.params[HVM_PARAM_CALLBACK_IRQ as usize].load(Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_apic_has_comes_behind_an_upcall() {
        let ready = Next::Ready(0x61);
        assert_eq!([Source::Upcall(0xf3), Source::Pic].map(|source| behind(source, ready)), [Some(0x61); 2]);
        assert_eq!(behind(Source::Apic(0x61), ready), None, "until its end");
        assert_eq!(behind(Source::Upcall(0xf3), Next::Held(0x61)), None);
        assert_eq!(behind(Source::Upcall(0xf3), Next::None), None);
    }
}
