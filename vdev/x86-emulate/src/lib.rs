//! Decodes and carries out the instructions that guests may not run themselves.
//!
//! For PV guests three entries: [`privileged`] for what raised #GP, [`forced_cpuid`] for what raised #UD, [`decode_write`] for a
//! store that raised #PF. The hypervisor lends the guest's registers and its machine by traits, so that nothing is copied.
//!
//! For HVM guests [`hvm::emulate`]: any instruction that touches a device, and what was intercepted.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod alu;
mod decode;
mod forced;
pub mod hvm;
mod privileged;
mod recent;
mod string;
mod write;

pub use forced::forced_cpuid;
pub use privileged::privileged;
pub use recent::Recent;
pub use write::{Effect, Write, decode_write};

/// Longest instruction in bytes (SDM vol. 2, 2.3.11).
pub const MAX_LENGTH: usize = 15;

/// Registers by their numbers in instructions (SDM vol. 2, table 3-1).
pub mod reg {
    /// RAX.
    pub const RAX: u8 = 0;
    /// RCX.
    pub const RCX: u8 = 1;
    /// RDX.
    pub const RDX: u8 = 2;
    /// RBX.
    pub const RBX: u8 = 3;
    /// RSI.
    pub const RSI: u8 = 6;
    /// RDI.
    pub const RDI: u8 = 7;
}

/// Why an instruction was not completed. Registers are as before, but for the finished part of a repeated one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trap {
    /// The guest gets this exception.
    Exception {
        /// Its number.
        vector: u8,
        /// Its error code; meaningless where it has none.
        error_code: u32,
    },
    /// The guest gets a page fault.
    PageFault {
        /// Where.
        address: u64,
        /// Its error code.
        error_code: u32,
    },
    /// Nothing that is emulated: the guest gets what the CPU raised.
    Unhandled,
}

impl Trap {
    /// General protection with error code 0.
    pub const GP: Trap = Trap::Exception { vector: x86_defs::control::Vector::GENERAL_PROTECTION, error_code: 0 };
    /// Invalid opcode.
    pub const UD: Trap = Trap::Exception { vector: x86_defs::control::Vector::INVALID_OPCODE, error_code: 0 };
}

/// Result of one step.
pub type Result<T> = core::result::Result<T, Trap>;

/// Segments that have a base in 64-bit mode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Segment {
    /// FS.
    Fs,
    /// GS.
    Gs,
}

/// The registers of the guest that trapped.
pub trait Registers {
    /// A general register by its number, 0 to 15.
    fn get(&self, number: u8) -> u64;
    /// Sets one.
    fn set(&mut self, number: u8, value: u64);
    /// Where the instruction is.
    fn rip(&self) -> u64;
    /// Sets it.
    fn set_rip(&mut self, rip: u64);
    /// RFLAGS.
    fn flags(&self) -> u64;
    /// Sets them; only arithmetic flags ever change.
    fn set_flags(&mut self, flags: u64);
    /// Whether it runs 64-bit code; 32-bit code else, in flat segments.
    fn is_64bit(&self) -> bool;
    /// Base of a segment.
    fn segment_base(&self, segment: Segment) -> u64;
    /// Copies code from `rip` on; how many bytes could be.
    fn fetch(&self, rip: u64, to: &mut [u8; MAX_LENGTH]) -> usize;
    /// Where [`decode_write`] keeps what it decodes, if anywhere.
    fn recent(&self) -> Option<&Recent> {
        None
    }
}

/// What privileged instructions reach.
pub trait Privileged: Registers {
    /// Whether the guest's kernel runs, not its user code.
    fn is_kernel(&self) -> bool;
    /// Whether the guest's I/O privilege level lets the code disable interrupts.
    fn has_iopl(&self) -> bool;
    /// Whether it may use the `size` ports from `port` on.
    fn may_use_port(&self, port: u16, size: u8) -> bool;
    /// Reads 1, 2 or 4 bytes.
    fn read_port(&mut self, port: u16, size: u8) -> u32;
    /// Writes 1, 2 or 4 bytes.
    fn write_port(&mut self, port: u16, size: u8, value: u32);
    /// Reads guest memory: code, and what OUTS writes. The trap is the page fault that the guest gets.
    fn read_memory(&self, address: u64, to: &mut [u8]) -> Result<()>;
    /// Writes guest memory for INS.
    fn write_memory(&mut self, address: u64, from: &[u8]) -> Result<()>;
    /// Reads a control register.
    fn read_control(&mut self, number: u8) -> Result<u64>;
    /// Writes a control register.
    fn write_control(&mut self, number: u8, value: u64) -> Result<()>;
    /// Reads a debug register.
    fn read_debug(&mut self, number: u8) -> Result<u64>;
    /// Writes a debug register.
    fn write_debug(&mut self, number: u8, value: u64) -> Result<()>;
    /// Reads a model-specific register.
    fn read_msr(&mut self, number: u32) -> Result<u64>;
    /// Writes a model-specific register.
    fn write_msr(&mut self, number: u32, value: u64) -> Result<()>;
    /// Answers CPUID: eax, ebx, ecx, edx.
    fn cpuid(&mut self, leaf: u32, subleaf: u32) -> Result<[u32; 4]>;
    /// The time-stamp counter; a trap if the code that runs may not read it.
    fn read_tsc(&mut self) -> Result<u64>;
    /// Value of TSC_AUX.
    fn tsc_aux(&mut self) -> u32;
    /// A performance counter.
    fn read_counter(&mut self, number: u32) -> Result<u64>;
    /// XGETBV.
    fn read_xcr(&mut self, number: u32) -> Result<u64>;
    /// XSETBV.
    fn write_xcr(&mut self, number: u32, value: u64) -> Result<()>;
    /// WBINVD, and INVD, which no guest may have.
    fn write_back_caches(&mut self);
}
