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

impl Virq {
    /// The interrupt that comes first. Whether the vCPU can take it now is another question: all but the first two wait for
    /// its interrupt flag.
    #[inline]
    pub fn next(&self, pending: Pending) -> Source {
        if pending.nmi {
            return Source::Nmi;
        }
        if pending.machine_check {
            return Source::MachineCheck;
        }
        match self.callback() {
            Callback::Vector(vector) if pending.upcall => return Source::Upcall(vector),
            _ => {}
        }
        if pending.takes_pic && self.pic().is_some_and(|pic| pic.output()) {
            return Source::Pic;
        }
        pending.apic.map_or(Source::None, Source::Apic)
    }
}
