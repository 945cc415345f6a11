//! Message-signalled interrupts of emulated devices.

use x86_defs::apic::{DeliveryMode, InterruptMessage, MsiMessage};

/// What a device's message asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Msi {
    /// A message to local APICs.
    Message(InterruptMessage),
    /// The guest's event channel for this physical interrupt: a message with vector 0, as PV drivers in HVM guests make it.
    Pirq(u32),
}

impl Msi {
    /// Reads a message's address and data (SDM vol. 3, 11.11). Nothing for one that, as on Xen, cannot be delivered: a
    /// delivery mode other than fixed and lowest priority, or vector 0 without the number of an interrupt.
    pub fn decode(address: u64, data: u32) -> Option<Msi> {
        let msi = MsiMessage { address, data };
        if msi.vector() == 0 {
            // The number is where an extended destination would be: bits 8 and up in the address's upper half.
            let pirq = (address >> 32) as u32 & !0xff | u32::from(msi.destination());
            return (pirq != 0 && pirq <= i32::MAX as u32).then_some(Msi::Pirq(pirq));
        }
        let message = msi.message()?;
        let deliverable = matches!(message.mode, DeliveryMode::Fixed | DeliveryMode::LowestPriority);
        deliverable.then_some(Msi::Message(message))
    }
}
