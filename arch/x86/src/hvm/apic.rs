//! The local APIC of a vCPU, joined to the vCPUs of its domain.

use super::{VcpuState, board};
use crate::current::Current;
use crate::machine::X86;
use core::sync::atomic::Ordering::SeqCst;
use domain::{Domain, Hypervisor, TimerEvent, Vcpu};
use platform::Clock;
use vlapic::{Action, Event, Port, Ports, Request, deliver};
use x86_defs::apic::LapicRegister;

/// Bytes of a page of registers.
const PAGE: u64 = 0x1000;

/// The APICs of a domain.
pub struct Apics<'a>(pub &'a Domain<X86>);

impl Ports for Apics<'_> {
    fn count(&self) -> usize {
        self.0.vcpus().len()
    }

    fn port(&self, vcpu: usize) -> Option<&Port> {
        self.0.vcpus().get(vcpu).map(|vcpu| &vcpu.arch.apic)
    }
}

/// Whether an address is the APIC's.
pub fn owns(current: &Current<'_, VcpuState>, gpa: u64) -> bool {
    current.state.lapic.page() == Some(gpa & !(PAGE - 1))
}

/// An access to a guest-physical address where there is no memory: what is read there; `None` if it is not the APIC's.
pub fn access(current: &mut Current<'_, VcpuState>, gpa: u64, size: u8, write: Option<u64>) -> Option<u64> {
    if !owns(current, gpa) {
        return None;
    }
    if size > 4 {
        return Some(u64::MAX);
    }
    let (offset, now) = ((gpa % PAGE) as u16, current.machine().system_time());
    let port = &current.vcpu.arch.apic;
    match write {
        None => Some(current.state.lapic.read(port, offset, size, now).into()),
        Some(value) => {
            let action = current.state.lapic.write(port, offset, size, value as u32, now);
            act(current, action);
            written(current, offset.into());
            Some(value)
        }
    }
}

/// The guest has written the register at this offset. INIT drops requests: if it turns the APIC on, it hears again of events that it has
/// not heard of, since there is no other edge for them.
pub fn written(current: &Current<'_, VcpuState>, offset: u32) {
    let is_pending = || current.state.info.is_some_and(|info| info.upcall_state().0);
    if offset == LapicRegister::SPURIOUS.0 && current.state.lapic.is_enabled() && is_pending() {
        current.vcpu.arch.raise_upcall();
    }
}

/// Does what a write to the APIC leaves to its owner.
pub fn act(current: &mut Current<'_, VcpuState>, action: Action) {
    let lapic = &current.state.lapic;
    current.state.engine.set_task_priority(lapic.task_priority() >> 4);
    match action {
        Action::None | Action::EndOfInterrupt { level: false, .. } => {}
        Action::EndOfInterrupt { vector, level: true } => board::end_of_interrupt(current, vector),
        Action::Send(request) => send(current, &request),
        Action::Reconfigured => {
            set_timer(current);
            board::reroute(current);
        }
    }
}

/// Takes CR8 over into the APIC: the guest writes it without an exit, unless an interrupt waits.
pub fn take_task_priority(current: &mut Current<'_, VcpuState>) {
    let priority = current.state.engine.task_priority() << 4;
    let lapic = &mut current.state.lapic;
    if lapic.task_priority() & 0xf0 != priority {
        lapic.set_task_priority(&current.vcpu.arch.apic, priority);
    }
}

fn send(current: &Current<'_, VcpuState>, request: &Request) {
    let tell = |vcpu: usize, event| {
        if let Some(vcpu) = current.domain.vcpus().get(vcpu) {
            tell(current, vcpu, event);
        }
    };
    deliver(&Apics(current.domain), &current.domain.arch.turn, request, tell);
}

/// Tells a vCPU what a message wants of it.
fn tell(current: &Current<'_, VcpuState>, vcpu: &Vcpu<X86>, event: Event) {
    match event {
        // One that runs stops; it starts anew where the next message says.
        Event::Init if vcpu.id != current.vcpu.id => {
            current.hypervisor.bring_down(vcpu);
            current.hypervisor.end_wait(vcpu);
        }
        Event::StartUp(page) if vcpu.id != current.vcpu.id && !vcpu.is_up() => start(current, vcpu, page),
        event => notify(current.hypervisor, vcpu, event),
    }
}

/// Tells a vCPU of an interrupt that has come to its APIC.
pub fn notify(hypervisor: &Hypervisor<X86>, vcpu: &Vcpu<X86>, event: Event) {
    match event {
        Event::Interrupt => hypervisor.notify(vcpu),
        Event::Nmi => {
            vcpu.nmi_pending.store(true, SeqCst);
            hypervisor.notify(vcpu);
        }
        // Firmware alone has a use for SMI, and nobody but the 8259s has an interrupt for ExtINT.
        Event::Init | Event::StartUp(_) | Event::Smi | Event::ExtInt => {}
    }
}

/// Starts a vCPU that is down in real mode (SDM vol. 3, 9.4.4). Guests repeat the message: one that is still on its way down
/// does not start by the first.
fn start(current: &Current<'_, VcpuState>, vcpu: &Vcpu<X86>, page: u8) {
    let Some(mut state) = vcpu.state.try_lock() else { return };
    let Ok(state) = state.hvm() else { return };
    state.reset(u16::from(page) << 8, u64::from(page) << 12, 0);
    state.lapic.init(&vcpu.arch.apic);
    vcpu.initialised.store(true, SeqCst);
    current.hypervisor.bring_up(vcpu);
}

/// Sets the timer that makes the vCPU look at its APIC's.
pub fn set_timer(current: &Current<'_, VcpuState>) {
    let (hypervisor, vcpu) = (current.hypervisor, current.vcpu);
    let set = match current.state.lapic.deadline() {
        None => {
            hypervisor.cancel_timer(&vcpu.arch.timer);
            Ok(())
        }
        Some(deadline) => {
            hypervisor.set_timer(&vcpu.arch.timer, deadline, TimerEvent::Device(current.domain.id, vcpu.id))
        }
    };
    if let Err(errno) = set {
        log::error!("{}v{}: timer of its local APIC: {errno}", current.domain.id, vcpu.id.0);
    }
}

/// Lets the APIC's timer do what is due. The vCPU may have begun to wait meanwhile, in HLT: it is told like any other.
pub fn expire(current: &mut Current<'_, VcpuState>) {
    let Some(deadline) = current.state.lapic.deadline() else { return };
    let now = current.machine().system_time();
    if now >= deadline {
        let has_fired = current.state.lapic.expire(&current.vcpu.arch.apic, now);
        set_timer(current);
        if has_fired {
            current.hypervisor.notify(current.vcpu);
        }
    }
}
