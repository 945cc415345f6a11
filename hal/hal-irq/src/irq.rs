//! What an interrupt vector means.

use crate::{ipi, lapic, vectors};

/// What happened when a vector arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Irq {
    /// This CPU's timer has reached its deadline. Ended already.
    Timer,
    /// Another CPU wants attention. Ended already.
    Kick,
    /// Another CPU wanted translations dropped; they are. Ended already.
    Flush,
    /// A device; whoever knows the device ends it with `lapic::eoi`, after masking or handling it.
    Device(u8),
    /// The local APIC reports errors (SDM vol. 3, 11.5.3). Ended already, and logged.
    Error(u32),
    /// Nothing; needs no end.
    Spurious,
}

/// Handles a vector that arrived on this CPU, in a guest or in the hypervisor.
pub fn dispatch(vector: u8) -> Irq {
    match vector {
        vectors::TIMER => {
            lapic::eoi();
            Irq::Timer
        }
        vectors::KICK => {
            lapic::eoi();
            ipi::take_kick(hal_cpu::cpu_id());
            Irq::Kick
        }
        vectors::FLUSH => {
            lapic::eoi();
            ipi::poll_mailbox();
            Irq::Flush
        }
        vectors::HALT => hal::cpu::halt_forever(),
        vectors::ERROR => {
            let errors = lapic::take_errors();
            lapic::eoi();
            log::warn!("APIC error on CPU{}: {errors:#04x}", hal_cpu::cpu_id().0);
            Irq::Error(errors)
        }
        vectors::SPURIOUS => {
            lapic::note_spurious();
            Irq::Spurious
        }
        // The masked 8259s can still deliver their spurious interrupts 7 and 15; the local APIC has no part in it.
        vectors::LEGACY..=0xef => {
            lapic::note_spurious();
            Irq::Spurious
        }
        vector if vectors::is_device(vector) => Irq::Device(vector),
        _ => {
            if lapic::is_in_service(vector) {
                lapic::eoi();
            }
            Irq::Spurious
        }
    }
}
