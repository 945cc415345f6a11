//! Instructions of a guest that are carried out for it: its memory, devices and registers as these see them.

use super::VcpuState;
use super::devices;
use super::engine::{Control, Injection};
use super::space::{self, Physical};
use super::{control, cpuid, msr};
use crate::current::Current;
use cpu_policy::FeatureSet;
use guest_walk::{Mode, Translation, walk};
use p2m::Type;
use types::PAGE_SIZE;
use x86_defs::control::{Cr0, Cr4, Dr6, Efer, PageFault, Vector};
use x86_emulate::MAX_LENGTH;
use x86_emulate::hvm::{
    self, Access, Burst, BurstKind, Described, DescriptorTable, DeviceAccess, Memory, Result, Space, Stop, System,
    Table,
};

/// Units of a string instruction that are moved at once at most.
const MOST: u64 = 64;
/// Types of a 32-bit task-state segment, and of a 64-bit one.
const AVAILABLE_TSS: u16 = 9;
const BUSY_TSS: u16 = 11;
/// Where it says where its map of ports begins.
const TSS_MAP: u32 = 102;
/// Bits of debug registers that cannot be changed, and what they are.
pub const DR6_FIXED: (u64, u64) = (0xffff_ffff_ffff_1ff0, 0xffff_0ff0);
pub const DR7_FIXED: (u64, u64) = (0xffff_ffff_0000_dc00, 0x400);

/// A debug register's value, with the bits that cannot be changed.
pub fn with_fixed((bits, values): (u64, u64), value: u64) -> u64 {
    value & !bits | values
}

/// Carries out the instruction at rip. What it cannot do crashes the domain.
pub fn instruction(current: &mut Current<'_, VcpuState>) {
    let mut state = current.state.emulated();
    let mut client = Client::new(current);
    client.current.state.replay.begin();
    let result = hvm::emulate(&mut state, &mut client, MOST);
    match result {
        Ok(done) => {
            current.state.take(&state);
            current.state.engine.set_in_shadow(done.blocks_interrupts);
            if done.single_step {
                single_step(current);
            }
            if done.is_halted {
                super::exits::halt(current);
            }
        }
        Err(Stop::Pending) => current.state.take(&state),
        Err(stop) => {
            current.state.take(&state);
            current.state.replay.forget();
            stopped(current, stop);
        }
    }
}

/// Does what an instruction that was not completed leads to.
pub fn stopped(current: &mut Current<'_, VcpuState>, stop: Stop) {
    match stop {
        Stop::Exception { vector, error_code } => {
            current.state.engine.inject(Injection::Exception(vector, error_code));
        }
        Stop::PageFault { address, error_code } => {
            let engine = &mut current.state.engine;
            let control = Control { cr2: address, ..engine.control() };
            engine.set_control(&control);
            engine.inject(Injection::Exception(Vector::PAGE_FAULT, Some(error_code)));
        }
        // As Xen has it: the guest's code alone is at fault, be it a program's.
        Stop::Unhandled => current.state.engine.inject(Injection::Exception(Vector::GENERAL_PROTECTION, Some(0))),
        Stop::Pending | Stop::Crash => current.crash("an instruction that cannot be emulated"),
    }
}

/// The guest single-steps, and its instruction was carried out for it.
pub fn single_step(current: &mut Current<'_, VcpuState>) {
    debug(current, Dr6::BS);
}

/// The guest gets #DB for this.
pub fn debug(current: &mut Current<'_, VcpuState>, why: Dr6) {
    let mut system = current.state.engine.system();
    system.dr6 |= why.bits();
    current.state.engine.set_system(&system);
    current.state.engine.inject(Injection::Exception(Vector::DEBUG, None));
}

/// What the instruction at rip is, by the decoder. `None` where it has gone since the guest has left: then the guest executes what
/// there is now.
pub fn describe(current: &mut Current<'_, VcpuState>) -> Option<Described> {
    let state = current.state.emulated();
    let mut code = [0; MAX_LENGTH];
    let linear = state.segments[1].base.wrapping_add(state.rip);
    let linear = if state.is_64bit() { state.rip } else { linear & 0xffff_ffff };
    let count = Client::new(current).fetch(linear, &mut code);
    hvm::intercepted(&state, &code[..count])
}

/// The machine around an instruction.
pub struct Client<'a, 'b> {
    current: &'a mut Current<'b, VcpuState>,
    mode: Mode,
    is_user: bool,
}

impl<'a, 'b> Client<'a, 'b> {
    /// For the vCPU that runs here.
    pub fn new(current: &'a mut Current<'b, VcpuState>) -> Client<'a, 'b> {
        let (control, flags) = (current.state.engine.control(), current.state.regs.rflags);
        let mode = space::mode(current.machine(), &control, flags);
        let is_user = current.state.engine.level() == 3;
        Client { current, mode, is_user }
    }

    fn physical(&self) -> Physical<'b> {
        Physical { machine: self.current.machine(), domain: self.current.domain }
    }

    fn translate(&self, linear: u64, write: bool, fetch: bool) -> Result<Translation> {
        let access = guest_walk::Access { write, fetch, user: self.is_user, implicit: false };
        walk(&self.physical(), &self.mode, linear, access).map_err(|fault| space::exception(linear, fault))
    }

    /// Guest-physical addresses of a range's first byte, and of its part in the next page, with how many bytes are in the first.
    fn pages(&self, linear: u64, length: usize, write: bool) -> Result<[(u64, usize); 2]> {
        let in_first = length.min(PAGE_SIZE - (linear % PAGE_SIZE as u64) as usize);
        let first = self.translate(linear, write, false)?.gpa;
        if in_first == length {
            return Ok([(first, length), (0, 0)]);
        }
        let second = self.translate(linear.wrapping_add(in_first as u64), write, false)?.gpa;
        Ok([(first, in_first), (second, length - in_first)])
    }

    /// An access to a device.
    fn device(&mut self, access: DeviceAccess) -> Result<u64> {
        match self.current.state.replay.known(&access)? {
            Some(answer) => Ok(answer),
            None => {
                let answer = devices::access(self.current, &access);
                self.current.state.replay.note(access, answer)
            }
        }
    }

    /// One that moves a single datum.
    fn single(&mut self, space: Space, address: u64, size: u8, write: Option<u64>) -> Result<u64> {
        let (is_write, data) = (write.is_some(), write.unwrap_or(0));
        self.device(DeviceAccess { space, address, size, is_write, data, count: 1, ..DeviceAccess::default() })
    }

    /// Where units of a burst begin, and how many of them are in that page.
    fn units(&self, burst: &Burst, linear: u64, write: bool) -> Result<(u64, u64)> {
        let (size, offset) = (u64::from(burst.size), linear % PAGE_SIZE as u64);
        let in_page = if burst.is_backward { offset / size + 1 } else { (PAGE_SIZE as u64 - offset) / size };
        Ok((self.translate(linear, write, false)?.gpa, in_page))
    }

    fn is_memory(&self, gpa: u64) -> bool {
        self.physical().entry(gpa).ty == Type::RamRw
    }

    /// What a device emulator can move at once of a burst, as it reaches memory itself. `None` where units are better moved one
    /// by one.
    fn burst_access(&self, burst: &Burst) -> Result<Option<DeviceAccess>> {
        let (size, is_backward) = (burst.size, burst.is_backward);
        let access = DeviceAccess { size, is_backward, is_pointer: true, ..DeviceAccess::default() };
        let (access, in_page) = match burst.kind {
            BurstKind::Input { port, to } => {
                let (data, in_page) = self.units(burst, to, true)?;
                (DeviceAccess { space: Space::Port, address: port.into(), data, ..access }, in_page)
            }
            BurstKind::Output { from, port } => {
                let (data, in_page) = self.units(burst, from, false)?;
                (DeviceAccess { space: Space::Port, address: port.into(), data, is_write: true, ..access }, in_page)
            }
            BurstKind::Move { from, to } => {
                let ((from, first), (to, second)) = (self.units(burst, from, false)?, self.units(burst, to, true)?);
                let is_write = self.is_memory(from);
                let (address, data) = if is_write { (to, from) } else { (from, to) };
                if self.is_memory(address) {
                    return Ok(None);
                }
                (DeviceAccess { space: Space::Memory, address, data, is_write, ..access }, first.min(second))
            }
            BurstKind::Fill { .. } => return Ok(None),
        };
        let count = burst.count.min(in_page);
        Ok((count > 1 && self.is_memory(access.data)).then_some(DeviceAccess { count, ..access }))
    }

    /// Two bytes of the task-state segment, which the CPU reads as its own.
    fn read_task(&mut self, linear: u64) -> Result<u16> {
        let access = guest_walk::Access { write: false, fetch: false, user: false, implicit: true };
        let mut bytes = [0; 2];
        for (offset, byte) in bytes.iter_mut().enumerate() {
            let linear = linear.wrapping_add(offset as u64);
            let found = walk(&self.physical(), &self.mode, linear, access);
            let gpa = found.map_err(|fault| space::exception(linear, fault))?.gpa;
            // Where there is no memory all bits are set, so nothing is allowed.
            if self.physical().read(gpa, core::slice::from_mut(byte)).is_err() {
                *byte = 0xff;
            }
        }
        Ok(u16::from_le_bytes(bytes))
    }

    /// Bytes at an address that is no memory, in pieces that a device can answer.
    fn read_device(&mut self, gpa: u64, to: &mut [u8]) -> Result<()> {
        let mut done = 0;
        while done < to.len() {
            let size = piece(to.len() - done);
            let value = self.single(Space::Memory, gpa + done as u64, size as u8, None)?;
            to[done..done + size].copy_from_slice(&value.to_le_bytes()[..size]);
            done += size;
        }
        Ok(())
    }

    fn write_device(&mut self, gpa: u64, from: &[u8]) -> Result<()> {
        let mut done = 0;
        while done < from.len() {
            let size = piece(from.len() - done);
            let mut bytes = [0; 8];
            bytes[..size].copy_from_slice(&from[done..done + size]);
            self.single(Space::Memory, gpa + done as u64, size as u8, Some(u64::from_le_bytes(bytes)))?;
            done += size;
        }
        Ok(())
    }
}

/// The largest power of two up to 8 that is not above `left`, which is 1 at least.
fn piece(left: usize) -> usize {
    1 << left.min(8).ilog2()
}

impl Memory for Client<'_, '_> {
    fn fetch(&mut self, linear: u64, to: &mut [u8; MAX_LENGTH]) -> usize {
        let in_first = MAX_LENGTH.min(PAGE_SIZE - (linear % PAGE_SIZE as u64) as usize);
        let mut done = 0;
        for end in [in_first, MAX_LENGTH] {
            if done == end {
                break;
            }
            let found = self.translate(linear.wrapping_add(done as u64), false, true);
            let read = found.map(|found| self.physical().read(found.gpa, &mut to[done..end]));
            if read != Ok(Ok(())) {
                break;
            }
            done = end;
        }
        done
    }

    fn read(&mut self, linear: u64, to: &mut [u8], access: Access) -> Result<()> {
        let mut done = 0;
        for (gpa, length) in self.pages(linear, to.len(), access == Access::Modify)? {
            let part = &mut to[done..done + length];
            if length != 0 && self.physical().read(gpa, part).is_err() {
                self.read_device(gpa, part)?;
            }
            done += length;
        }
        Ok(())
    }

    fn write(&mut self, linear: u64, from: &[u8]) -> Result<()> {
        let mut done = 0;
        for (gpa, length) in self.pages(linear, from.len(), true)? {
            let part = &from[done..done + length];
            if length != 0 && self.physical().write(gpa, part).is_err() {
                self.write_device(gpa, part)?;
            }
            done += length;
        }
        Ok(())
    }

    fn compare_exchange(&mut self, linear: u64, old: &[u8], new: &[u8]) -> Result<bool> {
        let size = old.len();
        let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        if size <= 8 && linear % 8 + size as u64 <= 8 {
            let gpa = self.translate(linear, true, false)?.gpa;
            if let Ok(was) = self.physical().compare_exchange(gpa, size, word(old), word(new)) {
                return Ok(was);
            }
        }
        // Across words no CPU of today's promises more than this does.
        self.write(linear, new)?;
        Ok(true)
    }

    fn check_write(&mut self, linear: u64, bytes: usize) -> Result<()> {
        self.pages(linear, bytes, true).map(drop)
    }

    fn read_port(&mut self, port: u16, size: u8) -> Result<u32> {
        self.single(Space::Port, port.into(), size, None).map(|value| value as u32)
    }

    fn write_port(&mut self, port: u16, size: u8, value: u32) -> Result<()> {
        self.single(Space::Port, port.into(), size, Some(value.into())).map(drop)
    }

    fn burst(&mut self, burst: &Burst) -> Result<u64> {
        match self.burst_access(burst)? {
            Some(access) if devices::takes_bursts(self.current, &access) => self.device(access).map(|_| access.count),
            _ => Ok(0),
        }
    }

    fn commit(&mut self) {
        self.current.state.replay.forget();
    }
}

impl System for Client<'_, '_> {
    fn may_use_port(&mut self, port: u16, size: u8) -> Result<bool> {
        let tr = self.current.state.engine.system().tr;
        // A 16-bit segment has no map (SDM vol. 1, 19.5.2).
        if !matches!(tr.attributes & 0xf, AVAILABLE_TSS | BUSY_TSS) || tr.limit < TSS_MAP + 1 {
            return Ok(false);
        }
        let first = u32::from(self.read_task(tr.base + u64::from(TSS_MAP))?) + u32::from(port / 8);
        if first + 1 > tr.limit {
            return Ok(false);
        }
        let denied = self.read_task(tr.base + u64::from(first))?;
        let asked = ((1 << size) - 1) << (port % 8);
        Ok(denied & asked == 0)
    }

    fn vector(&mut self, number: u8) -> u128 {
        self.current.state.vectors.save();
        let at = 160 + 16 * usize::from(number & 15);
        let bytes = self.current.state.vectors.image.bytes()[at..at + 16].try_into();
        bytes.map_or(0, u128::from_le_bytes)
    }

    fn set_vector(&mut self, number: u8, value: u128) {
        let at = 160 + 16 * usize::from(number & 15);
        let vectors = &mut self.current.state.vectors;
        vectors.save();
        vectors.image.bytes_mut()[at..at + 16].copy_from_slice(&value.to_le_bytes());
        vectors.mark_legacy();
        if vectors.load().is_err() {
            self.current.crash("its vector registers cannot be loaded");
        }
    }

    fn read_control(&mut self, number: u8) -> Result<u64> {
        let control = self.current.state.engine.control();
        Ok(match number {
            0 => control.cr0,
            2 => control.cr2,
            3 => control.cr3,
            4 => control.cr4,
            8 => self.current.state.engine.task_priority().into(),
            _ => return Err(Stop::UD),
        })
    }

    fn write_control(&mut self, number: u8, value: u64) -> Result<()> {
        let engine = &mut self.current.state.engine;
        let mut control = engine.control();
        match number {
            0 => control = with_cr0(control, value)?,
            2 => control.cr2 = value,
            3 => control.cr3 = value,
            4 if value & !control::cr4_bits(&FeatureSet::of(&self.current.domain.arch.policy.read())) != 0 => {
                return Err(Stop::GP);
            }
            4 => control.cr4 = checked_cr4(&control, value)?,
            8 if value < 16 => {
                engine.set_task_priority(value as u8);
                super::apic::take_task_priority(self.current);
                return Ok(());
            }
            8 => return Err(Stop::GP),
            _ => return Err(Stop::UD),
        }
        engine.set_control(&control);
        Ok(())
    }

    fn read_debug(&mut self, number: u8) -> Result<u64> {
        let system = self.current.state.engine.system();
        Ok(match number {
            0..=3 => self.current.state.debug[usize::from(number)],
            4 | 6 => system.dr6,
            _ => system.dr7,
        })
    }

    fn write_debug(&mut self, number: u8, value: u64) -> Result<()> {
        let state = &mut self.current.state;
        let mut system = state.engine.system();
        match number {
            0..=3 => {
                state.debug[usize::from(number)] = value;
                hal_cpu::load_debug_addresses(&state.debug);
                return Ok(());
            }
            _ if value >> 32 != 0 => return Err(Stop::GP),
            4 | 6 => system.dr6 = with_fixed(DR6_FIXED, value),
            _ => system.dr7 = with_fixed(DR7_FIXED, value),
        }
        state.engine.set_system(&system);
        Ok(())
    }

    fn read_msr(&mut self, number: u32) -> Result<u64> {
        msr::read(self.current, number).ok_or(Stop::GP)
    }

    fn write_msr(&mut self, number: u32, value: u64) -> Result<()> {
        msr::write(self.current, number, value).ok_or(Stop::GP)
    }

    fn cpuid(&mut self, leaf: u32, subleaf: u32) -> Result<[u32; 4]> {
        cpuid::answer(self.current, leaf, subleaf).ok_or(Stop::GP)
    }

    fn read_tsc(&mut self) -> u64 {
        hal_cpu::rdtsc()
    }

    fn tsc_aux(&mut self) -> u32 {
        self.current.state.tsc_aux
    }

    fn write_xcr(&mut self, number: u32, value: u64) -> Result<()> {
        let allowed = self.current.domain.arch.policy.read().xcr0();
        let set = number == 0 && self.current.state.vectors.set_xcr0(allowed, value);
        if set { Ok(()) } else { Err(Stop::GP) }
    }

    fn table(&mut self, table: Table) -> DescriptorTable {
        let system = self.current.state.engine.system();
        match table {
            Table::Global => system.gdtr,
            Table::Interrupt => system.idtr,
        }
    }

    fn set_table(&mut self, table: Table, target: DescriptorTable) {
        let mut system = self.current.state.engine.system();
        match table {
            Table::Global => system.gdtr = target,
            Table::Interrupt => system.idtr = target,
        }
        self.current.state.engine.set_system(&system);
    }

    fn invalidate_page(&mut self, linear: u64) {
        self.current.state.engine.flush_page(linear);
    }

    fn write_back_caches(&mut self) {
        // A guest without devices of the machine has no memory whose caching matters.
    }
}

/// Registers after a write of CR0 (APM vol. 2, 3.1.1, 14.6).
fn with_cr0(control: Control, value: u64) -> Result<Control> {
    let (old, new) = (Cr0::from_bits_retain(control.cr0), Cr0::from_bits_retain(value | Cr0::ET.bits()));
    let bad = value >> 32 != 0
        || new.contains(Cr0::PG) && !new.contains(Cr0::PE)
        || new.contains(Cr0::NW) && !new.contains(Cr0::CD);
    if bad {
        return Err(Stop::GP);
    }
    let mut efer = Efer::from_bits_retain(control.efer);
    if new.contains(Cr0::PG) && !old.contains(Cr0::PG) && efer.contains(Efer::LME) {
        if control.cr4 & Cr4::PAE.bits() == 0 {
            return Err(Stop::GP);
        }
        efer.insert(Efer::LMA);
    } else if !new.contains(Cr0::PG) {
        efer.remove(Efer::LMA);
    }
    Ok(Control { cr0: new.bits(), efer: efer.bits(), ..control })
}

/// CR4, if a guest may have it so.
fn checked_cr4(control: &Control, value: u64) -> Result<u64> {
    let long = control.efer & Efer::LMA.bits() != 0;
    if value >> 32 != 0 || long && value & Cr4::PAE.bits() == 0 {
        return Err(Stop::GP);
    }
    Ok(value)
}

const _: () = assert!(PageFault::PRESENT.bits() | PageFault::RESERVED.bits() == 9);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paging_turns_long_mode_on_and_off() {
        let start = Control { cr0: Cr0::PE.bits(), cr4: Cr4::PAE.bits(), efer: Efer::LME.bits(), ..Control::default() };
        let on = with_cr0(start, (Cr0::PE | Cr0::PG).bits()).unwrap();
        assert_eq!(on.efer, (Efer::LME | Efer::LMA).bits());
        assert_eq!(checked_cr4(&on, 0), Err(Stop::GP));
        let off = with_cr0(on, Cr0::PE.bits()).unwrap();
        assert_eq!((off.efer, off.cr0), (Efer::LME.bits(), (Cr0::PE | Cr0::ET).bits()));
        assert_eq!(with_cr0(Control { cr4: 0, ..start }, (Cr0::PE | Cr0::PG).bits()), Err(Stop::GP));
        assert_eq!(with_cr0(start, Cr0::PG.bits()), Err(Stop::GP));
    }

    #[test]
    fn devices_answer_in_powers_of_two() {
        assert_eq!([1, 2, 3, 7, 8, 16].map(piece), [1, 2, 2, 4, 8, 8]);
    }
}
