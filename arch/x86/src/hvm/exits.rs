//! What an HVM guest leaves for, and what is done about it.

use super::engine::{Exit, Injection};
use super::space::Physical;
use super::{VcpuState, apic, cpuid, emulate, hypercalls, msr};
use crate::current::Current;
use crate::run;
use domain::ShutdownCode;
use p2m::Type;
use x86_defs::control::{RFlags, Vector};
use x86_emulate::hvm::System as _;

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
            let next = next(current);
            if hypercalls::dispatch(current) {
                go_on(current, next);
            }
        }
        Exit::Cpuid => carry_out(current, cpuid),
        Exit::ReadMsr => carry_out(current, read_msr),
        Exit::WriteMsr => carry_out(current, write_msr),
        Exit::SetXcr => carry_out(current, set_xcr),
        Exit::Halt => {
            carry_out(current, |_| true);
            halt(current);
        }
        Exit::Caches => carry_out(current, |_| true),
        Exit::Instruction => emulate::instruction(current),
        Exit::Memory { gpa, write } => memory(current, gpa, write),
        Exit::Undefined => current.state.engine.inject(UD),
        Exit::Forbidden => current.state.engine.inject(GP),
        Exit::Exception { vector, error_code } => {
            current.state.engine.inject(Injection::Exception(vector, error_code));
        }
        // The hardware has failed, and nothing says that it is this guest alone which that concerns.
        Exit::MachineCheck => hal_cpu::fatal_trap(&current.state.regs),
        Exit::TaskSwitch => current.crash("a hardware task switch, which is not emulated"),
        Exit::Shutdown => triple_fault(current),
        Exit::Refused => current.crash("the CPU refuses its state"),
        Exit::Unknown(code) => current.crash(&alloc::format!("unexpected exit {code:#x}")),
    }
}

/// Where the guest goes on behind the instruction that it has left by; `None` where that has changed meanwhile.
fn next(current: &mut Current<'_, VcpuState>) -> Option<u64> {
    current.state.engine.next_rip().or_else(|| emulate::describe(current).map(|found| found.next))
}

/// Puts the guest behind an instruction that was carried out for it.
fn go_on(current: &mut Current<'_, VcpuState>, next: Option<u64>) {
    let Some(next) = next else { return };
    let state = &mut *current.state;
    state.regs.rip = next;
    state.regs.rflags &= !RFlags::RF.bits();
    state.engine.set_in_shadow(false);
    if state.regs.rflags & RFlags::TF.bits() != 0 {
        emulate::single_step(current);
    }
}

/// Carries out an instruction by `act`, which says if it could; else the guest gets #GP.
fn carry_out(current: &mut Current<'_, VcpuState>, act: impl FnOnce(&mut Current<'_, VcpuState>) -> bool) {
    let Some(next) = next(current) else { return };
    if act(current) {
        go_on(current, Some(next));
    } else {
        current.state.engine.inject(GP);
    }
}

fn cpuid(current: &mut Current<'_, VcpuState>) -> bool {
    let [a, b, c, d] = cpuid::answer(current, current.state.regs.rax as u32, current.state.regs.rcx as u32);
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
    if vcpu.nmi_pending.load(core::sync::atomic::Ordering::SeqCst) {
        return;
    }
    if current.state.regs.rflags & RFlags::IF.bits() == 0 {
        hypervisor.go_down(current.domain, vcpu);
        return;
    }
    hypervisor.block(current.domain, vcpu);
    // Who posts an interrupt does so before it looks whether the vCPU waits.
    if vcpu.arch.apic.has_work() {
        hypervisor.end_wait(vcpu);
    }
}

/// An access that the second-stage table does not allow.
fn memory(current: &mut Current<'_, VcpuState>, gpa: u64, write: bool) {
    let physical = Physical { machine: current.machine(), domain: current.domain };
    let entry = physical.entry(gpa);
    match entry.ty {
        // It was populated, or another CPU has changed the entry: the guest finds it so.
        Type::RamRw | Type::GrantMapRw | Type::MapForeign | Type::MmioDirect => {}
        Type::RamRo | Type::GrantMapRo | Type::IoreqServer if !write => {}
        Type::RamBroken => current.crash("memory with a hardware fault"),
        Type::RamLogdirty => {
            current.crash("a write to memory that is tracked");
        }
        // What cannot be written takes no notice; where there is nothing, the local APIC may be.
        _ => emulate::instruction(current),
    }
}

/// The guest has no way to go on, as a machine without one starts anew.
fn triple_fault(current: &mut Current<'_, VcpuState>) {
    let params = current.domain.translated.as_ref().map(|translated| &translated.params);
    let reason = params.map_or(0, |params| {
        params[xen_abi::hvm_params::HVM_PARAM_TRIPLE_FAULT_REASON as usize].load(core::sync::atomic::Ordering::Relaxed)
    });
    log::error!("{}v{}: triple fault", current.domain.id, current.vcpu.id.0);
    current.describe();
    current.hypervisor.shut_down(current.domain, ShutdownCode(reason as u8));
}
