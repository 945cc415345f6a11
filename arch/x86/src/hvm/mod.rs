//! HVM and PVH guests: what runs them ([`engine`], by AMD's means in [`amd`]), and what they find there. Nothing but `amd` knows a
//! control block.

mod amd;
pub mod apic;
mod cpuid;
mod emulate;
mod engine;
mod events;
mod exits;
mod hypercall_page;
mod hypercalls;
mod msr;
mod mtrr;
pub mod records;
pub mod space;
mod state;

pub use amd::Maps;
pub use state::{Shared, VcpuState};

use crate::console;
use crate::current::Current;
use crate::machine::X86;
use crate::vcpu::Guest;
use domain::{Domain, ShutdownCode};
use hal_cpu::svm::{self, Unavailable};
use types::{Errno, Result};
use virq::Callback;
use xen_abi::hvm_params::HVM_PARAM_CALLBACK_IRQ;

/// Makes this CPU ready to run such guests; with `tells`, a line of the log says whether it is.
pub fn enable(tells: bool) {
    let enabled = svm::enable();
    if !tells {
        return;
    }
    match enabled {
        Ok(_) => {
            log::info!("HVM: ASIDs enabled.");
            log::info!("HVM: SVM enabled");
            log::info!("HVM: Hardware Assisted Paging (HAP) detected");
        }
        Err(Unavailable::Missing) => {}
        Err(why) => log::warn!("HVM: not possible: {why:?}"),
    }
}

/// Whether a domain's parameter can have this value. Of callbacks there is the one by vector: no device is there whose
/// interrupt another could be.
///
/// # Errors
/// `EOPNOTSUPP`.
pub fn check_parameter(domain: &Domain<X86>, index: u32, value: u64) -> Result<()> {
    match (index, Callback::from_parameter(value)) {
        (HVM_PARAM_CALLBACK_IRQ, Callback::None | Callback::Vector(_)) => Ok(()),
        (HVM_PARAM_CALLBACK_IRQ, callback) => {
            log::warn!("{}: events by {callback:?}, which there is not", domain.id);
            Err(Errno::OPNOTSUPP)
        }
        _ => Err(Errno::OPNOTSUPP),
    }
}

impl Current<'_, VcpuState> {
    /// Looks up where its vcpu_info is. Such guests mask events by their interrupt flag alone.
    pub fn find_info(&mut self) {
        self.domain.evtchn.set_upcall_mask(self.machine(), self.vcpu.id, false);
        self.state.info = self.domain.evtchn.info(self.machine(), self.vcpu.id);
    }

    /// Takes a byte of text for the log, which gets whole lines.
    pub fn print(&mut self, byte: u8) {
        let line = &mut self.state.line;
        if byte != b'\n' && line.try_push(byte).is_ok() {
            return;
        }
        console::write(Some(self.domain.id), line);
        line.clear();
        if byte != b'\n' {
            line.push(byte);
        }
    }

    /// Logs its registers.
    pub fn describe(&self) {
        let (regs, system) = (&self.state.regs, self.state.engine.system());
        let (id, vcpu, control) = (self.domain.id, self.vcpu.id.0, system.control);
        log::error!("{id}v{vcpu}: rip {:#x} rsp {:#x} rflags {:#x}", regs.rip, regs.rsp, regs.rflags);
        log::error!(
            "{id}v{vcpu}: cr0 {:#x} cr2 {:#x} cr3 {:#x} cr4 {:#x} efer {:#x} ring {}",
            control.cr0,
            control.cr2,
            control.cr3,
            control.cr4,
            control.efer,
            system.level
        );
    }

    /// Crashes the guest, with a line that says why, and its registers.
    pub fn crash(&mut self, why: &str) {
        log::error!("{}v{}: crashed: {why}", self.domain.id, self.vcpu.id.0);
        self.describe();
        self.hypervisor.shut_down(self.domain, ShutdownCode::CRASH);
    }

    /// Loads what the engine does not switch.
    fn load_registers(&mut self) {
        hal_cpu::load_hypervisor_root();
        let tables = hal_cpu::set_guest_gdt(&[]).and_then(|()| hal_cpu::set_guest_ldt(&[], 0));
        if let Err(errno) = tables {
            log::error!("{}: descriptor tables: {errno}", self.domain.id);
        }
        hal_cpu::set_task_switched(false);
        hal_cpu::set_tsc_aux(self.state.tsc_aux);
        hal_cpu::load_debug_addresses(&self.state.debug);
        if self.state.vectors.load().is_err() {
            self.crash("its vector registers cannot be loaded");
        }
    }

    /// Names the second-stage table to the engine. CPUs that did not have the domain loaded have not dropped what it has lost.
    fn load_table(&mut self) {
        let flushes = self.machine().flushes_of(self.domain.id);
        if core::mem::replace(&mut self.state.flushes, flushes) != flushes {
            self.state.engine.flush();
        }
        let root = self.domain.p2m().and_then(|p2m| p2m.root());
        if root.is_none_or(|root| self.state.engine.set_root(root).is_err()) {
            self.crash("it has no second-stage table");
        }
    }
}

impl Guest for VcpuState {
    fn load(current: &mut Current<'_, VcpuState>) {
        current.find_info();
        current.load_registers();
        current.load_table();
        apic::set_timer(current);
        crate::time::update_record(current.machine(), current.domain, current.vcpu);
        let wanted = crate::time::write_by_frame(current.hypervisor, current.vcpu);
        if !wanted.is_empty() {
            hypercalls::with_space(current, |current| wanted.write(current.machine(), current.domain, current.vcpu));
        }
    }

    fn save(current: &mut Current<'_, VcpuState>) {
        current.state.vectors.save();
    }

    #[inline]
    fn deliver(current: &mut Current<'_, VcpuState>) {
        events::deliver(current);
    }

    #[inline]
    fn run(current: &mut Current<'_, VcpuState>) {
        exits::run(current);
    }
}
