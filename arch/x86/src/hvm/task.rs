//! Hardware task switches, which the CPU leaves to the hypervisor (APM vol. 2, 15.14.1).

use super::VcpuState;
use super::space::{self, Physical};
use super::{emulate, exits};
use crate::current::Current;
use core::convert::Infallible;
use guest_walk::{Mode, Stopped, for_each_piece};
use x86_defs::control::Dr6;
use x86_emulate::hvm::{self, Access, Intercepted, Result, State, Task, TaskMemory, TaskSwitch};

/// Makes the task switch that the guest has left for.
#[cold]
pub fn switch(current: &mut Current<'_, VcpuState>) {
    let switch = &current.state.engine.task_switch();
    let Some(next) = next(current, switch) else { return };
    let mut task = registers(current.state);
    let result = hvm::switch_task(&mut task, next, switch, &mut Tables::new(current));
    take(current.state, &task);
    match result {
        Ok(done) => {
            current.state.engine.set_in_shadow(false);
            if done.is_trapped {
                emulate::debug(current, Dr6::BT);
            }
        }
        Err(stop) => match switch.cause.combined(stop) {
            Some(stop) => emulate::stopped(current, stop),
            None => exits::triple_fault(current),
        },
    }
}

/// Where the old task goes on. `None` where its instruction has gone since the guest has left: then it executes what there is now.
fn next(current: &mut Current<'_, VcpuState>, switch: &TaskSwitch) -> Option<u64> {
    if !switch.cause.is_by_instruction() {
        return Some(current.state.regs.rip);
    }
    let found = emulate::describe(current)?;
    matches!(found.what, Intercepted::FarTransfer | Intercepted::Interrupt(_)).then_some(found.next)
}

fn registers(state: &VcpuState) -> Task {
    let system = state.engine.system();
    Task {
        state: state.emulated(),
        ldtr: system.ldtr,
        tr: system.tr,
        gdtr: system.gdtr,
        idtr: system.idtr,
        dr7: system.dr7,
    }
}

/// Takes over what a task switch may change, but for CR3, which is loaded by then.
fn take(state: &mut VcpuState, from: &Task) {
    let mut system = state.engine.system();
    system.segments = from.state.segments;
    (system.ldtr, system.tr) = (from.ldtr, from.tr);
    (system.level, system.control.cr0, system.dr7) = (from.state.level, from.state.cr0, from.dr7);
    state.engine.set_system(&system);
    state.take(&from.state);
}

/// The guest's memory, as a task switch reaches it.
struct Tables<'a, 'b> {
    current: &'a mut Current<'b, VcpuState>,
    mode: Mode,
}

/// Of the CPU itself, for its tables.
const IMPLICIT: guest_walk::Access = guest_walk::Access { implicit: true, ..guest_walk::Access::READ };

impl<'a, 'b> Tables<'a, 'b> {
    fn new(current: &'a mut Current<'b, VcpuState>) -> Tables<'a, 'b> {
        let mode = space::mode(current.machine(), &current.state.engine.control(), current.state.regs.rflags);
        Tables { current, mode }
    }

    fn physical(&self) -> Physical<'b> {
        Physical { machine: self.current.machine(), domain: self.current.domain }
    }

    /// Visits the pieces of a range: guest-physical address, offset and length.
    fn each(
        &self,
        (linear, length): (u32, usize),
        (mode, access): (&Mode, guest_walk::Access),
        mut visit: impl FnMut(u64, usize, usize),
    ) -> Result<()> {
        let visit = |gpa, at, length| {
            visit(gpa, at, length);
            Ok::<(), Infallible>(())
        };
        for_each_piece(&self.physical(), mode, linear.into(), length, access, visit).map_err(|stopped| match stopped {
            // Behind the last address there is the first.
            Stopped::Fault(at, fault) => space::exception(at & u64::from(u32::MAX), fault),
            Stopped::Visitor(never) => match never {},
        })
    }

    fn put(&self, linear: u32, from: &[u8], (mode, access): (&Mode, guest_walk::Access)) -> Result<()> {
        let access = guest_walk::Access { write: true, ..access };
        self.each((linear, from.len()), (mode, access), |_, _, _| {})?;
        self.each((linear, from.len()), (mode, access), |gpa, at, length| {
            // Where nothing can be written, nothing is.
            let _ = self.physical().write(gpa, &from[at..at + length]);
        })
    }
}

impl TaskMemory for Tables<'_, '_> {
    fn read(&mut self, linear: u32, to: &mut [u8], access: Access) -> Result<()> {
        let access = guest_walk::Access { write: access == Access::Modify, ..IMPLICIT };
        self.each((linear, to.len()), (&self.mode, access), |gpa, at, length| {
            let part = &mut to[at..at + length];
            if self.physical().read(gpa, part).is_err() {
                part.fill(0xff);
            }
        })
    }

    fn write(&mut self, linear: u32, from: &[u8]) -> Result<()> {
        self.put(linear, from, (&self.mode, IMPLICIT))
    }

    fn compare_exchange(&mut self, linear: u32, old: u64, new: u64) -> Result<bool> {
        if linear % 8 == 0 {
            let mut exchanged = Ok(true);
            let access = guest_walk::Access { write: true, ..IMPLICIT };
            self.each((linear, 8), (&self.mode, access), |gpa, _, length| {
                exchanged = self.physical().compare_exchange(gpa, length, old, new);
            })?;
            if let Ok(exchanged) = exchanged {
                return Ok(exchanged);
            }
        }
        // Tables that are not aligned are as in [`Memory::compare_exchange`](x86_emulate::hvm::Memory::compare_exchange).
        self.write(linear, &new.to_le_bytes())?;
        Ok(true)
    }

    fn push(&mut self, state: &State, linear: u32, from: &[u8]) -> Result<()> {
        let mode = space::mode(self.current.machine(), &self.current.state.engine.control(), state.flags);
        let access = guest_walk::Access { user: state.level == 3, ..guest_walk::Access::READ };
        self.put(linear, from, (&mode, access))
    }

    fn load_root(&mut self, root: u32) {
        let engine = &mut self.current.state.engine;
        let mut control = engine.control();
        control.cr3 = root.into();
        engine.set_control(&control);
        self.mode.cr3 = root.into();
    }
}
