//! Whether what an HVM guest shares with the hypervisor (shared_info, vcpu_info, records of time) is laid out for 32 or 64 bits. Its
//! code may have both, one after the other: a boot loader has 32, and what it loads has 64. What counts is the code that names
//! the hypercall page or the callback, which is among the first things that its drivers do.

use super::VcpuState;
use crate::current::Current;
use crate::machine::{self, X86};
use crate::wallclock;
use domain::Domain;

/// The guest has written a hypercall page.
pub fn follow(current: &Current<'_, VcpuState>) {
    settle(current.machine(), current.domain, !current.state.emulated().is_64bit());
}

/// The domain's callback was named: if by itself, its layout follows.
pub fn follow_caller(machine: &X86, domain: &Domain<X86>) {
    if let Some(is_narrow) = machine::caller_is_narrow(domain.id) {
        settle(machine, domain, is_narrow);
    }
}

fn settle(machine: &X86, domain: &Domain<X86>, is_narrow: bool) {
    if domain.evtchn.is_narrow() != is_narrow {
        domain.evtchn.set_narrow(is_narrow);
    }
    wallclock::update(machine, domain);
}
