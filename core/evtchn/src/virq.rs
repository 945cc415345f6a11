//! Virtual interrupt lines (`xen.h`, `VIRQ_*`).

use xen_abi::xen::{VIRQ_ARGO, VIRQ_DEBUG, VIRQ_TIMER, VIRQ_XENOPROF, VIRQ_XENPMU};

/// Number of virtual interrupt lines (`NR_VIRQS`).
pub const NR_VIRQS: usize = xen_abi::xen::NR_VIRQS as usize;

/// Whose line a VIRQ is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// Each vCPU has its own.
    Vcpu,
    /// Each domain has one; bound on vCPU 0, may be moved.
    Domain,
    /// The host has one, and one domain receives it; bound on vCPU 0, may be moved.
    Global,
}

/// The scope of a line: per vCPU are TIMER (0), DEBUG (1), XENOPROF (7) and XENPMU (13), per domain is ARGO (11).
pub const fn scope(virq: u32) -> Scope {
    match virq {
        VIRQ_TIMER | VIRQ_DEBUG | VIRQ_XENOPROF | VIRQ_XENPMU => Scope::Vcpu,
        VIRQ_ARGO => Scope::Domain,
        _ => Scope::Global,
    }
}
