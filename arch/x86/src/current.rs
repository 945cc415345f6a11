//! The vCPU that runs on this CPU.

use crate::machine::X86;
use crate::pv;
use crate::vcpu::Guest;
use alloc::sync::Arc;
use core::cell::Cell;
use core::sync::atomic::AtomicBool;
use domain::{Domain, Hypervisor, ShutdownCode, Vcpu};
use hypercall::Caller;

/// The vCPU that runs here: what all may see of it, and the state that only we may touch, `S`, by the kind of its guest.
pub struct Current<'a, S = pv::VcpuState> {
    /// All there is.
    pub hypervisor: &'static Hypervisor<X86>,
    /// Its domain.
    pub domain: &'a Arc<Domain<X86>>,
    /// The vCPU.
    pub vcpu: &'a Arc<Vcpu<X86>>,
    /// Its own state.
    pub state: &'a mut S,
    /// Another vCPU is to run on this CPU, or this one no more.
    pub reschedule: &'a AtomicBool,
    /// When this CPU looks next whether interrupts wait ([`crate::machine::next_look`]).
    pub next_look: &'static Cell<u64>,
}

impl<S> Current<'_, S> {
    /// The machine.
    pub fn machine(&self) -> &'static X86 {
        self.hypervisor.machine()
    }
}

impl<'a, S: Guest> Current<'a, S> {
    /// The same, for the calls that every architecture has.
    pub fn caller(&self) -> Caller<'a, X86> {
        let is_loaded = self.state.is_loaded();
        Caller { hypervisor: self.hypervisor, domain: self.domain, vcpu: self.vcpu, is_loaded }
    }
}

impl Current<'_> {
    /// Looks up where its vcpu_info is: when it begins to run here, and when it may have registered another.
    pub fn find_info(&mut self) {
        self.state.info = self.domain.evtchn.info(self.machine(), self.vcpu.id);
    }

    /// Crashes the guest, with a line that says why, and its registers.
    pub fn crash(&mut self, why: &str) {
        let regs = &self.state.context.regs;
        log::error!("{}v{}: crashed: {why}", self.domain.id, self.vcpu.id.0);
        log::error!(
            "{}v{}: rip {:#x} rsp {:#x} rflags {:#x} cs {:#x} {}",
            self.domain.id,
            self.vcpu.id.0,
            regs.rip,
            regs.rsp,
            regs.rflags,
            regs.cs,
            if self.state.kernel_mode { "kernel" } else { "user" }
        );
        self.hypervisor.shut_down(self.domain, ShutdownCode::CRASH);
    }
}
