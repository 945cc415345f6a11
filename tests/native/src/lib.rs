//! Runs one instruction on the CPU of the host, with given registers and memory.
//!
//! The instruction stands in a page of code between loads of all registers and stores of all registers. It may use the memory of
//! the [`Window`] alone; all of this is below 4 GiB, so that 32-bit addresses and code reach it.

mod harness;

pub use harness::{Mode, SIZE_OF_CODE};

use rustix::io::Result;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use std::ffi::c_void;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of memory that an instruction may use.
pub const WINDOW: usize = 0x400;
/// Where the first processor's memory is.
const FIRST: usize = 0x1000_0000;
/// From one processor's memory to the next one's.
const DISTANCE: usize = 0x1_0000;
/// What a processor maps: a page of code, one of registers, one with the window.
const MAPPED: usize = WINDOW_AT + 0x1000;
const REGISTERS_AT: usize = 0x1000;
const WINDOW_AT: usize = 0x2000;

/// Registers before and after an instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Registers {
    /// General registers by their numbers in instructions.
    pub general: [u64; 16],
    /// RFLAGS.
    pub flags: u64,
    /// XMM registers.
    pub vectors: [u128; 16],
}

/// What the harness loads and stores.
#[repr(C)]
struct Slots {
    registers: Registers,
    /// The stack pointer of the host's code.
    host_stack: u64,
}

/// A place for instructions, with memory of its own.
pub struct Processor {
    base: usize,
}

/// The memory that instructions may use.
pub struct Window<'a> {
    /// Its first address.
    pub address: u64,
    /// Its contents.
    pub bytes: &'a mut [u8; WINDOW],
}

impl Processor {
    /// Maps the memory.
    ///
    /// # Errors
    /// Where the addresses are in use, or pages must not be both writable and executable.
    pub fn new() -> Result<Processor> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let base = FIRST + NEXT.fetch_add(1, Ordering::Relaxed) * DISTANCE;
        let rights = ProtFlags::READ | ProtFlags::WRITE | ProtFlags::EXEC;
        let flags = MapFlags::PRIVATE | MapFlags::FIXED_NOREPLACE;
        // SAFETY: nothing else is mapped there, or the call fails; no reference to the new memory exists.
        unsafe { mmap_anonymous(base as *mut c_void, MAPPED, rights, flags)? };
        Ok(Processor { base })
    }

    /// The memory that instructions may use.
    pub fn window(&mut self) -> Window<'_> {
        let address = self.base + WINDOW_AT;
        // SAFETY: mapped for as long as `self` is, of any bytes; `self` is borrowed for as long as the reference is.
        Window { address: address as u64, bytes: unsafe { &mut *(address as *mut [u8; WINDOW]) } }
    }

    /// Where the instruction is executed.
    pub fn instruction_address(&self, mode: Mode) -> u64 {
        (self.base + harness::instruction_offset(mode)) as u64
    }

    /// Executes `instruction`, at most 15 bytes, and goes on behind it.
    ///
    /// # Safety
    /// With these registers the instruction must access only the window, must not raise an exception, must go on to the next
    /// instruction, and must leave segment registers and alignment checks as they are.
    pub unsafe fn run(&mut self, mode: Mode, instruction: &[u8], registers: &mut Registers) {
        let code = harness::code(mode, self.base as u32, (self.base + REGISTERS_AT) as u32, instruction);
        let slots = (self.base + REGISTERS_AT) as *mut Slots;
        // SAFETY: the first page is mapped, and the code is shorter. The registers' page is mapped and aligned. The code saves
        // what a function has to; the vector registers it does not need to. The rest is the caller's promise.
        unsafe {
            std::ptr::copy_nonoverlapping(code.as_ptr(), self.base as *mut u8, code.len());
            slots.write(Slots { registers: *registers, host_stack: 0 });
            let entry: extern "sysv64" fn() = std::mem::transmute(self.base);
            entry();
            *registers = slots.read().registers;
        }
    }
}

impl Drop for Processor {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`; references to it have ended with the borrows of `self`.
        let unmapped = unsafe { munmap(self.base as *mut c_void, MAPPED) };
        debug_assert!(unmapped.is_ok());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_and_memory_go_in_and_out() {
        let mut cpu = Processor::new().expect("mapped");
        let address = cpu.window().address;
        cpu.window().bytes[..8].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
        let mut registers = Registers { flags: 0x202, ..Registers::default() };
        registers.general = std::array::from_fn(|number| number as u64 * 0x1111);
        registers.vectors = std::array::from_fn(|number| number as u128 * 3);
        registers.general[3] = address;
        let before = registers;
        // xchg [rbx], r12
        // SAFETY: rbx names the window.
        unsafe { cpu.run(Mode::Bits64, &[0x4c, 0x87, 0x23], &mut registers) };
        assert_eq!(registers.general[12], 0x0807_0605_0403_0201);
        assert_eq!(cpu.window().bytes[..8], 0xcccc_u64.to_le_bytes());
        registers.general[12] = before.general[12];
        assert_eq!(registers, before);
    }

    #[test]
    fn code_of_32_bits_runs() {
        let mut cpu = Processor::new().expect("mapped");
        let mut registers = Registers { flags: 0x202, ..Registers::default() };
        registers.general[1] = 0xffff_ffff;
        // inc ecx, which is a prefix in 64-bit code.
        // SAFETY: no memory is used.
        unsafe { cpu.run(Mode::Bits32, &[0x41], &mut registers) };
        assert_eq!((registers.general[1], registers.flags & 0x8d5), (0, 0x54));
    }
}
