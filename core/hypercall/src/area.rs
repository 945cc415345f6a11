//! Records that a guest wants at a machine address (vcpu.h, `VCPUOP_register_*_phys_area`).

use crate::Caller;
use domain::{Arch, Area, RunstateRecord, Vcpu};
use types::{Errno, PAGE_SIZE, Result};
use xen_abi::GuestHandle;
use xen_abi::vcpu::{RegisterRunstateMemoryArea, RegisterTimeMemoryArea};
use xen_abi::xen::VcpuTimeInfo;

/// The address that ends a record.
const NOWHERE: u64 = !0;

/// VCPUOP_register_runstate_phys_area.
pub fn register_runstate<A: Arch>(
    caller: &Caller<'_, A>,
    vcpu: &Vcpu<A>,
    at: GuestHandle<RegisterRunstateMemoryArea>,
) -> Result<()> {
    let address = caller.read(at)?.addr;
    register(caller, &vcpu.runstate_record, address, RunstateRecord::size(caller.domain.evtchn.is_narrow()))?;
    caller.hypervisor.record_runstate(vcpu);
    Ok(())
}

/// VCPUOP_register_vcpu_time_phys_area.
pub fn register_time<A: Arch>(
    caller: &Caller<'_, A>,
    vcpu: &Vcpu<A>,
    at: GuestHandle<RegisterTimeMemoryArea>,
) -> Result<()> {
    let address = caller.read(at)?.addr;
    register(caller, &vcpu.time_record, address, size_of::<VcpuTimeInfo>())?;
    caller.machine().record_time(vcpu);
    Ok(())
}

/// Moves a record of `size` bytes to `address`, with a reference and a writable use of the new frame.
fn register<A: Arch>(caller: &Caller<'_, A>, area: &Area, address: u64, size: usize) -> Result<()> {
    let place = if address == NOWHERE { None } else { Some(take(caller, address, size)?) };
    if let Some(old) = area.set(place) {
        caller.hypervisor.memory.put_writable(old);
    }
    Ok(())
}

/// Takes the frame of a record, which is aligned to the guest's words; its machine address.
fn take<A: Arch>(caller: &Caller<'_, A>, address: u64, size: usize) -> Result<u64> {
    let offset = address % PAGE_SIZE as u64;
    let word = if caller.domain.evtchn.is_narrow() { align_of::<u32>() } else { align_of::<u64>() };
    if offset as usize + size > PAGE_SIZE || offset % word as u64 != 0 {
        return Err(Errno::NXIO);
    }
    let held = caller.hypervisor.hold(caller.domain, address / PAGE_SIZE as u64, true).map_err(|denied| {
        let errno = caller.explain("register_phys_area", denied);
        if denied.is_other_use() { Errno::ACCES } else { errno }
    })?;
    Ok(held.keep().address() | offset)
}
