//! HVM and PVH guests: what runs them ([`engine`], by AMD's means in [`amd`]), and what they find there. Nothing but `amd` knows a
//! control block.

mod amd;
pub mod apic;
pub mod board;
mod code;
mod control;
mod cpuid;
mod devices;
mod emulate;
mod engine;
mod enlightened;
mod events;
mod exits;
pub mod guest_context;
mod hypercall_page;
mod hypercalls;
mod layout;
mod monitor;
mod msr;
mod mtrr;
mod narrow;
pub mod records;
mod sleep;
pub mod space;
mod state;
mod task;
pub mod vcpu_op;
mod vcpu_records;

pub use amd::Maps;
pub use board::Board;
pub use state::{Shared, VcpuState};

use crate::console;
use crate::current::Current;
use crate::machine::X86;
use crate::vcpu::Guest;
use alloc::sync::Arc;
use domain::{Domain, Hypervisor, ShutdownCode};
use hal_cpu::svm::{self, Unavailable};
use types::{Errno, Result};
use xen_abi::hvm_params::*;

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

/// Does what a domain's parameter is to do when it gets this value. Those of devices do nothing in a guest that has none, as on Xen;
/// it hears of events by vector alone, and one that hears by vectors of its own names a line to say that it has drivers.
///
/// # Errors
/// `EINVAL` for a value that it cannot have, `ENODEV` for ports of a device that is not there, `EOPNOTSUPP` for what else there is not.
pub fn set_parameter(hypervisor: &Hypervisor<X86>, domain: &Arc<Domain<X86>>, index: u32, value: u64) -> Result<()> {
    match index {
        HVM_PARAM_CALLBACK_IRQ
        | HVM_PARAM_ACPI_IOPORTS_LOCATION
        | HVM_PARAM_TIMER_MODE
        | HVM_PARAM_HPET_ENABLED
        | HVM_PARAM_VPT_ALIGN => {}
        HVM_PARAM_ACPI_S_STATE => return sleep::enter(hypervisor, domain, value),
        HVM_PARAM_VIRIDIAN => enlightened::set_parts(domain, value)?,
        _ => return Err(Errno::OPNOTSUPP),
    }
    if let Some(board) = &domain.arch.board {
        board.set_parameter(hypervisor, domain, index, value)?;
    } else if index == HVM_PARAM_ACPI_IOPORTS_LOCATION {
        return Err(Errno::NODEV);
    }
    if index == HVM_PARAM_CALLBACK_IRQ {
        layout::follow_caller(hypervisor.machine(), domain);
        // What is pending is to be heard of the new way.
        domain.vcpus().iter().for_each(|vcpu| hypervisor.notify(vcpu));
    }
    Ok(())
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
        if self.state.holds_back_stores {
            hal_cpu::hold_back_stores();
        }
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
    fn is_loaded(&self) -> bool {
        false
    }

    fn load(current: &mut Current<'_, VcpuState>) {
        current.find_info();
        current.load_registers();
        current.load_table();
        apic::set_timer(current);
        crate::time::update_record(current.state.info);
        let wanted = crate::time::write_by_frame(current.hypervisor, current.vcpu);
        if !wanted.is_empty() {
            hypercalls::with_space(current, |current| wanted.write(current.machine(), current.domain, current.vcpu));
        }
    }

    fn save(current: &mut Current<'_, VcpuState>) {
        current.state.vectors.save();
        // Its own is in the engine; what it left in the CPU's register is nobody else's.
        hal_cpu::take_debug_status();
    }

    #[inline]
    fn deliver(current: &mut Current<'_, VcpuState>) {
        if monitor::settle(current) && devices::settle(current) {
            enlightened::around_delivery(current, events::deliver);
        }
    }

    #[inline]
    fn run(current: &mut Current<'_, VcpuState>) {
        if current.state.pending.is_none() && !current.state.is_watched {
            exits::run(current);
        }
    }
}
