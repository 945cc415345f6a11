//! Instructions that a PV guest may not run in ring 3: the guest's registers and its view of the machine for `x86-emulate`.

use super::{GUEST_CR0, cpuid, mmu, msr, operations, port, traps};
use crate::current::Current;
use hal_cpu::GuestRegs;
use platform::{Frames, GuestMemory};
use types::Errno;
use x86_defs::control::{Cr0, Cr4, Dr6, PageFault, RFlags, Vector};
use x86_emulate::{MAX_LENGTH, Privileged, Recent, Registers, Result, Segment, Trap};
use xen_abi::arch_x86::FLAT_KERNEL_CS64;

const PAGE: u64 = 4096;
/// Bits of CR4 that a guest kernel may change.
const OWN_CR4: Cr4 = Cr4::TSD.union(Cr4::DE).union(Cr4::FSGSBASE).union(Cr4::OSXSAVE);
/// Bits of the host's CR4 that a guest kernel sees.
const SHOWN_CR4: Cr4 = Cr4::PAE.union(Cr4::MCE).union(Cr4::OSFXSR).union(Cr4::OSXMMEXCPT);

/// Carries out the instruction that raised #GP. False if the guest is to get the exception.
#[inline(never)]
pub fn privileged(current: &mut Current<'_>) -> bool {
    let flags = current.state.context.regs.rflags;
    let result = x86_emulate::privileged(&mut Guest(current));
    finish(current, flags, result)
}

/// Carries out CPUID behind the forced-emulation prefix, which raised #UD. False if the guest is to get the exception.
#[inline(never)]
pub fn forced_cpuid(current: &mut Current<'_>) -> bool {
    let flags = current.state.context.regs.rflags;
    let result = x86_emulate::forced_cpuid(&mut Guest(current));
    finish(current, flags, result)
}

/// What follows an instruction that began with these flags.
fn finish(current: &mut Current<'_>, flags: u64, result: Result<()>) -> bool {
    match result {
        Ok(()) if flags & RFlags::TF.bits() != 0 => {
            current.state.debug.status |= Dr6::BS.bits();
            traps::inject(current, Vector::DEBUG, None);
        }
        Ok(()) => {}
        Err(Trap::Exception { vector, error_code }) => {
            traps::inject(current, vector, Vector::has_error_code(vector).then_some(error_code));
        }
        Err(Trap::PageFault { address, error_code }) => traps::inject_page_fault(current, address, error_code),
        Err(Trap::Unhandled) => return false,
    }
    true
}

/// The guest, for the emulator.
pub struct Guest<'a, 'b>(pub &'a mut Current<'b>);

impl Guest<'_, '_> {
    fn regs(&self) -> &GuestRegs {
        &self.0.state.context.regs
    }

    /// Whether a descriptor of the guest's table makes the code 64-bit (SDM vol. 3, 3.4.5: bit L).
    fn is_long_segment(&self, selector: u16) -> bool {
        const LONG: u64 = 1 << 53;
        let index = usize::from(selector >> 3);
        let frame = self.0.state.gdt.get(index / 512);
        let table = frame.and_then(|&mfn| self.0.machine().table(mfn));
        table.is_some_and(|table| table[index % 512].load(core::sync::atomic::Ordering::Relaxed) & LONG != 0)
    }

    fn page_fault(&self, address: u64, bits: PageFault) -> Trap {
        Trap::PageFault { address, error_code: (bits | PageFault::USER).bits() }
    }
}

impl Registers for Guest<'_, '_> {
    #[inline]
    fn get(&self, number: u8) -> u64 {
        let regs = self.regs();
        match number {
            0 => regs.rax,
            1 => regs.rcx,
            2 => regs.rdx,
            3 => regs.rbx,
            4 => regs.rsp,
            5 => regs.rbp,
            6 => regs.rsi,
            7 => regs.rdi,
            8 => regs.r8,
            9 => regs.r9,
            10 => regs.r10,
            11 => regs.r11,
            12 => regs.r12,
            13 => regs.r13,
            14 => regs.r14,
            _ => regs.r15,
        }
    }

    #[inline]
    fn set(&mut self, number: u8, value: u64) {
        *self.0.state.context.regs.general(number) = value;
    }

    fn rip(&self) -> u64 {
        self.regs().rip
    }

    fn set_rip(&mut self, rip: u64) {
        let regs = &mut self.0.state.context.regs;
        regs.rip = rip;
        regs.rflags &= !RFlags::RF.bits();
    }

    fn flags(&self) -> u64 {
        self.regs().rflags
    }

    fn set_flags(&mut self, flags: u64) {
        self.0.state.context.regs.rflags = flags;
    }

    #[inline]
    fn is_64bit(&self) -> bool {
        let selector = self.regs().cs as u16;
        self.0.state.narrow.is_none() && (selector == FLAT_KERNEL_CS64 || self.is_long_segment(selector))
    }

    #[inline]
    fn recent(&self) -> Option<&Recent> {
        Some(&self.0.state.recent)
    }

    fn segment_base(&self, segment: Segment) -> u64 {
        match segment {
            Segment::Fs => hal_cpu::read_fs_base(),
            Segment::Gs => hal_cpu::read_gs_base(),
        }
    }

    fn fetch(&self, rip: u64, to: &mut [u8; MAX_LENGTH]) -> usize {
        let machine = self.0.machine();
        if machine.copy_in_loaded(rip, to).is_ok() {
            return to.len();
        }
        // The page behind may be missing.
        let here = ((PAGE - rip % PAGE) as usize).min(to.len());
        if machine.copy_in_loaded(rip, &mut to[..here]).is_ok() { here } else { 0 }
    }
}

impl Privileged for Guest<'_, '_> {
    fn is_kernel(&self) -> bool {
        self.0.state.kernel_mode
    }

    fn has_iopl(&self) -> bool {
        port::has_iopl(self.0)
    }

    fn may_use_port(&self, port: u16, size: u8) -> bool {
        port::may_try(self.0, port, size)
    }

    fn read_port(&mut self, port: u16, size: u8) -> u32 {
        port::read(self.0, port, size)
    }

    fn write_port(&mut self, port: u16, size: u8, value: u32) {
        port::write(self.0, port, size, value);
    }

    #[inline]
    fn read_memory(&self, address: u64, to: &mut [u8]) -> Result<()> {
        self.0.machine().copy_in_loaded(address, to).map_err(|_| self.page_fault(address, PageFault::empty()))
    }

    fn write_memory(&mut self, address: u64, from: &[u8]) -> Result<()> {
        self.0.machine().copy_out_loaded(address, from).map_err(|_| self.page_fault(address, PageFault::WRITE))
    }

    fn read_control(&mut self, number: u8) -> Result<u64> {
        let state = &self.0.state;
        match number {
            0 if state.task_switched => Ok(GUEST_CR0 | Cr0::TS.bits()),
            0 => Ok(GUEST_CR0),
            2 => Ok(state.cr2),
            3 => state.cr3().ok_or(Trap::GP),
            4 => Ok((hal_cpu::current_cr4() & SHOWN_CR4).bits() | state.cr4),
            _ => Err(Trap::Unhandled),
        }
    }

    fn write_control(&mut self, number: u8, value: u64) -> Result<()> {
        match number {
            0 if (value ^ GUEST_CR0) & !Cr0::TS.bits() == 0 => {
                operations::set_task_switched(self.0.state, value & Cr0::TS.bits() != 0);
            }
            2 => self.0.state.cr2 = value,
            3 => mmu::new_baseptr(self.0, self.0.state.root_of(value)).map_err(|_| Trap::GP)?,
            4 => {
                self.0.state.cr4 = value & OWN_CR4.bits();
                hal_cpu::set_guest_cr4(Cr4::from_bits_retain(self.0.state.cr4));
            }
            _ => return Err(Trap::Unhandled),
        }
        Ok(())
    }

    fn read_debug(&mut self, number: u8) -> Result<u64> {
        operations::read_debug(self.0.state, number.into()).map_err(|_| Trap::UD)
    }

    fn write_debug(&mut self, number: u8, value: u64) -> Result<()> {
        operations::write_debug(self.0.state, number.into(), value).map_err(|errno| match errno {
            Errno::NODEV => Trap::UD,
            _ => Trap::GP,
        })
    }

    fn read_msr(&mut self, number: u32) -> Result<u64> {
        msr::read(self.0, number)
    }

    fn write_msr(&mut self, number: u32, value: u64) -> Result<()> {
        msr::write(self.0, number, value)
    }

    fn cpuid(&mut self, leaf: u32, subleaf: u32) -> Result<[u32; 4]> {
        Ok(cpuid::answer(self.0, leaf, subleaf))
    }

    fn read_tsc(&mut self) -> Result<u64> {
        if !self.is_kernel() && self.0.state.cr4 & Cr4::TSD.bits() != 0 {
            return Err(Trap::GP);
        }
        Ok(hal_cpu::rdtsc())
    }

    fn tsc_aux(&mut self) -> u32 {
        self.0.state.tsc_aux
    }

    fn read_counter(&mut self, _: u32) -> Result<u64> {
        Err(Trap::Unhandled)
    }

    fn read_xcr(&mut self, number: u32) -> Result<u64> {
        if number == 0 { Ok(self.0.state.vectors.xcr0) } else { Err(Trap::GP) }
    }

    fn write_xcr(&mut self, number: u32, value: u64) -> Result<()> {
        let allowed = self.0.domain.arch.policy.read().xcr0();
        if number != 0 || !self.0.state.vectors.set_xcr0(allowed, value) {
            return Err(Trap::GP);
        }
        Ok(())
    }

    fn write_back_caches(&mut self) {
        // Only whoever has devices can tell the difference.
        if self.0.domain.is_privileged() {
            hal::cpu::write_back_caches();
        }
    }
}
