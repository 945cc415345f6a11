//! A PV guest on a CPU.

use super::{VcpuState, compat, context, events, hypercalls, traps};
use crate::current::Current;
use crate::run;
use crate::vcpu::Guest;
use core::sync::atomic::Ordering::Relaxed;
use hal_cpu::{Exit, GuestContext, Served, Server};
use x86_defs::control::Vector;

impl Guest for VcpuState {
    #[inline]
    fn is_loaded(&self) -> bool {
        // What a 32-bit guest's call becomes has structures elsewhere.
        self.narrow.is_none()
    }

    fn load(current: &mut Current<'_, VcpuState>) {
        current.find_info();
        context::load(current);
        crate::time::update_record(current.state.info);
        context::write_records(current);
    }

    fn save(current: &mut Current<'_, VcpuState>) {
        context::save(current);
        hal_cpu::load_hypervisor_root();
    }

    #[inline]
    fn deliver(current: &mut Current<'_, VcpuState>) {
        events::deliver_pending(current);
    }

    #[inline]
    fn run(current: &mut Current<'_, VcpuState>) {
        hal_cpu::enter(current);
    }
}

impl Server for Current<'_> {
    #[inline(always)]
    fn context(&mut self) -> &mut GuestContext {
        &mut self.state.context
    }

    /// The kernel's hypercall, or a call of its user code's.
    #[inline(always)]
    fn syscall(&mut self) -> Served<'_> {
        if self.state.kernel_mode { hypercalls::dispatch(self) } else { user_syscall(self) }
    }

    #[inline(always)]
    fn exception(&mut self, vector: u8, error_code: u32) -> Served<'_> {
        if self.state.narrow.is_some() {
            compat::note_mode(self);
        }
        traps::exception(self, vector, error_code);
        go_on_after_exit(self)
    }

    #[inline(always)]
    fn exit(&mut self, exit: Exit) -> Served<'_> {
        other_exit(self, exit)
    }
}

#[inline(never)]
fn other_exit<'c>(current: &'c mut Current<'_>, exit: Exit) -> Served<'c> {
    if current.state.narrow.is_some() && compat::is_hypercall(current, exit) {
        return go_on_after_exit(current);
    }
    match exit {
        Exit::Interrupt(vector) => run::interrupt(current.hypervisor, vector),
        Exit::Nmi => hal_irq::ipi::stop_if_asked(),
        Exit::Syscall32 => traps::enter_syscall(current, current.state.syscall32),
        Exit::Sysenter => traps::enter_syscall(current, current.state.sysenter),
        // As if the guest's own IRET had raised it.
        Exit::BadFrame { vector, error_code } => {
            traps::inject(current, vector, Vector::has_error_code(vector).then_some(error_code));
        }
    }
    go_on_after_exit(current)
}

/// As [`go_on`], and looks for what others have sent.
#[inline(always)]
fn go_on_after_exit<'c>(current: &'c mut Current<'_>) -> Served<'c> {
    events::deliver_nmi(current);
    go_on(current)
}

#[inline(never)]
fn user_syscall<'c>(current: &'c mut Current<'_>) -> Served<'c> {
    traps::enter_syscall(current, current.state.syscall);
    go_on(current)
}

/// Has the guest go on at once, unless there is something else to do before.
#[inline(always)]
pub fn go_on<'c>(current: &'c mut Current<'_>) -> Served<'c> {
    if events::is_due(current.state) { deliver_and_go_on(current) } else { go_on_unless_rescheduled(current) }
}

#[inline(never)]
fn deliver_and_go_on<'c>(current: &'c mut Current<'_>) -> Served<'c> {
    events::deliver(current);
    go_on_unless_rescheduled(current)
}

#[inline(always)]
fn go_on_unless_rescheduled<'c>(current: &'c mut Current<'_>) -> Served<'c> {
    current.next_look.set(0);
    Served::new(&mut current.state.context, current.reschedule.load(Relaxed))
}
