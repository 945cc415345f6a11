//! What an HVM guest leaves for, and what is done about it.

use super::engine::{Attempt, Exit, Injection};
use super::space::Physical;
use super::{VcpuState, apic, board, code, cpuid, devices, emulate, events, hypercalls, monitor, msr, task};
use crate::current::Current;
use crate::run;
use domain::ShutdownCode;
use evtchn::Info;
use p2m::Type;
use types::{Gfn, PAGE_SIZE};
use virq::Callback;
use x86_defs::control::{Efer, RFlags, Vector};
use x86_emulate::hvm::{DeviceAccess, Opcode, Space, Stop, System as _};

/// #GP with error code 0, and #UD.
const GP: Injection = Injection::Exception(Vector::GENERAL_PROTECTION, Some(0));
const UD: Injection = Injection::Exception(Vector::INVALID_OPCODE, None);

/// Enters the guest, and handles what it left for.
pub fn run(current: &mut Current<'_, VcpuState>) {
    let exit = current.state.engine.enter(&mut current.state.regs);
    apic::take_task_priority(current);
    match exit {
        Exit::Interrupt(vector) => run::interrupt(current.hypervisor, vector),
        Exit::Nmi => hal_irq::ipi::stop_if_asked(),
        Exit::Nothing | Exit::Window => {}
        Exit::Hypercall => {
            // Where the guest goes on is found before the call, which may change its memory.
            let next = code::next(current, Opcode::VMMCALL);
            if hypercalls::dispatch(current) {
                next.into_iter().for_each(|next| go_on(current, next));
            }
        }
        Exit::Cpuid => carry_out(current, Opcode::CPUID, cpuid),
        Exit::ReadMsr => carry_out(current, Opcode::RDMSR, read_msr),
        Exit::WriteMsr => carry_out(current, Opcode::WRMSR, write_msr),
        Exit::SetXcr => carry_out(current, Opcode::XSETBV, set_xcr),
        Exit::Halt => {
            carry_out(current, Opcode::HLT, |_| true);
            halt(current);
        }
        // The PAUSE is executed once more when it is its turn again.
        Exit::Spin => current.hypervisor.yield_now(current.vcpu),
        Exit::Caches => carry_out(current, Opcode::WBINVD, |_| true),
        Exit::Instruction => emulate::instruction(current),
        Exit::Port { number, size, is_input, next } => port(current, number, PortAccess { size, is_input, next }),
        Exit::Memory(attempt) => memory(current, attempt),
        Exit::Undefined => current.state.engine.inject(UD),
        Exit::Forbidden => current.state.engine.inject(GP),
        Exit::Exception { vector, error_code } => {
            current.state.engine.inject(Injection::Exception(vector, error_code));
        }
        // The hardware has failed, and nothing says that it is this guest alone which that concerns.
        Exit::MachineCheck => hal_cpu::fatal_trap(&current.state.regs),
        Exit::TaskSwitch => task::switch(current),
        Exit::Shutdown => triple_fault(current),
        Exit::Refused => current.crash("the CPU refuses its state"),
        Exit::Unknown(code) => current.crash(&alloc::format!("unexpected exit {code:#x}")),
    }
}

/// Puts the guest behind an instruction that was carried out for it.
#[inline]
pub fn go_on(current: &mut Current<'_, VcpuState>, next: u64) {
    let state = &mut *current.state;
    state.regs.rip = next;
    state.regs.rflags &= !RFlags::RF.bits();
    state.engine.set_in_shadow(false);
    if state.regs.rflags & RFlags::TF.bits() != 0 {
        emulate::single_step(current);
    }
}

/// Carries out an instruction by `act`, which says if it could; else the guest gets #GP.
#[inline]
fn carry_out(
    current: &mut Current<'_, VcpuState>,
    opcode: Opcode,
    act: impl FnOnce(&mut Current<'_, VcpuState>) -> bool,
) {
    let Some(next) = code::next(current, opcode) else { return };
    if act(current) {
        go_on(current, next);
    } else {
        current.state.engine.inject(GP);
    }
}

fn cpuid(current: &mut Current<'_, VcpuState>) -> bool {
    let regs = &current.state.regs;
    let Some([a, b, c, d]) = cpuid::answer(current, regs.rax as u32, regs.rcx as u32) else { return false };
    let regs = &mut current.state.regs;
    (regs.rax, regs.rbx, regs.rcx, regs.rdx) = (a.into(), b.into(), c.into(), d.into());
    true
}

fn read_msr(current: &mut Current<'_, VcpuState>) -> bool {
    let Some(value) = msr::read(current, current.state.regs.rcx as u32) else { return false };
    let regs = &mut current.state.regs;
    (regs.rax, regs.rdx) = (value & 0xffff_ffff, value >> 32);
    true
}

fn write_msr(current: &mut Current<'_, VcpuState>) -> bool {
    let regs = &current.state.regs;
    let value = regs.rdx << 32 | regs.rax & 0xffff_ffff;
    msr::write(current, regs.rcx as u32, value).is_some()
}

fn set_xcr(current: &mut Current<'_, VcpuState>) -> bool {
    let regs = &current.state.regs;
    let (number, value) = (regs.rcx as u32, regs.rdx << 32 | regs.rax & 0xffff_ffff);
    emulate::Client::new(current).write_xcr(number, value).is_ok()
}

/// The guest waits for an interrupt; one that takes none is down. So a guest without sleep states turns itself off.
pub fn halt(current: &mut Current<'_, VcpuState>) {
    let (hypervisor, vcpu) = (current.hypervisor, current.vcpu);
    if vcpu.nmi_pending.load(core::sync::atomic::Ordering::SeqCst) && !current.state.engine.is_nmi_masked() {
        return;
    }
    if current.state.regs.rflags & RFlags::IF.bits() == 0 {
        hypervisor.go_down(current.domain, vcpu);
        return;
    }
    hypervisor.wait_unless(vcpu, || takes_interrupt(current));
}

/// Whether there is an interrupt that the vCPU takes. Events that come by a line are none while its pin is masked.
fn takes_interrupt(current: &Current<'_, VcpuState>) -> bool {
    let vcpu = current.vcpu;
    let upcall = current.state.info.is_some_and(Info::is_upcall_due) && !vcpu.arch.has_upcall_vector();
    board::refresh(current, upcall);
    let has_vector = || matches!(events::callback(current), Callback::Vector(_));
    vcpu.arch.apic.has_work() || board::has_pic_interrupt(current) || upcall && has_vector()
}

/// An IN or OUT on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortAccess {
    /// Bytes: 1, 2 or 4.
    pub size: u8,
    /// Whether it is IN.
    pub is_input: bool,
    /// rip behind the instruction.
    pub next: u64,
}

impl PortAccess {
    fn mask(self) -> u64 {
        u64::MAX >> (64 - 8 * u32::from(self.size))
    }

    /// What rax becomes by the device's answer. As with any write of a register, 32 bits clear the upper half.
    fn rax(self, before: u64, answer: u64) -> u64 {
        match self.size {
            _ if !self.is_input => before,
            4 => answer & self.mask(),
            _ => before & !self.mask() | answer & self.mask(),
        }
    }

    /// Completes it with the device's answer.
    #[inline]
    pub fn complete(self, current: &mut Current<'_, VcpuState>, answer: u64) {
        let regs = &mut current.state.regs;
        regs.rax = self.rax(regs.rax, answer);
        current.state.replay.forget();
        go_on(current, self.next);
    }
}

/// An access of the guest's to a port: the CPU has told everything of it.
fn port(current: &mut Current<'_, VcpuState>, number: u16, port: PortAccess) {
    let write = (!port.is_input).then(|| current.state.regs.rax & port.mask());
    if let Some(value) = devices::port(current, number, port.size, write) {
        return port.complete(current, value);
    }
    let (is_write, data) = (write.is_some(), write.unwrap_or(0));
    let (space, address, size) = (Space::Port, number.into(), port.size);
    let access = DeviceAccess { space, address, size, is_write, data, count: 1, ..DeviceAccess::default() };
    current.state.replay.forget();
    let answer = devices::outside(current, &access);
    match current.state.replay.note(access, answer) {
        Ok(value) => port.complete(current, value),
        Err(Stop::Pending) => current.state.port = Some(port),
        Err(stop) => emulate::stopped(current, stop),
    }
}

/// An access that the second-stage table does not allow.
fn memory(current: &mut Current<'_, VcpuState>, attempt: Attempt) {
    let Attempt { gpa, write, fetch, is_final } = attempt;
    let physical = Physical { machine: current.machine(), domain: current.domain };
    let entry = physical.entry(gpa);
    if entry.access.refuses(write, fetch) && entry.ty.has_frame() {
        return monitor::refused(current, attempt, &entry);
    }
    match entry.ty {
        // Never executable, so that the guest would not get on.
        Type::GrantMapRw | Type::GrantMapRo | Type::MapForeign if fetch => {
            current.crash("it executes another's memory")
        }
        // It was populated, or another CPU has changed the entry: the guest finds it so.
        Type::RamRw | Type::GrantMapRw | Type::MapForeign | Type::MmioDirect => {}
        Type::RamRo | Type::GrantMapRo | Type::IoreqServer if !write => {}
        Type::RamBroken => current.crash("memory with a hardware fault"),
        Type::RamLogdirty => current.domain.note_write(Gfn(gpa / PAGE_SIZE as u64)),
        // What cannot be written takes no notice; where there is nothing, the local APIC may be.
        _ => {
            if fetch || !is_final || !code::plain_move(current, gpa, write) {
                emulate::instruction(current);
            }
        }
    }
}

/// The guest has no way to go on, as a machine without one starts anew.
pub fn triple_fault(current: &mut Current<'_, VcpuState>) {
    let params = current.domain.translated.as_ref().map(|translated| &translated.params);
    let reason = params.map_or(0, |params| {
        params[xen_abi::hvm_params::HVM_PARAM_TRIPLE_FAULT_REASON as usize].load(core::sync::atomic::Ordering::Relaxed)
    });
    log::error!("{}v{}: triple fault", current.domain.id, current.vcpu.id.0);
    current.describe();
    let control = current.state.engine.control();
    if control.efer & Efer::LMA.bits() != 0 {
        let physical = Physical { machine: current.machine(), domain: current.domain };
        physical.log_walk(control.cr3, control.cr2);
        physical.log_walk(control.cr3, current.state.regs.rip);
    }
    current.hypervisor.shut_down(current.domain, ShutdownCode(reason as u8));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_change_as_much_of_a_register_as_they_read() {
        let rax =
            |size, is_input| PortAccess { size, is_input, next: 0 }.rax(0x1122_3344_5566_7788, 0xffff_ffff_dead_beef);
        assert_eq!(rax(1, true), 0x1122_3344_5566_77ef);
        assert_eq!(rax(2, true), 0x1122_3344_5566_beef);
        assert_eq!(rax(4, true), 0xdead_beef);
        assert_eq!(rax(4, false), 0x1122_3344_5566_7788);
    }
}
