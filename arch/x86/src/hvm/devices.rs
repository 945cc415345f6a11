//! Who answers where there is no memory: the local APIC, the board's devices, or a device emulator outside of the hypervisor.

use super::VcpuState;
use super::space::Physical;
use super::{apic, board, emulate};
use crate::current::Current;
use core::sync::atomic::Ordering::SeqCst;
use domain::PauseFlags;
use ioreq::{Direction, Kind, Polled, Request, Sent};
use p2m::Type;
use x86_emulate::hvm::{Answer, DeviceAccess, Space};

/// Where a guest may write text for the hypervisor's log (hvm/hvm_info_table.h).
const XEN_HVM_DEBUGCONS_IOPORT: u16 = 0xe9;
/// Where it names a register of PCI configuration space (PCI 3.0, 3.2.2.3.2).
const PCI_ADDRESS: u64 = 0xcf8;
/// A VGA card's memory. What is written there needs no answer, so it may wait in a ring.
const VGA: core::ops::Range<u64> = 0xa_0000..0xc_0000;

/// An access to an address or port where there is no memory.
pub fn access(current: &mut Current<'_, VcpuState>, access: &DeviceAccess) -> Answer {
    let inside = if access.is_pointer { None } else { inside(current, access) };
    inside.map_or_else(|| outside(current, access), Answer::Now)
}

/// Whether what is in the hypervisor may answer at a guest-physical address.
pub fn is_inside(current: &Current<'_, VcpuState>, gpa: u64) -> bool {
    apic::owns(current, gpa) || current.domain.arch.board.is_some() && chipset::owns_address(gpa)
}

/// By what is in the hypervisor.
pub fn inside(current: &mut Current<'_, VcpuState>, access: &DeviceAccess) -> Option<u64> {
    let write = access.is_write.then_some(access.data);
    match access.space {
        Space::Memory => apic::access(current, access.address, access.size, write)
            .or_else(|| board::memory(current, access.address, access.size, write)),
        Space::Port => port(current, access.address as u16, access.size, write),
    }
}

/// A port by what is in the hypervisor.
#[inline]
pub fn port(current: &mut Current<'_, VcpuState>, number: u16, size: u8, write: Option<u64>) -> Option<u64> {
    match write {
        Some(data) if number == XEN_HVM_DEBUGCONS_IOPORT && size == 1 => {
            current.print(data as u8);
            Some(0)
        }
        _ => board::port(current, number, size, write.map(|data| data as u32)).map(u64::from),
    }
}

/// By a device emulator. Without one all ones are read, and what is written is lost.
pub fn outside(current: &mut Current<'_, VcpuState>, access: &DeviceAccess) -> Answer {
    let (hypervisor, domain, vcpu) = (current.hypervisor, current.domain, current.vcpu.id);
    let none = Answer::Now(u64::MAX);
    let Some(servers) = hypervisor.servers(domain) else { return none };
    let request = request(access);
    if request.kind == Kind::Port && request.address == PCI_ADDRESS && access.is_write && access.size == 4 {
        servers.note_pci_address(access.data as u32);
    }
    let can_wait = request.kind == Kind::Memory && access.is_write && VGA.contains(&request.address);
    if can_wait && servers.send(vcpu, &request, true) == Sent::Buffered {
        return none;
    }
    let claim = claimed(current, access).then(|| servers.claim()).flatten();
    let sent = match claim {
        Some(claim) => servers.send_to(claim.server, vcpu, &request),
        None => servers.send(vcpu, &request, false),
    };
    match sent {
        Sent::Wait(pending) => {
            current.state.pending = Some(pending);
            Answer::Later
        }
        Sent::Unhandled if domain.shutdown_code().is_none() => {
            current.crash("its device emulator does not take a request");
            none
        }
        Sent::Buffered | Sent::Unhandled | Sent::Nobody => none,
    }
}

/// Whether memory of a type that an emulator has claimed is accessed.
fn claimed(current: &Current<'_, VcpuState>, access: &DeviceAccess) -> bool {
    let physical = Physical { machine: current.machine(), domain: current.domain };
    access.space == Space::Memory && physical.entry(access.address).ty == Type::IoreqServer
}

fn request(access: &DeviceAccess) -> Request {
    Request {
        kind: match access.space {
            Space::Memory => Kind::Memory,
            Space::Port => Kind::Port,
        },
        direction: if access.is_write { Direction::Write } else { Direction::Read },
        address: access.address,
        data: access.data,
        size: access.size.into(),
        count: access.count as u32,
        downwards: access.is_backward,
        data_is_address: access.is_pointer,
    }
}

/// Whether units of a string instruction can be moved at once: an emulator has the port or address, and nothing in the hypervisor.
pub fn takes_bursts(current: &Current<'_, VcpuState>, access: &DeviceAccess) -> bool {
    let Some(servers) = current.hypervisor.servers(current.domain) else { return false };
    let is_inside = match access.space {
        Space::Port => chipset::owns_port(access.address as u16),
        Space::Memory => chipset::owns_address(access.address) || apic::owns(current, access.address),
    };
    !is_inside && servers.is_claimed(&request(access))
}

/// Tells device emulators that guest frames have gone from where they were: they map them, and keep the mappings.
pub fn invalidate_mappings(current: &Current<'_, VcpuState>) {
    let Some(servers) = current.hypervisor.servers(current.domain) else { return };
    let untold = servers.broadcast(&Request::single(Kind::Invalidate, Direction::Write, 0, u64::MAX, 4));
    if untold != 0 {
        log::warn!("{}: {untold} device emulators do not hear that memory has gone", current.domain.id);
    }
}

/// Goes on with an instruction that waits for a device emulator, once that has answered. Whether the guest can be entered.
#[inline]
pub fn settle(current: &mut Current<'_, VcpuState>) -> bool {
    while current.state.pending.is_some() {
        if !look(current) {
            return false;
        }
    }
    true
}

/// Looks for the answer; false if the vCPU has to wait for it.
fn look(current: &mut Current<'_, VcpuState>) -> bool {
    let (hypervisor, vcpu) = (current.hypervisor, current.vcpu);
    let Some(pending) = &mut current.state.pending else { return true };
    // Without servers nobody is left to answer.
    let polled = hypervisor.servers(current.domain).map_or(Polled::Done(u64::MAX), |servers| servers.poll(pending));
    match polled {
        Polled::Waiting if vcpu.flags.load(SeqCst) & PauseFlags::DEVICE != 0 => return false,
        // The answer may have come just before.
        Polled::Waiting => hypervisor.wait_for_device(vcpu),
        Polled::Done(value) => {
            current.state.pending = None;
            hypervisor.end_wait_for_device(vcpu);
            let port = current.state.port.take();
            // Where the vCPU's registers were replaced meanwhile (INIT), no instruction waits for it.
            if current.state.replay.answer(value) {
                match port {
                    Some(port) => port.complete(current, value),
                    None => emulate::instruction(current),
                }
            }
        }
        Polled::Broken { before, now } => {
            current.state.pending = None;
            hypervisor.end_wait_for_device(vcpu);
            log::error!("{}v{}: request went from state {before} to {now}", current.domain.id, vcpu.id.0);
            current.crash("its device emulator has broken the page of requests");
        }
    }
    true
}
