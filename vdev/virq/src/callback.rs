//! "An event channel is pending", as a guest without PV entry points wants to hear it (hvm/params.h,
//! `HVM_PARAM_CALLBACK_IRQ`).

use vioapic::PINS;
use xen_abi::hvm_params::{
    HVM_PARAM_CALLBACK_IRQ_TYPE_MASK, HVM_PARAM_CALLBACK_TYPE_GSI, HVM_PARAM_CALLBACK_TYPE_PCI_INTX,
    HVM_PARAM_CALLBACK_TYPE_VECTOR,
};

use crate::{Bus, ISA_IRQS, Virq};

/// What signals pending event channels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Callback {
    /// Nothing.
    None,
    /// A pin of the I/O APIC and, below 16, the ISA interrupt: up while vCPU 0 has an event pending.
    Gsi(u8),
    /// A PCI device's INTx, likewise.
    PciIntx {
        /// Device, below 32.
        device: u8,
        /// 0 is INTA.
        intx: u8,
    },
    /// This vector, on every vCPU, without a word to its local APIC.
    Vector(u8),
}

impl Callback {
    /// What the parameter's value asks for; an unknown kind is none.
    pub const fn from_parameter(value: u64) -> Callback {
        let low = value as u8;
        match (value >> HVM_PARAM_CALLBACK_IRQ_TYPE_MASK.trailing_zeros()) as u32 {
            HVM_PARAM_CALLBACK_TYPE_GSI if low != 0 && low < PINS => Callback::Gsi(low),
            HVM_PARAM_CALLBACK_TYPE_PCI_INTX => Callback::PciIntx { device: (value >> 11) as u8 & 31, intx: low & 3 },
            HVM_PARAM_CALLBACK_TYPE_VECTOR => Callback::Vector(low),
            _ => Callback::None,
        }
    }
}

impl Virq {
    /// What signals pending event channels.
    pub const fn callback(&self) -> Callback {
        self.callback
    }

    /// Sets what signals pending event channels; a line that is up moves. The owner then kicks every vCPU with an event
    /// pending. Nothing happens for a line if the guest has no controllers.
    pub fn set_callback(&mut self, callback: Callback, bus: &mut impl Bus) {
        if self.chips.is_none() && !matches!(callback, Callback::Vector(_)) {
            return;
        }
        let asserted = core::mem::replace(&mut self.callback_asserted, false);
        if asserted {
            self.drive_callback(false, bus);
        }
        self.callback = callback;
        self.callback_asserted = asserted;
        if asserted {
            self.drive_callback(true, bus);
        }
    }

    /// Brings the line up to date with whether vCPU 0 has an event pending: after an event was sent to it, and before it is
    /// entered if [`Virq::callback_asserted`].
    pub fn update_callback(&mut self, pending: bool, bus: &mut impl Bus) {
        if self.callback_asserted != pending {
            self.callback_asserted = pending;
            self.drive_callback(pending, bus);
        }
    }

    /// Whether the line was up when it was last looked at.
    pub const fn callback_asserted(&self) -> bool {
        self.callback_asserted
    }

    fn drive_callback(&mut self, up: bool, bus: &mut impl Bus) {
        match (self.callback, up) {
            (Callback::Gsi(gsi), true) => self.hold_callback(gsi, bus),
            (Callback::Gsi(gsi), false) => self.release_callback(gsi),
            (Callback::PciIntx { device, intx }, true) => self.assert_pci(device, intx, bus),
            (Callback::PciIntx { device, intx }, false) => self.deassert_pci(device, intx, bus),
            (Callback::None | Callback::Vector(_), _) => {}
        }
    }

    /// As [`Virq::hold`], but the signal for event channels is not itself an event.
    fn hold_callback(&mut self, gsi: u8, bus: &mut impl Bus) {
        let count = &mut self.pin_counts[usize::from(gsi)];
        *count = count.saturating_add(1);
        if *count == 1 {
            self.raise(gsi, isa(gsi), false, bus);
        }
    }

    fn release_callback(&mut self, gsi: u8) {
        let count = &mut self.pin_counts[usize::from(gsi)];
        *count = count.saturating_sub(1);
        if *count == 0 {
            self.lower(gsi, isa(gsi));
        }
    }
}

/// The ISA interrupt of a pin.
fn isa(gsi: u8) -> Option<u8> {
    (gsi < ISA_IRQS).then_some(gsi)
}
