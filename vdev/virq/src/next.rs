//! Which interrupt a vCPU takes next.

use crate::{Callback, Virq};

/// What is pending for one vCPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Pending {
    /// A non-maskable interrupt.
    pub nmi: bool,
    /// A machine check.
    pub machine_check: bool,
    /// An event channel: `evtchn_upcall_pending` of its `vcpu_info`.
    pub upcall: bool,
    /// The 8259s' output goes to this vCPU (`vlapic::pic_target`), and its local APIC lets it through
    /// (`vlapic::Port::takes_pic`).
    pub takes_pic: bool,
    /// The vector that its local APIC has ready.
    pub apic: Option<u8>,
}

/// Where an interrupt comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// There is none.
    None,
    /// A non-maskable interrupt.
    Nmi,
    /// A machine check.
    MachineCheck,
    /// Event channels, at this vector. It stays until the guest clears `evtchn_upcall_pending`.
    Upcall(u8),
    /// The 8259s: [`Virq::acknowledge_pic`] takes it.
    Pic,
    /// The local APIC, with this vector: `vlapic::Lapic::accept` takes it.
    Apic(u8),
}

impl Pending {
    /// The interrupt that comes first, where `takes_pic` says as well that the 8259s have one: for an owner who knows that without
    /// looking at them. Whether the vCPU can take it now is another question: all but the first two wait for its interrupt flag.
    #[inline]
    pub fn first(&self, callback: Callback) -> Source {
        if self.nmi {
            return Source::Nmi;
        }
        if self.machine_check {
            return Source::MachineCheck;
        }
        match callback {
            Callback::Vector(vector) if self.upcall => return Source::Upcall(vector),
            _ => {}
        }
        if self.takes_pic {
            return Source::Pic;
        }
        self.apic.map_or(Source::None, Source::Apic)
    }
}

impl Virq {
    /// The interrupt that comes first.
    pub fn next(&self, pending: Pending) -> Source {
        let has_one = self.pic().is_some_and(|pic| pic.output());
        Pending { takes_pic: pending.takes_pic && has_one, ..pending }.first(self.callback())
    }
}
