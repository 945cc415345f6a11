//! A PV guest on a CPU.

use super::{VcpuState, compat, context, events, traps};
use crate::current::Current;
use crate::run;
use crate::vcpu::Guest;
use hal_cpu::Exit;

impl Guest for VcpuState {
    #[inline]
    fn is_loaded(&self) -> bool {
        // What a 32-bit guest's call becomes has structures elsewhere.
        self.narrow.is_none()
    }

    fn load(current: &mut Current<'_, VcpuState>) {
        current.find_info();
        context::load(current);
        crate::time::update_record(current.machine(), current.domain, current.vcpu);
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
        let left = hal_cpu::enter(&mut current.state.context);
        // The most frequent reason by far.
        if left.is_syscall() && current.state.narrow.is_none() {
            return traps::syscall(current);
        }
        let exit = left.exit(&current.state.context);
        let exit = match current.state.narrow {
            None => exit,
            Some(_) => match compat::sort(current, exit) {
                Some(exit) => exit,
                None => return,
            },
        };
        match exit {
            Exit::Interrupt(vector) => run::interrupt(current.hypervisor, vector),
            Exit::Nmi => hal_irq::ipi::stop_if_asked(),
            exit => traps::handle(current, exit),
        }
    }
}
