//! What a guest finds that knows Hyper-V (`HVM_PARAM_VIRIDIAN`), joined to its domain and vCPUs.
//!
//! The domain's part has a lock, which is taken with nothing held but the vCPU's state; under it the guest's memory is reached.

use super::VcpuState;
use super::apic;
use super::space::Physical;
use crate::current::Current;
use crate::machine::X86;
use core::sync::atomic::Ordering::Relaxed;
use domain::{Domain, ShutdownCode};
use platform::Clock;
use types::{Errno, PAGE_SIZE, Result};
use viridian::{CALL_MARK, Memory, Owner, Partition, SERVED, Tsc};
use x86_defs::apic::LapicRegister;
use xen_abi::hvm_params::{HVM_PARAM_VIRIDIAN, HVMPV_BASE_FREQ};
use xen_abi::hvm_save::viridian::{HvmViridianDomainContext, HvmViridianVcpuContext};

/// What a register's name stands for in 32-bit code.
const LOW: u64 = 0xffff_ffff;

/// Gives a domain these parts (`HVMPV_*`).
///
/// # Errors
/// `EOPNOTSUPP` for parts that there are not.
pub fn set_parts(domain: &Domain<X86>, parts: u64) -> Result<()> {
    if parts & !u64::from(SERVED) != 0 {
        return Err(Errno::OPNOTSUPP);
    }
    domain.arch.viridian.write().get_or_insert_with(|| Partition::new(parts as u32, &counter()));
    Ok(())
}

/// The parts that the domain has, 0 if none.
pub fn parts(domain: &Domain<X86>) -> u32 {
    let params = domain.translated.as_ref().map(|translated| &translated.params);
    params.map_or(0, |params| params[HVM_PARAM_VIRIDIAN as usize].load(Relaxed) as u32)
}

/// Whether the domain has any: the base is always among them.
pub fn is_on(domain: &Domain<X86>) -> bool {
    parts(domain) & HVMPV_BASE_FREQ != 0
}

/// The time-stamp counter, which every guest sees as it is.
fn counter() -> Tsc {
    let khz = u32::try_from(hal_irq::time::tsc_hz() / 1000).unwrap_or(u32::MAX).max(1);
    Tsc { now: hal_cpu::rdtsc(), khz, is_reliable: !hal_irq::time::skewed() }
}

/// What CPUID answers to one of Hyper-V's leaves.
pub fn leaf(domain: &Domain<X86>, leaf: u32) -> [u32; 4] {
    let os_id = domain.arch.viridian.read().as_ref().map_or(0, Partition::os_id);
    viridian::leaf(parts(domain), os_id, leaf)
}

/// What the guest reads from one of Hyper-V's MSRs; `None` is #GP.
pub fn read_msr(current: &mut Current<'_, VcpuState>, number: u32) -> Option<u64> {
    let processor = current.state.viridian.clone();
    let partition = current.domain.arch.viridian.read();
    processor.read(partition.as_ref()?, &Machine { current }, &counter(), number).ok()
}

/// Carries out the guest's write to one of them.
pub fn write_msr(current: &mut Current<'_, VcpuState>, number: u32, value: u64) -> Option<()> {
    if Partition::owns(number) {
        let mut partition = current.domain.arch.viridian.write();
        return partition.as_mut()?.write(&mut Machine { current }, &counter(), number, value).ok();
    }
    with_processor(current, |processor, machine| processor.write(machine, number, value).ok())
}

/// Does something with the vCPU's part, which is apart from the rest of its state meanwhile.
fn with_processor<T>(
    current: &mut Current<'_, VcpuState>,
    act: impl FnOnce(&mut viridian::Processor, &mut Machine<'_, '_>) -> T,
) -> T {
    let mut processor = current.state.viridian.clone();
    let value = act(&mut processor, &mut Machine { current });
    current.state.viridian = processor;
    value
}

/// Carries out a hypercall of Hyper-V's, if the vCPU has made one: the caller has checked that its kernel makes it. Whether its
/// instruction is over.
pub fn dispatch(current: &mut Current<'_, VcpuState>, is_64bit: bool) -> Option<bool> {
    let regs = &current.state.regs;
    if regs.rax as u32 & CALL_MARK == 0 || !is_on(current.domain) {
        return None;
    }
    let pair = |high: u64, low: u64| high << 32 | low & LOW;
    let (input, parameters) =
        if is_64bit { (regs.rcx, regs.rdx) } else { (pair(regs.rdx, regs.rax), pair(regs.rbx, regs.rcx)) };
    let result = viridian::call(&mut Machine { current }, input, parameters);
    let Some(result) = result else { return Some(false) };
    let regs = &mut current.state.regs;
    if is_64bit {
        regs.rax = result;
    } else {
        (regs.rdx, regs.rax) = (result >> 32, result & LOW);
    }
    Some(true)
}

/// Delivers what is due by `deliver`, sparing the guest ends of interrupts (its own page says which): those that it has taken
/// notice of are ended before, and one that nothing waits behind need not be ended.
#[inline]
pub fn around_delivery(current: &mut Current<'_, VcpuState>, deliver: impl FnOnce(&mut Current<'_, VcpuState>)) {
    if !current.state.viridian.has_assist() {
        return deliver(current);
    }
    with_processor(current, |processor, machine| {
        if processor.takes_end(machine) {
            machine.end_interrupt();
        }
    });
    let before = current.state.lapic.in_service();
    deliver(current);
    let parts = parts(current.domain);
    with_processor(current, |processor, machine| {
        let (lapic, port) = (&machine.current.state.lapic, &machine.current.vcpu.arch.apic);
        let is_new = before.is_none() && lapic.in_service().is_some_and(|vector| !port.is_level(vector));
        if port.is_any_requested() {
            processor.need_end(machine);
        } else if is_new {
            processor.spare_end(parts, machine);
        }
    });
}

/// The record of a domain; none where it has no parts.
pub fn save_domain(domain: &Domain<X86>) -> Option<HvmViridianDomainContext> {
    domain.arch.viridian.read().as_ref().map(|partition| partition.save(&counter()))
}

/// Takes over the record of a domain.
///
/// # Errors
/// `EINVAL` where it has no parts.
pub fn load_domain(machine: &X86, domain: &Domain<X86>, record: &HvmViridianDomainContext) -> Result<()> {
    let mut partition = domain.arch.viridian.write();
    let partition = partition.as_mut().ok_or(Errno::INVAL)?;
    partition.load(&mut Physical { machine, domain }, &counter(), record);
    Ok(())
}

/// Takes over the record of a vCPU, in which nothing may stand that there is not.
///
/// # Errors
/// `EINVAL`.
pub fn load_vcpu(domain: &Domain<X86>, state: &mut VcpuState, record: &HvmViridianVcpuContext) -> Result<()> {
    if !is_on(domain) || record._pad != [0; 7] {
        return Err(Errno::INVAL);
    }
    state.viridian.load(record);
    Ok(())
}

impl Memory for Physical<'_> {
    fn read_memory(&self, gpa: u64, to: &mut [u8]) -> bool {
        pieces(gpa, to.len()).all(|(gpa, at, length)| self.read(gpa, &mut to[at..at + length]).is_ok())
    }

    fn write_memory(&mut self, gpa: u64, from: &[u8]) -> bool {
        pieces(gpa, from.len()).all(|(gpa, at, length)| self.write(gpa, &from[at..at + length]).is_ok())
    }
}

/// The parts of a range by page: address, place in the range, bytes.
fn pieces(gpa: u64, length: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let mut at = 0;
    core::iter::from_fn(move || {
        let here = gpa.wrapping_add(at as u64);
        let count = (length - at).min(PAGE_SIZE - (here % PAGE_SIZE as u64) as usize);
        let piece = (count != 0).then_some((here, at, count));
        at += count;
        piece
    })
}

/// What surrounds the vCPU that runs here.
struct Machine<'a, 'b> {
    current: &'a mut Current<'b, VcpuState>,
}

impl Machine<'_, '_> {
    fn physical(&self) -> Physical<'_> {
        Physical { machine: self.current.machine(), domain: self.current.domain }
    }

    fn read_apic(&self, register: LapicRegister) -> u32 {
        let now = self.current.machine().system_time();
        self.current.state.lapic.read(&self.current.vcpu.arch.apic, register.0 as u16, 4, now)
    }

    fn write_apic(&mut self, register: LapicRegister, value: u32) {
        let (now, port) = (self.current.machine().system_time(), &self.current.vcpu.arch.apic);
        let action = self.current.state.lapic.write(port, register.0 as u16, 4, value, now);
        apic::act(self.current, action);
    }
}

impl Memory for Machine<'_, '_> {
    fn read_memory(&self, gpa: u64, to: &mut [u8]) -> bool {
        self.physical().read_memory(gpa, to)
    }

    fn write_memory(&mut self, gpa: u64, from: &[u8]) -> bool {
        self.physical().write_memory(gpa, from)
    }
}

impl Owner for Machine<'_, '_> {
    fn end_interrupt(&mut self) {
        self.write_apic(LapicRegister::EOI, 0);
    }

    fn command(&self) -> u64 {
        u64::from(self.read_apic(LapicRegister::COMMAND_HIGH)) << 32 | u64::from(self.read_apic(LapicRegister::COMMAND))
    }

    fn send(&mut self, command: u64) {
        self.write_apic(LapicRegister::COMMAND_HIGH, (command >> 32) as u32);
        self.write_apic(LapicRegister::COMMAND, command as u32);
    }

    fn task_priority(&self) -> u8 {
        self.current.state.lapic.task_priority()
    }

    fn set_task_priority(&mut self, priority: u8) {
        self.write_apic(LapicRegister::TASK_PRIORITY, priority.into());
    }

    fn crashed(&mut self, parameters: &[u64; 5]) {
        let domain = self.current.domain;
        log::warn!("{}: VIRIDIAN CRASH: {parameters:x?}", domain.id);
        domain.latch_shutdown_code(ShutdownCode::CRASH);
    }

    fn give_way(&mut self) {
        self.current.hypervisor.yield_now(self.current.vcpu);
    }

    fn flush(&mut self, _vcpus: Option<u64>) -> bool {
        // Those of the other vCPUs go as well: one flush of a CPU costs less than to find out whose it is.
        self.current.hypervisor.memory.flush_domain(&self.current.domain.memory);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_at_pages() {
        let cut = |gpa, length| pieces(gpa, length).collect::<alloc::vec::Vec<_>>();
        assert_eq!(cut(0x1000, 4096), [(0x1000, 0, 4096)]);
        assert_eq!(cut(0x1ff8, 24), [(0x1ff8, 0, 8), (0x2000, 8, 16)]);
        assert_eq!(cut(u64::MAX - 3, 8), [(u64::MAX - 3, 0, 4), (0, 4, 4)]);
        assert_eq!(cut(5, 0), []);
    }
}
