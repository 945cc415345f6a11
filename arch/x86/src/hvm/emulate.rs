//! Instructions of a guest that are carried out for it: its memory, devices and registers as these see them.

use super::VcpuState;
use super::apic;
use super::engine::{Control, Injection};
use super::space::{self, Physical};
use super::{cpuid, msr};
use crate::current::Current;
use core::mem::take;
use guest_walk::{Mode, Translation, walk};
use types::PAGE_SIZE;
use x86_defs::control::{Cr0, Cr4, Efer, PageFault, Vector};
use x86_emulate::MAX_LENGTH;
use x86_emulate::hvm::{
    self, Access, Answer, Described, DescriptorTable, DeviceAccess, Memory, Result, Space, Stop, System, Table,
};

/// Units of a string instruction that are moved at once at most.
const MOST: u64 = 64;
/// Where a guest may write text for the hypervisor's log (hvm/hvm_info_table.h).
const XEN_HVM_DEBUGCONS_IOPORT: u16 = 0xe9;
/// DR6.BS: a single step (SDM vol. 3, 17.2.3).
const SINGLE_STEP: u64 = 1 << 14;
/// Bits of debug registers that cannot be changed, and what they are.
const DR6_FIXED: (u64, u64) = (0xffff_ffff_ffff_1ff0, 0xffff_0ff0);
const DR7_FIXED: (u64, u64) = (0xffff_ffff_0000_dc00, 0x400);

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
        Err(stop) => {
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
        Stop::Pending | Stop::Unhandled | Stop::Crash => current.crash("an instruction that cannot be emulated"),
    }
}

/// The guest single-steps, and its instruction was carried out for it.
pub fn single_step(current: &mut Current<'_, VcpuState>) {
    let mut system = current.state.engine.system();
    system.dr6 |= SINGLE_STEP;
    current.state.engine.set_system(&system);
    current.state.engine.inject(Injection::Exception(Vector::DEBUG, None));
}

/// What the instruction at rip is. `None` where it has gone since the guest has left: then the guest executes what there is now.
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
        let is_user = current.state.engine.system().level == 3;
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

    /// An access to a device, which is none but the local APIC.
    fn device(&mut self, gpa: u64, size: usize, write: Option<u64>) -> Result<u64> {
        let access = DeviceAccess {
            space: Space::Memory,
            address: gpa,
            size: size as u8,
            is_write: write.is_some(),
            data: write.unwrap_or(0),
            count: 1,
            ..DeviceAccess::default()
        };
        let mut replay = take(&mut self.current.state.replay);
        let answer = replay.access(access, |_| Answer::Now(apic::access(self.current, gpa, size as u8, write)));
        self.current.state.replay = replay;
        answer
    }

    /// Bytes at an address that is no memory, in pieces that a device can answer.
    fn read_device(&mut self, gpa: u64, to: &mut [u8]) -> Result<()> {
        let mut done = 0;
        while done < to.len() {
            let size = piece(to.len() - done);
            let value = self.device(gpa + done as u64, size, None)?;
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
            self.device(gpa + done as u64, size, Some(u64::from_le_bytes(bytes)))?;
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

    fn read_port(&mut self, _port: u16, size: u8) -> Result<u32> {
        // There is no device.
        Ok(u32::MAX >> (32 - 8 * u32::from(size)))
    }

    fn write_port(&mut self, port: u16, size: u8, value: u32) -> Result<()> {
        if port == XEN_HVM_DEBUGCONS_IOPORT && size == 1 {
            self.current.print(value as u8);
        }
        Ok(())
    }

    fn commit(&mut self) {
        self.current.state.replay.forget();
    }
}

impl System for Client<'_, '_> {
    fn may_use_port(&mut self, _port: u16, _size: u8) -> Result<bool> {
        // There is none that it could be let.
        Ok(false)
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
            4 => control.cr4 = checked_cr4(&control, value)?,
            8 if value < 16 => {
                engine.set_task_priority(value as u8);
                apic::take_task_priority(self.current);
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
            4 | 6 => system.dr6 = value & !DR6_FIXED.0 | DR6_FIXED.1,
            _ => system.dr7 = value & !DR7_FIXED.0 | DR7_FIXED.1,
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
        Ok(cpuid::answer(self.current, leaf, subleaf))
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
