//! Single instructions, and the control registers that every CPU runs with.

use core::arch::asm;

/// MSR: page attribute table (SDM vol. 3, 12.12).
const MSR_PAT: u32 = 0x277;
/// MSR: extended features (APM vol. 2, 3.1.7).
const MSR_EFER: u32 = 0xc000_0080;
/// The attribute table that Xen and Linux agree on: WB, WT, UC-, UC, WC, WP, UC, UC.
pub const PAT: u64 = 0x0000_0501_0007_0406;

const EFER_NXE: u64 = 1 << 11;
/// AM, so that user code of guests can ask for alignment checks; WP, NE, MP.
const CR0_SET: u64 = 1 << 18 | 1 << 16 | 1 << 5 | 1 << 1;
const CR0_CLEAR: u64 = 1 << 30 | 1 << 29 | 1 << 2;
const CR4_PGE: u64 = 1 << 7;
const CR4_FSGSBASE: u64 = 1 << 16;
const CR4_SMEP: u64 = 1 << 20;
const CR4_SMAP: u64 = 1 << 21;

/// What CPUID answers in eax, ebx, ecx and edx.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cpuid {
    /// Register eax.
    pub eax: u32,
    /// Register ebx.
    pub ebx: u32,
    /// Register ecx.
    pub ecx: u32,
    /// Register edx.
    pub edx: u32,
}

/// Asks CPUID leaf `leaf`, subleaf `subleaf`, of this CPU.
pub fn cpuid(leaf: u32, subleaf: u32) -> Cpuid {
    let (eax, ebx, ecx, edx);
    // SAFETY: CPUID reads no memory; rbx, which the compiler keeps for itself, is restored.
    unsafe {
        asm!(
            "mov {saved:r}, rbx", "cpuid", "xchg {saved:r}, rbx",
            saved = out(reg) ebx, inout("eax") leaf => eax, inout("ecx") subleaf => ecx, out("edx") edx,
            options(nomem, nostack)
        );
    }
    let ebx: u64 = ebx;
    Cpuid { eax, ebx: ebx as u32, ecx, edx }
}

/// Reads a model-specific register.
///
/// # Safety
/// The CPU has the register, and reading it has no effect that safe code must not have.
pub unsafe fn read_msr(msr: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: the caller's promise.
    unsafe { asm!("rdmsr", in("ecx") msr, out("eax") low, out("edx") high, options(nomem, nostack)) };
    u64::from(high) << 32 | u64::from(low)
}

/// Writes a model-specific register.
///
/// # Safety
/// The CPU has the register and takes the value, and the effect keeps all memory mapped as Rust code expects.
pub unsafe fn write_msr(msr: u32, value: u64) {
    // SAFETY: the caller's promise.
    unsafe { asm!("wrmsr", in("ecx") msr, in("eax") value as u32, in("edx") (value >> 32) as u32, options(nostack)) };
}

macro_rules! control_register {
    ($read:ident, $write:ident, $name:literal) => {
        #[doc = concat!("Reads ", $name, ".")]
        pub fn $read() -> u64 {
            let value;
            // SAFETY: reading a control register has no effect.
            unsafe { asm!(concat!("mov {}, ", $name), out(reg) value, options(nomem, nostack)) };
            value
        }

        #[doc = concat!("Writes ", $name, ".")]
        ///
        /// # Safety
        /// All memory stays mapped as Rust code expects.
        pub unsafe fn $write(value: u64) {
            // SAFETY: the caller's promise.
            unsafe { asm!(concat!("mov ", $name, ", {}"), in(reg) value, options(nostack)) };
        }
    };
}

control_register!(read_cr0, write_cr0, "cr0");
control_register!(read_cr2, write_cr2, "cr2");
control_register!(read_cr3, write_cr3, "cr3");
control_register!(read_cr4, write_cr4, "cr4");

/// The time-stamp counter, in ticks of its own.
#[inline]
pub fn rdtsc() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reads a counter.
    unsafe { asm!("rdtsc", out("eax") low, out("edx") high, options(nomem, nostack)) };
    u64::from(high) << 32 | u64::from(low)
}

/// Writes all cache lines of this CPU back and drops them (WBINVD).
pub fn write_back_caches() {
    // SAFETY: changes no memory that anybody sees.
    unsafe { asm!("wbinvd", options(nostack, preserves_flags)) };
}

/// Tells the CPU that it waits in a loop.
#[inline]
pub fn pause() {
    core::hint::spin_loop();
}

/// Stops this CPU for good, interrupts off.
pub fn halt_forever() -> ! {
    loop {
        // SAFETY: neither instruction touches memory; nothing runs on this CPU afterwards.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
    }
}

/// Makes the machine start anew, through the keyboard controller, the chipset, and at last a triple fault.
pub fn reset_machine() -> ! {
    crate::ports::write8(0x64, 0xfe);
    for _ in 0..1_000_000 {
        pause();
    }
    crate::ports::write8(0xcf9, 0x02);
    crate::ports::write8(0xcf9, 0x06);
    let nothing = [0u16; 5];
    // SAFETY: the machine starts anew in any case; without descriptors the breakpoint cannot be delivered, which resets it.
    unsafe { asm!("lidt [{}]", "int3", in(reg) nothing.as_ptr(), options(nostack)) };
    halt_forever()
}

/// Whether large pages of 1 GiB exist (CPUID 0x80000001, edx bit 26).
pub fn has_gigabyte_pages() -> bool {
    cpuid(0x8000_0001, 0).edx >> 26 & 1 != 0
}

/// Bits of CR4 that this hypervisor adds on every CPU: global pages, and SMEP, SMAP and FSGSBASE where they exist.
pub fn cr4_bits() -> u64 {
    let leaf7 = if cpuid(0, 0).eax >= 7 { cpuid(7, 0).ebx } else { 0 };
    let mut bits = CR4_PGE;
    for (feature, bit) in [(0, CR4_FSGSBASE), (7, CR4_SMEP), (20, CR4_SMAP)] {
        if leaf7 >> feature & 1 != 0 {
            bits |= bit;
        }
    }
    bits
}

/// Sets up this CPU's paging controls: no-execute, write protection in ring 0, native FPU errors, the page attribute table,
/// and [`cr4_bits`]. Called once on each CPU, in 64-bit mode.
pub fn set_controls() {
    // SAFETY: the registers are architectural; the bits only restrict what mappings allow, and the hypervisor's mappings
    // are made for these restrictions. The table's first entry, which all its mappings use, stays write-back.
    unsafe {
        write_msr(MSR_EFER, read_msr(MSR_EFER) | EFER_NXE);
        write_cr0(read_cr0() & !CR0_CLEAR | CR0_SET);
        write_msr(MSR_PAT, PAT);
        write_cr4(read_cr4() | cr4_bits());
    }
}
